// One model: what it is, how its training went, its levels, and listening through it.
import * as api from "./api.js";
import { lineChart } from "./charts.js";
import { describePart } from "./describe.js";
import { el, fill } from "./dom.js";
import { familyOf, lacksPrior, lossSeries, remarksOn } from "./families.js";
import { bytes, figure, humanised, plural, positive, rate, when } from "./format.js";
import { levelName, levelPanel } from "./health.js";
import { deleteModel } from "./library.js";
import { listenPart } from "./listen.js";
import { complain } from "./toasts.js";

export async function show(root, { id, signal, about }) {
  const model = await api.get(`/models/${api.id(id)}`, signal);
  const family = familyOf(about, model.family);
  const curves = curvesPart(model, family, signal);
  fill(
    root,
    el("p.small", {}, el("a", { href: "#/library" }, "← Library")),
    titlePart(model),
    factsLine(model, family),
    remarksOn(model),
    family.has_codes &&
      el(
        "p.row.tight",
        {},
        el("a.button", { href: `#/edit/${api.id(model.id)}`, "data-testid": "to-edit" }, "Edit a sound"),
        model.generates && el("a.button", { href: `#/map/${api.id(model.id)}`, "data-testid": "to-map" }, "Map of its sounds"),
      ),
    newPart(model, family),
    listenPart(model, { about, signal }),
    healthPart(model, about),
    curves?.node,
    describePart(model),
    detailsPart(model),
  );
  curves?.draw();
}

function newPart(model, family) {
  if (!family.generates) return null;
  return el(
    "section.panel.row.between",
    { "aria-labelledby": "new-title" },
    el("h2", { id: "new-title" }, "New sounds"),
    model.generates
      ? el("a.button.primary", { href: `#/make/${api.id(model.id)}`, "data-testid": "go-make" }, "Make sounds with this model")
      : el("p", { "data-testid": "no-new-sounds" }, lacksPrior(model)),
  );
}

function titlePart(model) {
  const heading = el("h1", { title: model.name }, model.name);
  const input = el("input", { "aria-label": "New name", value: model.name, maxlength: "100" });
  const form = el(
    "form.row.tight.rename",
    { hidden: true },
    input,
    el("button.primary", { type: "submit" }, "Save name"),
    el("button", { type: "button", on: { click: () => edit(false) } }, "Leave it"),
  );
  const renameButton = el("button.quiet", { type: "button", on: { click: () => edit(true) } }, "Rename");
  function edit(on) {
    form.hidden = !on;
    heading.hidden = on;
    renameButton.hidden = on;
    if (on) input.select();
    else renameButton.focus();
  }
  form.addEventListener("keydown", (event) => event.key === "Escape" && edit(false));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = input.value.trim();
    if (!name || name === model.name) return edit(false);
    try {
      const renamed = await api.patch(`/models/${api.id(model.id)}`, { name });
      if (renamed.id !== model.id) return location.replace(`#/models/${api.id(renamed.id)}`);
      model.name = renamed.name;
      heading.textContent = renamed.name;
      document.title = `${renamed.name} – distill`;
      edit(false);
    } catch (error) {
      complain(error);
    }
  });
  const file = (format) => `/api/models/${api.id(model.id)}/file?format=${format}`;
  return el(
    "div.row.between.title-row",
    {},
    el("div.row.tight", {}, heading, form, renameButton),
    el(
      "div.row.tight",
      {},
      el(
        "a.button",
        { href: file("distill"), download: "", title: "One file with everything, for this program" },
        "Export .distill",
      ),
      el(
        "a.button",
        { href: file("safetensors"), download: "", title: "Weights and settings for other programs" },
        "Export .safetensors",
      ),
      el(
        "button.quiet",
        { type: "button", "data-testid": "delete-model", on: { click: () => deleteModel(model, leave) } },
        "Delete",
      ),
    ),
  );
  function leave() {
    location.hash = "#/library";
  }
}

function factsLine(model, family) {
  const facts = [
    model.facts.author && `by ${model.facts.author}`,
    family.title,
    model.levels && `${plural(model.levels, "level")} of ${model.codebook_size} codes`,
    `from ${model.dataset}`,
    model.files && plural(model.files, "sound"),
    model.epochs && plural(model.epochs, "epoch"),
    Number.isFinite(model.val_loss) && `loss ${figure(model.val_loss)}`,
    model.sample_rate && `mono at ${rate(model.sample_rate)}`,
    bytes(model.size_bytes),
    when(model.saved),
  ];
  return el("p.muted", {}, facts.filter(Boolean).join(" · "));
}

function healthPart(model, about) {
  if (!model.health) return null;
  const panels = Object.entries(model.health).map(([key, health], level) => {
    const panel = levelPanel(level, levelName(about, level), model.codebook_size);
    panel.set(health ?? model.health[key], model.verdicts?.[level]);
    return panel.node;
  });
  return el(
    "section",
    { "aria-labelledby": "health-title" },
    el("h2", { id: "health-title" }, "Levels of codes"),
    el("p.small.muted", {}, "As counted on the sounds set aside, at the version that was kept."),
    el("div.levels", {}, panels),
  );
}

function curvesPart(model, family, signal) {
  const known = lossSeries(family).filter(({ curve }) => model.curves?.[curve]?.length);
  if (!known.length) return null;
  const chart = lineChart(known, {
    label: "Losses over the epochs, logarithmic",
    height: 220,
    testid: "loss-chart",
    signal,
  });
  const length = Math.max(...known.map(({ curve }) => model.curves[curve].length));
  const epochs = Array.from({ length }, (_, index) => index + 1);
  const column = ({ curve }) => epochs.map((_, index) => positive(model.curves[curve][index]));
  const kept = model.facts.kept_epoch;
  const best = kept ? ` Epoch ${kept} did best and was kept.` : "";
  const node = el(
    "section.panel",
    { "aria-labelledby": "curves-title" },
    el("h2", { id: "curves-title" }, "How the training went"),
    el("p.small.muted", {}, `How far the model was off, epoch by epoch: lower is better.${best}`),
    chart.node,
  );
  return { node, draw: () => chart.set([epochs, ...known.map(column)]) };
}

function detailsPart(model) {
  const rows = Object.entries(model.settings ?? {}).filter(([, value]) => value !== null && typeof value !== "object");
  const extra = Object.entries(model.facts).filter(([, value]) => value !== null && typeof value !== "object");
  const list = (entries) =>
    el(
      "dl.settings",
      {},
      entries.map(([key, value]) => el("div", {}, el("dt", {}, humanised(key)), el("dd", {}, say(value)))),
    );
  return el(
    "details.panel",
    {},
    el("summary", {}, "All settings and facts"),
    el("h3", {}, "Settings"),
    list(rows),
    el("h3", {}, "About this file"),
    list(extra),
  );
}

function say(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" && !Number.isInteger(value) ? figure(value, 4) : String(value);
}

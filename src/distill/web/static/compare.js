// Runs on one chart, with what differs between them; and one sound through two models.
import * as api from "./api.js";
import { lineChart } from "./charts.js";
import { compareModels } from "./comparemodels.js";
import { el, fill } from "./dom.js";
import { familyOf, lossSeries } from "./families.js";
import { duration, figure, humanised, positive, toNumber } from "./format.js";
import { distinctNames } from "./runs.js";
import { complain } from "./toasts.js";

const COLOURS = ["--level-0", "--level-1", "--level-2", "--level-3", "--series-2", "--green"];
const DASHES = [undefined, [6, 4]]; // where there are more runs than colours

export async function show(root, { id, signal, about }) {
  const [runs, models] = await Promise.all([api.get("/runs", signal), api.get("/models", signal)]);
  const names = distinctNames(runs);
  const known = runs.filter(({ started }) => started).map((run) => ({ ...run, name: names.get(run.id) }));
  const alike = known.filter(({ family }) => family === known[0].family).slice(0, 2);
  fill(
    root,
    el("h1", {}, "Compare"),
    await runsPart(known, id?.split(",") ?? alike.map((run) => run.id), about, signal),
    compareModels(models, about, signal),
  );
}

async function runsPart(runs, wanted, about, signal) {
  const chosen = new Set(runs.map(({ id }) => id).filter((id) => wanted.includes(id)));
  const fetched = new Map(); // id → {run, epochs}, the run with its settings
  const losses = el("select", { id: "compare-loss", on: { change: () => draw() } });
  const axis = el("select", { id: "compare-axis", on: { change: () => draw() } }, [
    el("option", { value: "epochs" }, "Epochs"),
    el("option", { value: "minutes" }, "Minutes"),
  ]);
  const chart = el("div");
  const table = el("div");
  let drawing = new AbortController(); // for the chart, which is made anew for other runs
  signal.addEventListener("abort", () => drawing.abort());

  async function refresh() {
    await Promise.all([...chosen].filter((id) => !fetched.has(id)).map(fetchRun));
    const before = losses.value;
    const series = new Map(
      shown().flatMap(({ run }) => lossSeries(familyOf(about, run.family)).map((one) => [one.field, one.label])),
    );
    fill(losses, [...series].map(([field, label]) => el("option", { value: field }, label)));
    losses.value = series.has(before) ? before : "val_loss";
    draw();
  }
  async function fetchRun(id) {
    const path = `/runs/${api.id(id)}`;
    const [run, epochs] = await Promise.all([api.get(path, signal), api.get(`${path}/epochs`, signal)]);
    fetched.set(id, { run: { ...run, name: runs.find((one) => one.id === id).name }, epochs });
  }
  const shown = () => [...chosen].map((id) => fetched.get(id)).filter(Boolean);

  function draw() {
    if (signal.aborted) return;
    drawing.abort();
    drawing = new AbortController();
    const now = shown();
    const one = lineChart(
      now.map(({ run }, index) => ({ label: run.name, variable: COLOURS[index % COLOURS.length], dash: DASHES[Math.floor(index / COLOURS.length) % 2] })),
      { label: `${losses.selectedOptions[0]?.text} of ${now.length} runs, logarithmic`, signal: drawing.signal, testid: "compare-chart", empty: "Choose runs that have an epoch behind them." },
    );
    fill(chart, one.node);
    one.set(columns(now, losses.value, axis.value));
    fill(table, now.length ? differences(now) : null);
  }
  const choices = runs.map((run) =>
    el(
      "label.inline",
      {},
      el("input", {
        type: "checkbox",
        checked: chosen.has(run.id),
        "data-testid": "compare-run",
        on: { change: ({ target }) => (target.checked ? chosen.add(run.id) : chosen.delete(run.id), refresh().catch(complain)) },
      }),
      run.name,
    ),
  );
  await refresh();
  return el(
    "section.panel.roomy",
    { "aria-labelledby": "compare-runs" },
    el("h2", { id: "compare-runs" }, "Runs"),
    runs.length ? el("div.row.compare-runs", { role: "group", "aria-label": "Runs to compare" }, choices) : el("p.muted", {}, "No runs yet."),
    el("div.row", {}, el("label.inline", { for: "compare-loss" }, "Loss", losses), el("label.inline", { for: "compare-axis" }, "over", axis)),
    chart,
    el("p.small.muted", {}, "Losses of different families, or of different sounds, do not measure the same: compare those of like runs."),
    table,
  );
}

// One axis for all runs; where a run has no value, its line goes on to the next one.
function columns(shown, field, axis) {
  const place = ({ epoch, elapsed_seconds: seconds }) => (axis === "minutes" ? toNumber(seconds) / 60 : epoch + 1);
  const points = shown.map(({ epochs }) => new Map(epochs.map((entry) => [place(entry), positive(entry[field])])));
  const places = [...new Set(points.flatMap((one) => [...one.keys()]))].sort((one, other) => one - other);
  return [places, ...points.map((one) => places.map((at) => one.get(at) ?? null))];
}

// How each run came out, and the settings that they do not share.
function differences(shown) {
  const keys = new Set(shown.flatMap(({ run }) => Object.keys(run.config ?? {})));
  const differing = [...keys].filter((key) => new Set(shown.map(({ run }) => JSON.stringify(run.config?.[key]))).size > 1);
  const rows = [
    ["Collection", ({ run }) => run.dataset],
    ["Epochs", ({ epochs }) => String(epochs.length)],
    ["Best loss, set aside", ({ epochs }) => figure(Math.min(...epochs.map(({ val_loss: loss }) => toNumber(loss)).filter(Number.isFinite)))],
    ["Time", ({ epochs }) => duration(epochs.at(-1)?.elapsed_seconds)],
    ...differing.map((key) => [humanised(key), ({ run }) => say(run.config?.[key])]),
  ];
  return el(
    "div.scroll.wide",
    { tabindex: "0", role: "region", "aria-label": "How the runs differ" },
    el(
      "table",
      { "data-testid": "compare-table" },
      el("thead", {}, el("tr", {}, el("td"), shown.map(({ run }) => el("th", { scope: "col" }, el("a", { href: `#/runs/${api.id(run.id)}` }, run.name))))),
      el("tbody", {}, rows.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), shown.map((one) => el("td", {}, value(one)))))),
    ),
  );
}

const say = (value) => (typeof value === "number" ? figure(value) : value === null || value === undefined ? "–" : String(value));

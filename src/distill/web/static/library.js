// All models on this machine: finding, opening, deleting with a way back, and taking in files from elsewhere.
import * as api from "./api.js";
import { el, fill, later, setText } from "./dom.js";
import { familyTitle } from "./families.js";
import { dropZone, fileButton } from "./files.js";
import { bytes, figure, plural, when } from "./format.js";
import { remembered } from "./store.js";
import { announce, complain, offerUndo, toast } from "./toasts.js";

const BROUGHT_BACK = "modelbroughtback";
const NARROW = matchMedia("(max-width: 560px)"); // no room for a table
const SORTS = { date: "Newest first", name: "Name", loss: "Lowest loss", size: "Size" };

export async function show(root, { signal, about }) {
  const page = {
    about,
    signal,
    query: { search: "", sort: "date", family: "", collection: "" },
    layout: remembered.get("layout", "cards"),
    turn: 0,
  };
  page.list = el("div", { "aria-live": "off", tabindex: "-1" });
  page.error = el("p.notice.bad", { role: "alert", "data-testid": "import-error", hidden: true });
  page.collections = el("select", {
    id: "by-collection",
    on: { change: () => ((page.query.collection = page.collections.value), refresh(page).catch(complain)) },
  });
  const everything = await api.get("/models?search=&sort=name&family=&collection=", signal);
  page.families = new Set([...about.families.map(({ name }) => name), ...everything.map(({ family }) => family)]);
  fill(
    page.collections,
    option("", "All collections"),
    [...new Set(everything.map(({ dataset }) => dataset).filter(Boolean))].map((name) => option(name, name)),
  );
  fill(
    root,
    el("h1", {}, "Library"),
    el("p.lead", {}, "Every finished run leaves one model here. Each is a single file that you can take anywhere."),
    filters(page),
    page.error,
    page.list,
    importPart(page),
  );
  NARROW.addEventListener("change", () => draw(page), { signal });
  document.addEventListener(BROUGHT_BACK, () => refresh(page).catch(complain), { signal });
  await refresh(page);
}

const option = (value, text) => el("option", { value }, text);

function filters(page) {
  const search = el("input", {
    type: "search",
    id: "search",
    placeholder: "Name or collection",
    "data-testid": "search-models",
    autocomplete: "off",
  });
  const ask = later(150, () => refresh(page).catch(complain));
  search.addEventListener("input", () => {
    page.query.search = search.value;
    ask();
  });
  const select = (id, key, options) => {
    const node = el(
      "select",
      { id, on: { change: () => ((page.query[key] = node.value), refresh(page).catch(complain)) } },
      options,
    );
    return node;
  };
  const labelled = (text, node) => el("div.field", {}, el("label", { for: node.id }, text), node);
  return el(
    "form.filters",
    { role: "search", "aria-label": "Models", on: { submit: (event) => event.preventDefault() } },
    labelled("Search", search),
    labelled(
      "Order",
      select(
        "sort",
        "sort",
        Object.entries(SORTS).map(([value, text]) => option(value, text)),
      ),
    ),
    labelled(
      "Family",
      select("by-family", "family", [
        option("", "All families"),
        [...page.families].map((name) => option(name, familyTitle(page.about, name))),
      ]),
    ),
    labelled("Collection", page.collections),
    layoutSwitch(page),
  );
}

function layoutSwitch(page) {
  const button = (layout, text) =>
    el("button", { type: "button", "data-layout": layout, on: { click: () => choose(layout) } }, text);
  const node = el(
    "div.segmented",
    { role: "group", "aria-label": "Show as" },
    button("cards", "Cards"),
    button("table", "Table"),
  );
  const mark = () => {
    for (const one of node.children) one.setAttribute("aria-pressed", String(one.dataset.layout === page.layout));
  };
  function choose(layout) {
    page.layout = layout;
    remembered.set("layout", layout);
    mark();
    draw(page);
  }
  mark();
  return node;
}

async function refresh(page) {
  page.turn += 1;
  const turn = page.turn;
  const models = await api.get(`/models?${new URLSearchParams(page.query)}`, page.signal);
  if (turn !== page.turn) return;
  page.models = models;
  draw(page);
  announce(plural(models.length, "model"));
}

function draw(page) {
  const { models } = page;
  if (!models) return;
  const focused = page.list.contains(document.activeElement);
  if (!models.length) fill(page.list, nothing(page));
  else if (page.layout === "table" && !NARROW.matches) fill(page.list, table(page, models));
  else
    fill(
      page.list,
      el(
        "ul.cards.plain",
        {},
        models.map((model) => card(page, model)),
      ),
    );
  if (focused) page.list.focus();
}

function nothing(page) {
  const { search, family, collection } = page.query;
  if (search || family || collection)
    return el("div.empty", {}, el("p", {}, "No model fits. Try another word or another filter."));
  return el(
    "div.empty",
    {},
    el("p", {}, "No models yet."),
    el("p", {}, el("a.button.primary", { href: "#/collection" }, "Train the first one")),
  );
}

const address = (model) => `#/models/${api.id(model.id)}`;

const problem = (model) =>
  model.problem ? el("span.small.muted.block", {}, `Cannot be loaded: ${model.problem}`) : null;

function card(page, model) {
  const kind = model.levels
    ? `${plural(model.levels, "level")} of ${model.codebook_size} codes`
    : familyTitle(page.about, model.family);
  const facts = [
    ["Collection", model.dataset],
    ["Sounds", model.files],
    ["Epochs", model.epochs],
    ["Loss", figure(model.val_loss)],
    ["Size", bytes(model.size_bytes)],
  ];
  return el(
    "li.panel.card",
    { "data-testid": "model-card" },
    el("h2.card-title", {}, el("a", { href: address(model) }, model.name)),
    el("p.small.muted", {}, `${kind} · ${when(model.saved)}`),
    problem(model),
    el(
      "dl.facts-list",
      {},
      facts.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value ?? "–"))),
    ),
    el(
      "div.row.between",
      {},
      el("a.button", { href: address(model), "aria-label": `Open ${model.name}` }, "Open"),
      deleteButton(page, model),
    ),
  );
}

function table(page, models) {
  const heads = ["Name", "Family", "Collection", "Sounds", "Epochs", "Loss", "Size", "Saved"];
  const row = (model) =>
    el(
      "tr",
      { "data-testid": "model-card" },
      el("th", { scope: "row" }, el("a", { href: address(model) }, model.name), problem(model)),
      [
        familyTitle(page.about, model.family),
        model.dataset,
        model.files,
        model.epochs,
        figure(model.val_loss),
        bytes(model.size_bytes),
        when(model.saved),
      ].map((value) => el("td", {}, value ?? "–")),
      el("td.actions", {}, deleteButton(page, model)),
    );
  return el(
    "div.panel.flush.scroll.wide",
    { tabindex: "0", role: "region", "aria-label": "Models" },
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          heads.map((text) => el("th", { scope: "col" }, text)),
          el("th", { scope: "col" }, el("span.visually-hidden", {}, "Actions")),
        ),
      ),
      el("tbody", {}, models.map(row)),
    ),
  );
}

function deleteButton(page, model) {
  return el(
    "button.quiet",
    {
      type: "button",
      "data-testid": "delete-model",
      "aria-label": `Delete ${model.name}`,
      on: { click: () => deleteModel(model, () => refresh(page).catch(complain)) },
    },
    "Delete",
  );
}

export async function deleteModel(model, then) {
  try {
    const { undo } = await api.remove(`/models/${api.id(model.id)}`);
    offerUndo(`“${model.name}” was deleted.`, "/models/undo", undo, BROUGHT_BACK);
    then();
  } catch (error) {
    complain(error);
    if (error.status === 404) then(); // it is gone already
  }
}

function importPart(page) {
  async function take(file) {
    page.error.hidden = true;
    try {
      const model = await api.sendFile("POST", `/models/import?name=${api.id(file.name)}`, file, page.signal);
      toast(`“${model.name}” is in the library.`);
      await refresh(page);
    } catch (error) {
      if (error.name === "AbortError") return;
      setText(page.error, `Not taken in. ${error.message}`);
      page.error.hidden = false;
      page.error.scrollIntoView({ block: "nearest" });
    }
  }
  return dropZone(
    { role: "group", "aria-label": "Import a model", class: "slim" },
    (transfer) => transfer.files[0] && take(transfer.files[0]),
    el("span", {}, "Got a model from someone? Drop the .distill or .safetensors file here."),
    fileButton("Choose a model file", { accept: ".distill,.safetensors", "data-testid": "import-file" }, (input) =>
      take(input.files[0]),
    ),
  );
}

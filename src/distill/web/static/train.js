// The form that plans and starts a run on a collection; the plan is asked of the server at each change.
import * as api from "./api.js";
import { el, fill, later, setText } from "./dom.js";
import { familyOf } from "./families.js";
import { duration, figure, plural, rate } from "./format.js";
import { outOf } from "./report.js";
import { formValues } from "./store.js";

const PLAN_DELAY_MS = 250;

// Settings in the folded part: [name, label, explanation, input attributes]. Those that a family lacks are not shown.
const ADVANCED = [
  ["codebook_size", "Codebook size", "How many codes each level may choose from.", { min: 2, step: 1 }],
  ["codebook_dim", "Code length", "How many numbers describe one code.", { min: 1, step: 1 }],
  ["commitment_weight", "Commitment weight", "How firmly the model is held to its codes.", { min: 0, step: "any" }],
  ["latent_dim", "Dimensions", "In how many ways the sounds may vary.", { min: 1, step: 1 }],
  ["kl_weight_max", "KL weight", "Higher: smoother in between sounds, but less exact.", { min: 0, step: "any" }],
  ["learning_rate", "Learning rate", "How big each learning step is.", { min: 0, step: "any" }],
  ["batch_size", "Batch size", "How many pieces of sound per learning step.", { min: 1, step: 1 }],
  [
    "dropout",
    "Dropout",
    "Share of the network that rests at each step, against learning by heart.",
    { min: 0, max: 0.99, step: "any" },
  ],
  [
    "val_fraction",
    "Set aside",
    "Share of the sounds kept to check on, not trained on.",
    { min: 0, max: 0.99, step: "any" },
  ],
  ["seed", "Seed", "Starting point of chance: the same seed gives the same run.", { min: 0, step: 1 }],
];

export function trainForm(collection, { about, signal }) {
  const values = valuesFor(collection, about);
  const family = () => familyOf(about, values.family);
  const view = {
    why: el("ul.why"),
    error: el("p.notice.bad", { role: "alert", hidden: true }),
    facts: el("p.facts"),
    size: el("output", {}, "automatic"),
  };
  const start = el("button.primary.big", { type: "submit", "data-testid": "start-run" }, "Start training");
  let starting = false;
  const fields = {
    levels: levelsField(values, about, view, changed),
    advanced: ADVANCED.map((row) => advancedField(row, values, changed)),
    augment: augmentField(values, changed),
    prior: priorField(values, changed),
  };
  let asking = new AbortController();

  const plan = later(PLAN_DELAY_MS, async () => {
    asking.abort();
    asking = new AbortController();
    const mine = asking;
    try {
      const body = { excluded: excluded(collection), family: values.family, settings: settingsOf(values, family()) };
      const answer = await api.post(`/collections/${api.id(collection.id)}/plan`, body, mine.signal);
      if (mine !== asking || signal.aborted) return;
      tellPlan(view, fields, answer, values);
      start.disabled = starting;
    } catch (error) {
      if (error.name === "AbortError" || mine !== asking) return;
      complainHere(view, error);
      start.disabled = Boolean(error.status); // nothing that could be started
    }
  });
  function changed() {
    showFields(fields, family());
    plan();
  }
  async function submit(event) {
    event.preventDefault();
    starting = start.disabled = true;
    try {
      const body = {
        collection: collection.id,
        excluded: excluded(collection),
        family: values.family,
        name: values.name.trim() || collection.name,
        settings: settingsOf(values, family()),
      };
      const run = await api.post("/runs", body);
      location.hash = `#/runs/${api.id(run.id)}`;
    } catch (error) {
      complainHere(view, error);
      starting = start.disabled = false;
    }
  }
  const node = el(
    "form.panel.train",
    // The plan says what is wrong with a setting; a browser would stop at fields that are not in use, even out of sight.
    { novalidate: true, "data-testid": "train-form", "aria-labelledby": "train-title", on: { submit } },
    el("h2", { id: "train-title" }, "Train a model"),
    el(
      "div.train-grid",
      {},
      el(
        "div.stack",
        {},
        nameField(values),
        familyField(values, about, changed),
        fields.levels,
        lengthField(values, changed),
      ),
      el(
        "aside.plan",
        { "aria-label": "What will happen" },
        el("h3", {}, "What will happen"),
        view.facts,
        el("div", { "aria-live": "polite" }, view.why),
        view.error,
        start,
      ),
    ),
    el(
      "details",
      {},
      el("summary", {}, "Advanced settings"),
      el("p.small.muted", {}, "Empty fields are chosen for you; the grey figure is what will be used."),
      el(
        "div.fields",
        {},
        fields.advanced.map((field) => field.node),
        fields.augment,
        fields.prior,
      ),
    ),
  );
  showFields(fields, family());
  return { node, filesChanged: plan };
}

// Only settings that the chosen family has.
function showFields(fields, { settings }) {
  fields.levels.hidden = !settings.includes("num_quantizers");
  fields.prior.hidden = !settings.includes("with_prior");
  for (const { name, node } of fields.advanced) node.hidden = !settings.includes(name);
}

function valuesFor(collection, about) {
  if (!formValues.has(collection.id)) {
    formValues.set(collection.id, {
      name: collection.name,
      family: about.families[0].name,
      levels: "",
      length: "minutes",
      minutes: String(about.defaults.minutes),
      epochs: "100",
      augment: "",
      prior: true,
      advanced: {},
    });
  }
  return formValues.get(collection.id);
}

function excluded(collection) {
  return [...outOf(collection)].sort();
}

// Only what the user changed, and the family has: the rest is the preset's business.
function settingsOf(values, family) {
  const settings = {};
  if (values.length === "minutes") settings.minutes = Number(values.minutes);
  if (values.length === "epochs") settings.max_epochs = Number(values.epochs);
  if (values.levels) settings.num_quantizers = Number(values.levels);
  if (!values.prior) settings.with_prior = false;
  if (values.augment) settings.augment = values.augment === "on";
  for (const [name, text] of Object.entries(values.advanced)) if (text) settings[name] = Number(text);
  return Object.fromEntries(Object.entries(settings).filter(([name]) => family.settings.includes(name)));
}

function tellPlan(view, fields, { config, why, files, seconds, kbits, sample_rate: hertz }, values) {
  view.error.hidden = true;
  const parts = [plural(files, "sound"), duration(seconds), rate(hertz)];
  if (config.num_quantizers) parts.push(plural(config.num_quantizers, "level"), `${config.codebook_size} codes each`);
  if (kbits) parts.push(`${figure(kbits, 4)} kbit/s`);
  setText(view.facts, parts.join(" · "));
  setText(
    view.size,
    config.codebook_size
      ? `${config.codebook_size} codes${values.advanced.codebook_size ? "" : ", chosen automatically"}`
      : "automatic",
  );
  fill(
    view.why,
    why.map((sentence) => el("li", {}, sentence)),
  );
  for (const { name, input } of fields.advanced)
    if (config[name] !== undefined && config[name] !== null) input.placeholder = figure(config[name]);
}

function complainHere(view, error) {
  setText(view.error, error.message);
  view.error.hidden = false;
}

function nameField(values) {
  const input = el("input", {
    id: "model-name",
    value: values.name,
    autocomplete: "off",
    maxlength: "100",
    on: { input: () => (values.name = input.value) },
  });
  return el("div.field", {}, el("label", { for: "model-name" }, "Name of the model"), input);
}

function radioCard(group, value, title, text, state, changed, badge = null) {
  const input = el("input", {
    type: "radio",
    name: group,
    value,
    checked: state[group] === value,
    on: { change: () => ((state[group] = value), changed()) },
  });
  return el(
    "label.card-choice",
    {},
    input,
    el(
      "span",
      {},
      el("strong", {}, title, badge && el("span.tag", {}, badge)),
      text && el("span.small.muted", {}, text),
    ),
  );
}

function familyField(values, about, changed) {
  return el(
    "fieldset",
    {},
    el("legend", {}, "Family"),
    el(
      "div.choices",
      {},
      about.families.map(({ name, title, summary }, index) =>
        radioCard("family", name, title, summary, values, changed, index ? null : "recommended"),
      ),
    ),
  );
}

function levelsField(values, about, view, changed) {
  const cards = Object.entries(about.levels).map(([count, sentence]) =>
    radioCard("levels", count, `${count} levels`, sentence, values, changed),
  );
  return el(
    "fieldset",
    {},
    el("legend", { title: "Each level describes what the one before left over" }, "Levels of codes"),
    el(
      "div.choices.four",
      {},
      radioCard("levels", "", "Automatic", "Chosen to fit the seconds of sound.", values, changed),
      cards,
    ),
    el(
      "p.small",
      {},
      "Codebook size: ",
      view.size,
      el("span.muted", {}, " (how many codes each level may choose from)"),
    ),
  );
}

function lengthField(values, changed) {
  const number = (key, label, attributes) => {
    const input = el("input.short", {
      type: "number",
      min: "1",
      "aria-label": label,
      value: values[key],
      ...attributes,
    });
    input.addEventListener("input", () => {
      values[key] = input.value;
      values.length = key;
      radios[key].checked = true;
      changed();
    });
    return input;
  };
  const radios = {};
  const choice = (key, text, input) => {
    radios[key] = el("input", {
      type: "radio",
      name: "length",
      value: key,
      checked: values.length === key,
      on: { change: () => ((values.length = key), changed()) },
    });
    return el("div.row.tight", {}, el("label.inline", {}, radios[key], text), input);
  };
  return el(
    "fieldset",
    {},
    el("legend", {}, "How long"),
    el(
      "div.row",
      {},
      choice("minutes", "Minutes", number("minutes", "Minutes of training", { min: "0.1", step: "any" })),
      choice("epochs", "Epochs", number("epochs", "Epochs of training", { step: "1" })),
    ),
    el(
      "p.small.muted",
      {},
      "An epoch is one pass through all sounds. The version that did best is kept, so longer does no harm.",
    ),
  );
}

function advancedField([name, label, explanation, attributes], values, changed) {
  const input = el("input", {
    id: `set-${name}`,
    type: "number",
    value: values.advanced[name] ?? "",
    "aria-describedby": `why-${name}`,
    ...attributes,
  });
  input.addEventListener("input", () => {
    values.advanced[name] = input.value;
    changed();
  });
  return {
    name,
    input,
    node: el(
      "div.field",
      {},
      el("label", { for: input.id }, label),
      input,
      el("p.small.muted", { id: `why-${name}` }, explanation),
    ),
  };
}

function augmentField(values, changed) {
  const select = el(
    "select",
    { id: "set-augment", value: values.augment, on: { change: () => ((values.augment = select.value), changed()) } },
    el("option", { value: "" }, "Automatic"),
    el("option", { value: "on" }, "On"),
    el("option", { value: "off" }, "Off"),
  );
  return el(
    "div.field",
    {},
    el("label", { for: "set-augment" }, "Variation"),
    select,
    el("p.small.muted", {}, "Vary loudness and where each sound is cut."),
  );
}

function priorField(values, changed) {
  const input = el("input", {
    id: "set-prior",
    type: "checkbox",
    checked: values.prior,
    "aria-describedby": "why-prior",
    on: { change: () => ((values.prior = input.checked), changed()) },
  });
  return el(
    "div.field",
    {},
    el("label.inline.tall", { for: "set-prior" }, input, "Learn to make new sounds"),
    el("p.small.muted", { id: "why-prior" }, "The last part of the run, which takes a third of its minutes."),
  );
}

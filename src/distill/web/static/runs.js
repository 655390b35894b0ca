// All runs, newest first: their state, their place in the queue, and what can be done with them.
import * as api from "./api.js";
import { el, fill } from "./dom.js";
import { familyTitle } from "./families.js";
import { plural, when } from "./format.js";
import { complain } from "./toasts.js";

const POLL_MS = 2000;

export const STATE_WORDS = {
  queued: "Waiting",
  running: "Training",
  stopping: "Stopping",
  finished: "Finished",
  interrupted: "Interrupted",
  failed: "Failed",
  gone: "Taken back before it began",
};

export const ACTIVE = new Set(["queued", "running", "stopping"]);

// What can be done with a run: to stop it, or to go on with it.
export function verbFor(run) {
  if (ACTIVE.has(run.state)) return run.stoppable && run.state !== "stopping" ? "cancel" : null;
  return run.state === "interrupted" || (run.state === "failed" && run.started) ? "resume" : null;
}

function stateChip(run) {
  const place = run.state === "queued" && run.position ? `, number ${run.position} in the queue` : "";
  return el("span.chip", { class: `state-${run.state}` }, `${STATE_WORDS[run.state] ?? run.state}${place}`);
}

export async function show(root, { signal, about }) {
  const list = el("div");
  const silent = el("p.notice.amber", { hidden: true, role: "status" }, "The server does not answer. Trying again …");
  fill(
    root,
    el("h1", {}, "Runs"),
    el(
      "p.lead",
      {},
      "A run is one training. Runs go one after another; those that wait keep their place in the queue.",
    ),
    silent,
    list,
    el("p", {}, el("a.button", { href: "#/compare", "data-testid": "go-compare" }, "Compare runs and models")),
  );
  let before = "";
  let missed = 0; // answers, in a row
  async function poll() {
    if (document.hidden) return;
    try {
      await refresh();
    } catch {
      missed += 1;
      silent.hidden = missed < 3;
    }
  }
  async function refresh() {
    const runs = await api.get("/runs", signal);
    const now = JSON.stringify(runs);
    missed = 0;
    silent.hidden = true;
    if (now === before) return; // nothing new: leave focus and selection alone
    before = now;
    const focused = document.activeElement?.dataset?.key;
    fill(list, runs.length ? table(runs, about, act) : empty());
    if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }
  async function act(verb, run) {
    try {
      await api.post(`/runs/${api.id(run.id)}/${verb}`);
    } catch (error) {
      complain(error);
    }
    await refresh().catch(complain);
  }
  await refresh();
  const timer = setInterval(poll, POLL_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function empty() {
  return el(
    "div.empty",
    {},
    el("p", {}, "No runs yet."),
    el("p", {}, el("a.button.primary", { href: "#/collection" }, "Choose sounds to train on")),
  );
}

function table(runs, about, act) {
  const names = distinctNames(runs);
  const heads = ["Name", "State", "Kind", "Started"].map((text) => el("th", { scope: "col" }, text));
  return el(
    "div.panel.flush",
    {},
    el(
      "table.stacking",
      {},
      el("thead", {}, el("tr", {}, heads, el("th", { scope: "col" }, el("span.visually-hidden", {}, "Actions")))),
      el(
        "tbody",
        {},
        runs.map((run) => row({ ...run, name: names.get(run.id) }, about, act)),
      ),
    ),
  );
}

// Runs on one collection are called alike: the second is "drums (2)". Their ids have the time in them.
export function distinctNames(runs) {
  const seen = new Map();
  const names = new Map();
  for (const { id, name } of [...runs].sort((one, other) => (one.id < other.id ? -1 : 1))) {
    const number = (seen.get(name) ?? 0) + 1;
    seen.set(name, number);
    names.set(id, number === 1 ? name : `${name} (${number})`);
  }
  return names;
}

function row(run, about, act) {
  const kind = [familyTitle(about, run.family), run.levels && plural(run.levels, "level")].filter(Boolean).join(", ");
  return el(
    "tr",
    { "data-testid": "run-row" },
    el(
      "th",
      { scope: "row" },
      el("a", { href: `#/runs/${api.id(run.id)}`, "data-key": `open-${run.id}` }, run.name),
      el("span.small.muted.block", {}, run.dataset),
    ),
    el("td", {}, stateChip(run), run.error ? el("span.small.reason.block", {}, run.error) : null),
    el("td", {}, kind),
    el("td", {}, when(run.started)),
    el("td.actions", {}, actions(run, act)),
  );
}

function actions(run, act) {
  const button = (text, verb) =>
    el(
      "button",
      {
        type: "button",
        "data-key": `${verb}-${run.id}`,
        "data-testid": `${verb}-run`,
        "aria-label": `${text} ${run.name}`,
        on: { click: () => act(verb, run) },
      },
      text,
    );
  const verb = verbFor(run);
  return [
    run.model_id
      ? el(
          "a.button",
          {
            href: `#/models/${api.id(run.model_id)}`,
            "data-key": `model-${run.id}`,
            "aria-label": `Model of ${run.name}`,
          },
          "Model",
        )
      : null,
    verb === "cancel" ? button("Cancel", "cancel") : null,
    verb === "resume" ? button("Resume", "resume") : null,
  ];
}

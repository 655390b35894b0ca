// New sounds from a model with directions: sliders along what it has learnt, and the way between two sounds.
import * as api from "./api.js";
import { el, later, setText } from "./dom.js";
import { soundSlot } from "./files.js";
import { humanised, signed } from "./format.js";
import { player } from "./player.js";
import { decode } from "./sound.js";

const MEANINGS = {
  loudness: "quiet to loud",
  brightness: "dark to bright",
  noisiness: "tone to noise",
  attack: "early to late energy",
  pitch_clarity: "vague to clear pitch",
};
const DELAY_MS = 250;

export function generatePart(model, signal) {
  return el("div.stack", {}, newSounds(model, signal), between(model, signal));
}

function newSounds(model, signal) {
  const base = `/models/${api.id(model.id)}/generate`;
  const values = Object.fromEntries(Object.keys(model.directions ?? {}).map((name) => [name, 0]));
  const seed = el("input.short", { id: "gen-seed", type: "number", min: "0", step: "1", value: "0" });
  const seconds = el("input.short", {
    id: "gen-seconds",
    type: "number",
    min: "0.2",
    max: "30",
    step: "any",
    value: "1",
  });
  const out = soundOutput({ name: "New sound", signal });
  const path = () => {
    const query = new URLSearchParams({ seed: seed.value || "0", seconds: seconds.value || "1" });
    for (const [name, value] of Object.entries(values)) if (value) query.append("set", `${name}:${value}`);
    return `${base}?${query}`;
  };
  const refresh = later(DELAY_MS, () => out.load(path()));
  const random = el(
    "button",
    { type: "button", on: { click: () => ((seed.value = String(Math.floor(Math.random() * 1e6))), refresh()) } },
    "Random",
  );
  for (const input of [seed, seconds]) input.addEventListener("input", refresh);
  const sliders = Object.entries(model.directions ?? {}).map(([name, [low, high]]) =>
    directionSlider(name, low, high, (value) => ((values[name] = value), refresh())),
  );
  const reset = el(
    "button.quiet",
    { type: "button", on: { click: () => sliders.forEach((slider) => slider.reset()) } },
    "Sliders to the middle",
  );
  refresh();
  return el(
    "section.panel.roomy",
    { "aria-labelledby": "new-title" },
    el("h2", { id: "new-title" }, "New sounds"),
    el(
      "p.small.muted",
      {},
      "Each seed is another sound. The sliders push it along what the model found in your collection; 0 leaves it alone, 1 is a usual difference between two sounds.",
    ),
    el(
      "div.row",
      {},
      el("label.inline", { for: "gen-seed" }, "Seed"),
      seed,
      random,
      el("label.inline", { for: "gen-seconds" }, "Seconds"),
      seconds,
      reset,
    ),
    el(
      "div.sliders",
      {},
      sliders.map(({ node }) => node),
    ),
    out.node,
  );
}

// "pitch_clarity_brighter" makes the pitch clearer and the sound brighter; "pitch_clarity_2" is of an older model.
function parts(name) {
  const root = Object.keys(MEANINGS).find((known) => name === known || name.startsWith(`${known}_`));
  return [root ?? name, root ? name.slice(root.length + 1).split("_").filter(Boolean) : []];
}

function meaning(name) {
  const [root, sides] = parts(name);
  if (!MEANINGS[root]) return "something the model found by itself";
  return [MEANINGS[root], ...sides.map((side) => (Number(side) ? "in another way" : `and ${side}`))].join(", ");
}

function title(name) {
  const [root, sides] = parts(name);
  return [humanised(root), ...sides].join(", ");
}

function directionSlider(name, low, high, onChange) {
  const id = `dir-${name}`;
  const value = el("output", { for: id }, signed(0));
  const input = el("input", {
    id,
    type: "range",
    min: low,
    max: high,
    step: "0.1",
    value: "0",
    "aria-describedby": `${id}-why`,
  });
  const tell = () => {
    setText(value, signed(Number(input.value)));
    onChange(Number(input.value));
  };
  input.addEventListener("input", tell);
  return {
    node: el(
      "div.slider",
      {},
      el("div.row.between", {}, el("label", { for: id }, title(name)), value),
      input,
      el("span.small.muted", { id: `${id}-why` }, meaning(name)),
    ),
    reset() {
      input.value = "0";
      tell();
    },
  };
}

function between(model, signal) {
  const sounds = [null, null];
  const share = el("input", { id: "share", type: "range", min: "0", max: "1", step: "0.05", value: "0.5" });
  const value = el("output", { for: "share" }, "50 %");
  const error = el("p.notice.bad", { role: "alert", hidden: true });
  const out = soundOutput({ name: "Between", signal });
  const refresh = later(DELAY_MS, () => {
    if (!sounds[0] || !sounds[1]) return;
    out.load(
      `/models/${api.id(model.id)}/between?${new URLSearchParams({ first: sounds[0], second: sounds[1], share: share.value })}`,
    );
  });
  share.addEventListener("input", () => {
    setText(value, `${Math.round(share.value * 100)} %`);
    refresh();
  });
  const slot = (index, label) =>
    soundSlot(model, label, {
      signal,
      onSound: ({ sound }) => ((sounds[index] = sound), refresh()),
      onProblem: (sentence) => (setText(error, sentence), (error.hidden = !sentence)),
    });
  return el(
    "section.panel.roomy",
    { "aria-labelledby": "between-title" },
    el("h2", { id: "between-title" }, "Between two sounds"),
    el("div.two", {}, slot(0, "First sound"), slot(1, "Second sound")),
    error,
    el(
      "div.slider",
      {},
      el("div.row.between", {}, el("label", { for: "share" }, "How much of the second"), value),
      share,
    ),
    out.node,
  );
}

// A player with one lane whose sound is fetched anew at each change, and a link to keep it.
function soundOutput({ name, signal }) {
  const one = player({ labels: [name], signal, name });
  const download = el("a.button", { "data-testid": "download", download: "", hidden: true }, "Download");
  const error = el("p.small.reason", { role: "alert", hidden: true });
  let asking = new AbortController();
  signal.addEventListener("abort", () => asking.abort());
  async function load(path) {
    if (signal.aborted) return;
    asking.abort();
    asking = new AbortController();
    error.hidden = true;
    try {
      const buffer = await decode(await api.bytesOf(path, asking.signal));
      one.sound.seek(0);
      one.setBuffer(0, buffer);
      download.href = `/api${path}`;
      download.hidden = false;
    } catch (problem) {
      if (problem.name === "AbortError") return;
      setText(error, problem.message);
      error.hidden = false;
    }
  }
  return { node: el("div.roomy", {}, one.node, error, el("p", {}, download)), load };
}

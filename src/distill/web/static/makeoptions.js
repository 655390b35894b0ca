// How new sounds are to be: how long, how bold, loops or not, and for a model with directions where to along them.
import { el, setText } from "./dom.js";
import { drawsCodes } from "./families.js";
import { humanised, signed } from "./format.js";

const MEANINGS = {
  loudness: "quiet to loud",
  brightness: "dark to bright",
  noisiness: "tone to noise",
  attack: "early to late energy",
  pitch_clarity: "vague to clear pitch",
};

// `wish()` is what the server is asked for; `onLoop` hears whether sounds are loops.
export function makeOptions(model, family, { onLoop }) {
  const seconds = el("input.short", { id: "make-seconds", type: "number", min: "0.1", max: "30", step: "any" });
  seconds.placeholder = drawsCodes(family) ? "as usual" : "1";
  const temperature = slider("make-temperature", "Temperature", "low: what is usual; high: what is not", {
    min: "0.3",
    max: "1.5",
    step: "0.05",
    value: drawsCodes(family) ? "0.8" : "1",
  });
  const loop = el("input", { type: "checkbox", on: { change: () => onLoop(loop.checked) } });
  const directions = Object.entries(model.directions ?? {}).map(([name, [low, high]]) => ({
    name,
    ...slider(`dir-${name}`, title(name), meaning(name), { min: low, max: high, step: "0.1", value: "0" }, signed),
  }));
  const node = el(
    "div.roomy",
    {},
    el(
      "div.row.options",
      {},
      el("label.inline", { for: "make-seconds" }, "Seconds", seconds),
      drawsCodes(family) ? el("label.inline", {}, loop, "Loops, whose end meets their beginning") : null,
    ),
    el("div.sliders", {}, temperature.node, directions.map((one) => one.node)),
  );
  return {
    node,
    wish: () => ({
      seconds: seconds.value ? Number(seconds.value) : null,
      temperature: temperature.value(),
      loop: loop.checked,
      moves: Object.fromEntries(directions.map((one) => [one.name, one.value()]).filter(([, amount]) => amount)),
    }),
  };
}

// A slider with its value and what its ends mean.
export function slider(id, label, meaning, attributes, told = String) {
  const input = el("input", { id, type: "range", "aria-describedby": `${id}-why`, ...attributes });
  const value = el("output", { for: id });
  const tell = () => setText(value, told(Number(input.value)));
  input.addEventListener("input", tell);
  tell();
  return {
    value: () => Number(input.value),
    node: el(
      "div.slider",
      {},
      el("div.row.between", {}, el("label", { for: id }, label), value),
      input,
      el("span.small.muted", { id: `${id}-why` }, meaning),
    ),
  };
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

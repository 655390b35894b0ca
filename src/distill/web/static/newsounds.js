// New sounds from a model that has learnt how its codes follow each other: several at once, and ones like others.
import * as api from "./api.js";
import { el, setText } from "./dom.js";
import { soundSlot } from "./files.js";
import { soundList } from "./soundlist.js";

const AT_ONCE = 8;
const VARIATIONS = 4;
const SEEDS = 2 ** 32;

export function newSoundsPart(model, signal) {
  const seed = el("input.short", { id: "new-seed", type: "number", min: "0", step: "1", value: "0" });
  const seconds = el("input.short", { id: "new-seconds", type: "number", min: "0.1", max: "30", step: "any" });
  seconds.placeholder = "as usual";
  const temperature = slider("new-temperature", "Temperature", { min: "0.3", max: "1.5", step: "0.05", value: "0.8" });
  const loop = el("input", { type: "checkbox" });
  const sounds = soundList({ name: "New sounds", signal, testid: "new-sound" });

  function make(first) {
    seed.value = String(first);
    const options = new URLSearchParams({ temperature: temperature.value() });
    if (seconds.value) options.set("seconds", seconds.value);
    if (loop.checked) options.set("loop", "true");
    const items = numbers(AT_ONCE).map((index) => ({
      label: `Seed ${first + index}`,
      path: `/models/${api.id(model.id)}/generate?seed=${first + index}&${options}`,
      file: `${model.name} ${first + index}.wav`,
    }));
    sounds.make(items, { looping: loop.checked });
  }
  const now = () => Math.floor(Number(seed.value)) || 0;
  return el(
    "section.panel.roomy",
    { "aria-labelledby": "new-title" },
    el("h2", { id: "new-title" }, "New sounds"),
    el(
      "p.small.muted",
      {},
      "Sounds as your collection could have them. Each seed is another sound, and the same seed makes the same one.",
    ),
    el(
      "div.row.options",
      {},
      el("label.inline", { for: "new-seconds" }, "Seconds", seconds),
      el("label.inline", { for: "new-seed" }, "Seed", seed),
      el("label.inline", {}, loop, "Loops, whose end meets their beginning"),
    ),
    temperature.node("low: what is usual; high: what is not"),
    el(
      "div.row",
      {},
      el(
        "button.primary",
        { type: "button", "data-testid": "make-sounds", on: { click: () => make(now()) } },
        `Make ${AT_ONCE} sounds`,
      ),
      el(
        "button",
        { type: "button", "data-testid": "make-others", on: { click: () => make((now() + AT_ONCE) % SEEDS) } },
        `Another ${AT_ONCE}`,
      ),
    ),
    sounds.node,
  );
}

export function noNewSoundsPart() {
  return el(
    "section.panel",
    { "aria-labelledby": "new-title", "data-testid": "no-new-sounds" },
    el("h2", { id: "new-title" }, "New sounds"),
    el(
      "p",
      {},
      "This model makes no new sounds: it has no prior, the part that knows how its codes follow each other. Models that are trained here from now on have one, from the last part of their run.",
    ),
  );
}

// Of a sound that was dropped on the model: others that are like it.
export function varyPart(sound, signal) {
  const strength = slider("vary-strength", "Strength", { min: "0", max: "1", step: "0.05", value: "0.5" });
  const sounds = soundList({ name: "Variations", signal, testid: "variation" });
  let next = 0;
  function make() {
    const items = numbers(VARIATIONS).map((index) => ({
      label: `Variation ${next + index + 1}`,
      path: `/sounds/${api.id(sound.sound)}/variation?strength=${strength.value()}&seed=${next + index}`,
      file: `${stem(sound)} varied ${next + index + 1}.wav`,
    }));
    next += VARIATIONS;
    sounds.make(items);
  }
  return el(
    "section.roomy",
    { "aria-labelledby": "vary-title" },
    el("h3", { id: "vary-title" }, "Vary"),
    strength.node("0: the sound itself; 1: a new one"),
    el(
      "div.row",
      {},
      el("button", { type: "button", "data-testid": "vary", on: { click: make } }, `Make ${VARIATIONS} variations`),
    ),
    sounds.node,
  );
}

// From a sound that was dropped on the model to a second one, in steps.
export function morphPart(sound, model, signal) {
  const error = el("p.small.reason", { role: "alert", hidden: true });
  const steps = el("input.short", { id: "morph-steps", type: "number", min: "2", max: "16", step: "1", value: "5" });
  const sounds = soundList({ name: "Steps of the morph", signal, testid: "morph-step" });
  const button = el("button", { type: "button", "data-testid": "morph", disabled: true, on: { click: make } }, "Morph");
  let second = null;
  const slot = soundSlot(model, "The sound to end with", {
    signal,
    testid: "morph-input",
    onSound: (other) => ((second = other), (button.disabled = false)),
    onProblem: (sentence) => (setText(error, sentence), (error.hidden = !sentence)),
  });
  function make() {
    const count = Math.min(16, Math.max(2, Math.round(Number(steps.value)) || 5));
    steps.value = String(count);
    const items = numbers(count).map((index) => {
      const share = index / (count - 1);
      const query = new URLSearchParams({ first: sound.sound, second: second.sound, share });
      return {
        label: `${Math.round(100 * share)} % of ${second.name}`,
        path: `/models/${api.id(model.id)}/between?${query}`,
        file: `${stem(sound)} to ${stem(second)} ${index + 1}.wav`,
      };
    });
    sounds.make(items);
  }
  return el(
    "section.roomy",
    { "aria-labelledby": "morph-title" },
    el("h3", { id: "morph-title" }, "Morph"),
    slot,
    error,
    el("div.row", {}, el("label.inline", { for: "morph-steps" }, "Steps", steps), button),
    sounds.node,
  );
}

const numbers = (count) => Array.from({ length: count }, (_, index) => index);

const stem = ({ name }) => name.replace(/\.[^.]+$/, "");

function slider(id, label, attributes) {
  const input = el("input", { id, type: "range", "aria-describedby": `${id}-why`, ...attributes });
  const value = el("output", { for: id }, input.value);
  input.addEventListener("input", () => setText(value, input.value));
  return {
    value: () => input.value,
    node: (meaning) =>
      el(
        "div.slider.narrow",
        {},
        el("div.row.between", {}, el("label", { for: id }, label), value),
        input,
        el("span.small.muted", { id: `${id}-why` }, meaning),
      ),
  };
}

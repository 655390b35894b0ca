// Making sounds with a model: sixteen pads of new ones, from which others follow, and a tray for those that are kept.
import * as api from "./api.js";
import { el, fill, setText } from "./dom.js";
import { drawsCodes, familyOf, lacksPrior, remarksOn } from "./families.js";
import { dropZone, fileButton } from "./files.js";
import { decibels, duration, plural } from "./format.js";
import { makeOptions, slider } from "./makeoptions.js";
import { PADS, padGrid } from "./pads.js";
import { canHaveMidi, keyNames, listenToKeys, listenToMidi, midiIsAllowed } from "./padinput.js";
import { decode } from "./sound.js";
import { remembered } from "./store.js";
import { complain } from "./toasts.js";
import { tray } from "./tray.js";

const PAGES = 12; // of pads that one can go back to: the server remembers about as many
const THROWN_AWAY = 0.25; // how far new sounds stay from those thrown away: what would sound like one of them is left out
const AVOIDED = 60;

export async function show(root, { id, signal, about }) {
  const models = (await api.get("/models", signal)).filter(({ family }) => familyOf(about, family).generates);
  const wanted = id ?? remembered.get("make");
  const entry = models.find((model) => model.id === wanted) ?? (id ? null : models[0]);
  if (!entry) return void fill(root, el("h1", {}, "Make"), nothingToPlay(models));
  remembered.set("make", entry.id);
  const model = await api.get(`/models/${api.id(entry.id)}`, signal);
  const title = titleRow(models, model);
  if (!model.generates) return void fill(root, title, noPrior(model));
  const page = makePage({ model, family: familyOf(about, model.family), keys: await keyNames(), about, signal });
  fill(root, title, remarksOn(model), page.node);
  root.classList.add("wide");
  await page.tray.refresh();
  page.draw();
}

function titleRow(models, model) {
  const choice = el(
    "select",
    { id: "make-model", on: { change: () => (location.hash = `#/make/${api.id(choice.value)}`) } },
    models.map(({ id, name }) => el("option", { value: id }, name)),
  );
  choice.value = model.id;
  return el(
    "div.row.between",
    {},
    el("h1", {}, "Make"),
    el("label.inline", { for: "make-model" }, "Model", choice),
  );
}

function nothingToPlay(models) {
  return el(
    "div.empty",
    {},
    el("p", {}, models.length ? "This model is no longer in the library." : "There is no model yet that makes new sounds."),
    el("p", {}, el("a.button.primary", { href: models.length ? "#/make" : "#/collection" }, models.length ? "Take another" : "Train one")),
  );
}

function noPrior(model) {
  return el(
    "p.notice",
    { "data-testid": "no-new-sounds" },
    lacksPrior(model),
  );
}

function makePage({ model, family, keys, about, signal }) {
  const base = `/models/${api.id(model.id)}/sounds`;
  const options = makeOptions(model, family, { onLoop: (on) => grid.setLooping(on) });
  const grid = padGrid({ keyNames: keys, onHit, signal });
  const kept = tray({ onChoose: (sound, buffer) => choose({ sound, buffer, kept: true }), signal });
  const heading = el("h2", { id: "pads-title", tabindex: "-1" });
  const status = el("p.small.muted", { role: "status", "data-testid": "make-status" });
  const error = el("p.notice.bad", { role: "alert", hidden: true });
  const thrown = new Set(); // ids of sounds
  const pages = []; // {title, wish, entries}: what the pads have shown
  let at = -1;
  let selected = null; // an entry, of a pad or of the tray
  let first = null; // the entry that a morph begins with, while its end is being chosen
  let asking = new AbortController(); // for the page that was asked for last
  let next = Number(remembered.get(`seed.${model.id}`, "0")); // each visit goes on with the next sounds
  signal.addEventListener("abort", () => asking.abort());

  const back = button("Back", () => turn(-1), "make-back");
  const forward = button("Forward", () => turn(1), "make-forward");
  const panel = selectedPanel({ family, act });

  // What is asked for. The entries that are there already stay where `entries` has them.

  function ask(title, wish, entries = new Array(PADS).fill("making")) {
    asking.abort();
    asking = new AbortController();
    first = null;
    pages.splice(at + 1, pages.length, { title, wish, entries });
    if (pages.length > PAGES) pages.shift();
    at = pages.length - 1;
    grid.silence();
    draw();
    return fillUp(pages[at], asking.signal);
  }
  // Until no pad waits for a sound: more may be thrown away meanwhile.
  async function fillUp(page, wanted) {
    error.hidden = true;
    page.busy = true;
    try {
      for (let wish = page.wish; page.entries.includes("making"); ) {
        await make(page, wish, wanted);
        if (wish.how === "morph") wish = { how: "draw" };
      }
    } catch (problem) {
      if (problem.name === "AbortError") return;
      setText(error, problem.message);
      error.hidden = false;
    } finally {
      page.busy = false;
      page.entries = page.entries.map((entry) => (entry === "making" ? null : entry));
      draw();
    }
  }
  async function make(page, wish, wanted) {
    const free = page.entries.flatMap((entry, index) => (entry === "making" ? [index] : []));
    const avoid = Object.fromEntries([...thrown].slice(-AVOIDED).map((sound) => [sound, THROWN_AWAY]));
    const body = { ...options.wish(), ...wish, avoid: { ...avoid, ...wish.avoid }, seed: next, count: free.length };
    const arriving = [];
    const onLine = (line) => {
      if (line.error) throw new api.ApiError(line.error, 422);
      next = Math.max(next, line.origin.seed + 1);
      remembered.set(`seed.${model.id}`, String(next));
      const arrival = take(page, free.shift(), line, wanted);
      arrival.catch(() => {}); // told below, unless the list breaks off first
      arriving.push(arrival);
    };
    await api.lines(`${base}/new`, body, onLine, wanted);
    await Promise.all(arriving);
    if (!arriving.length) throw new api.ApiError("The server made no sound.", 500);
  }
  async function take(page, index, sound, wanted) {
    const entry = { sound, buffer: null, kept: false };
    page.entries[index] = entry;
    entry.buffer = await decode(await api.bytesOf(`/sounds/${sound.sound}/original`, wanted));
    draw();
  }
  const newOnes = () => ask("New sounds", { how: "draw" });
  const startingWith = (entry) => [entry, ...new Array(PADS - 1).fill("making")];

  // What can be done with the sound that is selected, by name.
  const verbs = {
    keep: (entry) => keep(entry),
    more: (entry, { strength }) =>
      ask(`Like ${entry.sound.name}`, { how: "vary", sounds: [entry.sound.sound], strength }, startingWith(entry)),
    less: (entry, { strength }) =>
      ask(`Unlike ${entry.sound.name}`, { how: "draw", avoid: { [entry.sound.sound]: strength } }),
    between: (entry) => ((first = first ? null : entry), draw()),
    longer: (entry, { seconds }) =>
      ask(`How ${entry.sound.name} could go on`, { how: "extend", sounds: [entry.sound.sound], seconds, loop: false }, startingWith(entry)),
    throw: (entry) => throwAway(entry),
  };
  function act(verb) {
    if (selected) verbs[verb](selected, panel.values());
  }
  async function keep(entry) {
    if (entry.kept) return;
    entry.kept = true; // at once, so that a second press keeps it no second time
    draw();
    try {
      await api.post("/tray", { sound: entry.sound.sound });
      await kept.refresh();
    } catch (problem) {
      entry.kept = false;
      draw();
      complain(problem);
    }
  }
  function throwAway(entry) {
    const page = pages[at];
    const index = page.entries.indexOf(entry);
    if (index < 0) return;
    thrown.add(entry.sound.sound);
    page.entries[index] = "making";
    selected = null;
    draw();
    if (!page.busy) fillUp(page, signal);
  }
  function onHit(index) {
    const entry = pages[at].entries[index];
    if (entry !== "making") choose(entry);
  }
  function choose(entry) {
    if (first && entry !== first) return morph(first, entry);
    selected = entry;
    draw();
  }
  function morph(start, end) {
    const steps = new Array(PADS - 2).fill("making");
    const sounds = [start.sound.sound, end.sound.sound];
    selected = start;
    ask(`From ${start.sound.name} to ${end.sound.name}`, { how: "morph", sounds }, [start, ...steps, end]);
  }
  function turn(by) {
    if (!pages[at + by]) return;
    at += by;
    first = null;
    grid.silence();
    draw();
  }
  async function takeFile(file) {
    error.hidden = true;
    try {
      const sound = await api.sendFile("POST", `${base}?name=${api.id(file.name)}`, file, signal);
      const entry = { sound, buffer: null, kept: false };
      entry.buffer = await decode(await api.bytesOf(`/sounds/${sound.sound}/original`, signal));
      pages.splice(at + 1, pages.length, { ...pages[at], entries: [entry, ...pages[at].entries.slice(1)] });
      at = pages.length - 1;
      selected = entry;
      draw();
    } catch (problem) {
      if (problem.name === "AbortError") return;
      setText(error, problem.message);
      error.hidden = false;
    }
  }

  function draw() {
    if (signal.aborted) return;
    const { title, entries } = pages[at];
    setText(heading, title);
    entries.forEach((entry, index) => grid.show(index, entry, entry !== null && entry === selected));
    const ready = entries.filter((entry) => entry && entry !== "making").length;
    const waiting = entries.filter((entry) => entry === "making").length;
    setText(status, waiting ? `${ready} of ${ready + waiting} sounds …` : plural(ready, "sound"));
    back.disabled = at <= 0;
    forward.disabled = at >= pages.length - 1;
    panel.show(selected, { choosing: first, onPads: entries.includes(selected) });
  }

  listenToKeys({
    hit: grid.hit,
    commands: {
      n: newOnes,
      k: () => act("keep"),
      m: () => act("more"),
      l: () => act("less"),
      b: () => act("between"),
      g: () => drawsCodes(family) && act("longer"),
      delete: () => act("throw"),
      backspace: () => act("throw"),
      escape: () => first && act("between"),
    },
    signal,
  });
  document.addEventListener(
    "keepsound",
    ({ detail }) => {
      const entry = pages[at].entries.find((one) => one?.sound?.sound === detail);
      if (entry) keep(entry);
    },
    { signal },
  );
  const node = el(
    "div.make",
    {},
    el(
      "section.panel.roomy.pads-panel",
      { "aria-labelledby": "pads-title" },
      el(
        "div.row.between",
        {},
        el("div", {}, heading, status),
        el(
          "div.row.tight",
          {},
          back,
          forward,
          el("button.primary", { type: "button", title: "Key N", "data-testid": "make-new", on: { click: newOnes } }, "Sixteen new ones"),
        ),
      ),
      error,
      grid.node,
    ),
    el("div.stack", {}, panel.node, kept.node),
    el(
      "div.stack.below",
      {},
      el("details.panel", {}, el("summary", {}, family.parts.length ? "Length, temperature, loops" : "Length, temperature, directions"), options.node),
      inputs({ grid, about, takeFile, signal }),
    ),
  );
  newOnes();
  return { node, tray: kept, draw };
}

function button(text, onClick, testid) {
  return el("button", { type: "button", "data-testid": testid, on: { click: onClick } }, text);
}

// The sound that was hit last, and what follows from it.
function selectedPanel({ family, act }) {
  const name = el("h2", { id: "selected-title" });
  const facts = el("p.small.muted");
  const strength = slider("make-strength", "Strength", "how far to go: a little to far away", { min: "0.05", max: "1", step: "0.05", value: "0.4" });
  const seconds = el("input.short", { id: "longer-seconds", type: "number", min: "0.1", max: "30", step: "any", value: "1" });
  const verb = (text, key, what, style = "") =>
    el("button", { type: "button", class: style, title: `Key ${key}`, "data-testid": `make-${what}`, on: { click: () => act(what) } }, text);
  const keep = verb("Keep", "K", "keep", "primary");
  const away = verb("Throw away", "Delete", "throw");
  const between = verb("", "B", "between");
  const actions = el(
    "div.roomy.verbs",
    {},
    el("div.row.tight", {}, keep, away),
    strength.node,
    el("div.row.tight", {}, verb("More like this", "M", "more"), verb("Less like this", "L", "less")),
    el("div.row.tight", {}, between),
    drawsCodes(family)
      ? el("div.row.tight", {}, verb("Go on from here", "G", "longer"), el("label.inline.small", { for: "longer-seconds" }, "by", seconds, "s"))
      : null,
  );
  const node = el("section.panel.roomy", { "aria-labelledby": "selected-title" }, name, facts, actions);
  return {
    node,
    values: () => ({ strength: strength.value(), seconds: Number(seconds.value) || 1 }),
    show(entry, { choosing, onPads }) {
      actions.hidden = !entry;
      setText(name, entry ? entry.sound.name : "Hit a pad");
      setText(facts, entry ? describe(entry) : "With the pointer, the keys on them, or a MIDI controller. Then make more of what you like.");
      keep.disabled = Boolean(entry?.kept);
      setText(keep, entry?.kept ? "Kept" : "Keep");
      away.disabled = !onPads;
      setText(between, choosing ? "Now hit the other sound (Esc: leave it)" : "Between this and another");
      between.setAttribute("aria-pressed", String(Boolean(choosing)));
    },
  };
}

const WAYS = {
  new: ({ seed }) => `new, seed ${seed}`,
  loop: ({ seed }) => `a loop, seed ${seed}`,
  varied: ({ sources, amounts }) => `varied by ${amounts.strength} from ${sources[0]}`,
  morph: ({ sources, amounts }) => `${Math.round(100 * amounts.share)} % of the way from ${sources[0]} to ${sources[1]}`,
  extended: ({ sources }) => `goes on from ${sources[0]}`,
};

function describe({ sound, buffer }) {
  const facts = [
    duration(sound.seconds ?? buffer?.duration),
    Number.isFinite(sound.peak_db) && `peak ${decibels(sound.peak_db)}`,
    WAYS[sound.origin?.way]?.(sound.origin),
  ];
  return facts.filter(Boolean).join(" · ");
}

// Besides the keys: MIDI, and sounds of one's own to start from.
function inputs({ grid, about, takeFile, signal }) {
  const told = el("span.small.muted", { role: "status", "data-testid": "midi-status" });
  const ask = button("Use MIDI", connect, "midi");
  async function connect() {
    try {
      await listenToMidi({ hit: grid.hit, signal, onInputs: (names) => setText(told, names.join(", ") || "No MIDI input is plugged in") });
      ask.hidden = true;
    } catch {
      setText(told, "The browser does not allow MIDI for this page");
    }
  }
  midiIsAllowed().then((allowed) => allowed && connect());
  return dropZone(
    { role: "group", "aria-label": "A sound of your own to start from", class: "slim" },
    (transfer) => transfer.files[0] && takeFile(transfer.files[0]),
    el("span", {}, "Start from a sound of your own: drop it here."),
    el(
      "div.row.tight",
      {},
      told,
      canHaveMidi() ? ask : null,
      fileButton("Choose a sound", { accept: `audio/*,${about.audio_suffixes.join(",")}`, "data-testid": "make-input" }, (input) => takeFile(input.files[0])),
    ),
  );
}

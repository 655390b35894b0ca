// Sixteen pads in four rows: each shows a sound and plays it when it is hit, by pointer, key or MIDI. Fetches nothing.
import { waveform } from "./canvas.js";
import { el, setText } from "./dom.js";
import { decibels, duration } from "./format.js";
import { strike } from "./sound.js";

export const PADS = 16;
export const SOUND_TYPE = "text/x-distill-sound"; // of what is dragged within the page

// `onHit(index)` hears of every pad that is hit and has a sound.
export function padGrid({ keyNames, onHit, signal }) {
  const pads = Array.from({ length: PADS }, (_, index) => makePad(index, keyNames[index], hit));
  let looping = false;

  function hit(index, level = 1) {
    const pad = pads[index];
    if (!pad.entry) return;
    if (pad.entry.buffer) sound(pad, level);
    onHit(index);
  }
  function sound(pad, level) {
    const ends = looping && pad.stop; // a loop that is hit again ends
    pad.stop?.();
    pad.stop = null;
    pad.node.classList.toggle("sounding", !ends);
    if (ends) return;
    const stop = strike(pad.entry.buffer, {
      level,
      looping,
      onEnd: () => {
        if (pad.stop !== stop) return; // it was hit again meanwhile
        pad.stop = null;
        pad.node.classList.remove("sounding");
      },
    });
    pad.stop = stop;
  }
  function silence() {
    for (const pad of pads) {
      pad.stop?.();
      pad.stop = null;
      pad.node.classList.remove("sounding");
    }
  }
  signal.addEventListener("abort", silence);
  return {
    node: el(
      "div.pads",
      { role: "group", "aria-label": "Pads" },
      pads.map(({ node }) => node),
    ),
    hit,
    silence,
    setLooping: (on) => (looping = on),
    // An entry is {sound, buffer, kept}; null is an empty pad, and "making" one whose sound is on its way.
    show: (index, entry, selected) => pads[index].show(entry, selected),
  };
}

function makePad(index, keyName, hit) {
  const wave = waveform([]);
  const name = el("span.pad-name");
  const seconds = el("span");
  const peak = el("span");
  const mark = el("span.pad-mark", { "aria-hidden": "true", hidden: true }, "✓");
  const node = el(
    "button.pad",
    { type: "button", "data-testid": "pad", draggable: "true" },
    el("span.pad-head", {}, el("kbd", { "aria-hidden": "true" }, keyName), mark),
    wave,
    name,
    el("span.pad-facts", {}, seconds, peak),
  );
  const pad = { node, entry: null, stop: null, show };
  node.addEventListener("pointerdown", (event) => event.button === 0 && hit(index));
  node.addEventListener("click", (event) => event.detail === 0 && hit(index)); // Enter or Space
  node.addEventListener("dragstart", (event) => {
    if (!pad.entry?.sound) return event.preventDefault();
    event.dataTransfer.setData(SOUND_TYPE, pad.entry.sound.sound);
    offerFile(event, pad.entry.sound.name, `/api/sounds/${pad.entry.sound.sound}/original`);
  });
  function show(next, selected) {
    const making = next === "making";
    const entry = making ? null : next;
    const variable = selected ? "--accent" : "--wave";
    if (entry !== pad.entry || wave.variable !== variable) {
      if (entry !== pad.entry) pad.stop?.();
      wave.outline = entry ? outlineOf(entry.sound) : [];
      wave.variable = variable;
      wave.redraw();
    }
    pad.entry = entry;
    node.classList.toggle("making", making);
    node.classList.toggle("selected", selected);
    node.setAttribute("aria-pressed", String(selected));
    mark.hidden = !entry?.kept;
    setText(name, entry ? entry.sound.name : making ? "…" : "");
    setText(seconds, entry ? duration(entry.sound.seconds) : "");
    setText(peak, entry ? decibels(entry.sound.peak_db) : "");
    node.setAttribute("aria-label", label(keyName, entry, making));
  }
  return pad;
}

function label(keyName, entry, making) {
  if (!entry) return `Pad ${keyName}: ${making ? "being made" : "empty"}`;
  const { name, seconds, peak_db: peak } = entry.sound;
  return `Pad ${keyName}: ${name}, ${duration(seconds)}, peak ${decibels(peak)}${entry.kept ? ", kept" : ""}`;
}

// Fewer peaks than the server sends, as a pad is narrow, and quiet sounds drawn larger than they are.
function outlineOf({ outline }, parts = 60) {
  const span = outline.length / parts;
  const most = Math.max(0.2, ...outline);
  return Array.from({ length: parts }, (_, at) =>
    Math.max(...outline.slice(Math.floor(at * span), Math.floor((at + 1) * span))) / most,
  );
}

// Lets a sound be dragged out of the window as a file, where the browser can do that.
export function offerFile(event, name, path) {
  event.dataTransfer.effectAllowed = "copyMove";
  event.dataTransfer.setData("DownloadURL", `audio/wav:${name.replaceAll(/[:/\\]/g, "_")}.wav:${location.origin}${path}`);
}

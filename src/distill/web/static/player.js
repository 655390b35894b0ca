// The A/B player: waveforms one above the other, one playhead, buttons and keys (space, A, B, C).
import { peaks, waveform } from "./canvas.js";
import { el, setText } from "./dom.js";
import { Sound } from "./sound.js";

const TYPING = "input:not([type=range]):not([type=radio]):not([type=checkbox]), textarea, select";
const SPACE_HAS_A_USE = "button, a, input:not([type=range]), select, textarea, summary, [role=application]";

const LETTERS = ["A", "B", "C"];

let current = null; // the player that the keys speak to: the first of the page, then the last touched

document.addEventListener("keydown", (event) => {
  if (!current?.node.isConnected || event.ctrlKey || event.metaKey || event.altKey) return;
  const { target } = event;
  if (event.key === " " && !target.closest(SPACE_HAS_A_USE)) {
    event.preventDefault();
    pauseOthers(current);
    current.sound.toggle();
  }
  if (target.closest(TYPING)) return;
  const lane = LETTERS.indexOf(event.key.toUpperCase());
  if (lane >= 0) current.choose(lane);
});

const alive = new Set();
function pauseOthers(one) {
  for (const other of alive) if (other !== one) other.sound.pause();
}

// `labels`: one to three names, for A, B and C. `onPosition(seconds)` hears of the playhead, `onChoose(lane)` of a switch.
export function player({ labels, signal, onPosition = () => {}, onChoose = () => {}, name = "", looping = false }) {
  const lanes = labels.map((label, lane) => makeLane(label, lane, labels.length));
  const sources = labels.map((_, lane) => lane); // which buffer a lane shows
  const head = el("div.playhead", { "aria-hidden": "true" });
  const waves = el(
    "div.lanes",
    {},
    lanes.map((lane) => lane.node),
    head,
  );
  const playButton = el(
    "button.primary.play",
    { type: "button", "data-testid": "play", on: { click: () => (touch(), sound.toggle()) } },
    "Play",
  );
  const seek = el("input.seek", {
    type: "range",
    min: "0",
    max: "1000",
    value: "0",
    "aria-label": `Position ${name}`.trim(),
    on: { input: () => (touch(), sound.seek((seek.value / 1000) * sound.duration)) },
  });
  const time = el("span.time.figure", {}, "–");
  const loop = el("input", { type: "checkbox", checked: looping, on: { change: () => (sound.looping = loop.checked) } });
  const switches = labels.length > 1 ? labels.map((label, lane) => switchButton(label, lane)) : [];
  const sound = new Sound(update);
  sound.looping = looping;
  let chosen = 0;
  let frame = 0;

  function switchButton(label, lane) {
    const letter = LETTERS[lane];
    return el(
      "button",
      {
        type: "button",
        "data-testid": `switch-${letter.toLowerCase()}`,
        "aria-pressed": "false",
        title: `Key ${letter}`,
        on: { click: () => (touch(), choose(lane)) },
      },
      el("b", {}, letter),
      ` ${label}`,
    );
  }
  function choose(lane) {
    if (lane >= labels.length) return;
    chosen = lane;
    sound.switchTo(sources[lane]);
    onChoose(lane);
  }
  function touch() {
    current = self;
    pauseOthers(self);
  }
  function update() {
    setText(playButton, sound.playing ? "Pause" : "Play");
    playButton.disabled = !sound.duration;
    switches.forEach((button, lane) => button.setAttribute("aria-pressed", String(lane === chosen)));
    lanes.forEach((lane, index) => lane.node.classList.toggle("active", index === chosen));
    showPosition();
    if (sound.playing && !frame) frame = requestAnimationFrame(onFrame);
  }
  function onFrame() {
    frame = 0;
    sound.tick();
    showPosition();
    if (sound.playing) frame = requestAnimationFrame(onFrame);
  }
  function showPosition() {
    const total = sound.duration;
    const share = total ? sound.position / total : 0;
    head.style.transform = `translateX(${share * waves.clientWidth}px)`;
    const value = String(Math.round(share * 1000));
    if (seek.value !== value) seek.value = value;
    setText(time, total ? `${sound.position.toFixed(1)} / ${total.toFixed(1)} s` : "–");
    seek.setAttribute("aria-valuetext", `${sound.position.toFixed(1)} seconds`);
    onPosition(sound.position, sound.playing);
  }
  waves.addEventListener("click", (event) => {
    touch();
    const box = waves.getBoundingClientRect();
    const lane = Math.min(labels.length - 1, Math.floor((labels.length * (event.clientY - box.top)) / box.height));
    sound.seek(((event.clientX - box.left) / box.width) * sound.duration);
    choose(lane);
  });

  const self = {
    node: el(
      "div.player",
      { role: "group", "aria-label": name || "Player" },
      waves,
      seek,
      el(
        "div.row.controls",
        {},
        playButton,
        switches.length ? el("div.segmented", {}, switches) : null,
        time,
        el("label.inline.small", {}, loop, "Loop"),
      ),
    ),
    sound,
    choose,
    touch,
    // Gives the buffer with this number its sound; a lane that shows it is drawn anew.
    setBuffer(index, buffer) {
      sound.setBuffer(index, buffer);
      redraw();
    },
    // Says at once what a lane will show, while it is still on its way.
    expect(lane, label) {
      setText(lanes[lane].label, label);
      lanes[lane].node.setAttribute("aria-busy", "true");
    },
    // Lets a lane show and play another buffer (levels of a reconstruction).
    setSource(lane, index) {
      sources[lane] = index;
      lanes[lane].node.removeAttribute("aria-busy");
      if (chosen === lane) sound.switchTo(index);
      redraw();
    },
  };
  function redraw() {
    lanes.forEach((lane, index) => lane.show(sound.buffers[sources[index]], sound.duration));
  }
  current ??= self;
  alive.add(self);
  signal.addEventListener("abort", () => {
    sound.pause();
    alive.delete(self);
    if (current === self) current = null;
  });
  update();
  return self;
}

function makeLane(text, lane, count) {
  const canvas = waveform([], "--wave");
  const label = el("span.lane-label", {}, text);
  const node = el("div.lane", {}, canvas, count > 1 ? label : null);
  let shown = null;
  return {
    node,
    label,
    show(buffer, total) {
      if (shown === buffer) return;
      shown = buffer;
      canvas.outline = buffer ? (wide) => paddedPeaks(buffer, wide, total) : [];
      canvas.variable = lane ? "--accent" : "--wave";
      canvas.redraw();
    },
  };
}

// Versions may differ by a few samples: both are drawn on the time axis of the longer one.
function paddedPeaks(buffer, count, total) {
  const own = Math.max(1, Math.round((count * buffer.duration) / (total || buffer.duration)));
  const values = peaks(buffer, own);
  const most = Math.max(0.05, ...values);
  return [...values.map((value) => value / Math.max(most, 0.3)), ...new Array(Math.max(0, count - own)).fill(0)];
}

// The map of a model's sounds: near to each other is what has similar codes. Heard under the pointer or the focus.
import * as api from "./api.js";
import { el, fill, setText } from "./dom.js";
import { duration, percent, plural } from "./format.js";
import { editLink, nameOf } from "./links.js";
import { player } from "./player.js";
import { decode, Sound } from "./sound.js";
import { remembered } from "./store.js";
import { complain } from "./toasts.js";

const HOVER_MS = 80;
const SEEDS = 2 ** 32;
const AT_ONCE = 4; // new sounds
const MOST = 256; // that were made
const MEANINGS = {
  loudness: ["quiet", "loud"],
  brightness: ["dark", "bright"],
  noisiness: ["tonal", "noisy"],
  attack: ["early energy", "late energy"],
  pitch_clarity: ["vague pitch", "clear pitch"],
  length: ["short", "long"],
};

export async function show(root, { id, signal }) {
  const model = await api.get(`/models/${api.id(id)}`, signal);
  const base = `/models/${api.id(id)}`;
  const memory = `made.${id}`;
  const inTray = (await api.get("/tray", signal)).filter(({ origin }) => origin?.model_id === model.metadata.model_id);
  const kept = inTray.map(({ sound, name }) => ({ kind: "sound", sound, name }));
  let made = JSON.parse(remembered.get(memory, "[]"));
  let points = []; // {key, source, place, seconds, node}
  const chosen = new Set(); // keys
  let opened = new AbortController();
  const soundPath = (source) => `${base}/codes/sound?${new URLSearchParams({ source: JSON.stringify(source) })}`;

  const frame = el("div.map", { role: "group", "aria-label": "Map of sounds", "data-testid": "map" });
  const marquee = el("div.marquee", { hidden: true, "aria-hidden": "true" });
  const axes = el("div.small.muted", { "data-testid": "map-axes" });
  const status = el("p.small", { role: "status", "data-testid": "map-status" }, "Placing the sounds …");
  const card = el("div");
  const hearing = hearingOf(soundPath, signal);
  const hover = el("input", { type: "checkbox", checked: true, "data-testid": "map-hover" });

  async function place() {
    const asked = made;
    const answer = await api.post(`${base}/map`, { made: [...kept, ...made] }, signal);
    if (asked !== made) return; // more was made meanwhile, and is on its way
    points = answer.sounds.map((sound) => ({ ...sound, key: JSON.stringify(sound.source) }));
    const known = new Set(points.map(({ key }) => key));
    for (const key of chosen) if (!known.has(key)) chosen.delete(key);
    draw();
    fill(axes, aboutAxes(answer.axes));
    tell();
  }
  function draw() {
    const [x, y] = [0, 1].map((axis) => scale(points.map(({ place }) => place[axis])));
    for (const point of points) {
      const isMade = point.source.kind !== "collection";
      point.node = el("button.dot", {
        type: "button",
        class: isMade ? "made" : "",
        "aria-label": `${nameOf(point.source)}, ${duration(point.seconds)}`,
        title: nameOf(point.source),
        tabindex: "-1",
        style: { left: `${x(point.place[0])}%`, top: `${100 - y(point.place[1])}%` },
        on: {
          pointerenter: (event) => event.pointerType !== "touch" && hover.checked && hearing.after(HOVER_MS, point),
          pointerleave: () => hearing.stop(),
          focus: () => (roam(point), point.node.matches(":focus-visible") && hover.checked && hearing.after(HOVER_MS, point)),
          click: (event) => choose(point, event.shiftKey || event.ctrlKey || event.metaKey),
          dblclick: () => (location.hash = editLink(id, point.source)),
          keydown: (event) => onKey(event, point),
        },
      });
    }
    fill(frame, points.map(({ node }) => node), marquee);
    if (points.length) points[0].node.tabIndex = 0;
  }
  function roam(point) {
    for (const { node } of points) node.tabIndex = node === point.node ? 0 : -1;
  }
  // To the nearest sound on that side.
  function onKey(event, point) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === " ") choose(point, true);
    else if (way) towards(point, way)?.node.focus({ focusVisible: true });
    else return;
    event.preventDefault();
  }
  function towards(point, [right, down]) {
    const centre = ({ node }) => [node.offsetLeft, node.offsetTop];
    const [x, y] = centre(point);
    const distance = (other) => {
      const [dx, dy] = [centre(other)[0] - x, centre(other)[1] - y];
      const along = dx * right + dy * down;
      return along > 0 ? along + 2 * Math.abs(dx * down - dy * right) : Infinity;
    };
    const nearest = points.reduce((best, other) => (distance(other) < distance(best) ? other : best), point);
    return nearest === point ? null : nearest;
  }

  // What is selected

  function choose(point, more) {
    if (!more) chosen.clear();
    if (more && chosen.has(point.key)) chosen.delete(point.key);
    else chosen.add(point.key);
    tell();
  }
  const selected = () => points.filter(({ key }) => chosen.has(key));
  function tell() {
    for (const { key, node } of points) node.setAttribute("aria-pressed", String(chosen.has(key)));
    const some = selected();
    const kinds = points.filter(({ source }) => source.kind !== "collection").length;
    setText(
      status,
      some.length
        ? `${plural(some.length, "sound")} selected.`
        : `${plural(points.length - kinds, "sound")} of the collection, ${kinds} made. Click one, or drag around several.`,
    );
    morphButton.disabled = some.length !== 2;
    likeButton.disabled = !some.length;
    forgetButton.disabled = !some.some(({ source }) => source.kind !== "collection");
    clearButton.disabled = !some.length;
    opened.abort();
    opened = new AbortController();
    fill(card, some.length === 1 ? soundCard(some[0], opened.signal) : null);
  }
  function soundCard({ source }, own) {
    const one = player({ labels: [nameOf(source)], signal: own, name: nameOf(source) });
    api
      .bytesOf(soundPath(source), own)
      .then(decode)
      .then((buffer) => one.setBuffer(0, buffer))
      .catch(complain);
    return el(
      "div.roomy.map-card",
      {},
      el("h2", {}, nameOf(source)),
      one.node,
      el(
        "div.row.tight",
        {},
        el("a.button", { href: editLink(id, source), "data-testid": "map-edit" }, "Edit its codes"),
        el("a.button", { href: `/api${soundPath(source)}&${new URLSearchParams({ name: nameOf(source) })}`, download: "" }, "Download"),
      ),
    );
  }
  let pressed = null;
  frame.addEventListener("pointerdown", (event) => {
    if (event.target !== frame || event.button || event.pointerType === "touch") return;
    pressed = [event.clientX, event.clientY];
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    if (!pressed) return;
    const box = frame.getBoundingClientRect();
    const [left, right] = [pressed[0], event.clientX].sort((one, other) => one - other);
    const [top, bottom] = [pressed[1], event.clientY].sort((one, other) => one - other);
    Object.assign(marquee.style, {
      left: `${left - box.left}px`,
      top: `${top - box.top}px`,
      width: `${right - left}px`,
      height: `${bottom - top}px`,
    });
    marquee.hidden = false;
    chosen.clear();
    for (const { key, node } of points) {
      const dot = node.getBoundingClientRect();
      const [x, y] = [dot.left + dot.width / 2, dot.top + dot.height / 2];
      if (x >= left && x <= right && y >= top && y <= bottom) chosen.add(key);
    }
    for (const { key, node } of points) node.setAttribute("aria-pressed", String(chosen.has(key)));
  });
  frame.addEventListener("lostpointercapture", () => {
    if (marquee.hidden) chosen.clear();
    pressed = null;
    marquee.hidden = true;
    tell();
  });

  // What is made

  async function make(sources) {
    made = [...made, ...sources].slice(-MOST);
    remembered.set(memory, JSON.stringify(made));
    setText(status, `Making ${plural(sources.length, "sound")} …`);
    makers.disabled = true;
    try {
      await place();
      chosen.clear();
      for (const source of sources) chosen.add(JSON.stringify(source));
      const keys = new Set(points.map(({ key }) => key));
      for (const key of chosen) if (!keys.has(key)) chosen.delete(key);
      tell();
    } catch (problem) {
      made = made.slice(0, -sources.length);
      remembered.set(memory, JSON.stringify(made));
      complain(problem);
      tell();
    }
    makers.disabled = false;
  }
  const someSeed = () => Math.floor(Math.random() * SEEDS);
  const times = (count, source) => Array.from({ length: count }, source);
  const share = el("input", { id: "map-share", type: "range", min: "0.1", max: "0.9", step: "0.1", value: "0.5" });
  const button = (label, act, testid, style = "") =>
    el("button", { type: "button", class: style, "data-testid": testid, on: { click: act } }, label);
  const newButton = button(`${AT_ONCE} new sounds`, () => make(times(AT_ONCE, () => ({ kind: "seed", seed: someSeed() }))), "map-new");
  const likeButton = button(
    `${AT_ONCE} more like these`,
    () => {
      const sounds = selected().slice(0, 64).map(({ source }) => source);
      make(times(AT_ONCE, () => ({ kind: "like", sounds, seed: someSeed() })));
    },
    "map-like",
    "primary",
  );
  const morphButton = button(
    "Morph the two",
    () => {
      const [first, second] = selected().map(({ source }) => source);
      make([{ kind: "between", first, second, share: Number(share.value) }]);
    },
    "map-morph",
  );
  const forgetButton = button("Take off the map", () => {
    made = made.filter((source) => !chosen.has(JSON.stringify(source)));
    remembered.set(memory, JSON.stringify(made));
    place().catch(complain);
  }, "map-forget", "quiet");
  const clearButton = button("Select none", () => (chosen.clear(), tell()), "map-clear", "quiet");

  // Together, so that all of them wait while something is made.
  const makers = el(
    "fieldset.row.tight",
    { hidden: !model.generates, "aria-label": "Make sounds" },
    newButton,
    likeButton,
    morphButton,
    el("label.inline.strength", { for: "map-share" }, "nearer to the first", share, "to the second"),
  );
  fill(
    root,
    el("p.small", {}, el("a", { href: `#/models/${api.id(id)}` }, `← ${model.name}`)),
    el("h1", {}, "Map"),
    el("p.lead", {}, "The sounds as the model sees them: those near to each other have similar codes."),
    el(
      "section.panel.roomy",
      { "aria-label": "Sounds" },
      el(
        "div.row.between",
        {},
        el("div.row.legend-dots.small", {}, el("span", {}, el("i.dot"), " of the collection"), el("span", {}, el("i.dot.made"), " made")),
        el("label.inline.small", {}, hover, "Hear what is under the pointer"),
      ),
      frame,
      axes,
      status,
      el(
        "div.row.tight",
        {},
        makers,
        forgetButton,
        clearButton,
      ),
      card,
    ),
  );
  await place();
}

function aboutAxes(axes) {
  if (axes.length < 2) return el("p", {}, "This model keeps none of its collection's sounds; drop or make some.");
  const along = ({ share, meaning, correlation }) => {
    if (!meaning) return `nothing that has a name (${percent(share)} of the differences)`;
    const [low, high] = correlation > 0 ? MEANINGS[meaning] : [...MEANINGS[meaning]].reverse();
    return `mostly ${low} to ${high} (${percent(share)} of the differences)`;
  };
  const left = 1 - axes[0].share - axes[1].share;
  return el(
    "p",
    {},
    `Left to right: ${along(axes[0])}. Bottom to top: ${along(axes[1])}. The axes are those in which the codes of the collection differ most; ` +
      `${percent(left)} of the differences cannot be seen here, so two sounds in one place can still differ.`,
  );
}

// Values to 4 … 96 per cent.
function scale(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return (value) => (high > low ? 4 + (92 * (value - low)) / (high - low) : 50);
}

// Plays a sound from its beginning; each is fetched once.
function hearingOf(soundPath, signal) {
  const sound = new Sound();
  const buffers = new Map();
  let timer = 0;
  let wanted = null;
  signal.addEventListener("abort", stop);
  function stop() {
    clearTimeout(timer);
    wanted = null;
    sound.pause();
  }
  async function hear({ key, source }) {
    wanted = key;
    try {
      if (!buffers.has(key)) buffers.set(key, api.bytesOf(soundPath(source), signal).then(decode));
      const buffer = await buffers.get(key);
      if (wanted !== key || !navigator.userActivation?.hasBeenActive) return; // browsers play nothing before a click or a key
      sound.setBuffer(0, buffer);
      sound.offset = 0;
      sound.play();
    } catch (problem) {
      buffers.delete(key);
      complain(problem);
    }
  }
  return {
    after(milliseconds, point) {
      stop();
      timer = setTimeout(() => hear(point), milliseconds);
    },
    stop,
  };
}

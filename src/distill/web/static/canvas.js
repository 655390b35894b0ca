// Canvases that draw themselves: at first sight, when their size changes and when the theme changes, and as long as
// nobody can see them not at all. Waveforms too.
import { el } from "./dom.js";
import { themeColour } from "./colours.js";

const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    target.size = contentRect; // known without a look at the layout, which would be made anew for it
    target.redraw();
  }
});

const sights = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      target.inSight = isIntersecting;
      if (isIntersecting && target.stale) target.redraw();
    }
  },
  { scrollMargin: "400px" }, // the next rows of a list are drawn before one scrolls to them
);

document.addEventListener("themechange", () => {
  for (const node of document.querySelectorAll("canvas, .chart-holder")) node.redraw?.();
});

// Gives a node a redraw(): it acts at once where the node can be seen, else when it comes into sight.
export function whenSeen(node, act) {
  node.redraw = () => {
    node.stale = !node.inSight;
    if (node.inSight) act(node);
  };
  sights.observe(node);
  return node;
}

export function drawn(node, draw) {
  whenSeen(node, () => node.size?.width && draw(node));
  sizes.observe(node);
  return node;
}

// The context scaled so that one unit is one CSS pixel, the canvas empty.
export function prepared(canvas) {
  const density = window.devicePixelRatio || 1;
  const { width, height } = canvas.size;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  const context = canvas.getContext("2d");
  context.scale(density, density);
  return { context, width, height };
}

// `outline`: values 0..1, or a function that gives them for a width. Decorative: the figures stand beside it.
export function waveform(outline, variable = "--wave") {
  const canvas = el("canvas.wave", { "aria-hidden": "true" });
  canvas.variable = variable;
  canvas.outline = outline;
  return drawn(canvas, drawWave);
}

function drawWave(canvas) {
  const { context, width, height } = prepared(canvas);
  const values = typeof canvas.outline === "function" ? canvas.outline(Math.floor(width / 3)) : canvas.outline;
  if (!values?.length) return;
  context.fillStyle = themeColour(canvas.variable);
  const step = width / values.length;
  const bar = Math.max(1, step * 0.66);
  values.forEach((value, index) => {
    const tall = Math.max(1, Math.min(1, value) * (height - 2));
    context.fillRect(index * step, (height - tall) / 2, bar, tall);
  });
}

export function peaks(buffer, count) {
  const samples = buffer.getChannelData(0);
  const span = samples.length / Math.max(1, count);
  const values = [];
  for (let index = 0; index < count; index += 1) {
    let most = 0;
    const end = Math.min(samples.length, Math.floor((index + 1) * span));
    for (let at = Math.floor(index * span); at < end; at += 1) most = Math.max(most, Math.abs(samples[at]));
    values.push(most);
  }
  return values;
}

// Means over equal spans: more points than pixels would only make a smear.
function thinned(values, most) {
  if (values.length <= most) return values;
  return Array.from({ length: most }, (_, index) => {
    const span = values.slice(
      Math.floor((index * values.length) / most),
      Math.floor(((index + 1) * values.length) / most),
    );
    return span.reduce((sum, value) => sum + value, 0) / span.length;
  });
}

export function sparkline(variable) {
  const canvas = el("canvas.spark", { "aria-hidden": "true" });
  canvas.values = [];
  return drawn(canvas, () => {
    const { context, width, height } = prepared(canvas);
    const values = thinned(canvas.values, Math.ceil(width / 2));
    if (!values.length) return;
    context.strokeStyle = themeColour(variable);
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    context.beginPath();
    values.forEach((value, index) => {
      const x = values.length === 1 ? 0 : (index / (values.length - 1)) * (width - 2) + 1;
      const y = height - 2 - Math.max(0, Math.min(1, value)) * (height - 4);
      if (index) context.lineTo(x, y);
      else context.moveTo(x, y);
    });
    if (values.length === 1) context.lineTo(width, height - 2 - values[0] * (height - 4));
    context.stroke();
  });
}

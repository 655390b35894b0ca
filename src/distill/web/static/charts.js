// Line charts over epochs (uPlot), with a legend of our own that says the values in words and figures.
import { drawn } from "./canvas.js";
import { isDark, themeColour } from "./colours.js";
import { el, setText } from "./dom.js";
import { figure } from "./format.js";

const HEIGHT = 260;

// Fetched with the first page that has a chart; the very first one has none.
const library = new Promise((ready) => {
  document.head.append(el("script", { src: "/static/vendor/uplot/uPlot.iife.min.js", on: { load: ready } }));
});

// `series`: [{label, variable, dash?, title?}]; data as uPlot wants it: [epochs, values, …].
export function lineChart(
  series,
  { label, signal, testid = null, height = HEIGHT, empty = "The first point comes after the first epoch." },
) {
  const holder = el("div.chart-holder", { role: "img", "aria-label": label });
  const values = series.map(() => el("span.figure", {}, "–"));
  const note = el("p.small.muted.chart-empty", {}, empty);
  const node = el(
    "div.chart",
    { "data-testid": testid },
    el(
      "ul.legend",
      {},
      series.map((one, index) =>
        el(
          "li",
          { title: one.title },
          el("i.swatch", { class: one.dash ? "dashed" : "", style: { color: `var(${one.variable})` } }),
          one.label,
          " ",
          values[index],
        ),
      ),
    ),
    holder,
    note,
  );
  let plot = null;
  let dark = null; // the theme that the plot has the colours of
  let data = [[], ...series.map(() => [])];

  function draw() {
    if (!window.uPlot || signal.aborted) return;
    const { width } = holder.size;
    if (plot && dark === isDark()) {
      if (plot.width !== width) plot.setSize({ width, height });
      plot.setData(data);
    } else if (data[0].length) {
      plot?.destroy();
      dark = isDark();
      plot = new window.uPlot(options(series, width, height, tell), data, holder);
    }
  }
  function tell(index) {
    data.slice(1).forEach((column, at) => setText(values[at], figure(column[index ?? column.length - 1])));
  }
  function set(next) {
    data = next;
    note.hidden = data[0].length > 0;
    holder.redraw();
    tell(null);
  }
  drawn(holder, draw);
  library.then(() => holder.redraw());
  signal.addEventListener("abort", () => plot?.destroy()); // else uPlot keeps it for good
  return { node, set };
}

function options(series, width, height, tell) {
  const muted = themeColour("--muted");
  const grid = { stroke: themeColour("--line"), width: 1 };
  const axis = { stroke: muted, grid, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const colour = (one) => themeColour(one.variable);
  return {
    width,
    height,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: false, range: spanX }, y: { distr: 3, range: spanY } },
    axes: [
      { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000], size: 28 },
      {
        ...axis,
        size: 56,
        splits: (_, __, low, high) => ticks(low, high),
        filter: (_, splits) => splits,
        values: (_, splits) => splits.map((value) => figure(value, 2)),
      },
    ],
    series: [
      {},
      ...series.map((one) => ({
        stroke: colour(one),
        width: 2,
        dash: one.dash,
        spanGaps: true,
        points: { show: isLonely },
      })),
    ],
    hooks: { setCursor: [(plot) => tell(plot.cursor.idx ?? null)] },
  };
}

function isLonely(plot) {
  return plot.data[0].length < 3;
}

function spanX(_, low, high) {
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

function spanY(_, low, high) {
  if (!(low > 0) || !(high > 0)) return [0.1, 1];
  return low === high ? [low / 1.5, high * 1.5] : [low / 1.08, high * 1.08];
}

// Round figures on a logarithmic axis: 1, 2, 5 per decade, or an even step where that leaves too few.
function ticks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const factor of factors(high / low)) {
      const value = factor * 10 ** power;
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found.length >= 3 ? found : evenTicks(low, high);
}

function factors(span) {
  if (span > 1e3) return [1];
  return span > 6 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
}

function evenTicks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(value);
  return found;
}

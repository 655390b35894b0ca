// The heat map of a level: one column per epoch, one row per code, or per group of codes where there are more than can
// be seen. New epochs are added, the rest is not drawn again.
import { drawn } from "./canvas.js";
import { heatRamp, isDark } from "./colours.js";
import { el } from "./dom.js";

const FIRST_CAPACITY = 64;
const MOST_ROWS = 128; // about one per pixel: of more, a browser would leave some out

export function usageMap(level, name) {
  const canvas = el("canvas.usage", {
    role: "img",
    "aria-label": `How much each code of ${name} is used, epoch by epoch`,
    "data-testid": "usage-map",
  });
  const node = el(
    "div.usage-frame",
    { title: "Left to right: epochs. Top to bottom: codes. The stronger the colour, the more a code is used." },
    canvas,
  );
  let columns = []; // Uint8Array per epoch
  let painted = 0; // so many of them
  let dark = null; // the theme in which they are painted
  let ramp = null;

  function clear() {
    columns = [];
    canvas.width = FIRST_CAPACITY;
    canvas.height = 1;
  }
  function add(more) {
    columns.push(...more);
    canvas.redraw();
  }
  function paint() {
    if (!columns.length) return;
    if (canvas.height !== rowsOf(columns[0]).length || columns.length > canvas.width || dark !== isDark()) wipe();
    paintFrom(painted);
    painted = columns.length;
    canvas.style.width = `${(100 * canvas.width) / painted}%`; // what is not filled yet is cut off
  }
  function wipe() {
    let capacity = FIRST_CAPACITY;
    while (capacity < columns.length) capacity *= 2;
    canvas.width = capacity;
    canvas.height = rowsOf(columns[0]).length;
    dark = isDark();
    ramp = heatRamp(level);
    painted = 0;
  }
  function paintFrom(first) {
    const wide = columns.length - first;
    if (!wide) return;
    const image = new ImageData(wide, canvas.height);
    for (let x = 0; x < wide; x += 1) {
      rowsOf(columns[first + x]).forEach((value, row) => {
        const at = (row * wide + x) * 4;
        for (let channel = 0; channel < 4; channel += 1) image.data[at + channel] = ramp[value * 4 + channel];
      });
    }
    canvas.getContext("2d").putImageData(image, first, 0);
  }
  clear();
  drawn(canvas, paint);
  return { node, add, clear };
}

// The root mean square of each group: a single code in use can still be seen among idle ones.
function rowsOf(codes) {
  const size = Math.ceil(codes.length / MOST_ROWS);
  if (size === 1) return codes;
  return Array.from({ length: Math.ceil(codes.length / size) }, (_, row) => {
    const group = codes.subarray(row * size, (row + 1) * size);
    return Math.round(Math.sqrt(group.reduce((sum, value) => sum + value * value, 0) / group.length));
  });
}

// Fetches /usage from the last known epoch on; one question at a time.
export function usageFeed(fetchFrom, onColumns) {
  let have = 0;
  let era = 0; // a restart makes answers under way worthless
  let asking = false;
  let again = false;
  async function ask() {
    if (asking) {
      again = true;
      return;
    }
    asking = true;
    const mine = era;
    try {
      const { levels, codes, epochs, data } = await fetchFrom(have);
      if (mine === era && epochs > 0) {
        have += epochs;
        onColumns(split(data, levels, codes, epochs));
      }
    } finally {
      asking = false;
      if (again) {
        again = false;
        ask().catch(() => {}); // the next epoch asks once more
      }
    }
  }
  return {
    ask: () => ask().catch(() => {}),
    clear() {
      have = 0;
      era += 1;
    },
  };
}

// → per level: one Uint8Array per epoch
function split(data, levels, codes, epochs) {
  return Array.from({ length: levels }, (_, level) =>
    Array.from({ length: epochs }, (__, epoch) =>
      data.subarray((epoch * levels + level) * codes, (epoch * levels + level + 1) * codes),
    ),
  );
}

// Colours of the current theme for canvases, and the hue of a code.

const LEVEL_VARIABLES = ["--level-0", "--level-1", "--level-2", "--level-3"];

const known = new Map(); // asking for the style makes the browser work it out
let palettes = new WeakMap();

document.addEventListener("themechange", () => (known.clear(), (palettes = new WeakMap())));

export function themeColour(variable) {
  if (!known.has(variable))
    known.set(variable, getComputedStyle(document.documentElement).getPropertyValue(variable).trim());
  return known.get(variable);
}

export function isDark() {
  return document.documentElement.dataset.theme === "dark";
}

export function levelVariable(level) {
  return LEVEL_VARIABLES[level % LEVEL_VARIABLES.length];
}

export const levelColour = (level) => themeColour(levelVariable(level));

export function channels(hex) {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

// The colours of a level's codes, from a hue and a strength (0 to 1) for each: what is weak is near the background.
export function codePalette(tints) {
  if (!palettes.has(tints)) palettes.set(tints, newPalette(tints));
  return palettes.get(tints);
}

function newPalette(tints) {
  const [weak, strong] = isDark() ? [30, 68] : [80, 42];
  return tints.map(([hue, strength]) => {
    const lightness = weak + (strong - weak) * strength;
    return `hsl(${(360 * hue).toFixed(1)} ${(25 + 40 * strength).toFixed(1)}% ${lightness.toFixed(1)}%)`;
  });
}

// 256 colours from "never used" to the level's own colour, as RGBA bytes.
export function heatRamp(level) {
  const from = channels(themeColour("--sunken"));
  const to = channels(levelColour(level));
  const ramp = new Uint8ClampedArray(256 * 4);
  for (let value = 0; value < 256; value += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      ramp[value * 4 + channel] = from[channel] + ((to[channel] - from[channel]) * value) / 255;
    }
    ramp[value * 4 + 3] = 255;
  }
  return ramp;
}

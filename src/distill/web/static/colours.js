// Colours of the current theme for canvases, and the hue of a code.

const LEVEL_VARIABLES = ["--level-0", "--level-1", "--level-2", "--level-3"];

const known = new Map(); // asking for the style makes the browser work it out

document.addEventListener("themechange", () => known.clear());

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

// A palette over all codes of a level, neighbours far apart in hue so that adjacent code numbers can be told apart.
export function codePalette(size) {
  const lightness = isDark() ? [62, 52, 70] : [52, 64, 42];
  return Array.from({ length: size }, (_, code) => {
    const hue = (code * 360 * 0.61803398875) % 360;
    return `hsl(${hue.toFixed(1)} 48% ${lightness[code % 3]}%)`;
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

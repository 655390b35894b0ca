// Turns numbers into what people read.

const NAMED = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity };

export function toNumber(value) {
  if (typeof value === "number") return value;
  return typeof value === "string" && value in NAMED ? NAMED[value] : NaN;
}

// As a logarithmic axis can show it; a hole for the rest.
export function positive(value) {
  const number = toNumber(value);
  return Number.isFinite(number) && number > 0 ? number : null;
}

export function duration(seconds) {
  const value = toNumber(seconds);
  if (!Number.isFinite(value)) return "–";
  if (value < 10) return `${value.toFixed(value < 1 ? 2 : 1)} s`;
  const whole = Math.round(value);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 && minutes < 10 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function figure(value, digits = 3) {
  const number = toNumber(value);
  if (!Number.isFinite(number)) return "–";
  if (number !== 0 && (Math.abs(number) < 1e-4 || Math.abs(number) >= 1e6)) return number.toExponential(1);
  return String(Number(number.toPrecision(digits)));
}

export function signed(value) {
  const text = Math.abs(value).toFixed(1);
  return Number(text) === 0 ? "0.0" : `${value < 0 ? "−" : "+"}${text}`;
}

export function decibels(value) {
  const whole = Math.round(value);
  return `${whole < 0 ? "−" : ""}${Math.abs(whole)} dB`;
}

export function percent(share) {
  const number = toNumber(share);
  return Number.isFinite(number) ? `${Math.round(number * 100)} %` : "–";
}

export function bytes(count) {
  if (count >= 1e6) return `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB`;
  return `${Math.max(1, Math.round(count / 1e3))} kB`;
}

export function rate(hertz) {
  return hertz ? `${Number((hertz / 1000).toFixed(2))} kHz` : "–";
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

export function when(iso) {
  const date = new Date(iso);
  if (!iso || Number.isNaN(date.getTime())) return "–";
  const today = new Date().toDateString() === date.toDateString();
  const time = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (today) return `today, ${time}`;
  return `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}, ${time}`;
}

// "kl_weight_max" → "Kl weight max": for settings that have no label of their own.
export function humanised(name) {
  const text = name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

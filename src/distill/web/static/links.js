// Sounds as values: what they are called, and where they are edited. `src/distill/web/sources.py` has their kinds.
import { id } from "./api.js";
import { plural } from "./format.js";

export const editLink = (model, source) => `#/edit/${id(model)}/${encodeURIComponent(JSON.stringify(source))}`;

export function nameOf(source) {
  const names = {
    sound: ({ name }) => name || "A sound",
    seed: ({ seed }) => `Seed ${seed}`,
    collection: ({ number }) => `Sound ${number + 1} of the collection`,
    between: ({ first, second, share }) => `${Math.round(100 * share)} % from ${nameOf(first)} to ${nameOf(second)}`,
    like: ({ sounds, seed }) => `Like ${sounds.length === 1 ? nameOf(sounds[0]) : plural(sounds.length, "sound")}, ${seed + 1}`,
  };
  return names[source.kind]?.(source) ?? "A sound";
}

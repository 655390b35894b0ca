// What the model could do after an epoch: original and reconstruction side by side, to hear and to see.
import * as api from "./api.js";
import { whenSeen } from "./canvas.js";
import { el, fill, setText } from "./dom.js";
import { player } from "./player.js";
import { decode } from "./sound.js";

const SECOND = { reconstruction: "Reconstruction", random: "Random" };

export function previewsPanel(runId, signal) {
  const base = `/runs/${api.id(runId)}/previews`;
  const slider = el("input", { type: "range", id: "preview-epoch", min: "0", max: "0", value: "0", step: "1" });
  const label = el("output", { for: "preview-epoch" });
  const pairs = el("div.pairs");
  const chooser = el(
    "div.row.tight.grow",
    { hidden: true },
    el("label", { for: "preview-epoch" }, "Epoch"),
    slider,
    label,
  );
  const none = el(
    "p.muted",
    {},
    "Every few epochs a preview appears here: an original and what the model makes of it.",
  );
  const node = el(
    "section.panel",
    { "aria-labelledby": "previews-title" },
    el("div.row.between", {}, el("h2", { id: "previews-title" }, "Previews"), chooser),
    none,
    pairs,
  );
  let epochs = new Map(); // epoch → previews
  let following = true; // the newest, until the user chooses another
  let waiting = false; // there is news that has not been shown
  let shown = null;
  let shownFiles = "";
  let leaving = new AbortController();
  const originals = new Map(); // number → file, and its sound once decoded: the same after every epoch

  slider.addEventListener("input", () => {
    following = Number(slider.value) === epochs.size - 1;
    show([...epochs.keys()][slider.value]);
  });

  async function refresh() {
    const list = await api.get(base, signal);
    epochs = new Map([...grouped(list)].sort(([one], [other]) => one - other));
    const keys = [...epochs.keys()];
    none.hidden = keys.length > 0;
    chooser.hidden = keys.length < 2;
    slider.max = String(Math.max(0, keys.length - 1));
    waiting = keys.length > 0;
    settle();
  }
  // Never torn away while one listens, nor from under the hand.
  function settle() {
    if (!waiting || pairs.contains(document.activeElement) || players.some(({ sound }) => sound.playing)) return;
    waiting = false;
    show(following || !epochs.has(shown) ? [...epochs.keys()].at(-1) : shown);
  }
  pairs.addEventListener("focusout", () => setTimeout(settle));
  let players = [];

  function show(epoch) {
    slider.value = String([...epochs.keys()].indexOf(epoch));
    setText(label, `${epoch + 1}`);
    slider.setAttribute("aria-valuetext", `Epoch ${epoch + 1}`);
    const files = epochs
      .get(epoch)
      .map(({ name, made }) => name + made)
      .join();
    if (epoch === shown && files === shownFiles) return; // else some came later than the others, or were made anew
    shown = epoch;
    shownFiles = files;
    leaving.abort();
    leaving = new AbortController();
    players = [];
    const byNumber = grouped(epochs.get(epoch), ({ number, role }) => (role === "random" ? `r${number}` : number));
    const groups = [...byNumber.values()];
    const isRandom = (files) => files[0].role === "random";
    fill(
      pairs,
      [groups.filter((files) => !isRandom(files)), groups.filter(isRandom)].map((kind) =>
        kind.map((files, index) => pair(files, index, epoch)),
      ),
    );
  }
  function pair(files, index, epoch) {
    const original = files.find(({ role }) => role === "original");
    if (original && !originals.has(original.number)) originals.set(original.number, { file: original });
    const ordered = [
      original && originals.get(original.number).file,
      files.find(({ role }) => role !== "original"),
    ].filter(Boolean); // one of them at least
    const labels = ordered.map(({ role }) => (role === "original" ? "Original" : (SECOND[role] ?? role)));
    const [{ role, sound }] = ordered;
    const title = role === "random" ? `Random sound ${index + 1}` : (sound ?? `Sound ${index + 1}`);
    const one = player({ labels, signal: leaving.signal, name: `${title}, epoch ${epoch + 1}`, onPosition: settle });
    players.push(one);
    const error = el("p.small.reason", { role: "alert", hidden: true });
    ordered.forEach((file, lane) => load(one, lane, file, error));
    const mels = ordered.map((file, lane) =>
      el(
        "figure.mel",
        {},
        el("img", {
          src: `/api${base}/${api.id(file.name)}/mel?made=${file.made}`,
          alt: `Picture of the sound: ${labels[lane]}`,
          loading: "lazy",
        }),
        el("figcaption.small.muted", {}, labels[lane]),
      ),
    );
    return el(
      "article.pair",
      { "data-testid": ordered.length > 1 ? "preview-pair" : "preview-random", "aria-label": title },
      el("h3", {}, title),
      one.node,
      error,
      el("div.mels", {}, mels),
    );
  }
  async function load(one, lane, file, error) {
    const kept = file.role === "original" ? originals.get(file.number) : {};
    try {
      kept.sound ??= await decode(await api.bytesOf(`${base}/${api.id(file.name)}`, leaving.signal));
      one.setBuffer(lane, kept.sound);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      setText(error, problem.message);
      error.hidden = false;
    }
  }
  whenSeen(node, () => refresh().catch(() => {})); // the next preview asks again
  signal.addEventListener("abort", () => leaving.abort());
  return {
    node,
    refresh: () => node.redraw(),
    clear: () => originals.clear(),
  };
}

function grouped(items, key = ({ epoch }) => epoch) {
  const groups = new Map();
  for (const item of items) {
    if (!groups.has(key(item))) groups.set(key(item), []);
    groups.get(key(item)).push(item);
  }
  return groups;
}

// One sound through two models: heard and seen side by side, under one playhead.
import * as api from "./api.js";
import { el, fill, setText } from "./dom.js";
import { dropZone, fileButton } from "./files.js";
import { player } from "./player.js";
import { decode } from "./sound.js";

export function compareModels(models, about, signal) {
  const result = el("div");
  const error = el("p.notice.bad", { role: "alert", hidden: true });
  const status = el("p.small.muted", { role: "status", hidden: true });
  const choices = [0, 1].map((index) => {
    const node = el("select", { id: `compare-model-${index}`, on: { change: () => again() } }, models.map(({ id, name }) => el("option", { value: id }, name)));
    node.value = (models[index] ?? models[0])?.id;
    return node;
  });
  let file = null;
  let asking = new AbortController(); // for the sound that was given last
  signal.addEventListener("abort", () => asking.abort());

  async function again() {
    if (!file) return;
    error.hidden = true;
    asking.abort();
    asking = new AbortController();
    const mine = asking;
    setText(status, `The models listen to ${file.name} …`);
    status.hidden = false;
    try {
      const chosen = choices.map(({ value }) => models.find(({ id }) => id === value));
      const sounds = [];
      // One after the other: the server computes one thing at a time.
      for (const { id } of chosen)
        sounds.push(await api.sendFile("POST", `/models/${api.id(id)}/sounds?name=${api.id(file.name)}`, file, mine.signal));
      await show(chosen, sounds, mine.signal);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      setText(error, problem.message);
      error.hidden = false;
    }
    if (mine === asking) status.hidden = true;
  }
  async function show(chosen, sounds, wanted) {
    const names = chosen.map(({ name }) => name);
    const one = player({ labels: ["Original", ...names], signal: wanted, name: file.name });
    const paths = [`/sounds/${sounds[0].sound}/original`, ...sounds.map(({ sound }) => `/sounds/${sound}/reconstruction`)];
    const mels = [[sounds[0], "original"], ...sounds.map((sound) => [sound, "reconstruction"])].map(([{ sound }, which], lane) =>
      el(
        "figure.mel",
        {},
        el("img", { src: `/api/sounds/${sound}/mel?which=${which}`, alt: `Picture of the sound: ${["Original", ...names][lane]}` }),
        el("figcaption.small.muted", {}, ["Original", ...names][lane]),
      ),
    );
    fill(result, el("div.heard", { "data-testid": "compared" }, el("h3", {}, file.name), one.node, el("div.mels", {}, mels)));
    one.touch();
    for (const [lane, path] of paths.entries()) one.setBuffer(lane, await decode(await api.bytesOf(path, wanted)));
  }
  const take = (given) => ((file = given), again());
  return el(
    "section.panel.roomy",
    { "aria-labelledby": "compare-models" },
    el("h2", { id: "compare-models" }, "Two models on one sound"),
    models.length
      ? [
          el("div.row", {}, choices.map((choice, index) => el("label.inline", { for: choice.id }, ["First", "Second"][index], choice))),
          dropZone(
            { role: "group", "aria-label": "A sound to compare the models on", class: "slim" },
            (transfer) => transfer.files[0] && take(transfer.files[0]),
            el("span", {}, "Drop a sound here"),
            fileButton("Choose a sound", { accept: `audio/*,${about.audio_suffixes.join(",")}`, "data-testid": "compare-input" }, (input) => take(input.files[0]), "primary"),
          ),
        ]
      : el("p.muted", {}, "No models yet."),
    error,
    status,
    result,
  );
}

// Listening through a model: a sound in, its reconstruction level by level, and the codes in between.
import * as api from "./api.js";
import { el, fill, setText } from "./dom.js";
import { editLink } from "./links.js";
import { dropZone, fileButton } from "./files.js";
import { duration, plural, rate } from "./format.js";
import { codeGrid } from "./grid.js";
import { levelName } from "./health.js";
import { player } from "./player.js";
import { decode } from "./sound.js";

export function listenPart(model, { about, signal }) {
  const result = el("div");
  const error = el("p.notice.bad", { role: "alert", hidden: true });
  const status = el("p.muted", { role: "status", hidden: true });
  let asking = new AbortController(); // for the sound that was given last
  let shown = new AbortController(); // it stays, and plays, until the next one is there
  signal.addEventListener("abort", () => (asking.abort(), shown.abort()));

  async function take(file) {
    error.hidden = true;
    setText(status, `The model listens to ${file.name} …`);
    status.hidden = false;
    asking.abort();
    asking = new AbortController();
    const mine = asking;
    try {
      const sound = await api.sendFile(
        "POST",
        `/models/${api.id(model.id)}/sounds?name=${api.id(file.name)}`,
        file,
        mine.signal,
      );
      if (mine !== asking) return;
      shown.abort();
      shown = new AbortController();
      fill(result, heard(sound, model, about, shown.signal));
    } catch (problem) {
      if (problem.name === "AbortError") return;
      setText(error, problem.message);
      error.hidden = false;
    }
    if (mine === asking) status.hidden = true;
  }
  return el(
    "section.panel",
    { "aria-labelledby": "listen-title" },
    el("h2", { id: "listen-title" }, "Listen"),
    el(
      "p.small.muted",
      {},
      "Give the model any sound, one it knows or one it has never heard, and hear what it makes of it.",
    ),
    dropZone(
      { role: "group", "aria-label": "A sound to listen to", class: "slim" },
      (transfer) => transfer.files[0] && take(transfer.files[0]),
      el("span", {}, "Drop a sound here"),
      fileButton(
        "Choose a sound",
        { accept: `audio/*,${about.audio_suffixes.join(",")}`, "data-testid": "sound-input" },
        (input) => take(input.files[0]),
        "primary",
      ),
    ),
    error,
    status,
    result,
  );
}

// Buffer 0 is the original, buffer n the reconstruction with n levels (1 for all, where there are no levels).
function heard(sound, model, about, signal) {
  const base = `/sounds/${api.id(sound.sound)}`;
  const total = sound.levels ?? 1;
  const error = el("p.small.reason", { role: "alert", hidden: true });
  const loading = new Map();
  let asking = new AbortController(); // for the level that was chosen last
  signal.addEventListener("abort", () => asking.abort());
  let level = total;
  let grid = null;
  const one = player({
    labels: ["Original", labelFor(total)],
    signal,
    name: sound.name,
    onPosition: (seconds) => grid?.setPlayhead(seconds),
  });
  const download = el("a.button", { "data-testid": "download", download: "" }, "Download the reconstruction");
  const mel = { original: melImage("Original"), reconstruction: melImage("Reconstruction") };
  const switcher = sound.levels > 1 ? levelSwitch(sound.levels, about) : null;

  function labelFor(count) {
    return sound.levels && count < sound.levels
      ? `Reconstruction, ${count} of ${plural(sound.levels, "level")}`
      : "Reconstruction";
  }
  const query = (count) => (sound.levels ? `?levels=${count}` : "");
  function load(index, path, wanted) {
    if (!loading.has(index)) {
      loading.set(
        index,
        api
          .bytesOf(path, wanted)
          .then(decode)
          .then((buffer) => one.setBuffer(index, buffer))
          .catch((problem) => {
            loading.delete(index); // may be asked for again
            if (problem.name === "AbortError") return;
            setText(error, problem.message);
            error.hidden = false;
          }),
      );
    }
    return loading.get(index);
  }
  async function chooseLevel(count) {
    if (level !== count) {
      asking.abort(); // the server need not make what nobody waits for
      asking = new AbortController();
    }
    level = count;
    error.hidden = true;
    switcher?.mark(count);
    grid?.setLevels(count);
    download.href = `/api${base}/reconstruction${query(count)}`;
    mel.reconstruction.firstChild.src = `/api${base}/mel?which=reconstruction${sound.levels ? `&levels=${count}` : ""}`;
    one.expect(1, labelFor(count));
    await load(count, `${base}/reconstruction${query(count)}`, asking.signal);
    if (level !== count) return; // another was chosen meanwhile
    one.setSource(1, count);
  }
  function chooseByHand(count) {
    one.touch();
    one.choose(1);
    chooseLevel(count);
  }
  switcher?.onChoose(chooseByHand);
  if (sound.codes) {
    grid = codeGrid({
      codes: sound.codes,
      tints: sound.tints,
      levelNames: about.level_names,
      columnAt: (seconds) => (seconds + lead(sound) / 2) / sound.column_seconds, // its middle is the middle of its time
      describe: (cell) => describeCell(cell, sound, about),
      onActivate: (column) => (one.touch(), one.sound.play(timeOf(column, sound, sound.column_seconds))),
    });
  }
  mel.original.firstChild.src = `/api${base}/mel?which=original`;
  load(0, `${base}/original`, signal);
  chooseLevel(total);
  one.choose(1);
  one.touch(); // the keys are for what was just loaded
  return el(
    "div.heard",
    {},
    el(
      "div.row.between",
      {},
      el("h3", {}, sound.name),
      el("span.small.muted", {}, `${duration(sound.seconds)}, heard at ${rate(sound.sample_rate)}, ${sound.channels === 2 ? "stereo" : "mono"}`),
    ),
    one.node,
    error,
    switcher?.node,
    grid && [
      el("h3", {}, "Codes"),
      el("p.small.muted", {}, aboutGrid(sound)),
      grid.node,
      el("p", {}, el("a.button", { href: editLink(model.id, { kind: "sound", sound: sound.sound, name: sound.name }) }, "Edit these codes")),
    ],
    el("h3", {}, "Pictures"),
    el("p.small.muted", {}, "Left to right: time. Bottom to top: low to high. Brightness: loudness."),
    el("div.mels", {}, mel.original, mel.reconstruction),
    el("p", {}, download),
  );
}

function melImage(label) {
  return el(
    "figure.mel",
    {},
    el("img", { alt: `Picture of the sound: ${label}` }),
    el("figcaption.small.muted", {}, label),
  );
}

function aboutGrid({ column_seconds: step, span_seconds: span, rows, channels }) {
  const ms = (seconds) => `${Math.round(seconds * 1000)} ms`;
  return [
    `Each column is ${ms(span)} of sound${span > step ? `, and a new one begins every ${ms(step)}` : ""}.`,
    `The ${rows} rows of a level are not pitch ranges: each describes the whole column from another side, and the first say most.`,
    "Within a level, similar codes have similar colours: strong where they add much, faint where they add little.",
    "Click a column to hear what is around it.",
    channels === 2 ? "The codes shown are those of both sides mixed." : "",
  ].join(" ");
}

// Columns that overlap begin before the sound does, by this much.
function lead({ column_seconds: step, span_seconds: span }) {
  return span - step;
}

function timeOf(column, sound, more = 0) {
  const start = column * sound.column_seconds - lead(sound);
  return [Math.max(0, start - more), Math.min(sound.seconds, start + sound.span_seconds + more)];
}

function describeCell({ level, row, column, code }, sound, about) {
  const time = timeOf(column, sound).map((seconds) => seconds.toFixed(2));
  const place = `${levelName(about, level)}, row ${row + 1}, ${time.join(" to ")} s`;
  if (code < 0) return `${place}: silence, no code.`;
  const count = sound.counts[level][code];
  return `${place}: code ${code}, ${count === 1 ? "once" : `${count} times`} in this sound.`;
}

function levelSwitch(levels, about) {
  let choose = () => {};
  const text = (count) => (count === 1 ? `${levelName(about, 0)} only` : `+ ${levelName(about, count - 1)}`);
  const buttons = Array.from({ length: levels }, (_, index) =>
    el(
      "button",
      {
        type: "button",
        "data-testid": "level-switch",
        "data-levels": index + 1,
        "aria-pressed": "false",
        "aria-label": `${text(index + 1)}: ${plural(index + 1, "level")}`,
        on: { click: () => choose(index + 1) },
      },
      text(index + 1),
    ),
  );
  return {
    node: el(
      "div.level-switch",
      { role: "group", "aria-label": "Levels in the reconstruction" },
      el("span.small.muted", {}, "Reconstruct with"),
      el("div.segmented", {}, buttons),
    ),
    onChoose: (action) => (choose = action),
    mark: (count) =>
      buttons.forEach((button, index) => {
        button.setAttribute("aria-pressed", String(index + 1 === count));
        button.classList.toggle("included", index + 1 < count);
      }),
  };
}

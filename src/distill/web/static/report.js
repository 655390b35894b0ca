// The table of a collection's files: which are used, what they look like, what is odd about them.
import * as api from "./api.js";
import { waveform } from "./canvas.js";
import { el, setText } from "./dom.js";
import { duration, plural, rate } from "./format.js";
import { leftOut } from "./store.js";

const CHANNELS = { 1: "mono", 2: "stereo" };

const LONG_S = 10; // a sound that long may well be a recording of several

// `onCut(seconds)`: a wish to cut the sounds into a collection of their own, at silences where there is no length.
export function report(collection, { onChange, onCut, signal }) {
  const playing = oneAtATime(signal);
  const out = outOf(collection);
  const totals = el("p.totals", { role: "status" });
  const boxes = [];
  const all = el("input", {
    type: "checkbox",
    "aria-label": "Use all sounds",
    on: { change: () => setAll(all.checked) },
  });

  function tell() {
    const usable = collection.files.filter((file) => file.usable);
    const used = usable.filter((file) => !out.has(file.name));
    const seconds = used.reduce((sum, file) => sum + (file.seconds ?? 0), 0);
    setText(totals, `${used.length} of ${plural(collection.files.length, "sound")}, ${duration(seconds)}`);
    all.checked = used.length === usable.length;
    all.indeterminate = used.length > 0 && used.length < usable.length;
  }
  function setOne(file, use) {
    if (use) out.delete(file.name);
    else out.add(file.name);
  }
  function setAll(use) {
    for (const { file, box } of boxes) {
      box.checked = use;
      setOne(file, use);
    }
    tell();
    onChange();
  }
  function row(file) {
    const box = el("input", {
      type: "checkbox",
      checked: file.usable && !out.has(file.name),
      disabled: !file.usable,
      "aria-label": `Use ${file.name}`,
      on: { change: () => (setOne(file, box.checked), tell(), onChange()) },
    });
    if (file.usable) boxes.push({ file, box });
    return fileRow(file, box, playing.button(collection, file));
  }
  const rows = inOrder(collection.files).map(row);
  tell();
  return el(
    "section.panel",
    { "aria-labelledby": "report-title" },
    el("div.row.between", {}, el("h2", { id: "report-title" }, collection.name), totals),
    unusableNote(collection),
    el(
      "div.scroll",
      { tabindex: "0", role: "region", "aria-label": "Sounds of this collection" },
      el(
        "table.files",
        {},
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            el("td", {}, all),
            ...["Sound", "Name", "Length", "Rate", "Format", "Notes"].map((text) => el("th", { scope: "col" }, text)),
          ),
        ),
        el("tbody", {}, rows),
      ),
    ),
    el("p.small.muted", {}, "Take out the tick to leave a sound out of the training."),
    collection.files.some((file) => file.usable && file.seconds >= LONG_S) ? cutPart(onCut) : null,
    collection.passed_over ? el("p.small.muted", {}, collection.passed_over) : null,
  );
}

export function outOf(collection) {
  if (!leftOut.has(collection.id)) leftOut.set(collection.id, new Set());
  return leftOut.get(collection.id);
}

function inOrder(files) {
  return [...files.filter((file) => file.usable), ...files.filter((file) => !file.usable)];
}

function unusableNote({ files }) {
  const count = files.filter((file) => !file.usable).length;
  if (!count) return null;
  const verb = count === 1 ? "is" : "are";
  return el(
    "p.notice.amber",
    {},
    `${plural(count, "file")} cannot be used and ${verb} left out. The reason stands at the end of the table.`,
  );
}

function cutPart(onCut) {
  const seconds = el("input.short", { id: "cut-seconds", type: "number", min: "0.1", step: "any", value: "2" });
  return el(
    "form.row.tight.cut",
    { on: { submit: (event) => (event.preventDefault(), onCut(Number(seconds.value))) } },
    el("span.small", {}, "A long recording can be cut into several sounds, in a collection of their own:"),
    el("button", { type: "button", "data-testid": "cut-silence", on: { click: () => onCut(null) } }, "Cut at silences"),
    el(
      "span.row.tight",
      {},
      el("button", { type: "submit" }, "Cut every"),
      el("label.inline.small", { for: "cut-seconds" }, seconds, "seconds"),
    ),
  );
}

// Makes buttons with waveforms; one plays at a time, and none any more when the view is left.
function oneAtATime(signal) {
  const sound = new Audio();
  let current = null;
  const show = (button, on) => {
    button?.setAttribute("aria-pressed", String(on));
    button?.style.setProperty("--played", "0");
  };
  function stop() {
    sound.pause();
    show(current, false);
    current = null;
  }
  for (const type of ["ended", "error"]) sound.addEventListener(type, stop);
  sound.addEventListener("timeupdate", () => current?.style.setProperty("--played", sound.currentTime / sound.duration || 0));
  signal.addEventListener("abort", stop);
  function toggle(button, path) {
    const again = button === current;
    stop();
    if (again) return;
    current = button;
    show(button, true);
    sound.src = path;
    sound.play().catch((problem) => problem.name === "AbortError" || stop());
  }
  return {
    button(collection, file) {
      if (!file.outline?.length) return null;
      const path = `/api/collections/${api.id(collection.id)}/sound?name=${api.id(file.name)}`;
      const button = el(
        "button.quiet.hear",
        { type: "button", "aria-pressed": "false", "aria-label": `Play ${file.name}`, "data-testid": "hear" },
        waveform(file.outline),
      );
      button.addEventListener("click", () => toggle(button, path));
      return button;
    },
  };
}

// A name that goes on in the next line after a sign, and not within a word.
function breakable(name) {
  return name.split(/(?<=[_.\-/])/).flatMap((part, index) => (index ? [el("wbr"), part] : [part]));
}

function fileRow(file, box, hear) {
  const channels = CHANNELS[file.channels] ?? (file.channels ? `${file.channels} channels` : null);
  return el(
    "tr",
    { "data-testid": "file-row", class: file.usable ? "" : "off" },
    el("td", {}, box),
    el("td.thumb", {}, hear ?? el("span.muted", {}, "–")),
    el("th", { scope: "row", title: file.name }, breakable(file.name)),
    el("td.figure", {}, file.seconds === null ? "–" : duration(file.seconds)),
    el("td.figure", {}, rate(file.sample_rate)),
    el("td", {}, [file.format, channels].filter(Boolean).join(", ") || "–"),
    el(
      "td.notes",
      {},
      file.reason ? el("span.reason", {}, file.reason) : null,
      file.notes.filter((note) => note !== file.reason).map((note) => el("span.tag", {}, note)),
    ),
  );
}

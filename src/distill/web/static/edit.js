// Editing the codes of a sound: the grid as an editor, the sound and its picture following each change.
import * as api from "./api.js";
import { themeColour } from "./colours.js";
import { bytesOf, editsOf, history, packed, unpacked } from "./codes.js";
import { el, fill, setText } from "./dom.js";
import { dropZone, fileButton } from "./files.js";
import { duration, plural } from "./format.js";
import { codeGrid } from "./grid.js";
import { levelName } from "./health.js";
import { nameOf } from "./links.js";
import { player } from "./player.js";
import { drawMel } from "./ramp.js";
import { remembered } from "./store.js";
import { announce, complain, toast } from "./toasts.js";

const PICTURE = 110; // pixels of the picture below the grid
const AROUND_S = 0.25; // that is played on either side of a change
const SEEDS = 2 ** 32;
const TOOLS = {
  columns: ["Columns", "Drag to select whole columns", "c"],
  region: ["Region", "Drag to select some rows of some columns", "r"],
  pick: ["Pick", "Take the code of a cell to paint with", "k"],
  paint: ["Paint", "Drag to paint with the code that was picked", "p"],
};

export async function show(root, { id, rest, signal, about }) {
  const model = await api.get(`/models/${api.id(id)}`, signal);
  const base = `/models/${api.id(id)}/codes`;
  const place = el("div.stack");
  const error = el("p.notice.bad", { role: "alert", hidden: true });
  const status = el("p.muted", { role: "status", hidden: true });
  let leaving = new AbortController(); // what was edited last
  signal.addEventListener("abort", () => leaving.abort());

  async function open(name, fetched) {
    error.hidden = true;
    setText(status, `Opening ${name} …`);
    status.hidden = false;
    try {
      const grid = await fetched();
      leaving.abort();
      leaving = new AbortController();
      fill(place, editor({ name, grid, base, model, about, signal: leaving.signal }));
    } catch (problem) {
      if (problem.name === "AbortError") return;
      setText(error, problem.message);
      error.hidden = false;
    }
    status.hidden = true;
  }
  const fromSource = (name, source) =>
    open(name, () => api.get(`${base}?${new URLSearchParams({ source: JSON.stringify(source) })}`, signal));
  async function take(file) {
    if (file.name.toLowerCase().endsWith(".npz"))
      return open(file.name, () => api.sendFile("POST", base, file, signal));
    await open(file.name, async () => {
      const path = `/models/${api.id(id)}/sounds?name=${api.id(file.name)}`;
      const { sound } = await api.sendFile("POST", path, file, signal);
      return api.get(`${base}?${new URLSearchParams({ source: JSON.stringify({ kind: "sound", sound, name: file.name }) })}`, signal);
    });
  }
  const newSound = () => {
    const seed = Math.floor(Math.random() * SEEDS);
    return fromSource(`Seed ${seed}`, { kind: "seed", seed });
  };
  fill(
    root,
    el("p.small", {}, el("a", { href: `#/models/${api.id(id)}` }, `← ${model.name}`)),
    el("h1", {}, "Edit"),
    el(
      "p.lead",
      {},
      "A sound is a grid of codes to the model. Change the codes, and hear what becomes of the sound.",
    ),
    dropZone(
      { role: "group", "aria-label": "A sound to edit", class: "slim" },
      (transfer) => transfer.files[0] && take(transfer.files[0]),
      el("span", {}, "Drop a sound, or a file of codes (.npz)"),
      el(
        "div.row.tight",
        {},
        model.generates && el("button", { type: "button", "data-testid": "edit-new", on: { click: newSound } }, "A new sound"),
        fileButton(
          "Choose a file",
          { accept: `audio/*,.npz,${about.audio_suffixes.join(",")}`, "data-testid": "edit-input" },
          (input) => take(input.files[0]),
          "primary",
        ),
      ),
    ),
    error,
    status,
    place,
  );
  const kept = remembered.get(`edit.${id}`);
  if (rest) await fromSource(nameOf(JSON.parse(rest)), JSON.parse(rest));
  else if (kept) await reopen(JSON.parse(kept));

  // What was edited when the page was closed. Its grid is that of any sound of the model.
  async function reopen({ name, ...codes }) {
    await open(name, async () => ({ ...(await api.get(`${base}/form`, signal)), ...codes }));
  }
}

function editor({ name, grid, base, model, about, signal }) {
  const edits = editsOf(grid);
  const { rows, levels } = grid;
  const first = { columns: unpacked(grid.codes, rows * levels), seconds: grid.seconds, muted: grid.muted ?? [] };
  let region = { first: 0, stop: 1, ...edits.all };
  let copied = null;
  let brush = null; // {level, code}
  let tool = "columns";
  let stroke = null; // where the pointer was pressed
  let view = null;
  const steps = history(first, onEdit);
  const heard = soundOf({ grid, base, levels, signal, onSound, onProblem: complain });
  const one = player({ labels: [name], signal, name, onPosition: (seconds) => view?.setPlayhead(seconds) });
  const after = el("input", { type: "checkbox", checked: true });
  const lead = grid.span_seconds - grid.column_seconds;
  view = codeGrid({
    codes: edits.drawn(first),
    tints: grid.tints,
    levelNames: about.level_names,
    columnAt: (seconds) => (seconds + lead / 2) / grid.column_seconds,
    describe,
    onActivate: () => {},
    editor: {
      label: "Editor of codes. Arrow keys move, with Shift they select, Enter plays what is selected.",
      pictureHeight: PICTURE,
      isMuted: (level) => steps.now.muted.includes(level),
      drawPicture,
      drawMarks,
      onPress,
      onDrag,
      onRelease: () => (stroke = null),
      onKey,
    },
  });

  // What is heard and seen

  function onEdit(codes) {
    region = within(region, codes);
    view.setCodes(edits.drawn(codes));
    view.redrawMarks();
    codes.columns.length && heard.follow(codes);
    remembered.set(`edit.${model.id}`, JSON.stringify({ name, codes: packed(codes, levels, {}), seconds: codes.seconds, muted: codes.muted }));
    tell();
  }
  function onSound({ buffer, changed }) {
    const playing = one.sound.playing;
    one.setBuffer(0, buffer);
    view.setCodes(edits.drawn(steps.now)); // its picture is another now
    if (changed && after.checked && !playing && navigator.userActivation?.hasBeenActive)
      play([changed[0] - AROUND_S, changed[1] + AROUND_S]);
  }
  function play([from, to]) {
    one.touch();
    one.sound.play([Math.max(0, from), Math.min(one.sound.duration, to)]);
  }
  const timeOf = (column) => column * grid.column_seconds - lead;
  const playRegion = () => play([timeOf(region.first), timeOf(region.stop) + lead]);
  function drawPicture(context, { top, first: from, end, left, width }) {
    const { mel, frames } = heard;
    const [begin, stop] = [Math.max(0, (from - 1) * grid.frames_per_column), Math.min(frames, end * grid.frames_per_column)];
    // A column is heard most in the middle of its time, which is where the grid has it.
    const x = (frame) => left(frame / grid.frames_per_column + 0.5);
    drawMel(context, mel, grid.bands, [begin, stop], [x(begin), top, x(stop) - x(begin), PICTURE]);
  }
  function drawMarks(context, { box }) {
    context.fillStyle = themeColour("--accent");
    context.strokeStyle = themeColour("--accent");
    context.globalAlpha = 0.22;
    context.fillRect(...box(region));
    context.globalAlpha = 1;
    context.lineWidth = 2;
    context.strokeRect(...box(region));
    if (!copied) return;
    context.setLineDash([4, 3]);
    context.strokeRect(...box(within(copied, steps.now)));
    context.setLineDash([]);
  }
  function describe({ level, row, column, code }) {
    const time = [timeOf(column), timeOf(column + 1) + lead].map((seconds) => Math.max(0, seconds).toFixed(2));
    return `${levelName(about, level)}, row ${row + 1}, ${time.join(" to ")} s: ${code < 0 ? "no code" : `code ${code}`}.`;
  }

  // Pointer and keys

  const flatOf = ({ level, row }) => level * rows + row;
  function select(next) {
    region = within(next, steps.now);
    view.redrawMarks();
    tell();
  }
  function between(from, to) {
    const [first, stop] = [Math.min(from.column, to.column), Math.max(from.column, to.column) + 1];
    if (tool !== "region") return { first, stop, ...edits.all };
    const flats = [flatOf(from), flatOf(to)];
    return { first, stop, top: Math.min(...flats), bottom: Math.max(...flats) + 1 };
  }
  function onPress(cell, event) {
    if (tool === "pick" || event.altKey) return pick(cell);
    stroke = { from: event.shiftKey && tool !== "paint" ? { ...cornerOf(region) } : { ...cell }, joined: false };
    onDrag(cell);
  }
  const cornerOf = ({ first, top }) => ({ column: first, level: Math.floor(top / rows), row: top % rows });
  function onDrag(cell) {
    if (!stroke) return;
    if (tool !== "paint") return select(between(stroke.from, cell));
    if (!brush) return setText(hint, "Pick a code first: the Pick tool, or Alt and a click.");
    if (cell.level !== brush.level) return;
    const next = edits.paint(steps.now, flatOf(cell), cell.column, brush.code);
    steps.commit(next, { joined: stroke.joined });
    stroke.joined = true;
  }
  function pick(cell) {
    const code = edits.codeAt(steps.now, flatOf(cell), cell.column);
    if (code === undefined) return;
    brush = { level: cell.level, code };
    setTool("paint");
    const what = code < 0 ? "No code" : `Code ${code}`;
    setText(hint, `${what} of ${levelName(about, cell.level)} is on the brush: it paints this level.`);
  }
  function paintAtCursor(cell) {
    if (brush && cell.level === brush.level) steps.commit(edits.paint(steps.now, flatOf(cell), cell.column, brush.code));
    else setText(hint, brush ? "The code on the brush is of another level." : "Pick a code first: K.");
  }
  function onKey(event, cell, step) {
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (step && event.altKey && step[1]) return moveRegion(Math.sign(step[1])), true;
    if (step && event.shiftKey) return extend(step, cell), true;
    if (command) {
      const action = { c: copy, v: event.shiftKey ? insert : paste, z: event.shiftKey ? steps.redo : steps.undo, y: steps.redo }[key];
      if (!action) return false;
      action();
      return true;
    }
    if (step || event.altKey) return false;
    const action = {
      enter: playRegion,
      " ": () => (one.touch(), one.sound.toggle()),
      k: () => pick(cell),
      x: () => paintAtCursor(cell),
      c: () => (setTool("columns"), select(between(cell, cell))),
      r: () => (setTool("region"), select(between(cell, cell))),
      p: () => setTool("paint"),
      delete: remove,
      backspace: remove,
      "+": () => stretchTo(region.stop - region.first + 1),
      "-": () => stretchTo(region.stop - region.first - 1),
      n: redraw,
      s: swap,
    }[key];
    action?.();
    return Boolean(action);
  }
  // Shift and an arrow: the selection reaches from where it began to the cursor.
  let anchor = null;
  function extend(step, cell) {
    anchor ??= { ...cell };
    view.moveBy(...step);
    select(between(anchor, view.cursor()));
  }
  view.node.addEventListener("keyup", (event) => event.key === "Shift" && (anchor = null));

  // Edits of what is selected

  const commit = (next) => steps.commit(next);
  function copy() {
    copied = edits.copy(steps.now, region);
    view.redrawMarks();
    tell();
    announce(`${plural(copied.columns.length, "column")} copied`);
  }
  function paste() {
    if (!copied) return;
    commit(edits.paste(steps.now, region.first, copied));
  }
  function insert() {
    if (copied && edits.isWhole(copied)) commit(edits.insert(steps.now, region.first, copied));
  }
  function swap() {
    if (!canSwap()) return;
    const before = region.first < copied.first;
    const shift = copied.columns.length - (region.stop - region.first);
    const next = edits.swap(steps.now, region, copied);
    copied = null;
    commit(next);
    select(before ? region : { ...region, first: region.first - shift, stop: region.stop - shift });
  }
  const canSwap = () => copied && edits.isWhole(copied) && (copied.stop <= region.first || region.stop <= copied.first);
  function moveRegion(by) {
    const to = region.first + by;
    if (to < 0 || to + region.stop - region.first > steps.now.columns.length) return;
    const next = edits.move(steps.now, region, to);
    region = { ...region, ...edits.all, first: to, stop: region.stop + by };
    commit(next);
  }
  function stretchTo(count) {
    if (!(count >= 1) || steps.now.columns.length + count - (region.stop - region.first) < 2) return;
    const next = edits.stretch(steps.now, region, count);
    region = { ...region, ...edits.all, stop: region.first + count };
    commit(next);
  }
  function remove() {
    if (steps.now.columns.length - (region.stop - region.first) < 2) return setText(hint, "Two columns have to stay.");
    commit(edits.remove(steps.now, region));
  }
  let rolls = 0;
  async function redraw() {
    if (!model.generates) return;
    const asked = steps.now;
    redrawButton.disabled = true;
    try {
      const body = {
        codes: packed(asked, levels, {}),
        seconds: asked.seconds,
        columns: [region.first, region.stop],
        rows: [region.top, region.bottom],
        seed: (rolls += 1),
        strength: Number(strength.value),
      };
      const answer = await api.post(`${base}/redraw`, body, signal);
      if (steps.now === asked) commit(edits.replaced(asked, unpacked(answer.codes, rows * levels)));
    } catch (problem) {
      complain(problem);
    }
    redrawButton.disabled = false;
  }

  // Controls

  const hint = el("p.small.muted", { role: "status" });
  const button = (label, act, title, props = {}) =>
    el("button", { type: "button", title, on: { click: () => (act(), tell()) }, ...props }, label);
  const toolButtons = Object.fromEntries(
    Object.entries(TOOLS).map(([key, [label, title, letter]]) => [
      key,
      button(label, () => setTool(key), `${title} (key ${letter.toUpperCase()})`, { "data-testid": `tool-${key}` }),
    ]),
  );
  function setTool(next) {
    tool = next;
    setText(hint, TOOLS[next][1] + ".");
    tell();
  }
  const undo = button("Undo", () => steps.undo(), "Ctrl Z", { "data-testid": "edit-undo" });
  const redo = button("Redo", () => steps.redo(), "Ctrl Shift Z");
  const pasteButton = button("Paste", paste, "Over what is there, from the first selected column on (Ctrl V)");
  const insertButton = button("Insert", insert, "Copied columns before the selected ones (Ctrl Shift V)");
  const swapButton = button("Swap with copied", swap, "The selected columns and the copied ones change places (S)");
  const left = button("← Move", () => moveRegion(-1), "The selected columns to the left (Alt ←)");
  const right = button("Move →", () => moveRegion(1), "The selected columns to the right (Alt →)");
  const wider = button("Wider", () => select({ ...region, stop: region.stop + 1 }), "Select a column more (Shift →)");
  const narrower = button(
    "Narrower",
    () => select({ ...region, stop: Math.max(region.first + 1, region.stop - 1) }),
    "Select a column less (Shift ←)",
  );
  const count = el("input.short", { id: "edit-count", type: "number", min: "1", step: "1", on: { change: () => stretchTo(Math.round(Number(count.value))) } });
  const strength = el("input", { id: "edit-strength", type: "range", min: "0.1", max: "1", step: "0.1", value: "1" });
  const redrawButton = button("Draw anew", redraw, "The model makes up what is selected (N)", { "data-testid": "redraw", class: "primary" });
  const selected = el("p.small", { role: "status", "data-testid": "edit-selection" });
  const muteButtons = Array.from({ length: levels }, (_, level) =>
    button(levelName(about, level), () => commit(edits.mute(steps.now, level)), `Mute ${levelName(about, level)}`, { "data-testid": "mute" }),
  );
  const facts = el("span.small.muted");

  function tell() {
    const { columns, seconds, muted } = steps.now;
    const wide = region.stop - region.first;
    for (const [key, node] of Object.entries(toolButtons)) node.setAttribute("aria-pressed", String(key === tool));
    undo.disabled = !steps.canUndo();
    redo.disabled = !steps.canRedo();
    pasteButton.disabled = !copied;
    insertButton.disabled = !copied || !edits.isWhole(copied);
    swapButton.disabled = !canSwap();
    left.disabled = region.first === 0;
    right.disabled = region.stop >= columns.length;
    count.value = String(wide);
    muteButtons.forEach((node, level) => node.setAttribute("aria-pressed", String(muted.includes(level))));
    const part = edits.isWhole(region) ? "" : `, ${plural(region.bottom - region.top, "row")}`;
    setText(selected, `Selected: ${plural(wide, "column")}${part}, from ${Math.max(0, timeOf(region.first)).toFixed(2)} s.`);
    setText(facts, `${plural(columns.length, "column")}, ${duration(seconds)}`);
  }
  setTool("columns");
  heard.follow(first);
  one.touch();

  const title = `${name.replace(/\.[^.]+$/, "")} edited`;
  function send(path) {
    const body = { codes: packed(steps.now, levels, { heard: true }), seconds: steps.now.seconds, name: title };
    return api.request("POST", `${base}/${path}`, { body, signal });
  }
  async function keep() {
    try {
      await send("keep");
      toast(`“${title}” is in the tray, on the page Make.`);
    } catch (problem) {
      complain(problem);
    }
  }
  // As a file of this kind: wav, or npz.
  async function save(kind) {
    try {
      const link = el("a", { href: URL.createObjectURL(await (await send(kind)).blob()), download: `${title}.${kind}` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    } catch (problem) {
      complain(problem);
    }
  }
  return el(
    "section.panel.roomy.editor",
    { "aria-labelledby": "edit-title" },
    el("div.row.between", {}, el("h2", { id: "edit-title" }, name), facts),
    one.node,
    el("label.inline.small", {}, after, "Play around each change"),
    el(
      "div.row.tight",
      { role: "group", "aria-label": "Tools" },
      el("div.segmented", {}, Object.values(toolButtons)),
      undo,
      redo,
      el("div.segmented", { role: "group", "aria-label": "Mute" }, el("span.segment-label.small.muted", {}, "Mute"), muteButtons),
    ),
    hint,
    view.node,
    selected,
    el(
      "div.row.tight",
      { role: "group", "aria-label": "What is selected" },
      button("Play", playRegion, "Enter", { "data-testid": "play-region" }),
      button("Copy", copy, "Ctrl C", { "data-testid": "copy" }),
      pasteButton,
      insertButton,
      swapButton,
      left,
      right,
      narrower,
      wider,
      button("Delete", remove, "The columns, and their time (Delete)", { "data-testid": "delete-columns" }),
      el("label.inline", { for: "edit-count" }, "Stretch to", count, "columns"),
    ),
    model.generates &&
      el(
        "div.row",
        {},
        redrawButton,
        el("label.inline.strength", { for: "edit-strength" }, "A little", strength, "quite new"),
      ),
    el(
      "div.row.tight",
      {},
      el("button.primary", { type: "button", "data-testid": "keep-edited", on: { click: keep } }, "Keep"),
      el("button", { type: "button", "data-testid": "save-wav", on: { click: () => save("wav") } }, "Save the sound"),
      el("button", { type: "button", "data-testid": "save-npz", on: { click: () => save("npz") } }, "Save the codes"),
    ),
  );
}

function within(region, { columns }) {
  const first = Math.max(0, Math.min(region.first, columns.length - 1));
  return { ...region, first, stop: Math.max(first + 1, Math.min(region.stop, columns.length)) };
}

// The sound and the picture of codes, which follow them: one request at a time, always with the newest codes.
function soundOf({ grid, base, levels, signal, onSound, onProblem }) {
  const state = { key: "", samples: new Float32Array(0), mel: new Uint8Array(0), frames: 0 };
  let wanted = null;
  let busy = false;

  async function follow(codes) {
    wanted = codes;
    if (busy) return;
    busy = true;
    while (wanted && !signal.aborted) {
      const asked = wanted;
      wanted = null;
      try {
        const body = { codes: packed(asked, levels, { heard: true }), seconds: asked.seconds, known: state.key };
        apply(await api.post(`${base}/change`, body, signal));
      } catch (problem) {
        if (problem.name !== "AbortError") onProblem(problem);
      }
    }
    busy = false;
  }
  function apply(answer) {
    const first = !state.key;
    const samples = new Float32Array(bytesOf(answer.samples).buffer);
    state.samples = spliced(state.samples, samples, answer.start, answer.left);
    state.mel = spliced(state.mel, bytesOf(answer.mel), answer.first_frame * grid.bands, answer.left_frames * grid.bands);
    state.frames = state.mel.length / grid.bands;
    state.key = answer.key;
    const buffer = new AudioBuffer({ length: state.samples.length, sampleRate: grid.sample_rate });
    buffer.copyToChannel(state.samples, 0);
    const end = answer.start + samples.length;
    onSound({ buffer, changed: first || !samples.length ? null : [answer.start / grid.sample_rate, end / grid.sample_rate] });
  }
  return Object.assign(state, { follow });
}

// The beginning and the end of values, with others between them.
function spliced(values, inner, start, left) {
  const made = new values.constructor(start + inner.length + left);
  made.set(values.subarray(0, start));
  made.set(inner, start);
  made.set(values.subarray(values.length - left), start + inner.length);
  return made;
}

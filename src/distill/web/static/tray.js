// The tray: sounds that were kept, which the server stores; played, named, put in order, and taken away as files.
import * as api from "./api.js";
import { peaks, waveform, whenSeen } from "./canvas.js";
import { el, fill } from "./dom.js";
import { plural } from "./format.js";
import { packPart } from "./pack.js";
import { SOUND_TYPE, offerFile } from "./pads.js";
import { decode, strike } from "./sound.js";
import { announce, complain, offerUndo } from "./toasts.js";

const BROUGHT_BACK = "keptsoundbroughtback";
const KEPT_TYPE = "text/x-distill-kept";

// `onChoose(sound, buffer)` hears of a sound that is played; `onKept(sounds)` of all that are in the tray.
export function tray({ onChoose, signal }) {
  const list = el("ol.tray-list.plain", { "aria-label": "Kept sounds", tabindex: "-1" });
  const none = el("p.muted.small", {}, "Nothing yet. Keep a sound, or drag a pad here: it stays, also when you close the page.");
  const pack = packPart();
  const heading = el("h2", { id: "tray-title" }, "Kept");
  const node = el(
    "section.panel.roomy.tray",
    { "aria-labelledby": "tray-title" },
    heading,
    none,
    list,
    pack.node,
  );
  const rows = new Map(); // id → row; kept when the list changes, so that nothing is fetched twice
  let sounds = [];
  let stop = null;

  async function refresh() {
    show(await api.get("/tray", signal));
  }
  function show(next) {
    sounds = next;
    for (const sound of sounds) if (!rows.has(sound.sound)) rows.set(sound.sound, makeRow(sound, actions));
    const focused = document.activeElement;
    fill(
      list,
      sounds.map(({ sound }) => rows.get(sound).node),
    );
    if (list.contains(focused)) focused.focus();
    none.hidden = sounds.length > 0;
    pack.node.hidden = !sounds.length;
    heading.textContent = sounds.length ? `Kept: ${plural(sounds.length, "sound")}` : "Kept";
  }
  const actions = {
    async play(row) {
      stop?.();
      const buffer = await row.buffer().catch(complain);
      if (!buffer) return;
      stop = strike(buffer);
      onChoose({ ...row.sound, kept: true }, buffer);
    },
    async rename(row, name) {
      try {
        row.take(await api.patch(`/tray/${row.sound.sound}`, { name }));
      } catch (error) {
        row.take(row.sound);
        complain(error);
      }
    },
    async remove(row) {
      try {
        const { undo } = await api.remove(`/tray/${row.sound.sound}`);
        offerUndo(`“${row.sound.name}” was taken out.`, "/tray/undo", undo, BROUGHT_BACK);
        list.focus();
        await refresh();
      } catch (error) {
        complain(error);
      }
    },
    // To stand before another sound, or at the end.
    async move(row, before) {
      const keys = sounds.map(({ sound }) => sound).filter((key) => key !== row.sound.sound);
      const place = before === null ? keys.length : keys.indexOf(before);
      keys.splice(place, 0, row.sound.sound);
      try {
        show(await api.put("/tray/order", { sounds: keys }));
        announce(`${row.sound.name} is number ${place + 1}`);
      } catch (error) {
        complain(error);
      }
    },
    step(row, by) {
      const place = sounds.findIndex(({ sound }) => sound === row.sound.sound) + by;
      if (place < 0 || place >= sounds.length) return;
      actions.move(row, sounds[place + (by > 0 ? 1 : 0)]?.sound ?? null);
    },
  };
  const dropped = (event) => rows.get(event.dataTransfer.getData(KEPT_TYPE));
  const takes = ({ dataTransfer: { types } }) => types.includes(KEPT_TYPE) || types.includes(SOUND_TYPE);
  node.addEventListener("dragover", (event) => takes(event) && (event.preventDefault(), node.classList.add("over")));
  node.addEventListener("dragleave", () => node.classList.remove("over"));
  node.addEventListener("drop", (event) => {
    node.classList.remove("over");
    if (!takes(event)) return;
    event.preventDefault();
    event.stopPropagation();
    const row = dropped(event);
    const before = event.target.closest("[data-kept]")?.dataset.kept ?? null;
    if (row) before !== row.sound.sound && actions.move(row, before);
    else document.dispatchEvent(new CustomEvent("keepsound", { detail: event.dataTransfer.getData(SOUND_TYPE) }));
  });
  document.addEventListener(BROUGHT_BACK, () => refresh().catch(complain), { signal });
  signal.addEventListener("abort", () => stop?.());
  return { node, refresh };
}

function makeRow(first, actions) {
  const path = `/tray/${first.sound}/file`;
  const wave = waveform([]);
  const name = el("input.tray-name", { maxlength: "200", "data-testid": "kept-name" });
  const play = el(
    "button.tray-play",
    { type: "button", draggable: "true", "data-testid": "kept-play", on: { click: () => actions.play(row) } },
    wave,
  );
  const button = (text, act, testid) =>
    el("button.quiet.tiny", { type: "button", "data-testid": testid, on: { click: act } }, text);
  const up = button("↑", () => actions.step(row, -1), "kept-up");
  const down = button("↓", () => actions.step(row, 1), "kept-down");
  const remove = button("×", () => actions.remove(row), "kept-remove");
  const download = el("a.button.quiet.tiny", { href: `/api${path}`, download: "", "data-testid": "kept-download" }, "⤓");
  let buffer = null;
  const row = {
    sound: first,
    node: el(
      "li",
      { "data-kept": first.sound, "data-testid": "kept-sound" },
      play,
      name,
      el("span.tray-actions", {}, up, down, download, remove),
    ),
    // The decoded sound, fetched once.
    buffer: () => (buffer ??= api.bytesOf(path).then(decode).catch(forget)),
    take(sound) {
      row.sound = sound;
      name.value = sound.name;
      for (const [control, verb] of [[play, "Play"], [name, "Name of"], [up, "Move up"], [down, "Move down"], [download, "Download"], [remove, "Take out"]])
        control.setAttribute("aria-label", `${verb} ${sound.name}`);
    },
  };
  function forget(error) {
    buffer = null; // may be asked for again
    throw error;
  }
  name.addEventListener("change", () => {
    const wanted = name.value.trim();
    if (wanted && wanted !== row.sound.name) actions.rename(row, wanted);
    else row.take(row.sound);
  });
  play.addEventListener("dragstart", (event) => {
    event.dataTransfer.setData(KEPT_TYPE, row.sound.sound);
    offerFile(event, row.sound.name, `/api${path}`);
  });
  whenSeen(row.node, () =>
    row.buffer().then(
      (sound) => ((wave.outline = (wide) => louder(peaks(sound, wide))), wave.redraw()),
      () => {}, // told when it is played
    ),
  ).redraw();
  row.take(first);
  return row;
}

function louder(values) {
  const most = Math.max(0.2, ...values);
  return values.map((value) => value / most);
}

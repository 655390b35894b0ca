// The sounds to train on: dropping, opening a folder, the report, and below it the train form.
import * as api from "./api.js";
import { el, fill, setText, sleep } from "./dom.js";
import { chosenFiles, dropZone, droppedFiles, fileButton, flatNames, folderName, isAudio } from "./files.js";
import { duration, plural } from "./format.js";
import { outOf, report } from "./report.js";
import { remembered, thisTab } from "./store.js";
import { announce, complain, offerUndo, toast } from "./toasts.js";
import { trainForm } from "./train.js";

const POLL_MS = 300;
const UPLOADS_AT_ONCE = 3;
const BROUGHT_BACK = "collectionbroughtback";

export async function show(root, { signal, about }) {
  const known = el("div.known", { tabindex: "-1" });
  const below = el("div.stack");
  const progress = progressLine();
  const error = el("p.notice.bad", { role: "alert", hidden: true });
  const page = { about, signal, known, below, progress, error, turn: 0 };
  fill(
    root,
    el("h1", {}, "Your sounds"),
    el("p.lead", {}, "Collect a few sounds that belong together, from 5 to 500. A model learns to rebuild them, and to make new ones."),
    el("div.two", {}, uploadPart(page), el("div.stack", {}, pathPart(page), known)),
    error,
    progress.node,
    below,
  );
  document.addEventListener(BROUGHT_BACK, () => listKnown(page).catch(complain), { signal });
  await listKnown(page);
  const last = thisTab.get("collection");
  if (last && page.ids.includes(last)) attempt(page, () => open(page, last)); // the view is there before its report
}

function uploadPart(page) {
  const zone = dropZone(
    { "data-testid": "drop-zone", role: "group", "aria-label": "Drop sounds here" },
    (transfer) => attempt(page, async () => upload(page, await droppedFiles(transfer))),
    el("p.drop-title", {}, "Drop sounds or a folder here"),
    el(
      "div.row.centre",
      {},
      fileButton("Choose files", { multiple: true, accept: page.about.audio_suffixes.join(",") }, choose),
      fileButton("Choose a folder", { webkitdirectory: true }, choose),
    ),
    el("p.small.muted", {}, `${page.about.audio_suffixes.join("  ")} · they stay on this machine`),
  );
  function choose(input) {
    const found = chosenFiles(input);
    attempt(page, () => upload(page, found));
  }
  return zone;
}

function pathPart(page) {
  const input = el("input", {
    id: "path",
    name: "path",
    value: remembered.get("path", ""),
    "data-testid": "path-input",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "/home/me/drums",
  });
  const submit = (event) => {
    event.preventDefault();
    const path = input.value.trim();
    if (!path) return input.focus();
    attempt(page, async () => {
      const collection = await api.post("/collections", { path }, page.signal);
      remembered.set("path", path);
      await open(page, collection.id, collection);
      await listKnown(page);
    });
  };
  return el(
    "form.panel",
    { on: { submit } },
    el("label", { for: "path" }, "Or open a folder on this machine"),
    el("div.row.tight", {}, input, el("button.primary", { type: "submit", "data-testid": "open-path" }, "Open")),
    el("p.small.muted", {}, "Your files are only read, never changed."),
  );
}

async function attempt(page, action) {
  page.error.hidden = true;
  try {
    await action();
  } catch (error) {
    if (error.name === "AbortError") return;
    page.progress.hide();
    setText(page.error, error.message);
    page.error.hidden = false;
  }
}

async function listKnown(page) {
  const collections = await api.get("/collections", page.signal);
  page.ids = collections.map(({ id }) => id);
  const focused = page.known.contains(document.activeElement);
  fill(
    page.known,
    collections.length
      ? [
          el("h2.small-heading", {}, "Opened before"),
          el(
            "ul.plain",
            {},
            collections.map((collection) => knownItem(page, collection)),
          ),
        ]
      : null,
  );
  if (focused) page.known.focus();
}

function knownItem(page, collection) {
  const { id, name, path, uploaded } = collection;
  return el(
    "li.row.between.tight",
    {},
    el(
      "button.linklike",
      { type: "button", title: path ?? name, on: { click: () => attempt(page, () => open(page, id)) } },
      el("span.name", {}, name),
      el("span.small.muted", {}, uploaded ? "dropped here" : path),
    ),
    uploaded
      ? el(
          "button.quiet",
          {
            type: "button",
            "data-testid": "remove-collection",
            "aria-label": `Remove ${name}`,
            on: { click: () => attempt(page, () => removeCollection(page, collection)) },
          },
          "Remove",
        )
      : null,
  );
}

async function removeCollection(page, { id, name }) {
  const { undo } = await api.remove(`/collections/${api.id(id)}`);
  offerUndo(`“${name}” was removed.`, "/collections/undo", undo, BROUGHT_BACK);
  if (page.shown === id) {
    page.turn += 1; // what is still on its way is not shown
    page.progress.hide();
    fill(page.below);
  }
  await listKnown(page);
}

async function upload(page, found) {
  const suffixes = page.about.audio_suffixes;
  const sounds = found.filter(({ file }) => isAudio(file.name, suffixes));
  if (!sounds.length)
    throw new Error(`There is no audio among these. It may be ${suffixes.join(", ")}. ${leftAside(found)}`);
  const collection = await api.post("/collections/uploads", { name: folderName(sounds) }, page.signal);
  const failed = await putAll(page, collection, flatNames(sounds));
  const taken = sounds.length - failed.length;
  if (!taken) await api.remove(`/collections/${api.id(collection.id)}`);
  if (page.signal.aborted)
    return toast(`${collection.name}: ${taken} of ${plural(sounds.length, "sound")} taken in.`, {
      bad: failed.length > 0,
    });
  if (!taken) throw new Error(`None of the files could be taken. ${failed[0]}`);
  await open(page, collection.id, await api.post(`/collections/${api.id(collection.id)}/scan`, {}, page.signal));
  await listKnown(page);
  const aside = leftAside(found.filter((one) => !sounds.includes(one)));
  if (failed.length) throw new Error(`${plural(failed.length, "file")} could not be taken. ${failed[0]} ${aside}`);
  if (aside) toast(aside, { seconds: 10 });
}

const NAMED = 5; // of many files, these are named

// Which files were not taken in, since they are no sounds; nobody put the hidden ones there.
function leftAside(found) {
  const names = found.map(({ file }) => file.name).filter((name) => !name.startsWith("."));
  if (!names.length) return "";
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : "";
  return `Left aside, as no sounds: ${names.slice(0, NAMED).join(", ")}${more}.`;
}

async function putAll(page, collection, files) {
  const waiting = [...files];
  const failed = [];
  let done = 0;
  const tell = () => page.progress.show(`Taking in ${done} of ${plural(files.length, "file")}`, done, files.length);
  tell();
  async function work() {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const path = `/collections/${api.id(collection.id)}/files?name=${api.id(next.name)}`;
      try {
        await api.sendFile("PUT", path, next.file); // to the end, wherever the user goes meanwhile
      } catch (error) {
        failed.push(`${next.name}: ${error.message}`);
      }
      done += 1;
      tell();
    }
  }
  await Promise.all(Array.from({ length: UPLOADS_AT_ONCE }, work));
  return failed;
}

function cut(page, collection, seconds) {
  return attempt(page, async () => {
    page.progress.show(`Cutting ${collection.name} …`);
    const body = { excluded: [...outOf(collection)], seconds };
    const pieces = await api.post(`/collections/${api.id(collection.id)}/cut`, body, page.signal);
    await open(page, pieces.id, pieces);
    await listKnown(page);
  });
}

// Waits for the scan, then shows report and form. A later call overtakes an earlier one.
async function open(page, id, collection = null) {
  page.turn += 1;
  page.shown = id;
  const turn = page.turn;
  fill(page.below);
  for (;;) {
    collection ??= await api.get(`/collections/${api.id(id)}`, page.signal);
    if (turn !== page.turn) return;
    if (collection.state === "empty") collection = await api.post(`/collections/${api.id(id)}/scan`); // not heard yet
    if (collection.state !== "scanning") break;
    const { done, total } = collection;
    page.progress.show(
      total ? `Listening to ${done} of ${plural(total, "file")}` : `Looking for sounds in ${collection.name} …`,
      done,
      total,
    );
    await sleep(POLL_MS);
    if (page.signal.aborted) return;
    collection = null;
  }
  page.progress.hide();
  if (collection.state === "failed") throw new Error(collection.error ?? "This folder could not be read.");
  if (!collection.files) collection = await api.get(`/collections/${api.id(id)}`, page.signal);
  thisTab.set("collection", id);
  const form = trainForm(collection, page);
  fill(page.below, report(collection, { onChange: form.filesChanged, onCut: (seconds) => cut(page, collection, seconds), signal: page.signal }), form.node);
  form.filesChanged();
  announce(
    `${collection.name}: ${collection.usable} of ${plural(collection.files.length, "sound")}, ${duration(collection.seconds)}`,
  );
}

function progressLine() {
  const bar = el("progress", { "aria-label": "Progress", max: "1" });
  const text = el("span", {});
  const node = el("div.progress-line", { hidden: true }, text, bar);
  return {
    node,
    show(sentence, done, total) {
      node.hidden = false;
      setText(text, sentence);
      if (total) bar.value = done / total;
      else bar.removeAttribute("value"); // nobody knows how long
    },
    hide() {
      node.hidden = true;
    },
  };
}

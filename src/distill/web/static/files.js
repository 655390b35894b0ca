// Files and folders that are dropped or chosen: walking folders, names without folders, a drop zone.
import { el } from "./dom.js";

// → [{file, path}], the path with its folders.
export async function droppedFiles(transfer) {
  const items = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!items.length) return [...transfer.files].map((file) => ({ file, path: file.name }));
  const found = [];
  for (const entry of items) await walk(entry, "", found);
  return found;
}

async function walk(entry, folder, found) {
  const path = folder + entry.name;
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file) found.push({ file, path });
    return;
  }
  for (const child of await childrenOf(entry)) await walk(child, `${path}/`, found);
}

async function childrenOf(entry) {
  const reader = entry.createReader();
  const all = [];
  for (;;) {
    // a reader gives at most a hundred entries a time
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return all;
    all.push(...some);
  }
}

export function chosenFiles(input) {
  return [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

export function isAudio(name, suffixes) {
  const lower = name.toLowerCase();
  return suffixes.some((suffix) => lower.endsWith(suffix)) && !name.startsWith(".");
}

// "drums/a/kick.wav" → "kick.wav", or "a_kick.wav" where another folder has a kick.wav too.
export function flatNames(found) {
  const taken = new Set();
  return found.map(({ file, path }) => {
    const parts = path.split("/").filter(Boolean);
    let name = parts.pop();
    while (taken.has(name) && parts.length) name = `${parts.pop()}_${name}`;
    for (let copy = 2; taken.has(name); copy += 1) name = `${copy}_${name}`;
    taken.add(name);
    return { file, name };
  });
}

export function folderName(found) {
  const tops = new Set(found.map(({ path }) => (path.includes("/") ? path.split("/")[0] : "")));
  return tops.size === 1 && !tops.has("") ? [...tops][0] : "Dropped sounds";
}

export function dropZone(props, onDrop, ...children) {
  const zone = el("div.drop", props, ...children);
  const mark = (on) => zone.classList.toggle("over", on);
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  zone.addEventListener("dragleave", () => mark(false));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    mark(false);
    onDrop(event.dataTransfer);
  });
  return zone;
}

// A file input that looks like a button.
export function fileButton(label, props, onFiles, style = "") {
  const input = el("input.visually-hidden", { type: "file", ...props });
  input.addEventListener("change", () => {
    if (input.files.length) onFiles(input);
    input.value = ""; // so that the same file can be chosen again
  });
  return el("label.button", { class: style }, input, label);
}

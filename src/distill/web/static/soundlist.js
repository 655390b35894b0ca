// A list of sounds that are fetched one by one, each with a player and a link to keep it.
import * as api from "./api.js";
import { el, fill, setText } from "./dom.js";
import { plural } from "./format.js";
import { player } from "./player.js";
import { decode } from "./sound.js";

export function soundList({ name, signal, testid = "sound-item" }) {
  const list = el("ul.sounds.plain", { "aria-label": name, hidden: true });
  const error = el("p.small.reason", { role: "alert", hidden: true });
  const status = el("p.small.muted", { role: "status", hidden: true });
  let players = [];
  let asking = new AbortController(); // for the sounds that were asked for last
  signal.addEventListener("abort", () => asking.abort());

  // `items`: [{label, path, file}], the path as the server knows it, the file as the name to keep it by.
  async function make(items, { looping = false } = {}) {
    asking.abort();
    asking = new AbortController();
    const mine = asking;
    error.hidden = true;
    list.hidden = !items.length;
    const rows = items.map((item) => soundItem(item, { looping, signal: mine.signal, testid }));
    players = rows.map(({ one }) => one);
    fill(
      list,
      rows.map(({ node }) => node),
    );
    let done = 0;
    const tell = () => {
      setText(status, `${done} of ${plural(items.length, "sound")} …`);
      status.hidden = done === items.length;
    };
    tell();
    try {
      await Promise.all(rows.map(({ load }) => load().then(() => ((done += 1), tell()))));
    } catch (problem) {
      if (problem.name === "AbortError" || mine !== asking) return;
      mine.abort(); // what is wrong with one is wrong with all
      list.hidden = true;
      status.hidden = true;
      setText(error, problem.message);
      error.hidden = false;
    }
  }
  return {
    node: el("div.roomy", {}, error, status, list),
    make,
    isInUse: () => list.contains(document.activeElement) || players.some(({ sound }) => sound.playing),
  };
}

function soundItem({ label, path, file }, { looping, signal, testid }) {
  const one = player({ labels: [label], signal, name: label, looping });
  const download = el(
    "a",
    { href: `/api${path}`, download: file, "aria-label": `Download ${label}`, hidden: true },
    "Download",
  );
  return {
    one,
    node: el(
      "li",
      { "data-testid": testid },
      el("div.small.sound-head", {}, el("span.muted", {}, label), download),
      one.node,
    ),
    async load() {
      one.setBuffer(0, await decode(await api.bytesOf(path, signal)));
      download.hidden = false;
    },
  };
}

// Starts the page: takes the token out of the address, and shows the view that the hash names.
import { about } from "./api.js";
import { el, fill } from "./dom.js";
import { remembered } from "./store.js";

// Each view is fetched when it is first gone to: the first page is there sooner.
const VIEWS = {
  collection: { list: () => import("./collection.js") },
  runs: { list: () => import("./runs.js"), one: () => import("./watch.js") },
  compare: { list: () => import("./compare.js"), one: () => import("./compare.js"), nav: "runs" },
  make: { list: () => import("./make.js"), one: () => import("./make.js") },
  library: { list: () => import("./library.js") },
  models: { one: () => import("./model.js"), nav: "library" },
  edit: { one: () => import("./edit.js"), nav: "library" },
  map: { one: () => import("./map.js"), nav: "library" },
};

let leaving = new AbortController();
let visits = 0;

function hideToken() {
  const address = new URL(location.href);
  if (!address.searchParams.has("token")) return;
  address.searchParams.delete("token");
  history.replaceState(null, "", address.pathname + address.search + address.hash);
}

function route() {
  const [name = "", id, rest] = location.hash.replace(/^#\/?/, "").split("/");
  const view = VIEWS[name];
  if (id && view?.one) return { fetched: view.one, nav: view.nav ?? name, id: decoded(id), rest: rest && decoded(rest) };
  if (view?.list) return { fetched: view.list, nav: view.nav ?? name };
  return null;
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // not what this page writes: there is nothing of that name
  }
}

async function go() {
  if (location.hash === "#main") return; // the skip link
  const target = route();
  if (!target) return location.replace("#/collection");
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  for (const link of document.querySelectorAll("nav a[data-view]")) {
    if (link.dataset.view === target.nav) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const root = el("div.view");
  fill(document.getElementById("main"), root);
  window.scrollTo(0, 0);
  visits += 1;
  const first = visits === 1;
  try {
    const facts = await about(); // first, since it says in words what is wrong when the server is another one now
    const view = await target.fetched();
    if (signal.aborted) return;
    await view.show(root, { id: target.id, rest: target.rest, signal, about: facts });
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted) fill(root, problem(error));
  }
  if (signal.aborted) return;
  const heading = root.querySelector("h1");
  document.title = heading ? `${heading.textContent} – distill` : "distill";
  const main = document.getElementById("main");
  if (!first && !main.contains(document.activeElement)) main.focus({ preventScroll: true });
}

function problem(error) {
  return [
    el("h1", {}, "This did not work"),
    el("p.notice.bad", { role: "alert" }, error.message),
    el("p", {}, el("button", { type: "button", on: { click: go } }, "Try again")),
  ];
}

function themeButton() {
  const button = document.getElementById("theme");
  const label = () => {
    const dark = document.documentElement.dataset.theme === "dark";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", dark ? "Light: switch to the light theme" : "Dark: switch to the dark theme");
  };
  button.addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    remembered.set("theme", next);
    document.documentElement.dataset.theme = next;
    document.dispatchEvent(new Event("themechange"));
  });
  document.addEventListener("themechange", label);
  label();
}

function skipLink() {
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the hash names the view
    document.getElementById("main").focus();
  });
}

// A file dropped beside a drop zone would otherwise replace the page.
for (const type of ["dragover", "drop"]) window.addEventListener(type, (event) => event.preventDefault());

hideToken();
themeButton();
skipLink();
window.addEventListener("hashchange", go);
go();

// Short messages at the foot of the page, perhaps with one action; and what screen readers are told.
import { el } from "./dom.js";

export function announce(text) {
  document.getElementById("status").textContent = text;
}

export function toast(text, { action, onAction, seconds = 6, bad = false, testid } = {}) {
  const node = el("div.toast", { class: bad ? "bad" : "" }, el("span", {}, text));
  const timer = setTimeout(() => node.remove(), seconds * 1000);
  const close = () => {
    clearTimeout(timer);
    node.remove();
  };
  if (action) {
    const act = () => {
      close();
      onAction();
    };
    node.append(el("button", { type: "button", "data-testid": testid, on: { click: act } }, action));
  }
  node.append(el("button.quiet", { type: "button", "aria-label": "Close this message", on: { click: close } }, "×"));
  document.getElementById("toasts").append(node);
  announce(text);
}

export function complain(error) {
  if (error.name !== "AbortError") toast(error.message, { bad: true, seconds: 10 });
}

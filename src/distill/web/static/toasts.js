// Short messages at the foot of the page, perhaps with one action; and what screen readers are told.
import * as api from "./api.js";
import { el } from "./dom.js";

const UNDO_S = 10;

export function announce(text) {
  document.getElementById("status").textContent = text;
}

export function toast(text, { action, onAction, seconds = 6, bad = false, testid } = {}) {
  const node = el("div.toast", { class: bad ? "bad" : "" }, el("span", {}, text));
  let timer = 0;
  const stay = () => clearTimeout(timer);
  const wait = () => {
    stay();
    timer = setTimeout(() => node.matches(":hover, :focus-within") || node.remove(), seconds * 1000);
  };
  for (const type of ["pointerenter", "focusin"]) node.addEventListener(type, stay);
  for (const type of ["pointerleave", "focusout"]) node.addEventListener(type, wait);
  wait();
  const close = () => {
    stay();
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
  announce(action ? `${text} ${action} is at the end of the page for a while.` : text);
}

// Says that something was taken away, with a way back; the view that is there by then hears of it by the event.
export function offerUndo(text, path, undo, broughtBack) {
  async function bringBack() {
    const { name } = await api.post(path, { undo });
    announce(`“${name}” is back`);
    document.dispatchEvent(new Event(broughtBack));
  }
  toast(text, { seconds: UNDO_S, action: "Undo", testid: "undo", onAction: () => bringBack().catch(complain) });
}

export function complain(error) {
  if (error.name !== "AbortError") toast(error.message, { bad: true, seconds: 10 });
}

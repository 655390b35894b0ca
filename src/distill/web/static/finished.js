// Says that a run has ended to somebody who does not see the page: in its title, and as a notice of the system.

const NOTICES = typeof Notification === "function";

// A button that asks for permission, or null where that is not needed, or not possible.
export function permissionButton(make) {
  if (!NOTICES || Notification.permission !== "default") return null;
  const button = make("Tell me when it ends", async () => {
    await Notification.requestPermission();
    button.remove();
  });
  return button;
}

export function tellOfEnd(name, words) {
  if (!document.hidden) return;
  const title = document.title;
  document.title = `${words}: ${name}`;
  document.addEventListener("visibilitychange", () => (document.title = title), { once: true });
  if (NOTICES && Notification.permission === "granted") new Notification(`${name}: ${words.toLowerCase()}`, { tag: name });
}

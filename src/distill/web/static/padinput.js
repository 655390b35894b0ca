// What hits the pads besides the pointer: the keys 1 to 4 and the three rows below them, and MIDI notes.

const CODES = [
  ...["Digit1", "Digit2", "Digit3", "Digit4"],
  ...["KeyQ", "KeyW", "KeyE", "KeyR"],
  ...["KeyA", "KeyS", "KeyD", "KeyF"],
  ...["KeyZ", "KeyX", "KeyC", "KeyV"],
];
const TYPING = "input:not([type=range]):not([type=checkbox]), textarea, select";
const FIRST_NOTE = 36; // of pad controllers, at the bottom left

// What is written on these keys, which are where they are whatever the layout of the keyboard.
export async function keyNames() {
  const layout = await navigator.keyboard?.getLayoutMap?.().catch(() => null);
  return CODES.map((code) => (layout?.get(code) ?? code.replace(/Digit|Key/, "")).toUpperCase());
}

// `hit(index)` for a pad's key; `commands` maps other keys to what they do.
export function listenToKeys({ hit, commands, signal }) {
  function onKey(event) {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.closest(TYPING)) return;
    const index = CODES.indexOf(event.code);
    const command = commands[event.key.toLowerCase()];
    if (index < 0 && !command) return;
    event.preventDefault();
    if (index >= 0) hit(index);
    else command();
  }
  document.addEventListener("keydown", onKey, { signal });
}

export const canHaveMidi = () => Boolean(navigator.requestMIDIAccess);

// Every note of every MIDI input hits a pad, as loud as it is played. Resolves to the names of the inputs, told again
// by `onInputs` when one is plugged in or out; rejects where the browser does not allow it.
export async function listenToMidi({ hit, onInputs, signal }) {
  const access = await navigator.requestMIDIAccess();
  function connect() {
    for (const input of access.inputs.values()) input.onmidimessage = signal.aborted ? null : onMessage;
    onInputs([...access.inputs.values()].filter(({ state }) => state === "connected").map(({ name }) => name));
  }
  function onMessage({ data: [status, note, velocity] }) {
    if ((status & 0xf0) === 0x90 && velocity > 0) hit(padOf(note), velocity / 127);
  }
  access.onstatechange = connect;
  signal.addEventListener("abort", () => {
    access.onstatechange = null;
    for (const input of access.inputs.values()) input.onmidimessage = null;
  });
  connect();
}

// Controllers count from the bottom left, row by row upwards; the page from the top left, as one reads.
function padOf(note) {
  const place = (((note - FIRST_NOTE) % 16) + 16) % 16;
  return (3 - Math.floor(place / 4)) * 4 + (place % 4);
}

export async function midiIsAllowed() {
  const permission = await navigator.permissions?.query({ name: "midi" }).catch(() => null);
  return permission?.state === "granted";
}

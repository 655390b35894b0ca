// Talks to the server. Every failure is an Error whose message is the server's own sentence.

const UNREACHABLE = "The server does not answer. Is distill still running in the terminal?";

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export async function request(method, path, { body, raw, signal } = {}) {
  const options = { method, signal, headers: {} };
  if (raw !== undefined) options.body = raw;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(`/api${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(UNREACHABLE, 0);
  }
  if (!response.ok) throw new ApiError(await sentence(response), response.status);
  return response;
}

async function sentence(response) {
  try {
    const { error } = await response.json();
    if (error) return error;
  } catch {
    // not JSON: fall through to a sentence of our own
  }
  return `The server could not do that (${response.status}).`;
}

async function json(method, path, options) {
  const response = await request(method, path, options);
  return response.status === 204 ? null : response.json();
}

// What the server sends line by line, as JSON: `onLine` hears of each line at once.
export async function lines(path, body, onLine, signal) {
  const reader = (await request("POST", path, { body, signal })).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n");
    rest = whole.pop();
    for (const line of whole) onLine(JSON.parse(line));
  }
}

export const get = (path, signal) => json("GET", path, { signal });
export const post = (path, body = {}, signal) => json("POST", path, { body, signal });
export const put = (path, body) => json("PUT", path, { body });
export const patch = (path, body) => json("PATCH", path, { body });
export const remove = (path) => json("DELETE", path);
export const sendFile = (method, path, file, signal) => json(method, path, { raw: file, signal });

export async function bytesOf(path, signal) {
  return (await request("GET", path, { signal })).arrayBuffer();
}

export const id = encodeURIComponent;

let aboutPromise = null;
export function about() {
  aboutPromise ??= get("/about").catch((error) => {
    aboutPromise = null; // asked again next time
    throw error;
  });
  return aboutPromise;
}

// The events of the run at a path. EventSource reconnects by itself; only a refusal ends it, and then we ask ourselves.
export function openEvents(path, { onEntries, onRestart, onState, onLost, onOpen, isOver }) {
  let source = null;
  let timer = 0;
  function connect() {
    source = new EventSource(`/api${path}/events`);
    source.onopen = onOpen;
    source.onmessage = (event) => onEntries(JSON.parse(event.data));
    source.addEventListener("restart", onRestart);
    source.addEventListener("state", (event) => onState(JSON.parse(event.data)));
    source.onerror = () => {
      if (isOver()) return source.close(); // the run is over and so is its stream
      get(path).then(
        () => onLost(),
        (error) =>
          error.status === 404 ? (close(), onState({ state: "gone" })) : onLost(error.status && error.message),
      );
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(reconnect, 2000);
    };
  }
  function reconnect() {
    onRestart(); // a new stream tells everything from the start
    connect();
  }
  connect();
  return {
    closed: () => source.readyState === EventSource.CLOSED,
    reopen() {
      close();
      reconnect();
    },
    close,
  };
  function close() {
    clearTimeout(timer);
    source.close();
  }
}

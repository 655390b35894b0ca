// Several versions of one sound under one playhead: all play at once, one is heard; switching crossfades in 10 ms.

const FADE_S = 0.01;
const DECODE_RATE = 48000;

let shared = null;
function audio() {
  shared ??= new AudioContext(); // only after a click or key: browsers demand it
  if (shared.state === "suspended") shared.resume();
  return shared;
}

export function decode(bytes) {
  return new OfflineAudioContext(1, 1, DECODE_RATE).decodeAudioData(bytes);
}

// Plays a sound once, or round and round, beside all others: returns what ends it. `level` is its gain, 0 to 1.
export function strike(buffer, { level = 1, looping = false, onEnd = () => {} } = {}) {
  const context = audio();
  const source = new AudioBufferSourceNode(context, { buffer, loop: looping });
  const gain = new GainNode(context, { gain: level });
  source.connect(gain).connect(context.destination);
  source.onended = onEnd;
  source.start();
  return () => {
    fade(gain, 0);
    source.stop(context.currentTime + FADE_S);
  };
}

export class Sound {
  constructor(onChange = () => {}) {
    this.buffers = [];
    this.active = 0;
    this.offset = 0;
    this.looping = false;
    this.voices = new Map(); // index → {source, gain}
    this.startedAt = null;
    this.range = null;
    this.onChange = onChange;
  }

  get playing() {
    return this.startedAt !== null;
  }

  get duration() {
    return Math.max(0, ...this.buffers.filter(Boolean).map(({ duration }) => duration)); // levels come in any order: holes
  }

  get end() {
    return Math.min(this.range?.[1] ?? Infinity, this.duration);
  }

  get position() {
    if (!this.playing) return this.offset;
    return Math.min(this.end, this.offset + audio().currentTime - this.startedAt);
  }

  setBuffer(index, buffer) {
    this.#silence(index);
    this.buffers[index] = buffer;
    if (this.playing && buffer) this.#voice(index); // joins at the common position
    this.onChange();
  }

  switchTo(index) {
    this.active = index;
    for (const [other, { gain }] of this.voices) fade(gain, other === index ? 1 : 0);
    this.onChange();
  }

  // Plays on from the position; with a range, plays just that.
  play(range = null) {
    if (!this.duration) return;
    this.#stopAll();
    this.range = range;
    if (range) this.offset = range[0];
    else if (this.offset >= this.duration - 0.01) this.offset = 0;
    this.startedAt = audio().currentTime;
    this.buffers.forEach((buffer, index) => buffer && this.#voice(index));
    this.onChange();
  }

  pause() {
    if (!this.playing) return;
    const at = this.position;
    this.#stopAll();
    this.offset = at;
    this.range = null;
    this.onChange();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  seek(seconds) {
    const resume = this.playing;
    this.#stopAll();
    this.range = null;
    this.offset = Math.max(0, Math.min(this.duration, seconds));
    if (resume) this.play();
    else this.onChange();
  }

  // To be called at each frame while it plays: ends or begins again where the end is reached.
  tick() {
    if (!this.playing || this.position < this.end - 1e-3) return;
    const { range } = this;
    this.#stopAll();
    this.offset = range ? range[0] : 0;
    this.range = null;
    if (this.looping) this.play(range);
    else this.onChange();
  }

  #voice(index) {
    const context = audio();
    const buffer = this.buffers[index];
    const at = this.position;
    if (at >= buffer.duration) return;
    const source = new AudioBufferSourceNode(context, { buffer });
    const gain = new GainNode(context, { gain: 0 });
    source.connect(gain).connect(context.destination);
    source.start(0, at);
    if (index === this.active) fade(gain, 1);
    this.voices.set(index, { source, gain });
  }

  #silence(index) {
    const voice = this.voices.get(index);
    if (!voice) return;
    fade(voice.gain, 0);
    voice.source.stop(audio().currentTime + FADE_S);
    this.voices.delete(index);
  }

  #stopAll() {
    for (const index of [...this.voices.keys()]) this.#silence(index);
    this.startedAt = null;
  }
}

function fade(gain, target) {
  const now = audio().currentTime;
  gain.gain.cancelScheduledValues(now);
  gain.gain.setValueAtTime(gain.gain.value, now);
  gain.gain.linearRampToValueAtTime(target, now + FADE_S);
}

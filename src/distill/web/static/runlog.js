// A run as its log tells it: plain data, no DOM. Takes thousands of entries; the page draws from it.
import { positive } from "./format.js";

export class RunLog {
  constructor() {
    this.clear();
  }

  clear() {
    this.epochs = []; // by epoch: repeating an entry does no harm
    this.warnings = [];
    this.step = null;
    this.complete = null;
    this.previews = 0;
  }

  take(entries) {
    for (const entry of entries) this.#takeOne(entry);
  }

  #takeOne(entry) {
    switch (entry.type) {
      case "step":
        this.step = entry;
        break;
      case "epoch":
        this.epochs[entry.epoch] = entry;
        break;
      case "preview":
        this.previews += 1;
        break;
      case "warning":
        this.#warn(entry);
        break;
      case "complete":
        this.complete = entry;
        break;
      default: // an event of a later version: nothing to draw
    }
  }

  // The same warning in one epoch after another is one warning that lasts; its latest wording counts.
  #warn({ subject, message }) {
    const epoch = this.currentEpoch();
    const before = this.warnings.findLast((warning) => warning.subject === subject);
    if (before && epoch - before.last <= 1) Object.assign(before, { last: epoch, message });
    else this.warnings.push({ subject, message, first: epoch, last: epoch });
  }

  currentEpoch() {
    return Math.max(this.step?.epoch ?? 0, this.epochs.length - 1, 0);
  }

  lastEpoch() {
    return this.epochs.at(-1) ?? null;
  }

  // Columns for the chart: epochs counted from 1, then one column per field.
  columns(fields) {
    const known = this.epochs.filter(Boolean);
    const column = (field) => known.map((entry) => positive(entry[field]));
    return [known.map((entry) => entry.epoch + 1), ...fields.map(column)];
  }

  utilization(level) {
    return this.epochs
      .filter((entry) => entry?.codebook_health)
      .map((entry) => entry.codebook_health[`level_${level}`]?.utilization ?? 0);
  }

  // 0..1 over the whole run, or null before anything is known of its length.
  progress(total) {
    const epochs = total ?? this.lastEpoch()?.total_epochs;
    if (!epochs) return null;
    const step = this.step;
    const within = step && step.epoch >= this.epochs.length ? (step.step + 1) / step.total_steps : 0;
    return Math.min(1, (this.epochs.length + within) / epochs);
  }
}

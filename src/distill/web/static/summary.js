// A run that has ended, in plain sentences.
import * as api from "./api.js";
import { el } from "./dom.js";
import { duration, figure, plural, toNumber } from "./format.js";

export function summary(run, log) {
  const { total_epochs, total_time_s, best_epoch, best_val_loss } = log.complete;
  const sentences = [
    `${plural(total_epochs, "epoch")} in ${duration(total_time_s)}.`,
    best_epoch >= 0 && best_epoch !== null
      ? `Epoch ${best_epoch + 1} did best on the sounds set aside (loss ${figure(best_val_loss)}); that version is kept.`
      : null,
  ];
  return el(
    "section.panel.summary",
    { "aria-labelledby": "summary-title" },
    el("h2", { id: "summary-title" }, run.state === "finished" ? "Finished" : "Stopped"),
    el("p", {}, sentences.filter(Boolean).join(" ")),
    learntByHeart(log) ? byHeart() : null,
    run.state === "interrupted" ? el("p", {}, whatIsThere(run)) : null,
    run.model_id ? el("p", {}, el("a", { href: `#/models/${api.id(run.model_id)}` }, "Listen to the model")) : null,
  );
}

function whatIsThere(run) {
  return run.model_id
    ? "The model is in the library. What it lacks is the part that makes new sounds: resume the run for that whenever you like."
    : "Nothing is lost: resume it whenever you like.";
}

function learntByHeart(log) {
  return log.warnings.some(({ subject }) => JSON.parse(subject)[0] === "Overfitting");
}

function byHeart() {
  return el(
    "p.notice.amber",
    {},
    "After its best epoch the model began to learn these files by heart: it got better at them, and worse at the sounds set aside. The best version is kept, so nothing is lost. More sounds, and sounds that differ more, help most; fewer epochs save time.",
  );
}

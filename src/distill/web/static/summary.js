// A run that has ended, in plain sentences.
import * as api from "./api.js";
import { el } from "./dom.js";
import { duration, figure, plural, toNumber } from "./format.js";

export function summary(run, log, about) {
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
    learntByHeart(log, about) ? byHeart() : null,
    run.state === "interrupted" ? el("p", {}, "Nothing is lost: resume it whenever you like.") : null,
    run.model_id ? el("p", {}, el("a", { href: `#/models/${api.id(run.model_id)}` }, "Listen to the model")) : null,
  );
}

// Judged at the epoch that was kept: what came after it is not in the model.
function learntByHeart(log, about) {
  const kept = log.epochs[log.complete.best_epoch];
  return kept && toNumber(kept.overfitting_gap) > about.overfitting_gap;
}

function byHeart() {
  return el(
    "p.notice.amber",
    {},
    "The model learns these files by heart: it rebuilds them much better than sounds it has not heard. More sounds, and sounds that differ more, help most; fewer epochs help a little.",
  );
}

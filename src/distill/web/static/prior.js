// The last part of a run, which learns to make new sounds: how far it is, and the newest sounds that it has made.
import * as api from "./api.js";
import { whenSeen } from "./canvas.js";
import { lineChart } from "./charts.js";
import { el, setText } from "./dom.js";
import { duration, figure, percent, positive } from "./format.js";
import { ACTIVE } from "./runs.js";
import { soundList } from "./soundlist.js";

const BITS = [
  { label: "Bits per code", variable: "--series-2", title: "Of sounds that are not trained on" },
  { label: "From how often each occurs", variable: "--series-1", dash: [5, 4] },
];

export const isLearning = ({ state, prior }) => Boolean(prior) && ACTIVE.has(state);

// "epoch 3 of 40": the one that is being trained, or where the run is over, the last.
export function priorEpoch(run) {
  const { epochs, total_epochs: total } = run.prior;
  const now = isLearning(run) ? epochs + 1 : epochs;
  return `epoch ${total ? `${Math.min(now, total)} of ${total}` : now}`;
}

export function priorPanel(runId, signal) {
  const title = el("h2", { id: "prior-title" });
  const progress = el("p", { "data-testid": "prior-epoch" });
  const chart = lineChart(BITS, { label: "Bits per code over the epochs, logarithmic", height: 200, signal });
  const sounds = soundList({ name: "Sounds made while it learns", signal });
  const heading = el("h3", { hidden: true }, "What it makes");
  const node = el(
    "section.panel.roomy",
    { "aria-labelledby": "prior-title", hidden: true, "data-testid": "prior" },
    title,
    el(
      "p.small.muted",
      {},
      "The codes are learnt; now comes how they follow each other. The fewer bits it takes to guess a code, the better it knows what sounds are like.",
    ),
    progress,
    chart.node,
    heading,
    sounds.node,
  );
  let shown = "";
  let run = null;

  function show() {
    const files = run?.prior?.previews ?? [];
    const key = files.map(({ name, made }) => name + made).join();
    if (key === shown || sounds.isInUse()) return; // never torn away while one listens
    shown = key;
    heading.hidden = !files.length;
    sounds.make(
      files.map(({ name, made, epoch }, index) => ({
        label: `Sound ${index + 1}, epoch ${epoch + 1}`,
        path: `/runs/${api.id(runId)}/prior/previews/${api.id(name)}?made=${made}`,
        file: `${name}.wav`,
      })),
    );
  }
  whenSeen(node, show);

  function set(next) {
    run = next;
    node.hidden = !run.prior;
    if (!run.prior) return;
    const { bits, unigram_bits: unigram, eta_seconds: left, copied } = run.prior;
    setText(title, run.state === "finished" ? "Learnt to make new sounds" : "Learning to make new sounds");
    const parts = [
      `E${priorEpoch(run).slice(1)}`,
      bits.length && `${figure(bits.at(-1))} bits per code, ${figure(unigram)} from how often each occurs`,
      copied !== null && `${percent(copied)} near copies (up to 10 % is usual)`,
      isLearning(run) && bits.length && `about ${duration(left)} left`,
      run.state === "interrupted" && "stopped; Resume goes on from here",
    ];
    setText(progress, parts.filter(Boolean).join(" · "));
    const values = bits.map(positive);
    chart.set([values.map((_, index) => index + 1), values, values.map(() => positive(unigram))]);
    node.redraw();
  }
  return { node, set };
}

// What the figures of a level mean, in words: the verdict chip, and a panel with figures.
import { levelVariable } from "./colours.js";
import { el, setText } from "./dom.js";
import { figure, percent } from "./format.js";

const SIGNS = { green: "●", amber: "▲", red: "■" }; // shapes, since colour is never the only sign

export function verdictChip() {
  const sign = el("span.sign", { "aria-hidden": "true" });
  const word = el("span", {}, "waiting");
  const node = el("span.chip", { "data-testid": "level-verdict" }, sign, word);
  return {
    node,
    set(verdict) {
      setText(word, verdict?.word ?? "not known yet");
      setText(sign, SIGNS[verdict?.colour] ?? "○");
      node.className = `chip verdict-${verdict?.colour ?? "none"}`;
    },
  };
}

// One panel per level; `extra` goes below the figures (a sparkline, a map).
export function levelPanel(level, name, codes, extra = []) {
  const chip = verdictChip();
  const advice = el("p.small.advice", {});
  const figures = { utilization: el("dd", {}, "–"), perplexity: el("dd", {}, "–"), dead: el("dd", {}, "–") };
  const node = el(
    "section.panel.level",
    {
      "data-testid": "level-panel",
      "data-level": level,
      style: { borderTopColor: `var(${levelVariable(level)})` },
      "aria-label": `Level ${level + 1}, ${name}`,
    },
    el("div.row.between", {}, el("h3", {}, name), chip.node),
    el(
      "dl.figures",
      {},
      el(
        "div",
        { title: "Share of the codes that are in use. 100 % is best; below 30 % is a warning." },
        el("dt", {}, "In use"),
        figures.utilization,
      ),
      el(
        "div",
        { title: "Perplexity: with how many equally used codes the level could do the same." },
        el("dt", {}, "Perplexity"),
        figures.perplexity,
      ),
      el("div", { title: "Dead codes: not used at all." }, el("dt", {}, "Dead"), figures.dead),
    ),
    advice,
    extra,
  );
  return {
    node,
    set(health, verdict) {
      chip.set(verdict);
      setText(advice, verdict?.advice ?? "");
      if (!health) return;
      setText(figures.utilization, percent(health.utilization));
      setText(figures.perplexity, codes ? `${figure(health.perplexity)} of ${codes}` : figure(health.perplexity));
      setText(figures.dead, figure(health.dead_codes));
    },
  };
}

export function levelName(about, level) {
  return about.level_names[level] ?? `Level ${level + 1}`;
}

// One run, live: where it is, its curves, the health of its levels, its warnings and its previews.
import * as api from "./api.js";
import { sparkline } from "./canvas.js";
import { lineChart } from "./charts.js";
import { levelVariable } from "./colours.js";
import { el, fill, setText } from "./dom.js";
import { familyOf, lossSeries } from "./families.js";
import { duration, figure, plural, rate, when } from "./format.js";
import { permissionButton, tellOfEnd } from "./finished.js";
import { levelName, levelPanel } from "./health.js";
import { previewsPanel } from "./previews.js";
import { isLearning, priorEpoch, priorPanel } from "./prior.js";
import { RunLog } from "./runlog.js";
import { ACTIVE, STATE_WORDS, verbFor } from "./runs.js";
import { summary } from "./summary.js";
import { announce, complain } from "./toasts.js";
import { usageFeed, usageMap } from "./usagemap.js";

const PAUSE_MS = 1000; // between two drawings: quick enough to read, and the cores are the training's
const CHART_SHARE = 0.005; // of the time, at most, is for charts: where drawing is slow, they are drawn less often
const CHART_PAUSE_MS = 8000; // but not less often than that
const PREVIEWS_PAUSE_MS = 30_000; // between two that are shown while the run goes on

export async function show(root, { id, signal, about }) {
  const path = `/runs/${api.id(id)}`;
  const run = await api.get(path, signal);
  const family = familyOf(about, run.family);
  const log = new RunLog();
  const page = {
    id,
    path,
    run,
    family,
    losses: lossSeries(family),
    log,
    about,
    signal,
    waiting: [],
    frame: 0,
    drawnAt: -PAUSE_MS,
    chartsFrom: 0,
    rest: 0,
    previewsFrom: 0,
    previewsTimer: 0,
    drawn: {},
  };
  build(root, page);
  drawState(page);
  page.previews.refresh();
  page.stream = api.openEvents(path, {
    onEntries: (entries) => (page.waiting.push(...entries), schedule(page)),
    onRestart: () => forget(page),
    onState: (state) => takeState(page, state),
    onOpen: () => (page.lost.hidden = true),
    onLost: (sentence) => {
      setText(page.lost, sentence || "The connection was lost. Trying again …");
      page.lost.hidden = false;
    },
    isOver: () => !ACTIVE.has(page.run.state),
  });
  document.addEventListener("visibilitychange", () => (schedule(page), lookAgain(page)), { signal });
  signal.addEventListener("abort", () => {
    page.stream.close();
    clearTimeout(page.frame);
    clearTimeout(page.rest);
    clearTimeout(page.previewsTimer);
  });
}

// A run that was over can have been gone on with from elsewhere, while nobody looked.
async function lookAgain(page) {
  if (document.hidden || !page.stream.closed()) return;
  const run = await api.get(page.path, page.signal).catch(() => null);
  if (run && ACTIVE.has(run.state) && page.stream.closed()) page.stream.reopen();
}

// The stream tells the short form of a run; what it lacks (sounds, length) is known once training begins.
function takeState(page, state) {
  const before = page.run.state;
  page.run = { ...page.run, ...state };
  if (state.state === "gone") page.lost.hidden = true;
  schedule(page);
  if (ACTIVE.has(before) && !ACTIVE.has(state.state)) {
    askForPreviews(page);
    tellOfEnd(page.run.name, STATE_WORDS[state.state] ?? state.state);
  }
  if (page.run.started && !page.run.files) {
    api
      .get(page.path, page.signal)
      .then(
        (full) => (
          (page.run = { ...full, ...page.run, files: full.files, duration_s: full.duration_s }),
          schedule(page)
        ),
      )
      .catch(() => {}); // only facts
  }
}

function build(root, page) {
  const { panel, has_codes: hasCodes } = page.family;
  page.head = header(page);
  page.lost = el("p.notice.amber", { hidden: true, role: "status" }, "The connection was lost. Trying again …");
  page.chart = lineChart(page.losses, {
    label: "Losses over the epochs, logarithmic",
    testid: "loss-chart",
    signal: page.signal,
  });
  page.warnings = el("ol.warnings");
  page.noWarnings = el("p.small.muted", {}, "None so far.");
  page.summaryBox = el("div");
  page.previews = previewsPanel(page.id, page.signal);
  page.prior = priorPanel(page.id, page.signal);
  page.figures = panel && figuresPanel(panel);
  page.levels = [];
  page.levelsBox = hasCodes ? el("div.levels") : null;
  page.usage = hasCodes
    ? usageFeed(
        (start) => fetchUsage(page, start),
        (columns) => addUsage(page, columns),
      )
    : null;
  fill(
    root,
    page.head.node,
    page.lost,
    page.summaryBox,
    page.prior.node,
    el(
      "div.watch-grid",
      {},
      el(
        "section.panel",
        { "aria-labelledby": "loss-title" },
        el("h2", { id: "loss-title" }, "Loss"),
        el(
          "p.small.muted",
          {},
          "How far the model is off: lower is better. “Set aside” are sounds it does not train on.",
        ),
        page.chart.node,
      ),
      el(
        "section.panel",
        { "aria-labelledby": "warnings-title" },
        el("h2", { id: "warnings-title" }, "Warnings"),
        page.noWarnings,
        el("div.warn-scroll", { tabindex: "0", role: "region", "aria-label": "List of warnings" }, page.warnings),
      ),
    ),
    hasCodes ? levelsSection(page) : null,
    page.figures?.node,
    page.previews.node,
  );
}

function header(page) {
  const title = el("h1", { tabindex: "-1" }, page.run.name);
  const state = el("span.chip", { "data-testid": "run-state", role: "status" });
  const epoch = el("strong.epoch", { "data-testid": "epoch-now" });
  const step = el("span.muted");
  const eta = el("span.muted");
  const bar = el("progress", { max: "1", "aria-label": "Progress of the run" });
  const error = el("p.notice.bad", { role: "alert", hidden: true });
  const actions = el("div.row.tight");
  const facts = el("p.small.muted");
  const node = el(
    "header.panel.run-head",
    {},
    el("p.small", {}, el("a", { href: "#/runs" }, "← All runs")),
    el("div.row.between", {}, el("div.row.tight", {}, title, state), actions),
    facts,
    bar,
    el("div.row.between.now", {}, el("span.row.tight", {}, epoch, step), eta),
    error,
  );
  return { node, title, state, facts, epoch, step, eta, bar, error, actions };
}

// A run that waits does not know its levels yet: panels are made as soon as they are known, once.
function ensureLevels(page, count) {
  while (page.levelsBox && page.levels.length < count) {
    const one = makeLevel(page, page.levels.length);
    page.levels.push(one);
    page.levelsBox.append(one.panel.node);
  }
}

function makeLevel({ about, run }, level) {
  const spark = sparkline(levelVariable(level));
  const map = usageMap(level, levelName(about, level));
  const extra = [
    el("p.small.muted.tight", {}, "In use, epoch by epoch"),
    spark,
    el("p.small.muted.tight", {}, "Codes (rows) over the epochs"),
    map.node,
  ];
  const panel = levelPanel(level, levelName(about, level), run.codebook_size, extra);
  panel.set(null, null);
  return { panel, spark, map };
}

function addUsage(page, columns) {
  ensureLevels(page, columns.length);
  page.levels.forEach(({ map }, level) => columns[level] && map.add(columns[level]));
}

function levelsSection(page) {
  page.counted = el("span");
  return el(
    "section",
    { "aria-labelledby": "levels-title" },
    el("h2", { id: "levels-title" }, "Levels of codes"),
    el(
      "p.small.muted",
      {},
      "Each level describes what the one before left over. Healthy levels use most of their codes.",
      page.counted,
    ),
    page.levelsBox,
  );
}

// Of events: the last epoch's, or where that has none, the last step's.
function figuresPanel({ title, text, figures }) {
  const shown = figures.map(([field, label]) => ({ field, label, value: el("dd", {}, "–") }));
  const node = el(
    "section.panel",
    { "aria-labelledby": "figures-title" },
    el("h2", { id: "figures-title" }, title),
    el("p.small.muted", {}, text),
    el(
      "dl.figures.wide",
      {},
      shown.map(({ label, value }) => el("div", {}, el("dt", {}, label), value)),
    ),
  );
  return { node, set: (event) => shown.forEach(({ field, value }) => setText(value, figure(event[field]))) };
}

async function fetchUsage(page, start) {
  const response = await api.request("GET", `${page.path}/usage?start=${start}`, { signal: page.signal });
  const header = (name) => Number(response.headers.get(name) ?? 0);
  return {
    levels: header("X-Levels"),
    codes: header("X-Codes"),
    epochs: header("X-Epochs"),
    data: new Uint8Array(await response.arrayBuffer()),
  };
}

function forget(page) {
  page.waiting = [];
  page.log.clear();
  page.drawn = {};
  page.chartsFrom = 0;
  fill(page.warnings);
  fill(page.summaryBox);
  page.usage?.clear();
  page.levels.forEach(({ map }) => map.clear());
  page.previews.clear();
  page.previewsFrom = 0;
  schedule(page);
}

// However many events come: drawn at most once a second. A hidden page only collects.
function schedule(page) {
  if (page.frame || document.hidden) return;
  const pause = Math.max(0, page.drawnAt + PAUSE_MS - performance.now());
  page.frame = setTimeout(() => {
    page.frame = 0;
    if (document.hidden) return; // until it is seen again
    page.drawnAt = performance.now();
    page.log.take(page.waiting.splice(0));
    draw(page);
  }, pause);
}

function draw(page) {
  const { log, drawn } = page;
  drawState(page);
  if (drawn.epochs !== log.epochs.length) {
    const rest = ACTIVE.has(page.run.state) ? page.chartsFrom - performance.now() : 0;
    clearTimeout(page.rest);
    if (rest > 0) page.rest = setTimeout(() => schedule(page), rest);
    else {
      drawn.epochs = log.epochs.length;
      restAfter(page, () => drawEpochs(page));
    }
  }
  page.figures?.set({ ...log.step, ...log.lastEpoch() });
  drawWarnings(page);
  if (drawn.previews !== log.previews) {
    drawn.previews = log.previews;
    askForPreviews(page);
  }
}

// When all of one epoch are there; while the run goes on not too often, for it is the run that pays.
function askForPreviews(page) {
  const pause = ACTIVE.has(page.run.state) ? page.previewsFrom - performance.now() : 0;
  clearTimeout(page.previewsTimer);
  page.previewsTimer = setTimeout(
    () => {
      if (document.hidden) return void (page.drawn.previews = null); // until it is seen again
      if (page.log.previews) page.previewsFrom = performance.now() + PREVIEWS_PAUSE_MS; // the first do not wait
      page.previews.refresh();
    },
    Math.max(400, pause),
  );
}

// Draws, and lets the charts rest in proportion to what that took, painting included; not after the first time, when
// much of the log is still to come.
function restAfter(page, drawing) {
  const begun = performance.now();
  const share = page.chartsFrom ? CHART_SHARE : 1;
  drawing();
  requestAnimationFrame(() =>
    setTimeout(() => {
      const now = performance.now();
      page.chartsFrom = now + Math.min(CHART_PAUSE_MS, (now - begun) / share);
    }),
  );
}

function drawEpochs(page) {
  const { log } = page;
  page.chart.set(log.columns(page.losses.map(({ field }) => field)));
  const last = log.lastEpoch();
  ensureLevels(page, Object.keys(last?.codebook_health ?? {}).length);
  page.levels.forEach(({ panel, spark }, level) => {
    if (!last) return panel.set(null, null);
    panel.set(last.codebook_health?.[`level_${level}`], last.verdicts?.[level]);
    spark.values = log.utilization(level);
    spark.redraw();
  });
  if (last) page.usage?.ask();
}

function drawWarnings(page) {
  const { warnings } = page.log;
  page.noWarnings.hidden = warnings.length > 0;
  warnings.forEach(({ message, first, last }, at) => {
    const item = page.warnings.children[at] ?? page.warnings.appendChild(warningItem());
    setText(item.firstChild, first === last ? `epoch ${first + 1}` : `epochs ${first + 1} to ${last + 1}`);
    setText(item.lastChild, message);
  });
}

function warningItem() {
  return el("li", { "data-testid": "warning-item" }, el("span.tag"), " ", el("span"));
}

function drawState(page) {
  const { run, log, head, drawn } = page;
  const total = log.lastEpoch()?.total_epochs ?? run.epochs;
  const active = ACTIVE.has(run.state);
  const key = `${run.state} ${run.position} ${run.model_id} ${run.error} ${run.levels} ${run.validation_vectors} ${run.files} ${run.started}`;
  if (drawn.state !== key) {
    drawn.state = key;
    drawRunState(page);
  }
  page.prior.set(run);
  const progress = progressOf(run, log, total);
  if (progress === null && run.state === "running") head.bar.removeAttribute("value");
  else head.bar.value = progress ?? 0;
  const started = log.step || log.epochs.length;
  const epoch = log.complete && !active ? log.complete.total_epochs : log.currentEpoch() + 1;
  const said = started ? `Epoch ${epoch}${total ? ` of ${Math.max(total, epoch)}` : ""}` : "Not started yet";
  setText(head.epoch, isInPrior(run) ? `New sounds: ${priorEpoch(run)}` : said);
  const { step } = log;
  setText(
    head.step,
    active && step && !run.prior ? `step ${step.step + 1} of ${step.total_steps} · loss ${figure(step.train_loss)}` : "",
  );
  setText(head.eta, timeSentence(run, log));
  page.summaryBox.hidden = active; // a resumed run has not ended
  if (log.complete && !active && drawn.complete !== log.complete) {
    drawn.complete = log.complete;
    fill(page.summaryBox, summary(run, log));
  }
}

const isInPrior = (run) => run.prior && run.state !== "finished";

function progressOf(run, log, total) {
  if (run.state === "finished") return 1;
  if (!isInPrior(run)) return log.progress(total);
  return run.prior.total_epochs ? run.prior.epochs / run.prior.total_epochs : null;
}

function timeSentence(run, log) {
  const last = log.lastEpoch();
  if (isLearning(run)) return run.prior.bits.length ? `about ${duration(run.prior.eta_seconds)} left` : "";
  if (run.state === "running" && last)
    return `${duration(last.elapsed_seconds)} so far · about ${duration(last.eta_seconds)} left`;
  if (log.complete) return `took ${duration(log.complete.total_time_s)}`;
  return run.state === "running" && run.minutes ? `about ${plural(run.minutes, "minute")} in all` : "";
}

function factsOf(run, family) {
  const facts = [
    run.dataset,
    family.title,
    run.levels && `${plural(run.levels, "level")} of ${run.codebook_size} codes`,
    run.files && plural(run.files, "sound"),
    run.duration_s && duration(run.duration_s),
    run.sample_rate && rate(run.sample_rate),
    run.started && `begun ${when(run.started)}`,
  ];
  return facts.filter(Boolean).join(" · ");
}

function drawRunState(page) {
  const { run, head } = page;
  setText(head.facts, factsOf(run, page.family));
  if (page.counted)
    setText(
      page.counted,
      run.validation_vectors ? ` Counted over ${run.validation_vectors} vectors of the sounds set aside.` : "",
    );
  ensureLevels(page, run.levels ?? 0);
  const place = run.state === "queued" && run.position ? `, number ${run.position} in the queue` : "";
  setText(head.state, `${STATE_WORDS[run.state] ?? run.state}${place}`);
  head.state.className = `chip state-${run.state}`;
  head.error.hidden = !run.error;
  setText(head.error, run.error ?? "");
  drawActions(page);
}

// Drawn anew only where they are others, for a button that is drawn anew has lost the keyboard's focus.
function drawActions(page) {
  const { run, head } = page;
  const verb = verbFor(run);
  const key = `${verb} ${run.model_id}`;
  if (page.offered === key) return;
  page.offered = key;
  const focused = head.actions.contains(document.activeElement);
  fill(
    head.actions,
    verb === "cancel" ? actionButton(page, "Cancel", verb, "") : null,
    verb === "resume" ? actionButton(page, "Resume", verb, "primary") : null,
    run.model_id ? el("a.button.primary", { href: `#/models/${api.id(run.model_id)}` }, "Open the model") : null,
    verb === "cancel" ? permissionButton((text, click) => el("button.quiet", { type: "button", on: { click } }, text)) : null,
  );
  if (focused) (head.actions.firstElementChild ?? head.title).focus();
}

function actionButton(page, text, verb, style) {
  return el(
    "button",
    {
      type: "button",
      class: style,
      "data-testid": `${verb}-run`,
      on: { click: () => act(page, verb) },
    },
    text,
  );
}

async function act(page, verb) {
  if (page.acting) return; // pressed twice; a button made grey would lose the focus
  page.acting = true;
  try {
    const answer = await api.post(`${page.path}/${verb}`);
    if (answer.state === "cancelled") {
      announce(`${page.run.name} was taken off the queue`);
      location.hash = "#/runs";
      return;
    }
    page.run = { ...page.run, ...answer };
    if (verb === "resume" && page.stream.closed()) page.stream.reopen();
    schedule(page);
  } catch (error) {
    complain(error);
  } finally {
    page.acting = false;
  }
}

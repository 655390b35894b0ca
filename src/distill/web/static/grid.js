// The code grid: rows are levels × vectors of a column, columns are time. Holds no fetches and no audio: it takes codes
// and callbacks. Only the columns in view are drawn: no canvas could be as wide as a long sound.
import { drawn, prepared } from "./canvas.js";
import { codePalette, levelVariable, themeColour } from "./colours.js";
import { el, setText } from "./dom.js";

const ROW = 6; // so that four levels of 24 rows fit on a screen
const GAP = 8; // between levels
const EDGE = 2; // above the first row, for the outline of a cell there
const AXIS = 18; // below the last row, for the seconds
const [NARROWEST, WIDEST, WIDEST_EDITED] = [12, 36, 88]; // of a column
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10]; // seconds from label to label
const LABEL = 56;

// `tints`: of each level, a hue and a strength for each code. `columnAt(seconds)`: the place of a moment, in columns. `onActivate(column)`: click or Enter. `describe(cell)`: the
// sentence for a cell {level, row, column, code}. An `editor` of the codes (edit.js) hears of pointer and keys first, marks
// what is selected, and draws a picture below the rows.
export function codeGrid({ codes, tints, levelNames, columnAt, describe, onActivate, editor = null }) {
  const canvas = el("canvas.cells", {
    tabindex: "0",
    role: "application",
    "data-testid": "code-grid",
    "aria-label": editor?.label ?? "Code grid. Arrow keys move, Enter plays what is around the column.",
  });
  const below = editor ? editor.pictureHeight + GAP : 0;
  const marks = el("canvas.marks", { "aria-hidden": "true" });
  const head = el("div.playhead", { "aria-hidden": "true" });
  const track = el("div.grid-track", {}, el("div.grid-view", {}, canvas, marks), head);
  const scroller = el("div.grid-scroll", { on: { scroll: () => (canvas.redraw(), marks.redraw()) } }, track);
  const readout = el("p.readout", { role: "status" }, "Point at a cell, or use the arrow keys.");
  const names = el("div.grid-names", { "aria-hidden": "true" });
  const node = el("div.grid", {}, el("div.grid-frame", {}, names, scroller), readout);
  let [levels, rows, columns] = [0, 0, 0];
  let shownLevels = Infinity; // levels above are drawn faintly: they are not heard
  let cursor = { level: 0, row: 0, column: 0 };
  let headAt = 0;

  function setCodes(next) {
    codes = next;
    [levels, rows, columns] = [codes.length, codes[0]?.length ?? 0, codes[0]?.[0]?.length ?? 0];
    track.style.width = `clamp(${columns * NARROWEST}px, 100%, ${columns * (editor ? WIDEST_EDITED : WIDEST)}px)`;
    track.style.height = `${top(levels, 0) - GAP + below + AXIS}px`;
    cursor.column = Math.max(0, Math.min(cursor.column, columns - 1));
    names.replaceChildren(
      ...codes.map((_, level) =>
        el(
          "span",
          { style: { height: `${rows * ROW}px`, borderLeftColor: `var(${levelVariable(level)})` } },
          levelNames[level] ?? `Level ${level + 1}`,
        ),
      ),
    );
    canvas.redraw();
  }
  const top = (level, row) => EDGE + level * (rows * ROW + GAP) + row * ROW;
  const flatTop = (flat) => top(Math.floor(flat / rows), flat % rows);
  const inView = () => canvas.size?.width ?? 0;
  const cellWidth = () => Math.max(NARROWEST, inView() / columns);
  const left = (column) => column * cellWidth() - scroller.scrollLeft;

  drawn(canvas, () => {
    const { context, width } = prepared(canvas);
    const [first, cell] = [Math.floor(scroller.scrollLeft / cellWidth()), cellWidth()];
    const end = Math.min(columns, first + Math.ceil(width / cell) + 1);
    drawCells(context, first, end, left(first), cell);
    editor?.drawPicture(context, { top: top(levels, 0), first, end, left, width });
    drawSeconds(context, first, end);
  });
  drawn(marks, drawMarks);

  function drawCells(context, first, end, start, cell) {
    const palettes = tints.map(codePalette);
    const blank = themeColour("--sunken");
    for (let level = 0; level < levels; level += 1) {
      context.globalAlpha = level < shownLevels && !editor?.isMuted(level) ? 1 : 0.22;
      for (let row = 0; row < rows; row += 1) {
        const [line, y] = [codes[level][row], top(level, row)];
        for (let column = first; column < end; column += 1) {
          context.fillStyle = line[column] < 0 ? blank : palettes[level][line[column]];
          context.fillRect(start + (column - first) * cell, y, cell - 1, ROW - 1);
        }
      }
    }
    context.globalAlpha = 1;
  }
  function drawSeconds(context, first, end) {
    const perSecond = columnAt(1) - columnAt(0);
    const step = STEPS.find((seconds) => seconds * perSecond * cellWidth() >= LABEL) ?? STEPS.at(-1);
    const y = top(levels, 0) - GAP + below;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = themeColour("--muted");
    for (let mark = Math.max(0, Math.floor((first - columnAt(0)) / perSecond / step)); ; mark += 1) {
      const place = columnAt(mark * step);
      if (place >= end || (columns - place) * cellWidth() < 34) break; // there is no room for a label at the very end
      context.fillRect(left(place), y, 1, 5);
      context.fillText(`${(mark * step).toFixed(step < 1 ? 1 : 0)} s`, left(place) + 4, y + 14);
    }
  }

  // The cell under the cursor, and all others in view with the same code on its level.
  function drawMarks() {
    const { context, width } = prepared(marks);
    editor?.drawMarks(context, {
      box: ({ first, stop, top: from, bottom }) => {
        const [y, end] = [flatTop(from), flatTop(bottom - 1) + ROW];
        return [left(first) - 1, y - 1, (stop - first) * cellWidth() + 1, end - y + 1];
      },
    });
    const code = codeAt(cursor);
    if (code === undefined || !marks.wanted) return;
    const cell = cellWidth();
    context.strokeStyle = themeColour("--ink");
    context.lineWidth = 1;
    codes[cursor.level].forEach((line, row) =>
      line.forEach((other, column) => {
        const x = left(column);
        if (code >= 0 && other === code && x > -cell && x < width)
          context.strokeRect(x - 0.5, top(cursor.level, row) - 0.5, cell, ROW);
      }),
    );
    context.lineWidth = 2;
    context.strokeRect(left(cursor.column) - 1, top(cursor.level, cursor.row) - 1, cell + 1, ROW + 1);
  }
  const codeAt = ({ level, row, column }) => codes[level]?.[row]?.[column];

  function moveTo(next) {
    if (codeAt(next) === undefined) return;
    cursor = next;
    marks.wanted = true;
    marks.redraw();
    setText(readout, describe({ ...cursor, code: codeAt(cursor) }));
  }
  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    const y = event.clientY - box.top;
    const level = Math.max(0, Math.min(levels - 1, Math.floor((y - EDGE) / (rows * ROW + GAP))));
    const row = Math.max(0, Math.min(rows - 1, Math.floor((y - top(level, 0)) / ROW)));
    const column = Math.floor((event.clientX - box.left + scroller.scrollLeft) / cellWidth());
    return { level, row, column: Math.min(columns - 1, column) };
  }
  function stepBy(rowStep, columnStep) {
    const flat = Math.max(0, Math.min(levels * rows - 1, cursor.level * rows + cursor.row + rowStep));
    const column = Math.max(0, Math.min(columns - 1, cursor.column + columnStep));
    moveTo({ level: Math.floor(flat / rows), row: flat % rows, column });
    reveal(column);
  }
  const isSeen = (place) => left(place) >= 0 && left(place) <= inView();
  function reveal(column) {
    const [x, cell] = [left(column), cellWidth()];
    if (x < 0 || x + cell > inView()) scroller.scrollLeft += x - inView() / 2;
  }
  const KEYS = {
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1],
    Home: [0, -1e9],
    End: [0, 1e9],
  };
  canvas.addEventListener("keydown", (event) => {
    const step = KEYS[event.key];
    if (editor?.onKey(event, cursor, step)) return event.preventDefault();
    if (step && !event.ctrlKey && !event.metaKey && !event.altKey) stepBy(...step);
    else if (event.key === "Enter" || event.key === " ") onActivate(cursor.column);
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("focus", () => moveTo(cursor));
  canvas.addEventListener("pointermove", (event) => {
    moveTo(cellAt(event));
    if (canvas.hasPointerCapture(event.pointerId)) editor.onDrag(cursor);
  });
  if (editor) {
    // A finger scrolls, and selects what it taps; a mouse or pen drags.
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button || event.pointerType === "touch") return;
      moveTo(cellAt(event));
      canvas.setPointerCapture(event.pointerId);
      editor.onPress(cursor, event);
    });
    canvas.addEventListener("lostpointercapture", () => editor.onRelease());
  }
  canvas.addEventListener("click", (event) => {
    if (editor && event.pointerType !== "touch") return;
    moveTo(cellAt(event));
    if (!editor) return onActivate(cursor.column);
    editor.onPress(cursor, event);
    editor.onRelease();
  });
  setCodes(codes);
  return {
    node,
    setCodes,
    moveBy: stepBy,
    redrawMarks: () => ((marks.wanted = true), marks.redraw()),
    cursor: () => cursor,
    setLevels(count) {
      shownLevels = count;
      canvas.redraw();
    },
    // Follows the playhead out of view, but does not fetch it back where somebody has scrolled away from it.
    setPlayhead(seconds) {
      const seen = isSeen(headAt);
      headAt = Math.min(columns, columnAt(seconds));
      head.style.transform = `translateX(${headAt * cellWidth()}px)`;
      if (seen && !isSeen(headAt)) scroller.scrollLeft += left(headAt) - cellWidth();
    },
  };
}

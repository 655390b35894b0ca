// The code grid: rows are levels × positions, columns are time. Holds no fetches and no audio: it takes codes and
// callbacks. An editor of codes would hand in changed codes through `setCodes` and listen to `onActivate`.
import { drawn, prepared } from "./canvas.js";
import { codePalette, levelVariable, themeColour } from "./colours.js";
import { el, setText } from "./dom.js";

const ROW = 11;
const GAP = 8; // between levels
const NARROWEST = 12;

// `onActivate(column)`: click or Enter. `describe(cell)`: the sentence for a cell {level, row, column, code}.
export function codeGrid({ codes, codebookSize, levelNames, describe, onActivate }) {
  const canvas = el("canvas.cells", {
    tabindex: "0",
    role: "application",
    "data-testid": "code-grid",
    "aria-label": "Code grid. Arrow keys move, Enter plays what is around the column.",
  });
  const marks = el("canvas.marks", { "aria-hidden": "true" });
  const head = el("div.playhead", { "aria-hidden": "true" });
  const stage = el("div.grid-stage", {}, canvas, marks, head);
  const readout = el("p.readout", { role: "status" }, "Point at a cell, or use the arrow keys.");
  const names = el("div.grid-names", { "aria-hidden": "true" });
  const node = el("div.grid", {}, el("div.grid-frame", {}, names, el("div.grid-scroll", {}, stage)), readout);
  let [levels, rows, columns] = [0, 0, 0];
  let shownLevels = Infinity; // levels above are drawn faintly: they are not heard
  let cursor = { level: 0, row: 0, column: 0 };
  let palette = [];

  function setCodes(next) {
    codes = next;
    [levels, rows, columns] = [codes.length, codes[0]?.length ?? 0, codes[0]?.[0]?.length ?? 0];
    const height = levels * (rows * ROW + GAP) - GAP;
    stage.style.minWidth = `${columns * NARROWEST}px`;
    stage.style.height = `${height}px`;
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
  const top = (level, row) => level * (rows * ROW + GAP) + row * ROW;

  drawn(canvas, () => {
    const { context, width } = prepared(canvas);
    palette = codePalette(codebookSize);
    const cell = width / columns;
    const blank = themeColour("--sunken");
    for (let level = 0; level < levels; level += 1) {
      context.globalAlpha = level < shownLevels ? 1 : 0.22;
      for (let row = 0; row < rows; row += 1) {
        const line = codes[level][row];
        const y = top(level, row);
        for (let column = 0; column < columns; column += 1) {
          context.fillStyle = line[column] < 0 ? blank : palette[line[column] % palette.length];
          context.fillRect(column * cell, y, cell - 1, ROW - 1);
        }
      }
    }
  });
  drawn(marks, drawMarks);

  // The cell under the cursor, and all others with the same code on its level.
  function drawMarks() {
    const { context, width } = prepared(marks);
    const cell = width / columns;
    const code = codeAt(cursor);
    if (code === undefined || !marks.wanted) return;
    context.strokeStyle = themeColour("--ink");
    context.lineWidth = 1;
    if (code >= 0) {
      codes[cursor.level].forEach((line, row) =>
        line.forEach((other, column) => {
          if (other === code) context.strokeRect(column * cell + 0.5, top(cursor.level, row) + 0.5, cell - 2, ROW - 2);
        }),
      );
    }
    context.lineWidth = 2.5;
    context.strokeRect(cursor.column * cell, top(cursor.level, cursor.row), cell - 1, ROW - 1);
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
    const level = Math.min(levels - 1, Math.floor(y / (rows * ROW + GAP)));
    const row = Math.min(rows - 1, Math.floor((y - level * (rows * ROW + GAP)) / ROW));
    return {
      level,
      row,
      column: Math.min(columns - 1, Math.floor(((event.clientX - box.left) / box.width) * columns)),
    };
  }
  function stepBy(rowStep, columnStep) {
    const flat = Math.max(0, Math.min(levels * rows - 1, cursor.level * rows + cursor.row + rowStep));
    const column = Math.max(0, Math.min(columns - 1, cursor.column + columnStep));
    moveTo({ level: Math.floor(flat / rows), row: flat % rows, column });
    reveal(column);
  }
  function reveal(column) {
    const frame = stage.parentElement;
    const x = (column / columns) * stage.clientWidth;
    if (x < frame.scrollLeft || x > frame.scrollLeft + frame.clientWidth - NARROWEST * 2)
      frame.scrollLeft = x - frame.clientWidth / 2;
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
    if (step) stepBy(...step);
    else if (event.key === "Enter" || event.key === " ") onActivate(cursor.column);
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("focus", () => moveTo(cursor));
  canvas.addEventListener("pointermove", (event) => moveTo(cellAt(event)));
  canvas.addEventListener("click", (event) => {
    moveTo(cellAt(event));
    onActivate(cursor.column);
  });
  setCodes(codes);
  return {
    node,
    setCodes,
    setLevels(count) {
      shownLevels = count;
      canvas.redraw();
    },
    // 0..1 of the time that the columns span
    setPlayhead(share) {
      head.style.transform = `translateX(${Math.min(1, share) * stage.clientWidth}px)`;
    },
  };
}

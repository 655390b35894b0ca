// Codes that are edited, as values: each edit gives new ones, which share the columns that it leaves alone. So all of them
// can be kept to be undone, and which columns differ is known without looking into them.

// {columns: [Int16Array], seconds, muted: [level]}; a column has its levels row by row, -1 for no code.
export function unpacked(packed, cells) {
  const bytes = bytesOf(packed);
  const all = new Int16Array(bytes.buffer);
  return Array.from({ length: all.length / cells }, (_, number) => all.slice(number * cells, (number + 1) * cells));
}

// As the server takes them; without the levels that are muted, if it is for the ear.
export function packed({ columns, muted }, levels, { heard }) {
  const cells = columns[0].length;
  const all = new Int16Array(columns.length * cells);
  columns.forEach((column, number) => all.set(column, number * cells));
  if (heard && muted.length) for (let at = 0; at < all.length; at += 1) if (muted.includes(at % levels)) all[at] = -1;
  const bytes = new Uint8Array(all.buffer);
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

export function bytesOf(packed) {
  return Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
}

// The edits of a grid with so many rows and levels, whose columns last so many seconds. A region is {first, stop, top,
// bottom}: columns [first, stop), and rows [top, bottom) counted through all levels.
export function editsOf({ rows, levels, column_seconds: step }) {
  const place = (flat) => (flat % rows) * levels + Math.floor(flat / rows);
  const all = { top: 0, bottom: rows * levels };

  function withColumns(codes, columns) {
    const seconds = codes.seconds + (columns.length - codes.columns.length) * step;
    return { ...codes, columns, seconds: Math.max(step / 2, seconds) };
  }
  // Codes whose cells in a region are `from(column, number)`, another column.
  function overlaid(codes, { first, stop, top, bottom }, from) {
    const columns = [...codes.columns];
    for (let number = Math.max(0, first); number < Math.min(stop, columns.length); number += 1) {
      const column = columns[number].slice();
      const source = from(number);
      for (let flat = top; flat < bottom; flat += 1) column[place(flat)] = source[place(flat)];
      if (column.some((code, at) => code !== columns[number][at])) columns[number] = column;
    }
    return { ...codes, columns };
  }
  return {
    all,
    isWhole: ({ top, bottom }) => top === all.top && bottom === all.bottom,
    codeAt: (codes, flat, number) => codes.columns[number]?.[place(flat)],
    paint(codes, flat, number, code) {
      const column = codes.columns[number].slice().fill(code);
      return overlaid(codes, { first: number, stop: number + 1, top: flat, bottom: flat + 1 }, () => column);
    },
    copy: (codes, region) => ({ ...region, columns: codes.columns.slice(region.first, region.stop) }),
    paste: (codes, at, copied) =>
      overlaid(codes, { ...copied, first: at, stop: at + copied.columns.length }, (number) => copied.columns[number - at]),
    insert: (codes, at, copied) => withColumns(codes, codes.columns.toSpliced(at, 0, ...copied.columns)),
    remove: (codes, { first, stop }) => withColumns(codes, codes.columns.toSpliced(first, stop - first)),
    // The columns of a region to where they begin at another place; the others close up.
    move(codes, { first, stop }, to) {
      const rest = codes.columns.toSpliced(first, stop - first);
      return { ...codes, columns: rest.toSpliced(to, 0, ...codes.columns.slice(first, stop)) };
    },
    swap(codes, one, other) {
      const [left, right] = one.first < other.first ? [one, other] : [other, one];
      const part = (first, stop) => codes.columns.slice(first, stop);
      const columns = [
        ...part(0, left.first),
        ...part(right.first, right.stop),
        ...part(left.stop, right.first),
        ...part(left.first, left.stop),
        ...part(right.stop),
      ];
      return { ...codes, columns };
    },
    stretch(codes, { first, stop }, count) {
      const source = (number) => codes.columns[first + Math.floor(((number + 0.5) * (stop - first)) / count)];
      const made = Array.from({ length: count }, (_, number) => source(number));
      return withColumns(codes, codes.columns.toSpliced(first, stop - first, ...made));
    },
    mute(codes, level) {
      const muted = codes.muted.includes(level) ? codes.muted.filter((one) => one !== level) : [...codes.muted, level];
      return { ...codes, muted };
    },
    replaced: (codes, columns) => ({
      ...codes,
      columns: columns.map((column, number) =>
        column.every((code, at) => code === codes.columns[number][at]) ? codes.columns[number] : column,
      ),
    }),
    // [level][row][column], as the grid draws them.
    drawn: ({ columns }) =>
      Array.from({ length: levels }, (_, level) =>
        Array.from({ length: rows }, (_, row) => columns.map((column) => column[row * levels + level])),
      ),
  };
}

// What was done, and what was undone; without end.
export function history(first, onChange) {
  let [past, present, future] = [[], first, []];
  const go = (next) => {
    present = next;
    onChange(present);
  };
  return {
    get now() {
      return present;
    },
    canUndo: () => past.length > 0,
    canRedo: () => future.length > 0,
    // `joined`: one stroke of the brush is one thing to undo.
    commit(next, { joined = false } = {}) {
      if (next === present) return;
      if (!joined) past.push(present);
      future = [];
      go(next);
    },
    undo() {
      if (!past.length) return;
      future.push(present);
      go(past.pop());
    },
    redo() {
      if (!future.length) return;
      past.push(present);
      go(future.pop());
    },
  };
}

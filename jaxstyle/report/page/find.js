"use strict";
// Which rows are shown, and in which order.

const SORTS = {
  failures: {name: "failures first", of: null},
  key: {name: "name", of: "key"},
  loss: {name: "loss", of: "loss"},
  style_loss: {name: "style loss", of: "style_loss"},
  seconds: {name: "device time", of: "seconds"},
  finished: {name: "time written", of: "finished"},
};

/** The places of the rows that a search leaves, in its order.

    search: text; status, style and folder as numbers, or -1; sort, a name of SORTS; down. Rows without a value come
    last. Equal rows keep the order of the report, which has failures first. */
function find(rows, search) {
  const words = search.text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = new Uint32Array(rows.total);
  let count = 0;
  for (let i = 0; i < rows.total; i++) {
    if (!rows.there[i]) continue;
    if (search.status >= 0 && rows.status[i] !== search.status) continue;
    if (search.style >= 0 && rows.style[i] !== search.style) continue;
    if (search.folder >= 0 && rows.folder[i] !== search.folder) continue;
    if (words.length && !words.every((word) => rows.haystack[i].includes(word))) continue;
    found[count++] = i;
  }
  return sorted(rows, found.subarray(0, count), search.sort, search.down);
}

function sorted(rows, found, sort, down) {
  const column = SORTS[sort].of;
  if (column === null) return down ? found.slice().reverse() : found;
  if (column === "key") return byKey(rows, found, down);
  const values = rows[column], sign = down ? -1 : 1, missing = column === "finished" ? 0 : NaN;
  const last = (value) => Number.isNaN(value) || value === missing;
  const some = found.filter((i) => !last(values[i])), none = found.filter((i) => last(values[i]));
  some.sort((a, b) => sign * (values[a] - values[b]) || a - b);
  const all = new Uint32Array(found.length);
  all.set(some);
  all.set(none, some.length);
  return all;
}

/** By name. Ranks are computed once for all rows that are there, and rows then sorted by numbers. */
function byKey(rows, found, down) {
  if (!rows.ranks || rows.ranksOf !== rows.loaded) {
    const order = Array.from({length: rows.total}, (_, i) => i);
    order.sort((a, b) => rows.key[a] < rows.key[b] ? -1 : rows.key[a] > rows.key[b] ? 1 : a - b);
    rows.ranks = new Uint32Array(rows.total);
    order.forEach((i, rank) => { rows.ranks[i] = rank; });
    rows.ranksOf = rows.loaded;
  }
  const ranks = rows.ranks, sign = down ? -1 : 1;
  return found.slice().sort((a, b) => sign * (ranks[a] - ranks[b]));
}

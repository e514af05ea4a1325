"use strict";
// The rows of the run: loads the scripts of data/ one after the other, and holds their columns.

const NUMBERS = {status: Uint8Array, style: Int32Array, folder: Int32Array, loss: Float64Array, style_loss: Float64Array,
                 seconds: Float64Array, finished: Float64Array, width: Float64Array, height: Float64Array,
                 shown: Uint8Array, base: Int32Array};
const TEXTS = ["key", "image", "reason", "thumb", "photo_thumb"];
const AT_ONCE = 3;      // scripts that are loaded side by side
const DETAILS_KEPT = 8; // chunks of details that stay in memory

/** The rows of one generation of the index, as arrays over all rows. */
class Rows {
  constructor(index) {
    this.index = index;
    this.total = index.chunks.reduce((sum, chunk) => sum + chunk[0], 0);
    for (const [name, Kind] of Object.entries(NUMBERS)) this[name] = new Kind(this.total);
    for (const name of TEXTS) this[name] = new Array(this.total).fill("");
    this.haystack = new Array(this.total).fill(""); // what the search looks at
    this.there = new Uint8Array(this.total);         // 1 for rows that are loaded
    this.loaded = 0;
    this.starts = [];
    let at = 0;
    for (const chunk of index.chunks) { this.starts.push(at); at += chunk[0]; }
  }

  /** Takes the columns of a chunk. */
  take(number, columns) {
    const start = this.starts[number], count = this.index.chunks[number][0];
    for (const name of Object.keys(NUMBERS)) {
      const from = columns[name], to = this[name];
      for (let i = 0; i < count; i++) to[start + i] = from[i] === null ? NaN : from[i];
    }
    for (const name of TEXTS) for (let i = 0; i < count; i++) this[name][start + i] = columns[name][i];
    for (let i = start; i < start + count; i++) {
      this.haystack[i] = `${this.key[i]}\n${this.image[i]}\n${this.styleName(i)}\n${this.reason[i]}`.toLowerCase();
      this.there[i] = 1;
    }
    this.loaded += count;
  }

  styleName(i) { return this.style[i] < 0 ? "" : this.index.styles[this.style[i]][0]; }
  failed(i) { return this.status[i] === 2; }
  done(i) { return this.status[i] === 0; }

  /** Addresses of a picture, the best one first. */
  result(i, small) {
    const whole = this.shown[i] ? [this.index.outputs + encodeKey(this.key[i])] : [];
    return inOrder(thumb(this.thumb[i]), whole, small);
  }

  photograph(i, small) {
    const base = this.base[i] ? this.index.bases[this.base[i] - 1] : "";
    return inOrder(thumb(this.photo_thumb[i]), base ? [base + encodeKey(this.image[i] || this.key[i])] : [], small);
  }

  stylePicture(i) {
    const [, address, name] = this.style[i] < 0 ? ["", "", ""] : this.index.styles[this.style[i]];
    return inOrder(thumb(name), address ? [address] : [], true);
  }

  /** The place of a row by its key, or -1. */
  find(key) { return this.key.indexOf(key); }
}

function thumb(name) { return name ? [`thumbs/${name.slice(0, 2)}/${name}.jpg`] : []; }

function inOrder(small, whole, smallFirst) { return smallFirst ? [...small, ...whole] : [...whole, ...small]; }

/** Percent-encodes a key, byte by byte where it is not UTF-8: Python has such bytes as U+DC80 to U+DCFF. */
function encodeKey(key) {
  return key.split("/").map((part) => Array.from(part, (letter) => {
    const code = letter.codePointAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) return "%" + (code - 0xdc00).toString(16).toUpperCase();
    return code >= 0xd800 && code <= 0xdfff ? "%EF%BF%BD" : encodeURIComponent(letter);
  }).join("")).join("/");
}

/** What the scripts of data/ call. */
const Report = {
  rows_: null,             // of the present index
  columns: new Map(),      // by digest, for the next index
  details: new Map(),      // by name of the script
  waiting: new Map(),
  listener: null,          // {changed(rows, isNew)}

  index(index) {
    const before = this.rows_;
    if (before && before.index.generation === index.generation) return;
    const rows = this.rows_ = new Rows(index);
    const old = this.columns;
    this.columns = new Map();
    const missing = [];
    index.chunks.forEach(([, name], number) => {
      const digest = name.slice(5, -3), columns = old.get(digest);
      if (columns) { rows.take(number, columns); this.keep(digest, columns); } else missing.push(number);
    });
    this.listener.changed(rows, true);
    const next = () => {
      const number = missing.shift();
      if (number === undefined || this.rows_ !== rows) return;
      load("data/" + index.chunks[number][1]).then(next, next);
    };
    for (let n = 0; n < AT_ONCE; n++) next();
  },

  rows(digest, columns) {
    const rows = this.rows_, number = rows.index.chunks.findIndex((chunk) => chunk[1] === `rows-${digest}.js`);
    if (number < 0 || rows.there[rows.starts[number]]) return;
    rows.take(number, columns);
    this.keep(digest, columns);
    this.listener.changed(rows, false);
  },

  keep(digest, columns) { if (this.rows_.index.refresh) this.columns.set(digest, columns); },

  detail(digest, content) {
    this.details.set(`detail-${digest}.js`, content);
    if (this.details.size > DETAILS_KEPT) this.details.delete(this.details.keys().next().value);
  },
};

/** The fields of a row that no column has; rejects where they cannot be loaded. */
async function details(rows, i) {
  let number = rows.starts.length - 1;
  while (rows.starts[number] > i) number--;
  const name = rows.index.chunks[number][2];
  if (!Report.details.has(name)) await load("data/" + name);
  const content = Report.details.get(name), values = content.rows[i - rows.starts[number]];
  return Object.fromEntries(content.fields.map((field, n) => [field, values[n]]));
}

/** Runs a script of the report. */
function load(address) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = () => { script.remove(); resolve(); };
    script.onerror = () => { script.remove(); reject(new Error(`${address} cannot be loaded`)); };
    document.head.append(script);
  });
}

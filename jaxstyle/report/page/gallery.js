"use strict";
// The grid of pictures: only the cards in sight are elements of the page.

const GAP = 14, CAPTION = 58, NARROWEST = 208, NARROWEST_OF_TWO = 140, SHAPE = 0.75; // pixels; height by width
const TALLEST = 15e6; // pixels of a page that every browser can scroll
const BEYOND = 1;     // screens above and below that have cards too
const MISSING = "The output is missing";
const REST = 90;      // milliseconds without scrolling after which new cards get their pictures

class Gallery {
  constructor(grid, open) {
    this.grid = grid;
    this.open = open;
    this.rows = null;
    this.order = new Uint32Array(0);
    this.active = 0; // place of the card that the Tab key reaches
    this.cards = new Map(); // by place
    this.free = [];
    this.columns = 1;
    addEventListener("scroll", () => this.soon(), {passive: true});
    new ResizeObserver(() => this.layout()).observe(grid);
    grid.addEventListener("keydown", (event) => this.key(event));
  }

  /** Shows these rows. */
  show(rows, order) {
    if (this.rows && this.rows !== rows) { // the report was written again
      const key = this.rows.key[this.order[this.active]], place = order.findIndex((i) => rows.key[i] === key);
      if (place >= 0) this.active = place;
    }
    this.rows = rows;
    this.order = order;
    this.active = Math.min(this.active, Math.max(0, order.length - 1));
    for (const card of this.cards.values()) card.row = -1;
    this.layout();
  }

  /** Number of cards; fewer than rows where the page would be too tall to scroll. */
  get count() { return Math.min(this.order.length, Math.floor(TALLEST / this.rowHeight) * this.columns); }

  layout() {
    const width = this.grid.clientWidth;
    if (!width) return;
    const fits = Math.floor((width + GAP) / (NARROWEST + GAP));
    this.columns = Math.max(width >= 2 * NARROWEST_OF_TWO + GAP ? 2 : 1, fits);
    this.width = (width - GAP * (this.columns - 1)) / this.columns;
    this.height = Math.round(this.width * SHAPE) + CAPTION;
    this.rowHeight = this.height + GAP;
    this.grid.style.height = `${Math.ceil(this.count / this.columns) * this.rowHeight}px`;
    this.grid.style.setProperty("--card", `${this.width}px`);
    this.grid.style.setProperty("--mat", `${this.height - CAPTION}px`);
    for (const card of this.cards.values()) card.moved = true;
    this.render();
  }

  soon() {
    if (!this.asked) this.asked = requestAnimationFrame(() => { this.asked = 0; this.render(REST); });
  }

  render(rest = 0) {
    if (!this.rows || !this.width) return;
    const top = -this.grid.getBoundingClientRect().top, screen = innerHeight;
    const first = Math.max(0, Math.floor((top - BEYOND * screen) / this.rowHeight)) * this.columns;
    const end = Math.min(this.count, Math.ceil((top + (1 + BEYOND) * screen) / this.rowHeight) * this.columns);
    for (const [place, card] of this.cards) {
      if (place >= this.count || ((place < first || place >= end) && place !== this.focused)) { this.cards.delete(place); this.free.push(card); }
    }
    for (let place = first; place < end; place++) {
      if (!this.cards.has(place)) this.cards.set(place, this.free.pop() || this.card());
    }
    for (const card of this.free) card.item.hidden = true;
    for (const [place, card] of this.cards) this.fill(card, place);
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.pictures(), rest);
  }

  get focused() {
    const item = document.activeElement?.closest?.("#grid > *");
    return item ? Number(item.dataset.place) : -1;
  }

  /** A new card. */
  card() {
    const card = {row: -1, place: -1, moved: true};
    card.image = make("img", {className: "result", alt: "", loading: "lazy", decoding: "async", hidden: true});
    card.photograph = make("img", {className: "photograph", alt: "", loading: "lazy", decoding: "async", hidden: true});
    card.reason = make("span", {className: "reason"});
    card.name = make("span", {className: "name"});
    card.line = make("span", {className: "more"});
    const mat = make("span", {className: "mat"}, card.reason, card.image, card.photograph);
    card.button = make("button", {type: "button", className: "card"}, mat, card.name, card.line);
    card.button.addEventListener("click", () => { this.active = card.place; this.open(card.place); });
    card.button.addEventListener("focus", () => { this.active = card.place; });
    card.item = make("div", {}, card.button);
    card.item.setAttribute("role", "listitem");
    this.grid.append(card.item);
    return card;
  }

  /** Puts a row on a card; its pictures come when it has stayed in sight for a while. */
  fill(card, place) {
    const row = this.order[place], {rows} = this;
    card.button.tabIndex = place === this.active ? 0 : -1;
    if (card.row === row && card.place === place && !card.moved) return;
    card.item.hidden = false;
    if (card.place !== place || card.moved) {
      const column = place % this.columns, line = Math.floor(place / this.columns);
      card.item.style.transform = `translate(${column * (this.width + GAP)}px, ${line * this.rowHeight}px)`;
    }
    if (card.row !== row) {
      card.name.textContent = printable(rows.key[row]);
      const loss = Number.isNaN(rows.loss[row]) ? "" : `loss ${number(rows.loss[row])}`;
      card.line.textContent = [["", "skipped", "failed"][rows.status[row]], printable(rows.styleName(row)), loss].filter(Boolean).join(" · ");
      card.button.classList.toggle("failed", rows.failed(row));
      card.reason.textContent = rows.done(row) ? "" : printable(rows.reason[row]);
      for (const image of [card.image, card.photograph]) {
        image.onerror = null;
        image.removeAttribute("src");
        image.hidden = true;
      }
      card.waits = true;
    }
    card.item.setAttribute("aria-setsize", this.count);
    card.item.setAttribute("aria-posinset", place + 1);
    card.item.dataset.place = place;
    Object.assign(card, {row, place, moved: false});
  }

  pictures() {
    for (const [, card] of this.cards) {
      if (!card.waits) continue;
      card.waits = false;
      const {rows} = this, row = card.row, photograph = rows.photograph(row, true);
      const main = rows.done(row) ? rows.result(row, true) : photograph;
      showNow(card.image, main, () => { card.reason.textContent ||= rows.finished[row] ? `No thumbnail: ${extension(rows.key[row])}` : MISSING; });
      if (rows.done(row) && rows.photo_thumb[row]) showNow(card.photograph, photograph.slice(0, 1), () => {});
    }
  }

  key(event) {
    const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns}[event.key];
    const ends = {Home: 0, End: this.count - 1}[event.key];
    if ((step === undefined && ends === undefined) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const to = ends === undefined ? this.active + step : ends;
    if (to >= 0 && to < this.count) this.focus(to);
  }

  /** Scrolls to a card and focuses it. */
  focus(place) {
    this.active = place;
    const grid = this.grid.getBoundingClientRect(), head = document.querySelector("header");
    const covered = getComputedStyle(head).position === "sticky" ? head.offsetHeight : 0;
    const top = grid.top + Math.floor(place / this.columns) * this.rowHeight;
    if (top < covered + GAP) scrollBy(0, top - covered - GAP);
    else if (top + this.rowHeight > innerHeight) scrollBy(0, top + this.rowHeight - innerHeight);
    this.render();
    this.cards.get(place)?.button.focus({preventScroll: true});
  }
}

/** Like showFirst; a lazy picture must be part of the layout to be loaded. */
function showNow(image, addresses, none) {
  image.hidden = false;
  showFirst(image, addresses, none);
}

function extension(key) { return printable(key.split(".").pop().toUpperCase().slice(0, 8)); }

"use strict";
// One picture: photograph and result under a slider, its style, its loss by term, and the rest of its row. curves.js
// draws the loss over the evaluations.

class Viewer {
  /** `gallery` has the order of the pictures. */
  constructor(gallery) {
    this.gallery = gallery;
    this.dialog = document.getElementById("viewer");
    this.parts = Object.fromEntries(["viewer-name", "place", "stage", "nothing", "after", "before", "slider", "facts", "previous", "next", "close"]
      .map((id) => [id, document.getElementById(id)]));
    const {slider, previous, next, close} = this.parts;
    slider.addEventListener("input", () => this.cut());
    previous.addEventListener("click", () => this.move(-1));
    next.addEventListener("click", () => this.move(1));
    close.addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.dialog.close(); });
    this.dialog.addEventListener("close", () => { document.body.classList.remove("still"); gallery.focus(this.place); });
    this.dialog.addEventListener("keydown", (event) => this.key(event));
  }

  get isOpen() { return this.dialog.open; }

  open(place) {
    this.show(place);
    document.body.classList.add("still");
    this.dialog.showModal();
    this.dialog.focus();
  }

  key(event) {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (step === undefined || event.target === this.parts.slider || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.move(step);
  }

  move(step) {
    const to = this.place + step;
    if (to >= 0 && to < this.gallery.count) this.show(to);
  }

  show(place) {
    const {rows, order} = this.gallery, row = order[place], parts = this.parts;
    Object.assign(this, {place, row, rows, name: rows.key[row]});
    parts["viewer-name"].textContent = printable(this.name);
    parts.place.textContent = `${(place + 1).toLocaleString("en")} of ${this.gallery.count.toLocaleString("en")}`;
    parts.previous.disabled = place === 0;
    parts.next.disabled = place === this.gallery.count - 1;
    this.pictures(rows, row);
    this.facts(rows, row, null);
    details(rows, row).then((more) => { if (this.row === row && this.rows === rows) this.facts(rows, row, more); }, () => {});
  }

  pictures(rows, row) {
    const {stage, after, before, nothing, slider} = this.parts;
    stage.style.setProperty("--shape", rows.width[row] / rows.height[row] || 1);
    nothing.textContent = rows.done(row) ? "" : "No result";
    stage.classList.remove("pair", "whole");
    const both = () => {
      stage.classList.toggle("pair", !after.hidden && !before.hidden);
      stage.classList.toggle("whole", after.hidden !== before.hidden);
      slider.disabled = after.hidden || before.hidden;
    };
    after.hidden = before.hidden = true;
    both();
    showFirst(after, rows.done(row) ? rows.result(row, false) : [], () => {
      if (rows.done(row)) nothing.textContent = rows.finished[row] ? "The browser cannot show the result, and there is no thumbnail" : MISSING;
      both();
    });
    showFirst(before, rows.photograph(row, false), both);
    for (const image of [after, before]) image.addEventListener("load", both, {once: true});
    slider.value = 50;
    this.cut();
  }

  /** Shows as much of the photograph as the slider says. */
  cut() {
    const {slider, stage} = this.parts;
    stage.style.setProperty("--cut", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value}% photograph, ${100 - slider.value}% result`);
  }

  facts(rows, row, more) {
    const parts = [];
    if (!rows.done(row)) parts.push(make("p", {className: rows.failed(row) ? "why failed" : "why"}, make("strong", {}, rows.failed(row) ? "Failed: " : "Skipped: "), rows.reason[row] || "no reason given"));
    parts.push(this.style(rows, row));
    if (more && Object.keys(more.loss).length) parts.push(terms(more));
    if (more) parts.push(curves(more));
    if (more) parts.push(this.list(rows, row, more));
    parts.push(this.links(rows, row));
    this.parts.facts.replaceChildren(...parts.filter(Boolean));
  }

  style(rows, row) {
    if (rows.style[row] < 0) return null;
    const image = make("img", {alt: "", hidden: true});
    const figure = make("figure", {className: "style"}, image, make("figcaption", {}, make("span", {className: "label"}, "Style"), rows.styleName(row) || "unknown"));
    showFirst(image, rows.stylePicture(row), () => {});
    return figure;
  }

  list(rows, row, more) {
    const size = (two) => two ? `${two[0]} × ${two[1]}` : null;
    const judged = Object.entries(more.judgement).map(([name, value]) => `${name} ${number(value, 3)}`).join(", ");
    const facts = {
      "Status": ["done", "skipped", "failed"][rows.status[row]] + (more.ended ? `, ended by ${more.ended}` : ""),
      "Photograph": size(more.input_size) && `${size(more.input_size)}, ${bytes(more.input_bytes)}`,
      "Worked at": size(more.work_size),
      "Result": size(more.output_size) && `${size(more.output_size)}, ${bytes(more.output_bytes)}`,
      "Evaluations": more.evaluations ? number(more.evaluations) : null,
      "Device time": rows.seconds[row] ? `${number(rows.seconds[row])} s, in a batch of ${more.batch}` : null,
      "Lanes": more.occupancy ? `${percent(more.occupancy)} of its batch occupied` : null,
      "Written": rows.finished[row] ? time(rows.finished[row]) : null,
      "Precision": more.precision,
      "Seed": rows.done(row) ? String(more.seed) : null,
      "Judged by": judged,
      "Notes": more.notes.join("; "),
      "Run": String(more.run),
    };
    const list = make("dl", {});
    for (const [name, value] of Object.entries(facts)) if (value) list.append(make("dt", {}, name), make("dd", {}, value));
    return list;
  }

  links(rows, row) {
    const list = make("p", {className: "links"});
    for (const [name, [address]] of [["Open the result", rows.done(row) ? rows.result(row, false) : []], ["Open the photograph", rows.photograph(row, false)]]) {
      if (address) list.append(make("a", {href: address, target: "_blank", rel: "noopener noreferrer"}, name));
    }
    if (!rows.index.with_inputs) list.append(make("span", {}, "The report was made without --input, so it shows no photographs."));
    return list;
  }
}

/** The loss by term, with bars for the parts of the total. */
function terms(more) {
  const {total, ...rest} = more.loss, body = make("tbody", {});
  for (const [name, value] of Object.entries(rest).sort((a, b) => b[1] - a[1])) {
    const bar = make("span", {className: "bar-of"});
    bar.style.setProperty("--part", `${Math.max(0, Math.min(100, 100 * value / total)) || 0}%`);
    body.append(make("tr", {}, make("th", {scope: "row"}, name), make("td", {}, number(value)), make("td", {}, bar)));
  }
  const start = more.start_loss ? ` from ${number(more.start_loss)}` : "";
  body.append(make("tr", {className: "total"}, make("th", {scope: "row"}, "total"), make("td", {}, number(total)), make("td", {}, start)));
  return make("table", {className: "terms"}, make("caption", {}, "Loss by term"), body);
}

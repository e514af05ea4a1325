"use strict";
// The loss of one picture over its evaluations: a chart with a logarithmic axis, and the same points as a table.

const FIRST_TERMS = ["content", "style", "tv"]; // so that these have one colour in every picture
const COLOURS = 6;                              // of terms; further ones begin anew
const CHART = {wide: 300, tall: 170, left: 40, right: 6, top: 8, bottom: 22}; // of its own units
const DEEPEST = 1e-5;                           // share of the greatest loss below which the axis ends

/** The chart of a row, or null where its row has no curve. */
function curves(more) {
  const {evaluations, stages = [], ...terms} = more.curve || {};
  if (!evaluations || !evaluations.length) return null;
  const first = (name) => (FIRST_TERMS.indexOf(name) + 1) || COLOURS;
  const names = Object.keys(terms).filter((name) => terms[name].length === evaluations.length).sort();
  if (!names.length) return null;
  names.sort((a, b) => first(a) - first(b));
  const points = evaluations.map((at, n) => {
    const values = names.map((name) => terms[name][n]);
    return {at, values: [sum(values), ...values]};
  });
  const start = 1 + (stages.length ? stages[stages.length - 1] : 0), place = points.findIndex((one) => one.at >= start);
  if (more.start_loss > 0 && place >= 0 && points[place].at > start) points.splice(place, 0, {at: start, values: [more.start_loss, ...names.map(() => null)]});
  const shown = ["total", ...names], kinds = shown.map((_, n) => n ? `term-${(n - 1) % COLOURS}` : "term-total");
  return make("figure", {className: "curves"}, make("figcaption", {}, "Loss over evaluations"),
    chart(shown, kinds, points, stages), key(shown, kinds), pointTable(shown, points, stages));
}

function sum(values) { return values.reduce((all, one) => all + one, 0); }

/** Which of the stages an evaluation belongs to, from 0. */
function stageOf(at, stages) { return stages.filter((before) => before < at).length; }

function chart(names, kinds, points, stages) {
  const {wide, tall, left, right, top, bottom} = CHART, all = points.flatMap((one) => one.values).filter((value) => value > 0);
  const last = points[points.length - 1], most = Math.max(...all, 1e-30), least = Math.max(Math.min(...all, most), DEEPEST * most);
  const [low, high] = least < most ? [Math.log10(least), Math.log10(most)] : [Math.log10(most) - 0.5, Math.log10(most) + 0.5];
  const x = (at) => left + (wide - left - right) * at / Math.max(1, last.at);
  const y = (value) => tall - bottom - (tall - top - bottom) * (Math.log10(Math.max(value, least)) - low) / (high - low);
  const svg = element("svg", {viewBox: `0 0 ${wide} ${tall}`, role: "img"});
  const end = names.map((name, n) => `${name} ${number(last.values[n])}`).join(", ");
  svg.setAttribute("aria-label", printable(`Loss over evaluations: total ${number(points[0].values[0])} after ${number(points[0].at)}; after ${number(last.at)} ${end}`));
  for (const value of levels(10 ** low, 10 ** high)) {
    svg.append(element("path", {class: "grid", d: `M${left} ${y(value).toFixed(1)}H${wide - right}`}));
    svg.append(label(number(value, 1), left - 5, y(value) + 4, "end"));
  }
  for (const before of stages) svg.append(element("path", {class: "stage", d: `M${x(before).toFixed(1)} ${top}V${tall - bottom}`}));
  svg.append(label("0", left, tall - 6, "start"), label(`${number(last.at)} evaluations`, wide - right, tall - 6, "end"));
  for (let n = names.length - 1; n >= 0; n--) svg.append(...line(kinds[n], points, n, stages, x, y)); // the total on top
  return svg;
}

/** The line of a term, broken between stages, and dots for points without a neighbour. */
function line(kind, points, term, stages, x, y) {
  const pieces = [];
  let before = -1;
  for (const {at, values} of points) {
    const value = values[term], stage = value > 0 ? stageOf(at, stages) : -1;
    if (stage >= 0) {
      if (stage !== before) pieces.push([]);
      pieces[pieces.length - 1].push(`${x(at).toFixed(1)} ${y(value).toFixed(1)}`);
    }
    before = stage;
  }
  const d = (some) => some.map((piece) => `M${piece.join("L")}`).join(""), alone = pieces.filter((piece) => piece.length === 1);
  const made = [element("path", {class: `curve ${kind}`, d: d(pieces.filter((piece) => piece.length > 1))})];
  if (alone.length) made.push(element("path", {class: `curve ${kind} dot`, d: alone.map((piece) => `${d([piece])}h0`).join("")}));
  return made;
}

/** Losses for the axis: powers of ten, and 2 and 5 times these where there are few. */
function levels(low, high) {
  const made = [[], []];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const step of [1, 2, 5]) {
      const value = step * 10 ** power;
      if (value >= low && value <= high) for (const one of step === 1 ? made : [made[0]]) one.push(value);
    }
  }
  return made[0].length <= 5 ? made[0] : made[1];
}

function key(names, kinds) {
  const list = make("ul", {className: "key"});
  names.forEach((name, n) => {
    const swatch = element("svg", {viewBox: "0 0 26 8", "aria-hidden": "true"});
    swatch.append(element("path", {class: `curve ${kinds[n]}`, d: "M1 4H25"}));
    list.append(make("li", {}, swatch, name));
  });
  return list;
}

/** The points as a table, which opens on demand. */
function pointTable(names, points, stages) {
  const head = make("tr", {}, ...["evaluations", ...names].map((name) => make("th", {scope: "col"}, name))), body = make("tbody", {});
  points.forEach(({at, values}, n) => {
    const begins = n && stageOf(at, stages) > stageOf(points[n - 1].at, stages);
    body.append(make("tr", {className: begins ? "begins" : ""}, make("th", {scope: "row"}, number(at)), ...values.map((value) => make("td", {}, number(value, 3)))));
  });
  return make("details", {}, make("summary", {}, "Points as a table"), make("div", {className: "wide"}, make("table", {}, make("thead", {}, head), body)));
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

function label(text, x, y, anchor) {
  const made = element("text", {x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor});
  made.textContent = text;
  return made;
}

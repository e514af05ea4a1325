"use strict";
// The view of the run: counts, reasons, images and device time over time, settings, versions.

const SVG = "http://www.w3.org/2000/svg", WIDE = 600, TALL = 140; // of a plot's own units

function showRun(section, index) {
  section.replaceChildren(...[counts(index), reasons(index), ...plots(index), settings("Settings", index.settings),
                              settings("Versions and files", {"report of": `jaxstyle ${index.version}`, ...index.about})].filter(Boolean));
}

function counts(index) {
  const rows = Object.entries(index.counts).map(([name, value]) => [name, number(value)]);
  if (index.written) rows.push(["last row", time(index.written)]);
  rows.push(["runs at work when the report was written", String(index.working)]);
  if (index.occupancy !== null) rows.push(["lanes occupied, on average", percent(index.occupancy)]);
  if (index.malformed) rows.push(["lines that are no rows", number(index.malformed)]);
  return block("Rows", table(rows));
}

function reasons(index) {
  if (!index.reasons.length) return null;
  const lines = index.reasons.map(([status, reason, count]) => [`${number(count)} ${status}`, reason]);
  return block("Why inputs have no result", table(lines));
}

function plots(index) {
  const about = make("p", {className: "note"}, "From the times at which the outputs were written; in a copied folder they may be others. A device time of 1 means that the device was always at work. A lane is a place of the batch; it is empty where no picture was decoded in time, and where none is left.");
  if (!index.runs.length) return [block("Over time", make("p", {className: "note"}, "Too few outputs to plot."))];
  return index.runs.toReversed().map((run) => block(`Run ${run.run}, over time`,
    make("div", {className: "plots"}, plot("Images per second", run, run.images), plot("Device time per second", run, run.device),
      run.lanes.every((one) => one === null) ? null : plot("Lanes occupied", run, run.lanes, {most: 1, shown: percent})), about.cloneNode(true)));
}

/** A plot of values over time, with its mean, an extreme value and its times as text. Where a value is null it has a gap.

    most: the value at its top, which is not told then, but the least one; else its greatest value. */
function plot(title, run, values, {most = 0, shown = (value) => number(value, 3)} = {}) {
  const there = values.filter((value) => value !== null), top = most || Math.max(...there, 1e-9);
  const step = WIDE / values.length, svg = document.createElementNS(SVG, "svg");
  const mean = there.reduce((sum, one) => sum + one, 0) / there.length, end = run.start + run.width * values.length;
  const told = `${title}: ${shown(mean)} on average, ${most ? `at least ${shown(Math.min(...there))}` : `at most ${shown(top)}`}`;
  svg.setAttribute("viewBox", `0 0 ${WIDE} ${TALL}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", told);
  const height = (value) => (TALL - 2 - (TALL - 6) * value / top).toFixed(1);
  const line = [], area = [];
  values.forEach((value, n) => {
    if (value === null) return;
    const [from, to] = [n, n + 1].map((one) => (one * step).toFixed(1)), follows = n && values[n - 1] !== null;
    line.push(`${follows ? "L" : "M"}${from} ${height(value)}H${to}`);
    area.push(`M${from} ${TALL}V${height(value)}H${to}V${TALL}Z`);
  });
  for (const [name, d] of [["area", area.join("")], ["line", line.join("")]]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    path.setAttribute("d", d);
    svg.append(path);
  }
  return make("figure", {className: "plot"},
    make("figcaption", {}, told), svg,
    make("p", {className: "axis"}, make("span", {}, time(run.start)), make("span", {}, time(end))));
}

function settings(title, values) {
  const shown = (value) => value !== null && typeof value === "object" && !Array.isArray(value)
    ? Object.entries(value).map(([name, one]) => `${name} ${shown(one)}`).join(", ")
    : value === null ? "–" : Array.isArray(value) ? value.map(shown).join(", ") || "–" : String(value);
  const rows = Object.entries(values).map(([name, value]) => [name, shown(value)]);
  return block(title, rows.length ? table(rows) : make("p", {className: "note"}, "settings.json is absent or damaged."));
}

function block(title, ...children) { return make("section", {className: "block"}, make("h2", {}, title), ...children); }

function table(rows) {
  const body = make("tbody", {});
  for (const [name, value] of rows) body.append(make("tr", {}, make("th", {scope: "row"}, name), make("td", {}, value)));
  return make("table", {}, body);
}

"use strict";
// Connects the parts: the tools above the pictures, the two views, keys, and the reloading of a report that is served.

const AFTER_TYPING = 90, WHILE_LOADING = 150; // milliseconds until the pictures are looked through again
const MOST_CHOICES = 1000; // entries of a menu

const byId = (id) => document.getElementById(id);
const tools = Object.fromEntries(["text", "status", "style", "folder", "sort", "direction"].map((id) => [id, byId(id)]));
const gallery = new Gallery(byId("grid"), (place) => viewer.open(place));
const viewer = new Viewer(gallery);
let again = 0;

function search() {
  const chosen = (menu) => menu.value === "" ? -1 : Number(menu.value);
  return {text: tools.text.value, status: chosen(tools.status), style: chosen(tools.style), folder: chosen(tools.folder),
          sort: tools.sort.value, down: tools.direction.getAttribute("aria-pressed") === "true"};
}

function look() {
  clearTimeout(again);
  again = 0;
  const rows = Report.rows_;
  if (!rows || viewer.isOpen) return;
  gallery.show(rows, find(rows, search()));
  const found = gallery.order.length, shown = gallery.count;
  const loading = rows.loaded < rows.total ? `, loading ${number(rows.loaded)} of ${number(rows.total)} rows` : "";
  const cut = shown < found ? `; the first ${number(shown)} are shown: search or sort for the others` : "";
  byId("told").textContent = rows.total ? `${plural(found, "row")}${found < rows.loaded ? ` of ${number(rows.total)}` : ""}${loading}${cut}` : "No rows yet.";
}

function lookSoon(milliseconds) { if (!again) again = setTimeout(look, milliseconds); }

/** Fills a menu, keeping what is chosen if it is still there. */
function fill(menu, all, entries) {
  const before = menu.value;
  menu.replaceChildren(...(all === null ? [] : [new Option(all, "")]), ...entries.slice(0, MOST_CHOICES).map(([name, value]) => new Option(printable(name), value)));
  if (entries.length > MOST_CHOICES) menu.append(Object.assign(new Option(`${number(entries.length - MOST_CHOICES)} more: use the search`), {disabled: true}));
  menu.value = [...menu.options].some((one) => one.value === before) ? before : menu.options[0].value;
}

function fillAll(index) {
  document.title = `${index.title} – jaxstyle report`;
  byId("title").textContent = index.title;
  const told = Object.entries(index.counts).filter(([name, count]) => count || name === "done");
  byId("counts").replaceChildren(...told.map(([name, count]) => make("span", {className: name}, `${number(count)} ${name}`)));
  fill(tools.status, "any", Object.keys(index.counts).map((name, n) => [name, n]));
  fill(tools.style, `any of ${index.styles.length}`, index.styles.map((one, n) => [`${one[0] || "the style"} (${number(one[3])})`, n]));
  const folders = index.folders.map(([name, count], n) => [`${name || "no folder"} (${number(count)})`, n, name]);
  fill(tools.folder, `any of ${index.folders.length}`, folders.sort((a, b) => a[2] < b[2] ? -1 : 1));
  showRun(byId("run"), index);
}

Report.listener = {
  changed(rows, isNew) {
    if (isNew) {
      fillAll(rows.index);
      if (rows.index.refresh) keepUp(rows.index.refresh);
    }
    const first = !gallery.rows || gallery.rows === rows; // else the old rows stay until all new ones are there
    if (rows.loaded === rows.total || (isNew && first)) look();
    else if (first) lookSoon(rows.loaded <= rows.index.chunks[0][0] ? 0 : WHILE_LOADING);
  },
};

let timer = 0;

/** Loads the index again and again, of a report that is served while the run goes on. */
function keepUp(seconds) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    const more = () => keepUp(seconds);
    load(`data/index.js?${Date.now()}`).then(more, more);
  }, 1000 * seconds);
}

function view(name) {
  for (const one of ["pictures", "run"]) {
    byId(one).hidden = one !== name;
    byId(`show-${one}`).setAttribute("aria-pressed", String(one === name));
  }
  byId("tools").hidden = name !== "pictures";
  scrollTo(0, 0);
}

fill(tools.sort, null, Object.entries(SORTS).map(([value, sort]) => [sort.name, value]));
tools.text.addEventListener("input", () => lookSoon(AFTER_TYPING));
for (const menu of [tools.status, tools.style, tools.folder, tools.sort]) menu.addEventListener("change", () => { scrollTo(0, 0); look(); });
tools.direction.addEventListener("click", () => {
  const down = tools.direction.getAttribute("aria-pressed") !== "true";
  tools.direction.setAttribute("aria-pressed", String(down));
  tools.direction.firstElementChild.textContent = down ? "↓" : "↑";
  look();
});
byId("tools").addEventListener("submit", (event) => event.preventDefault());
byId("show-pictures").addEventListener("click", () => view("pictures"));
byId("show-run").addEventListener("click", () => view("run"));
byId("viewer").addEventListener("close", () => look());
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input[type=search], select, textarea");
  if (event.key === "/" && !typing && !viewer.isOpen && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    view("pictures");
    tools.text.focus();
    tools.text.select();
  } else if (event.key === "Escape" && event.target === tools.text) {
    tools.text.value = "";
    look();
    gallery.focus(0);
  }
});
load("data/index.js").catch(() => { byId("told").textContent = "data/index.js cannot be loaded. Write the report again."; });

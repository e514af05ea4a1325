"""`jaxstyle report` in a headless Chromium: hostile names, keys, slider, filters, sorting, colours, a phone's width."""

import json
import os
import re
import shutil
from dataclasses import replace

import pytest
import reports
from reports import BROKEN, HOSTILE, asked, done, folder, manifest

from jaxstyle.report.gallery import Gallery, write
from jaxstyle.report.server import Server

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with chromedriver is installed")

FLAGS = ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "disable-background-networking",
         "disable-component-update", "no-first-run", "hide-scrollbars")  # fmt: skip
CONTRAST = """
const part = (value) => { value /= 255; return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
const bright = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
const colour = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (one) => {
  for (; one; one = one.parentElement) {
    const found = colour(getComputedStyle(one).backgroundColor);
    if (found.length === 3 || found[3] > 0.99) return found;
  }
  return [255, 255, 255];
};
const low = [];
for (const one of document.querySelectorAll("body *")) {
  const text = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const other = one.closest("dialog:not([open]), .tag, noscript, :disabled") || !one.checkVisibility();
  if (other || !(text || one.matches("input, select"))) continue;
  const [a, b] = [bright(colour(getComputedStyle(one).color)), bright(behind(one))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) low.push(`${one.tagName} ${one.className} ${one.textContent.slice(0, 20)}`);
}
for (const one of document.querySelectorAll(".curves .curve, .plot .line")) {
  if (one.closest("dialog:not([open])") || !one.checkVisibility()) continue;
  const [a, b] = [bright(colour(getComputedStyle(one).stroke)), bright(behind(one))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) low.push(one.getAttribute("class"));
}
return low;
"""


class Browser:
    """A Chromium with one tab."""

    def __init__(self):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in FLAGS:
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))

    def open(self, address, width=1280, height=900, scheme="light", motion="no-preference"):
        """Opens a page and waits for its rows."""
        media = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": motion}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get(address if isinstance(address, str) else address.as_uri())
        self.until("Report.rows_ && Report.rows_.loaded === Report.rows_.total && !again && !gallery.asked")

    def run(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def until(self, condition, *arguments):
        """Waits until an expression of JavaScript is true."""
        code = f"""const [done, ...given] = [arguments[arguments.length - 1], ...arguments];
        const end = performance.now() + 10000;
        const look = () => {{ const found = (() => {condition})();
          if (found || performance.now() > end) done(Boolean(found)); else setTimeout(look, 10); }};
        look();"""
        assert self.driver.execute_async_script(code, *arguments), condition

    def press(self, *keys):
        self.driver.switch_to.active_element.send_keys(*keys)

    def names(self):
        """Names of the rows that are shown, in their order."""
        return self.run("return [...gallery.order].map((i) => gallery.rows.key[i])")

    def choose(self, menu, value):
        self.run(
            "tools[arguments[0]].value = arguments[1]; tools[arguments[0]].dispatchEvent(new Event('change'))",
            menu,
            value,
        )

    def complaints(self):
        return [one["message"] for one in self.driver.get_log("browser")]


@pytest.fixture(scope="module")
def browser():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_OFFLINE", "true")
        one = Browser()
        yield one
        one.driver.quit()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A report of 3 pictures, a failed and a skipped input, and one of hostile names."""
    with pytest.MonkeyPatch.context() as patch:
        reports.quickly(patch.setattr)
        path = tmp_path_factory.mktemp("report")
        write(asked(folder(path)))
        write(asked(folder(path / "hostile", HOSTILE, ("<i onload=hacked()>.png", "y.png"))))
        yield path


@pytest.fixture
def opened(browser, place):
    browser.complaints()
    browser.open(place / "report/index.html")
    yield browser
    assert browser.complaints() == []


def test_hostile_names_are_text_and_their_pictures_are_shown(browser, place):
    browser.open(place / "hostile/report/index.html")
    browser.run("tools.sort.value = 'failures'; scrollTo(0, 0)")
    browser.until("document.querySelectorAll('.card .result[src]').length >= 9")
    browser.until(every(".card:not(.failed) .result[src]", "one.complete && one.naturalWidth"))
    texts = browser.run("return [...document.querySelectorAll('.card .name')].map((one) => one.textContent)")
    assert HOSTILE[0] in texts and HOSTILE[1] in texts and HOSTILE[6] in texts and HOSTILE[8] in texts
    assert {"turned \\u{202e}gpj.jpg", "two\\nlines\\u{2028}.jpg", "caf\\xe9.jpg"} <= set(texts)
    assert browser.run("return document.querySelector('.card.failed .reason').textContent") == BROKEN
    for n in range(len(HOSTILE) + 1):
        browser.run(f"viewer.isOpen ? viewer.show({n}) : viewer.open({n})")
        browser.until("document.querySelector('#facts dl')")
        if n:
            browser.until(
                "['after', 'before'].every((id) => byId(id).complete && byId(id).naturalWidth && !byId(id).hidden)"
            )
            links = browser.run("return [...document.querySelectorAll('.links a')].map((one) => one.protocol)")
            assert links == ["file:", "file:"]
    browser.run("viewer.dialog.close()")
    assert browser.run("return document.querySelectorAll('#grid b, #facts b, script:not([src]), #grid i').length") == 0
    assert browser.run("return typeof hacked") == "undefined" and browser.complaints() == []


def all_of(selector, value):
    """JavaScript that returns a value of every such element."""
    return f"return [...document.querySelectorAll({selector!r})].map((one) => {value})"


def every(selector, condition):
    """An expression of JavaScript: whether it is true of every such element."""
    return f"[...document.querySelectorAll({selector!r})].every((one) => {condition})"


def test_the_policy_stops_scripts_styles_and_addresses_from_elsewhere(browser, place):
    browser.open(place / "report/index.html")
    browser.run("""window.stopped = [];
      addEventListener('securitypolicyviolation', (event) => stopped.push(event.effectiveDirective));
      document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.harm = 1"><p style="color: red">x</p>');
      document.body.insertAdjacentHTML('beforeend', '<img src="http://127.0.0.1:9/">');
      document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.harm = 2'}));
      fetch('http://127.0.0.1:9/').catch(() => 0);""")
    kinds = ["script-src-attr", "style-src-attr", "img-src", "script-src-elem", "connect-src"]
    browser.until(f"{kinds}.every((one) => stopped.includes(one))")
    assert browser.run("return window.harm === undefined") and browser.complaints()


def test_keys_move_open_close_and_search(opened):
    opened.run("document.querySelector('.card[tabindex=\"0\"]').focus()")
    focused = "return document.activeElement.closest('[data-place]')?.dataset.place"
    for key, place in (
        (Keys.ARROW_RIGHT, 1),
        (Keys.END, 4),
        (Keys.ARROW_RIGHT, 4),
        (Keys.HOME, 0),
        (Keys.ARROW_LEFT, 0),
        (Keys.ARROW_RIGHT, 1),
    ):
        opened.press(key)
        assert opened.run(focused) == str(place)
    opened.run("window.columns = gallery.columns; gallery.columns = 2")
    opened.press(Keys.ARROW_DOWN)
    assert opened.run(focused) == "3"
    opened.press(Keys.ARROW_UP)
    assert opened.run("gallery.columns = columns; " + focused) == "1"
    assert opened.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert opened.run("return document.querySelectorAll('.card[tabindex=\"0\"]').length") == 1
    opened.press(Keys.ENTER)
    assert opened.run("return viewer.isOpen && viewer.name") == "a/one.jpg"
    opened.press(Keys.ARROW_RIGHT)
    assert opened.run("return byId('viewer-name').textContent + ' ' + byId('place').textContent") == "a/two.png 3 of 5"
    opened.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert opened.run("return viewer.place") == 0 and opened.run("return byId('previous').disabled")
    opened.press(Keys.ESCAPE)
    opened.until("!viewer.isOpen && document.activeElement.closest('[data-place]')?.dataset.place === '0'")
    opened.press("/")
    assert opened.run("return document.activeElement.id") == "text"
    opened.press("a/", "two")
    opened.until("gallery.order.length === 1")
    assert opened.names() == ["a/two.png"] and opened.run("return byId('told').textContent") == "1 row of 5"
    opened.press(Keys.ESCAPE)
    assert len(opened.names()) == 5


def test_the_slider_uncovers_the_photograph_by_keys_and_pointer(opened):
    opened.run("viewer.open(1)")
    opened.until("byId('stage').classList.contains('pair')")
    edge = """const [line, stage] = ['line', 'stage'].map((id) => byId(id).getBoundingClientRect());
      return Math.round(100 * (line.left + line.width / 2 - stage.left) / stage.width);"""
    assert opened.run(edge) == 50 and opened.run("return byId('slider').disabled") is False
    opened.run("byId('slider').focus()")
    for _ in range(5):
        opened.press(Keys.ARROW_LEFT)
    assert opened.run(edge) == 45 and opened.run("return viewer.place") == 1  # its keys do not turn the pictures
    assert opened.run("return byId('slider').getAttribute('aria-valuetext')") == "45% photograph, 55% result"
    assert "55%" in opened.run("return getComputedStyle(byId('before')).clipPath")
    opened.press(Keys.HOME)
    assert opened.run(edge) == 0
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    stage = opened.driver.find_element(By.ID, "slider")
    ActionChains(opened.driver).move_to_element_with_offset(stage, stage.size["width"] // 4, 0).click().perform()
    assert 73 <= opened.run(edge) <= 77
    opened.run("viewer.show(0)")
    assert opened.run("return byId('slider').disabled && byId('nothing').textContent") == "No result"
    assert opened.run("return document.querySelector('#facts .why').textContent") == f"Failed: {BROKEN}"
    opened.run("viewer.dialog.close()")


def test_a_picture_has_its_loss_by_term(opened):
    opened.run("viewer.open(1)")
    opened.until("document.querySelectorAll('.terms tr').length === 4")
    lines = opened.run("return [...document.querySelectorAll('.terms tr')].map((one) => one.textContent)")
    assert lines == ["style4.5", "tv2.7", "content1.8", "total9 from 40"]
    parts = opened.run(
        "return [...document.querySelectorAll('.bar-of')].map((one) => one.style.getPropertyValue('--part'))"
    )
    assert parts == ["50%", "30%", "20%"]
    opened.until("document.querySelector('.style img').naturalWidth === 16")
    lines = opened.run(all_of(".curves > svg .curve", "one.getAttribute('d')"))
    shape = [re.sub(r"[\d. ]+", "", one) for one in lines]
    assert shape == ["ML", "Mh", "MLML", "MLML", "MLMLL"]  # <b>tv, of which a point is 0; style, content; total
    told = opened.run("return document.querySelector('.curves > svg').getAttribute('aria-label')")
    assert told == "Loss over evaluations: total 39 after 1; after 20 total 9, content 1.8, style 4.5, <b>tv 2.7"
    assert opened.run("return document.querySelectorAll('.curves .stage').length") == 1
    levels = opened.run(all_of(".curves text", "one.textContent"))
    assert levels == ["1", "2", "5", "10", "20", "0", "20 evaluations"]
    opened.run("document.querySelector('.curves summary').focus()")
    opened.press(Keys.ENTER)
    assert opened.run("return document.querySelector('.curves details').open && viewer.place") == 1
    table = opened.run(all_of(".curves tr", "[...one.children].map((cell) => cell.textContent).join(' ')"))
    assert table[:3] == ["evaluations total content style <b>tv", "1 39 1 36 2", "8 8 2 6 0"]
    assert table[3] == "9 40 \u2013 \u2013 \u2013"  # the loss at the start of the last stage
    assert "Lanes75 % of its batch occupied" in opened.run("return document.querySelector('#facts dl').textContent")
    opened.run("viewer.dialog.close(); view('run')")
    assert "lanes occupied, on average75 %" in opened.run("return byId('run').textContent")
    parts = opened.run("""
      const values = [null, 0.5, 0.75, null, 1];
      const made = plot("Lanes", {start: 0, width: 1}, values, {most: 1, shown: percent});
      return [made.firstChild.textContent, [...made.querySelectorAll("path")].map((one) => one.getAttribute("d"))];""")
    line = "M120.0 71.0H240.0L240.0 37.5H360.0M480.0 4.0H600.0"
    assert parts[0] == "Lanes: 75 % on average, at least 50 %" and parts[1][1] == line and parts[1][0].count("Z") == 3
    opened.run("view('pictures')")


def test_filters_and_orders(opened):
    assert opened.names() == ["a/broken.jpg", "a/one.jpg", "a/two.png", "b/three.jpg", "notes.txt"]
    for menu, value, names in (
        ("status", "0", ["a/one.jpg", "a/two.png", "b/three.jpg"]),
        ("folder", "0", ["a/one.jpg", "a/two.png"]),
        ("style", "1", ["a/two.png"]),
    ):
        opened.choose(menu, value)
        assert opened.names() == names
    for menu in ("status", "folder", "style"):
        opened.choose(menu, "")
    finished = ["a/one.jpg", "a/two.png", "b/three.jpg"]
    for sort in ("loss", "style_loss"):
        opened.choose("sort", sort)
        assert opened.names() == [*finished[::-1], "a/broken.jpg", "notes.txt"]
        opened.run("tools.direction.click()")
        assert opened.names() == [*finished, "a/broken.jpg", "notes.txt"]  # what has no loss comes last both ways
        opened.run("tools.direction.click()")
    opened.choose("sort", "key")
    assert opened.names() == sorted(["a/broken.jpg", *finished, "notes.txt"])
    opened.choose("sort", "finished")
    assert opened.names()[3:] == ["a/broken.jpg", "notes.txt"]
    opened.run("gallery.focus(4); tools.text.value = 'HACKED script'; look()")
    assert opened.names() == ["a/broken.jpg"]  # by its reason
    assert opened.run("return document.querySelectorAll('#grid > :not([hidden])').length") == 1  # not the focused one
    opened.run("tools.text.value = ''; look()")
    opened.choose("sort", "failures")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser, place, scheme):
    browser.open(place / "report/index.html", scheme=scheme)
    paper = browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (min(paper) > 200) if scheme == "light" else (max(paper) < 60)
    assert browser.run(CONTRAST) == []
    browser.run("viewer.open(0)")
    browser.until("document.querySelector('#facts dl')")
    assert browser.run(CONTRAST) == []
    browser.run("viewer.show(1)")
    browser.until("document.querySelectorAll('.curves > svg .curve').length === 5")
    browser.run("document.querySelector('.curves details').open = true")
    assert browser.run(CONTRAST) == []
    browser.run("viewer.dialog.close(); view('run')")
    assert browser.run(CONTRAST) == []
    browser.run("view('pictures')")


def test_a_phone_has_two_columns_and_nothing_beside_the_page(browser, place):
    browser.open(place / "report/index.html", 360, 740)
    wide = "return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    assert browser.run("return gallery.columns") == 2 and browser.run(wide) <= 360
    browser.run("viewer.open(1)")
    browser.until("document.querySelector('#facts dl')")
    box = browser.run("const box = byId('stage').getBoundingClientRect(); return [box.left, box.right, box.width]")
    assert box[0] >= 0 and box[1] <= 360 and box[2] > 300
    assert browser.run("return byId('close').getBoundingClientRect().width >= 40")
    browser.run("viewer.dialog.close(); view('run')")
    assert browser.run(wide) <= 360
    browser.run("view('pictures')")


def test_nothing_moves_for_those_who_ask_for_it(browser, place):
    still = "return " + every("*", "getComputedStyle(one).transitionDuration === '0s'")
    browser.open(place / "report/index.html")
    assert not browser.run(still)
    browser.open(place / "report/index.html", motion="reduce")
    assert browser.run(still)


def test_of_many_rows_those_in_sight_are_elements(browser, place, monkeypatch):
    reports.quickly(monkeypatch.setattr)
    many = replace(asked(place / "many", inputs=(), styles=()))
    manifest(many.output, [done(f"{n % 7}/{n:05}.jpg", loss=float(n * 37 % 4001)) for n in range(4100)])
    write(many)
    browser.open(many.target / "index.html")
    assert browser.run("return gallery.order.length") == 4100
    browser.run("scrollTo(0, document.documentElement.scrollHeight)")
    browser.until("!(" + every("#grid > :not([hidden]) .name", "one.textContent !== '4/04099.jpg'") + ")")
    assert 5 < browser.run("return document.querySelectorAll('.card').length") < 120
    browser.until("!(" + every(".card .reason", "one.textContent !== 'The output is missing'") + ")")
    box = "const box = document.activeElement.getBoundingClientRect(); return [box.top, innerHeight - box.bottom]"
    for place in (2000, 3000):  # above what is in sight, and below
        browser.run("gallery.focus(arguments[0])", place)
        assert browser.run("return document.activeElement.textContent").find(f"{place:05}.jpg") > 0
        assert min(browser.run(box)) > 0
    browser.choose("sort", "loss")
    losses = browser.run("return [...gallery.order].map((i) => gallery.rows.loss[i])")
    assert losses == sorted(losses) and len(losses) == 4100


def test_a_page_that_is_served_shows_new_rows(browser, tmp_path, monkeypatch):
    reports.quickly(monkeypatch.setattr)
    monkeypatch.setattr("jaxstyle.report.server.PAUSE", 0.05)
    with Gallery(asked(folder(tmp_path))) as made:
        made.build()
        with Server(made) as server:
            browser.complaints()
            browser.open(server.address)
            browser.run("tools.sort.value = 'key'; look(); gallery.focus(2)")
            browser.until("document.querySelectorAll('.card:not(.failed) .result[src*=\"out/\"]').length === 3")
            browser.until(every(".card:not(.failed) .result[src]", "one.naturalWidth"))
            data = reports.write_file(tmp_path / "out/a/new.jpg", (tmp_path / "out/a/one.jpg").read_bytes())
            with (tmp_path / "out/manifest.jsonl").open("a") as file:
                file.write(json.dumps(done("a/new.jpg", data).as_json()) + "\n")
            made.build()
            browser.until("gallery.order.length === 6")
            assert browser.run("return document.activeElement.querySelector('.name').textContent") == "a/one.jpg"
            made.make_thumbnails()
            assert os.listdir(tmp_path / "report/thumbs")
    assert [one for one in browser.complaints() if "thumbs/" not in one] == []

"""Measures the page of `jaxstyle report` in a headless Chromium: opening, scrolling, searching and sorting many rows.

    python bench/report_page.py [--rows 100000]

It needs selenium, and Debian's packages chromium and chromium-driver. Rows are made up; their pictures are a few files
under many names (hard links). Times are of this machine and go to standard output only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from jaxstyle.data.rows import Row  # noqa: E402
from jaxstyle.planning.course import MOST  # noqa: E402
from jaxstyle.report.gallery import write  # noqa: E402
from jaxstyle.report.rows_index import Asked  # noqa: E402

WINDOW = (1280, 900)
LONG = """
window.longest = 0;
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) window.longest = Math.max(window.longest, one.duration);
}).observe({type: 'longtask', buffered: true});
"""
SHOW = """
tools.folder.value = ""; tools.sort.value = "loss"; look();
const at = performance.now(); viewer.open(40); return at;
"""
SCROLL = """
const done = arguments[0], end = document.documentElement.scrollHeight, steps = 120; let at = 0;
const step = () => {
  if (at > steps) return setTimeout(done, 300);
  scrollTo(0, end * (at++) / steps);
  requestAnimationFrame(step);
};
step();
"""


def curve(n: int) -> dict[str, tuple[float, ...]]:
    """As many points as a row has at most."""
    spent = tuple(1 + 7 * k for k in range(MOST))
    terms = {"content": 1.5, "style": 90.0, "tv": 0.25}
    return {"evaluations": spent} | {
        name: tuple(float(f"{most * (1 + n % 97 / 97) / at**0.7:.3g}") for at in spent) for name, most in terms.items()
    }


def make(folder: Path, number: int) -> None:
    """An output folder of this many rows in 1000 classes and 20 styles; one in 50 has failed."""
    random = np.random.default_rng(0)
    pictures = []
    for n in range(20):
        small = random.integers(0, 255, (6, 8, 3), np.uint8)
        path = folder / f"picture-{n}.jpg"
        Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC).save(path, quality=80)
        pictures.append((path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size))
    out = folder / "out"
    out.mkdir()
    settings = {"decides": {"settings": {"size": 256}}, "about": {"jaxstyle": "bench", "style": "20 styles"}}
    (out / "settings.json").write_text(json.dumps(settings))
    with (out / "manifest.jsonl").open("w") as file:
        for n in range(number):
            key = f"n{n % 1000:08}/ILSVRC2012_val_{n * 7919 % number:08}.jpg"
            path, sha256, length = pictures[n % 20]
            style, content = float(random.gamma(9, 0.5)), float(random.gamma(5, 0.2))
            if n % 50 == 7:
                row = Row(
                    key, "failed", f"cannot be decoded (OSError: broken data stream at {n})", style=f"s{n % 20}.jpg"
                )
            else:
                loss = {"content": content, "style": style, "tv": 0.2, "total": content + style + 0.2}
                row = Row(key, "done", style=f"s{n % 20}.jpg", loss=loss, start_loss=90.0, evaluations=200, batch=16,
                          seconds=1.25, occupancy=0.5 + n % 500 / 1000, curve=curve(n),
                          precision="float32", ended="budget", output_size=(320, 240), run=1,
                          output_bytes=length, output_sha256=sha256, judgement={"fall": 0.9})  # fmt: skip
                (out / key).parent.mkdir(exist_ok=True)
                os.link(path, out / key)
            file.write(json.dumps(row.as_json()) + "\n")


def browser() -> Any:
    """A headless Chromium of the system."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        f"--window-size={WINDOW[0]},{WINDOW[1]}",
    ):
        options.add_argument(word)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def measure(page: Path) -> dict[str, float]:
    """Times in milliseconds."""
    chromium = browser()
    found: dict[str, float] = {}
    try:
        chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LONG})
        began = time.perf_counter()
        chromium.get(page.absolute().as_uri())
        shown = "return document.querySelectorAll('.card').length > 4 && performance.now()"
        loaded = "return Report.rows_.loaded === Report.rows_.total && performance.now()"
        for name, asked in (("first cards", shown), ("all rows loaded", loaded)):
            while not (at := chromium.execute_script(asked)):
                assert time.perf_counter() - began < 60
                time.sleep(0.01)
            found[name] = at
        time.sleep(0.5)

        def longest(name: str) -> None:
            found[f"longest task, {name}"] = chromium.execute_script("const found = longest; longest = 0; return found")

        longest("opening")
        found["cards in the page"] = chromium.execute_script("return document.querySelectorAll('.card').length")
        chromium.set_script_timeout(60)
        chromium.execute_async_script(SCROLL)
        longest("scrolling")
        for name, change in (
            ("search", "tools.text.value = '0000123'; look()"),
            ("all again", "tools.text.value = ''; look()"),
            ("sort by loss", "tools.sort.value = 'loss'; look()"),
            ("sort by name", "tools.sort.value = 'key'; look()"),
            ("by name again", "tools.direction.click()"),
            ("class", "tools.folder.value = '7'; look()"),
        ):
            found[name] = chromium.execute_script(
                f"const at = performance.now(); {change}; return performance.now() - at"
            )
            time.sleep(0.3)
            longest(name)
        chart = "return document.querySelector('.curves svg') && performance.now() - arguments[0]"
        began_at = chromium.execute_script(SHOW)
        while not (at := chromium.execute_script(chart, began_at)):
            time.sleep(0.01)
        found["open a picture with its curve"] = at
        time.sleep(0.3)
        longest("opening a picture")
        found["heap, MiB"] = chromium.execute_script("return performance.memory.usedJSHeapSize / 2 ** 20")
        severe = [one["message"] for one in chromium.get_log("browser") if one["level"] == "SEVERE"]
        assert not severe, severe[:3]
    finally:
        chromium.quit()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--thumbnails", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, asked.rows)
        for again in ("first", "again"):
            began = time.perf_counter()
            written = write(Asked(folder / "out", folder / "report", thumbnails=asked.thumbnails))
            print(f"{'report written, ' + again:32} {time.perf_counter() - began:10.2f} s")
        data = sum(path.stat().st_size for path in (folder / "report" / "data").iterdir())
        print(f"{'data':32} {data / 2**20:10.1f} MiB")
        for name, value in measure(written.page).items():
            print(f"{name:32} {value:10.1f}")


if __name__ == "__main__":
    main()

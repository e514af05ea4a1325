"""What tests of whole runs share: settings, rows, files, and a listener."""

import json

from jaxstyle.engine.events import Silent
from jaxstyle.engine.pipeline import render
from jaxstyle.settings import RenderSettings

MEASURED = {"seconds": 0, "occupancy": 0, "lane_seconds": 0, "curve": {}, "run": 0}
"""Fields of a row that differ between two runs of the same settings, and what takes their place."""
QUICK = RenderSettings(size=32, evaluations=10, batch=4, workers=0)


PROVIDED = []
"""Sources that a test has made; the fixture `closed` closes them at its end."""


def run(place, inputs, out="out", style="style.png", **options):
    """Renders inputs into a folder of the fixture `place`, in its style or another one of it."""
    return render(inputs, place / style, place / out, QUICK, **options)


def provided(kind, *paths, case_insensitive=False, **settings):
    """A source of a class, which is closed at the test's end."""
    PROVIDED.append(kind(paths, settings=RenderSettings(**settings), case_insensitive=case_insensitive))
    return PROVIDED[-1]


def rows(output):
    lines = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    assert len({row["key"] for row in lines}) == len(lines)
    return {row["key"]: row for row in lines}


def files(output):
    return {
        p.relative_to(output).as_posix(): p.read_bytes()
        for p in output.rglob("*")
        if p.is_file() and p.suffix in (".png", ".jpg")
    }


class Ear(Silent):
    """Remembers what it is told; `at` rows it calls something."""

    def __init__(self, at=0, call=None):
        self.rows, self.said, self.spent, self.number, self.before = [], [], 0, None, 0
        self.at, self.call = at, call

    def inputs(self, number):
        self.number = number

    def finished(self, number):
        self.before += number

    def advance(self, evaluations, loss):
        self.spent += evaluations

    def row(self, row):
        self.rows.append(row)
        if len(self.rows) == self.at:
            self.call()

    def say(self, text):
        self.said.append(text)

"""Output folders for the tests of reports, written by hand: rows, pictures, settings; no run is needed."""

import hashlib
import json
import os
import re

from pictures import encoded, painting, photo

from jaxstyle.data.rows import Row
from jaxstyle.decode.pool import Decoders
from jaxstyle.report import gallery
from jaxstyle.report.rows_index import Asked

HOSTILE = (
    "<img src=x onerror=hacked()>.jpg",
    "\"'><b onclick='hacked()'>.jpg",
    "javascript:hacked().jpg",
    "turned \u202egpj.jpg",
    "two\nlines\u2028.jpg",
    "caf\udce9.jpg",
    "%2e%2e/%3Cscript%3E.jpg",
    "a#b?c&d=1.jpg",
    "größe/日本 ☃.jpg",
)
"""Keys that would do harm if they became markup, addresses or lines."""
CURVE = {"content": (1.0, 2.0, 3.0, 1.8), "style": (36.0, 6.0, 9.0, 4.5), "<b>tv": (2.0, 0.0, 2.0, 2.7)}
"""Terms of every row's curve."""
BROKEN = "cannot be decoded (</script><script>hacked()</script>)"


def write_file(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


def done(key, data=b"", loss=5.0, **fields):
    """The row of a finished picture with these bytes."""
    terms = {"content": loss / 5, "style": loss / 2, "tv": loss * 0.3, "total": loss}
    given = {"ended": "budget", "evaluations": 20, "seconds": 1.5, "start_loss": 40.0, "precision": "float32", "run": 1}
    given |= {
        "batch": 4,
        "occupancy": 0.75,
        "lane_seconds": 2.0,
        "curve": {"evaluations": (1, 8, 10, 20), "stages": (8,)} | CURVE,
    }
    sizes = {"input_size": (32, 24), "work_size": (32, 24), "output_size": (32, 24), "output_bytes": len(data)}
    sha256 = hashlib.sha256(data).hexdigest() if data else ""
    return Row(key, "done", loss=terms, output_sha256=sha256, judgement={"fall": 0.9}, **given | sizes | fields)


def manifest(output, rows, name="manifest.jsonl"):
    """Writes rows as a ledger."""
    output.mkdir(parents=True, exist_ok=True)
    (output / name).write_text("".join(json.dumps(row.as_json()) + "\n" for row in rows))


def settings(output, **values):
    (output / "settings.json").write_text(
        json.dumps({"decides": {"settings": {"size": 32, **values}}, "about": {"jaxstyle": "0.1.0", "style": "p.png"}})
    )


def folder(path, keys=("a/one.jpg", "a/two.png", "b/three.jpg"), styles=("x.png", "y.png")):
    """Writes `in`, `out` and `styles` below a path: a finished picture for each key, a failed and a skipped input."""
    rows = []
    for n, key in enumerate(keys):
        kind = "PNG" if key.endswith("png") else "JPEG"
        data = write_file(path / "out" / key, encoded(photo(32, 24, n), kind))
        given = write_file(path / "in" / key, encoded(photo(48, 36, n + 50), kind))
        rows.append(
            done(key, data, 9.0 - n, style=styles[n % len(styles)], input_sha256=hashlib.sha256(given).hexdigest())
        )
    write_file(path / "in" / "a/broken.jpg", b"\xff\xd8\xff nothing")
    rows.insert(1, Row("a/broken.jpg", "failed", BROKEN, style=styles[0], run=1))
    rows.append(Row("notes.txt", "skipped", "not a picture", run=1))
    for n, name in enumerate(styles):
        write_file(path / "styles" / name, encoded(painting(16 + n, 16), "PNG"))
    manifest(path / "out", rows)
    settings(path / "out")
    return path


def asked(path, **options):
    given = {"inputs": (path / "in",), "styles": (str(path / "styles"),)}
    return Asked(path / "out", path / "report", **given | options)


def quickly(patch):
    """Decodes in this process, and leaves it to the system when files reach the disk."""
    patch(os, "fsync", lambda handle: None)
    patch(gallery, "decoders_for", lambda settings: Decoders(0, max_pixels=10**6, timeout=60))


def data_of(path):
    """What a script of a report passes to the page: its function, and the values."""
    text = path.read_text("ascii")
    found = re.fullmatch(r"Report\.(\w+)\((.*)\);\n", text, re.DOTALL)
    return found[1], json.loads(f"[{found[2]}]")


def index_of(path):
    """The index of the report below a path."""
    function, (index,) = data_of(path / "report/data/index.js")
    assert function == "index"
    return index


def shown(path):
    """The rows of a report in their order: a dict of columns and details for each."""
    rows = []
    for number, columns, detail in index_of(path)["chunks"]:
        (_, (_, first)), (_, (_, more)) = (data_of(path / "report/data" / name) for name in (columns, detail))
        assert {len(column) for column in first.values()} == {number} == {len(more["rows"])}
        for n in range(number):
            rest = dict(zip(more["fields"], more["rows"][n], strict=True))
            rows.append({name: column[n] for name, column in first.items()} | {"more": rest})
    return rows


def state(path):
    """Inode, time and length of every file."""
    return {
        os.path.relpath(one, path): (one.stat().st_ino, one.stat().st_mtime_ns, one.stat().st_size)
        for one in path.rglob("*")
        if one.is_file()
    }

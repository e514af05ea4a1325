"""What the tests of faults share: a corpus of hostile and odd files, and runs of the command line in processes.

Files are made here, byte by byte where no encoder would write them; the parts that the tests of `data.image` make
already are theirs.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import unicodedata
import zlib
from pathlib import Path

import numpy as np
from pictures import photo, png, save
from PIL import Image, ImageCms
from test_image import ORIENTATION, STORED_AS
from test_image_broken import ihdr

STUB = Path(__file__).with_name("stub.py")
WAIT = 120
"""Seconds that anything may take before a test gives up."""
CAFE = os.fsdecode(b"caf\xe9.png")
"""A name in Latin-1."""
NFC, NFD = (unicodedata.normalize(form, "\u00fcber.png") for form in ("NFC", "NFD"))


def truncations(data: bytes, number: int) -> dict[int, bytes]:
    """Beginnings of a file by their length, evenly spread from empty to all but the last byte."""
    return {cut: data[:cut] for cut in sorted({round(i * (len(data) - 1) / (number - 1)) for i in range(number)})}


def bomb() -> bytes:
    """A PNG of 69 bytes that claims 20,000 x 20,000 pixels."""
    data = png(ihdr(20_000, 20_000), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    assert len(data) == 69
    return data


def long_text() -> bytes:
    """A whole PNG with a compressed text of 5 MiB in it."""
    text = b"Comment\0\0" + zlib.compress(b"x" * (5 << 20), 9)
    return png(ihdr(4, 3), (b"zTXt", text), (b"IDAT", zlib.compress(bytes(39))), (b"IEND", b""))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def odd(folder: Path) -> dict[str, str]:
    """Writes whole pictures of unusual kinds; returns the status that each should get, by key."""
    colours, gray = photo(40, 30), photo(40, 30)[..., 0]
    alpha = np.tile(np.linspace(0, 255, 40), (30, 1)).astype(np.uint8)
    ramp = np.arange(256, dtype=np.uint16)[None].repeat(32, 0) * 257
    frames = [Image.fromarray(photo(40, 30, seed)) for seed in (1, 2)]
    for orientation, stored in STORED_AS.items():
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        save(folder / f"turned-{orientation}.jpg", np.ascontiguousarray(stored(colours)), exif=exif)
    save(folder / "ramp16.png", ramp)
    save(folder / "gray.png", gray)
    save(folder / "la.png", np.dstack([gray, alpha]))
    save(folder / "rgba.png", np.dstack([colours, alpha]))
    Image.fromarray(colours).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(colours).quantize(16).save(folder / "palette.png", transparency=bytes(range(0, 256, 16)))
    lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    ImageCms.applyTransform(Image.fromarray(colours), lab).save(folder / "lab.tif")
    save(folder / "animated.png", colours, save_all=True, append_images=frames)
    save(folder / "pages.tif", colours, save_all=True, append_images=frames)
    save(folder / "line.png", photo(1, 10_000))
    save(folder / "LOUD.JPEG", photo(33, 47))
    return {path.name: "done" for path in folder.iterdir()}


def broken(folder: Path) -> dict[str, str]:
    """Writes files that are no whole pictures; returns as `odd`."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(photo(50, 40)).save(buffer, "JPEG")
    files = {
        "bomb.png": bomb(),
        "long-text.png": long_text(),
        "postscript.jpg": POSTSCRIPT,
        "cut.jpg": buffer.getvalue()[: len(buffer.getvalue()) * 4 // 5],
        "empty.png": b"",
        "zeros.webp": bytes(500),
        "notes.txt": b"Dear diary,\n" * 9,
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {name: "skipped" if name.endswith("txt") else "failed" for name in files}


def names(folder: Path) -> dict[str, str]:
    """Writes pictures whose names are a difficulty of their own; returns as `odd`."""
    found = [
        CAFE, NFC, NFD, "Case.png", "case.png", "a.jpg", "a.png", "photo.v1.jpg", "photo.v2.jpg", "new\nline.png",
        '<img src=x onerror="alert(1)">.png', "-o.png", "pipe:touch canary.png", "x" * 251 + ".png",
    ]  # fmt: skip
    for seed, name in enumerate(found):
        save(folder / name, photo(40, 30 + seed % 3, seed))
    return dict.fromkeys(found, "done")


# Runs.


COMMON = ("--size", 64, "--evaluations", 10)


def command(source, style, output, *more, program=(STUB,), common=COMMON) -> list[str]:
    """The command line of a run: over the stub unless told otherwise."""
    line = [sys.executable, *program, "render", source, "--style", style, "-o", output]
    return [str(word) for word in (*line, *common, *more)]


def start(line, *, log=subprocess.PIPE, **switches) -> subprocess.Popen:
    """Starts it in a session of its own; switches are environment variables."""
    environment = os.environ | {name: str(value) for name, value in switches.items()}
    return subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=log, env=environment, start_new_session=True
    )  # fmt: skip


def in_workers(folder: Path, code: str) -> Path:
    """Makes worker processes whose PYTHONPATH has the folder run some code before they begin; returns the folder."""
    folder.mkdir()
    test = 'import sys\nif any("jaxstyle.decode.worker" in word for word in sys.orig_argv):\n    '
    (folder / "sitecustomize.py").write_text(test + code.strip().replace("\n", "\n    "))
    return folder


def run(line, **switches) -> tuple[int, str]:
    """Runs it to its end; returns the exit code and what it said."""
    process = start(line, **switches)
    try:
        said = process.communicate(timeout=WAIT)[1]
    finally:
        process.kill()
    return process.returncode, said.decode("utf-8", "replace")


def rows(output: Path) -> dict[str, dict]:
    """The rows of a finished folder by key, each key once."""
    lines = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    assert len({row["key"] for row in lines}) == len(lines)
    return {row["key"]: row for row in lines}


def statuses(output: Path) -> dict[str, str]:
    return {key: row["status"] for key, row in rows(output).items()}


def pictures_of(output: Path) -> dict[str, bytes]:
    """The outputs in a folder by key: all files but the run's own."""
    own = ("settings.json", "contact_sheet.png")
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and not path.name.startswith((".jaxstyle-", "manifest")) and path.name not in own
    }


def wait_for(condition, seconds: float = WAIT):
    """What the condition returns, as soon as that is true."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "did not happen"
        time.sleep(0.005)
    return found


def processes(tag: str) -> list[int]:
    """Processes that live and have a text in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and tag.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
    return found


def ledger(output: Path) -> list[dict]:
    """The whole rows of a folder, which may be at work or torn."""
    path = output / "manifest.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]

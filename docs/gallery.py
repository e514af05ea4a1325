"""Makes the pictures of docs/gallery.md with the commands that stand above them: `python docs/gallery.py [NAME...]`."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from jaxstyle.data.layout import SHEET  # noqa: E402
from jaxstyle.demo.demo import PHOTOS  # noqa: E402
from jaxstyle.demo.styles import STYLES  # noqa: E402

WIDTH = 900
"""Most pixels of a picture's width."""
CUP = ((0.285, 0.03, 0.69, 0.52), (0.12, 0.12, 0.81, 0.98))
"""Where the cup and its saucer are in coffee.jpg: ellipses by left, top, right and bottom, as parts of its sides."""
FRAMES = 4
"""Of the film."""


def entries() -> list[tuple[str, str]]:
    """Lists the pictures of the page: each one's name, and its commands, one a line."""
    found = re.findall(
        r"```sh\n(.*?)```\n\n!\[[^]]+\]\(gallery/(\w+)\.jpg\)", (HERE / "gallery.md").read_text(), re.DOTALL
    )
    return [(name, commands.replace("\\\n", " ").strip()) for commands, name in found]


def prepare(folder: Path) -> None:
    """Writes the files that the commands name."""
    for name in ("photos", "styles", "pairs", "masks", "shots"):
        (folder / name).mkdir(parents=True)
    for path in PHOTOS.glob("*.jpg"):
        (folder / "photos" / path.name).write_bytes(path.read_bytes())
    drawn = {name: draw() for name, draw in STYLES.items()}
    for name, pixels in drawn.items():
        Image.fromarray(pixels).save(folder / "styles" / f"{name}.png")
    height, width = min(one.shape[:2] for one in drawn.values())
    halves = [drawn[name][:height, : width // 2] for name in ("flow", "glass")]
    Image.fromarray(np.concatenate(halves, 1)).save(folder / "pairs" / "halves.png")
    mask = Image.new("RGB", (2 * (width // 2), height))
    mask.paste((255, 255, 255), (width // 2, 0, 2 * (width // 2), height))
    mask.save(folder / "masks" / "halves.png")
    with Image.open(folder / "photos" / "coffee.jpg") as photograph:
        mask = Image.new("RGB", photograph.size)
    sides = (*mask.size, *mask.size)
    for ellipse in CUP:
        box = [part * side for part, side in zip(ellipse, sides, strict=True)]
        ImageDraw.Draw(mask).ellipse(box, fill=(255, 255, 255))
    mask.save(folder / "masks" / "coffee.png")
    with Image.open(folder / "photos" / "chelsea.jpg") as photograph:
        for number in range(FRAMES):
            left = number * photograph.width // 60
            frame = photograph.crop((left, 0, left + photograph.width * 9 // 10, photograph.height))
            frame.save(folder / "shots" / f"{number:03}.png")


def make(folder: Path, name: str, commands: str) -> None:
    """Runs commands, one a line, and keeps the last one's contact sheet, made smaller, as docs/gallery/NAME.jpg."""
    for command in commands.splitlines():
        program, *words = shlex.split(command)
        assert program == "jaxstyle", command
        subprocess.run([sys.executable, "-m", "jaxstyle", *words], cwd=folder, check=True)
    with Image.open(folder / words[words.index("-o") + 1] / SHEET) as sheet:
        small = sheet.convert("RGB")
        small.thumbnail((WIDTH, 4 * WIDTH))
        small.save(HERE / "gallery" / f"{name}.jpg", quality=82, optimize=True)


def main(wanted: list[str]) -> None:
    (HERE / "gallery").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        prepare(Path(temporary))
        for name, commands in entries():
            if not wanted or name in wanted:
                make(Path(temporary), name, commands)


if __name__ == "__main__":
    main(sys.argv[1:])

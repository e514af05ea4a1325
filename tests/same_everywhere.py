"""Renders the same pictures from a folder, HDF5, tar and Parquet files, packs them, and has foreigners read them.

    python tests/same_everywhere.py PHOTOS PAINTING --number 60 --size 48 --evaluations 3 -o FOLDER

Pictures are cut from the photographs of a folder. Every format must give the same pixels, and the packed files, read by
h5py, webdataset, pyarrow and, with `--datasets PYTHON`, by the `datasets` of Hugging Face in another environment, must
have these pixels with their labels. It needs pyarrow and webdataset.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
from pathlib import Path

import h5py
import numpy as np
import webdataset
from pictures import encoded
from PIL import Image
from tars import archive

import jaxstyle
from jaxstyle.data.packing import pack

READ_BY_DATASETS = """
import json, sys, datasets
root = sys.argv[1]
found = {}
for kind, files in (("parquet", "tables/*.parquet"), ("webdataset", "shards/*.tar")):
    name = {"parquet": "image", "webdataset": "png"}[kind]
    rows = datasets.load_dataset(kind, data_files=f"{root}/{files}", split="train", cache_dir=f"{root}/cache")
    rows = rows.cast_column(name, datasets.Image())
    label = "label" if kind == "parquet" else "cls"
    found[kind] = [(row[name].convert("RGB").tobytes().hex(), int(row[label])) for row in rows]
json.dump(found, sys.stdout)
"""


def cut(photos: Path, number: int, size: int) -> list[np.ndarray]:
    """Cuts pictures, each 3/4 as high as wide, from the photographs of a folder and reduces them."""
    paths = sorted(one for one in photos.rglob("*") if one.suffix.lower() in (".jpg", ".jpeg", ".png"))
    chance, made = np.random.default_rng(0), []
    for n in range(number):
        with Image.open(paths[n % len(paths)]) as picture:
            whole = picture.convert("RGB")
        width = int(min(whole.width, whole.height * 4 // 3) * chance.uniform(0.5, 1))
        height = width * 3 // 4
        x, y = (int(chance.integers(0, most + 1)) for most in (whole.width - width, whole.height - height))
        made.append(np.asarray(whole.resize((size, size * 3 // 4), box=(x, y, x + width, y + height))))
    return made


def inputs(root: Path, pictures: list[np.ndarray]) -> dict[str, list[Path]]:
    """Writes the pictures in every format, with labels: the number of each."""
    import pyarrow
    from pyarrow import parquet

    files = [encoded(one, "PNG") for one in pictures]
    (root / "photos").mkdir(parents=True)
    for n, data in enumerate(files):
        (root / f"photos/{n:05}.png").write_bytes(data)
    with h5py.File(root / "arrays.h5", "w") as file:
        file["images"], file["label"] = np.stack(pictures), np.arange(len(files))
    with h5py.File(root / "first.h5", "w") as file:
        file["images"], file["label"] = np.stack(pictures).transpose(0, 3, 1, 2), np.arange(len(files))
    with h5py.File(root / "files.h5", "w") as file:
        made, file["label"] = (
            file.create_dataset("images", (len(files),), h5py.vlen_dtype(np.uint8)),
            np.arange(len(files)),
        )
        for n, data in enumerate(files):
            made[n] = np.frombuffer(data, np.uint8)
    shards, tables, half = [], [], -(-len(files) // 2)
    for part in range(2):
        numbers = range(part * half, min((part + 1) * half, len(files)))
        members = {f"{n:05}.{end}": data for n in numbers
                   for end, data in (("png", files[n]), ("cls", b"%d" % n), ("json", b'{"n": %d}' % n))}  # fmt: skip
        shards.append(archive(root / f"part-{part}.tar", members))
        tables.append(root / f"part-{part}.parquet")
        images = [{"bytes": files[n], "path": f"{n:05}.png"} for n in numbers]
        parquet.write_table(pyarrow.table({"image": images, "label": [*numbers]}), tables[-1])
    one = {name: [root / f"{name}.h5"] for name in ("arrays", "first", "files")}
    return {"photos": [root / "photos"], **one, "shards": shards, "tables": tables}


def levels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def same(wanted: list[np.ndarray], found: list[tuple[np.ndarray, int]], what: str) -> None:
    """Asserts that pictures are these, each with its number as its label."""
    assert [label for _, label in found] == [*range(len(wanted))], f"{what}: other labels"
    differ = [n for n, (one, _) in enumerate(found) if not np.array_equal(one, wanted[n])]
    assert not differ, f"{what}: pictures {differ} differ"
    print(f"{what}: {len(found)} pictures and labels are equal", flush=True)


def packed(root: Path, given: dict[str, list[Path]], wanted: list[np.ndarray]) -> None:
    """Packs every run and reads the files with foreign readers."""
    from pyarrow import parquet

    for name in ("arrays", "first", "files"):
        layout = "encoded" if name == "files" else "auto"
        pack(root / f"out-{name}", root / f"{name}-new.h5", source=given[name], layout=layout)
        with h5py.File(root / f"{name}-new.h5") as file:
            images = [levels(one.tobytes()) for one in file["images"]] if name == "files" else file["images"][:]
            images = images.transpose(0, 2, 3, 1) if name == "first" else images
            same(wanted, [*zip(images, file["label"][:].tolist(), strict=True)], f"HDF5 of {name}, by h5py")
    for name in ("shards", "tables"):
        pack(root / f"out-{name}", root / name, source=given[name])
    paths = sorted(map(str, (root / "shards").glob("*.tar")))
    found = [(levels(one["png"]), int(one["cls"])) for one in webdataset.WebDataset(paths, shardshuffle=False)]
    same(wanted, found, "tar, by webdataset")
    rows = [row for path in sorted((root / "tables").iterdir()) for row in parquet.read_table(path).to_pylist()]
    found = [(levels(row["image"]["bytes"]), row["label"]) for row in rows]
    same(wanted, found, "Parquet, by pyarrow")
    pack(root / "out-photos", root / "plain")
    found = [(levels(one["png"]), n) for n, one in enumerate(webdataset.WebDataset(
        sorted(map(str, (root / "plain").glob("*.tar"))), shardshuffle=False))]  # fmt: skip
    same(wanted, found, "tar of the folder, by webdataset")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("painting", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--datasets", help="a Python with the package datasets")
    for name, default in (("number", 60), ("size", 48), ("evaluations", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    root = asked.output
    given = inputs(root, cut(asked.photos, asked.number, asked.size))
    made: dict[str, list[np.ndarray]] = {}
    for name, paths in given.items():
        options = {"size": asked.size, "evaluations": asked.evaluations}
        jaxstyle.render(paths, asked.painting, root / f"out-{name}", **options)
        made[name] = [levels(one.read_bytes()) for one in sorted((root / f"out-{name}").rglob("0*.png"))]
        same(made["photos"], [(one, n) for n, one in enumerate(made[name])], f"rendered from {name}")
    assert len({one.tobytes() for one in made["photos"]}) == asked.number, "pictures are alike"
    packed(root, given, made["photos"])
    if asked.datasets:
        told = subprocess.run(
            [asked.datasets, "-c", READ_BY_DATASETS, str(root)], capture_output=True, text=True, check=True
        )
        for kind, rows in json.loads(told.stdout).items():
            found = [(np.frombuffer(bytes.fromhex(text), np.uint8).reshape(made["photos"][0].shape), label)
                     for text, label in rows]  # fmt: skip
            same(made["photos"], found, f"{kind}, by Hugging Face's datasets")


if __name__ == "__main__":
    main()

"""docs/texture_bias.py: labels and splits from manifests, batches from the disk, and the shape bias of a network."""

import importlib
import json
import shlex

import numpy as np
import pytest
from documents import commands
from pictures import save
from PIL import Image

texture_bias = importlib.import_module("texture_bias")  # in docs/, which `documents` has put on the path
CLASSES = ("across", "down")
STRIPES = np.zeros((24, 24, 3), np.uint8)
STRIPES[np.arange(24) % 12 < 6] = 255


def tree(folder, names, textures=CLASSES, turned=False):
    """An output folder in which the class of the photograph decides which way its stripes run, or `turned` ones."""
    rows = []
    for n, name in enumerate(names):
        save(folder / name, STRIPES if name.startswith("across") != turned else STRIPES.transpose(1, 0, 2))
        style = f"{textures[n % len(textures)]}/{n}.png"
        rows.append({"key": name, "status": "done", "image": "", "style": style, "run": 1})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{label}/{n}.png" for label in CLASSES for n in range(12)]
    tree(tmp_path / "stylized", names)
    tree(tmp_path / "train", names, turned=True)
    tree(tmp_path / "conflicts", names, textures=("down", "across", "down"))
    return tmp_path


def test_the_command_of_the_guide_trains_both_networks_and_measures_their_bias(place, capsys):
    [line] = [shlex.split(line) for _, line in commands() if "docs/texture_bias.py" in line]
    quick = "--size 8 --width 16 --stages 1 --epochs 8 --batch 8 --learning-rate 0.02"
    results = texture_bias.main([*line[2:], *quick.split()])
    told = capsys.readouterr()
    assert [json.loads(one) for one in told.out.splitlines()] == results
    assert [one["trained_on"] for one in results] == ["stylized", "train"]
    assert [one["accuracy"] for one in results] == [1, 1]
    # the conflicts have the stripes of their shape's class in the first tree, and of the other class in the second
    assert [(one["conflicts"], one["shape"], one["texture"]) for one in results] == [(12, 12, 0), (12, 0, 12)]
    assert [one["shape_bias"] for one in results] == [1, 0]
    losses = [float(text.split()[-1]) for text in told.err.splitlines() if "epoch" in text]
    assert losses[7] < losses[0] / 4


def test_rows_give_classes_and_of_the_rows_of_a_key_the_latest_run_counts(tmp_path):
    rows = tree(tmp_path, ["a/1.png", "a/2.png", "b/3.png"], textures=("b",))
    several = {"key": "a/1.png.x.jpg", "image": "a/1.png", "status": "done", "style": "flat.jpg", "run": 1}
    more = [rows[0] | {"status": "failed", "run": 2}, rows[1] | {"status": "failed", "run": 0}, several]
    with open(tmp_path / "manifest.jsonl", "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in more)
    found = texture_bias.pictures(tmp_path)
    assert [(one.path.name, one.photograph, one.shape, one.texture) for one in found] == [
        ("1.png.x.jpg", "a/1.png", "a", ""), ("2.png", "a/2.png", "a", "b"), ("3.png", "b/3.png", "b", "b"),
    ]  # fmt: skip
    tree(tmp_path, ["flat.png"])
    with pytest.raises(SystemExit, match=r"flat\.png lies in no folder of a class"):
        texture_bias.pictures(tmp_path)


def test_all_pictures_of_a_photograph_are_on_one_side_and_a_tenth_is_held_out():
    made = [texture_bias.Picture(None, f"a/{n}.png", "a", style) for n in range(2000) for style in "xy"]
    out = [texture_bias.held_out(one) for one in made]
    assert out[::2] == out[1::2] and 0.08 < np.mean(out) < 0.12


def test_batches_have_every_picture_once_and_say_what_fills_them_up(tmp_path):
    paths = [save(tmp_path / f"{n}.png", np.full((9, 12, 3), 9 * n, np.uint8)) for n in range(11)]
    labels = np.arange(11)
    plain = [*texture_bias.batches(paths, labels, 4, 6)]
    assert [images.shape for images, _ in plain] == [(4, 6, 6, 3)] * 3
    assert np.concatenate([told for _, told in plain]).tolist() == [*range(11), -1]
    assert all((images[:, 0, 0, 0] == 9 * told)[told >= 0].all() for images, told in plain)
    draws = [[*texture_bias.batches(paths, labels, 4, 6, np.random.default_rng(seed))] for seed in (0, 0, 1)]
    orders = [np.concatenate([told for _, told in one]).tolist() for one in draws]
    assert orders[0] == orders[1] != orders[2] and len({*orders[0]}) == 8  # the last three would be no whole batch
    assert all((images[:, 0, 0, 0] == 9 * told).all() for images, told in draws[0])


def test_a_picture_is_read_from_its_middle_or_at_random(tmp_path):
    ramp = np.repeat(np.arange(40, dtype=np.uint8)[None, :, None] * 6, 20, 0).repeat(3, 2)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    middle = texture_bias.read(tmp_path / "a.png", 20, None)
    assert np.abs(middle[:, :, 0].astype(int) - ramp[:, 10:30, 0]).max() <= 1
    means = {seed: texture_bias.read(tmp_path / "a.png", 20, seed) for seed in range(6)}
    rising = {bool(one[0, 0, 0] < one[0, -1, 0]) for one in means.values()}
    assert rising == {True, False} and len({one.tobytes() for one in means.values()}) == 6


def test_the_bias_is_the_share_of_shapes_among_what_was_decided():
    decided, shapes, textures = np.array([0, 0, 1, 2, 2]), np.array([0, 0, 0, 1, 2]), np.array([1, 2, 1, 0, 0])
    assert texture_bias.bias(decided, shapes, textures) == {
        "conflicts": 5, "shape": 3, "texture": 1, "shape_bias": 0.75,
    }  # fmt: skip
    assert texture_bias.bias(decided[3:4], shapes[3:4], textures[3:4])["shape_bias"] is None


def test_a_class_that_was_not_trained_is_an_error(place):
    tree(place / "conflicts", ["across/1.png"], textures=("new",))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="not trained: new"):
        patch.setattr(texture_bias, "train", lambda *_: None)
        patch.setattr(texture_bias, "decisions", lambda *_: np.zeros(1))
        texture_bias.main(["stylized", "--conflicts", "conflicts"])

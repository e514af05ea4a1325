"""Trains a network on a stylized dataset and measures whether it decides by shape or by texture.

After Geirhos et al. 2019 (https://arxiv.org/abs/1811.12231): a network that was trained on photographs whose textures
were replaced has to tell classes by their shapes. On pictures with the shape of one class and the texture of another,
the shape bias is the number of decisions for the shape, divided by those for the shape or the texture.

    python docs/texture_bias.py stylized --photographs train --conflicts conflicts

Labels, splits and files come from manifest.jsonl: the class of a picture is the first folder of its photograph, that of
a texture the first folder of its style. Batches are read from the disk while the device works. `docs/guides.md` has the
commands that make the folders.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

HELD_OUT = 0.1
"""Part of the photographs that is held out for the accuracy."""
AHEAD = 4
"""Batches that are read ahead of the device."""
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
"""Of ImageNet's pixels, RGB in [0, 1]."""


class Picture(NamedTuple):
    """An output of jaxstyle.

    Attributes:
        path: the file.
        photograph: key of the photograph that it was made of.
        shape, texture: classes of the photograph, and of the style image ("" if styles have no classes).
    """

    path: Path
    photograph: str
    shape: str
    texture: str


def pictures(folder: Path) -> list[Picture]:
    """The outputs of a folder in the order of their keys, from the last row of each.

    Raises:
        SystemExit: a photograph lies in no folder, so that it has no class.
    """
    rows: dict[str, dict] = {}
    with open(folder / "manifest.jsonl") as lines:
        for row in map(json.loads, lines):
            if row.get("run", 0) >= rows.get(row["key"], row).get("run", 0):
                rows[row["key"]] = row
    found = []
    for key, row in sorted(rows.items()):
        if row["status"] == "done":
            photograph = row.get("image") or key
            if "/" not in photograph:
                sys.exit(f"{photograph} lies in no folder of a class: render a tree with a folder for each class.")
            style = row.get("style", "")
            texture = style.split("/")[0] if "/" in style else ""
            found.append(Picture(folder / key, photograph, photograph.split("/")[0], texture))
    return found


def held_out(picture: Picture) -> bool:
    """Whether a picture is not trained on; all pictures of a photograph are on one side."""
    digest = hashlib.sha256(picture.photograph.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT * 2**32


def read(path: Path, size: int, seed: int | None) -> np.ndarray:
    """A square of a picture, size x size x 3 uint8: a random part, perhaps mirrored, or the middle without a seed."""
    draw = None if seed is None else np.random.default_rng(seed)
    with Image.open(path) as file:
        image = file.convert("RGB")
    side = min(image.size)
    side = side if draw is None else round(side * draw.uniform(0.7, 1.0))
    left, top = ((full - side) * (0.5 if draw is None else draw.random()) for full in image.size)
    box = (left, top, left + side, top + side)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=2.0))
    return pixels[:, ::-1] if draw is not None and draw.random() < 0.5 else pixels


def batches(
    paths: Sequence[Path], labels: np.ndarray, batch: int, size: int, draw: np.random.Generator | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images (batch x size x size x 3) and labels; with `draw` in random order, without an incomplete batch.

    Without `draw` the last batch is filled up with copies and labels of -1.
    """
    order = np.arange(len(paths)) if draw is None else draw.permutation(len(paths))
    groups = [order[at : at + batch] for at in range(0, len(order), batch)]
    if draw is not None and len(groups) > 1 and len(groups[-1]) < batch:
        groups.pop()
    seeds = None if draw is None else draw.integers(2**63, size=len(paths))

    def one(group: np.ndarray, pool: ThreadPoolExecutor) -> tuple:
        full = np.resize(group, batch)
        told = np.where(np.arange(batch) < len(group), labels[full], labels[full] if draw is not None else -1)
        return [pool.submit(read, paths[n], size, None if seeds is None else seeds[n]) for n in full], told

    with ThreadPoolExecutor() as pool:
        rest = iter(groups)
        waiting = [one(group, pool) for group in islice(rest, AHEAD)]
        while waiting:
            futures, told = waiting.pop(0)
            waiting += [one(group, pool) for group in islice(rest, 1)]
            yield np.stack([future.result() for future in futures]), told


class Network(nn.Module):
    """A residual network with group normalisation (He et al. 2016, Wu and He 2018): logits from batches of images."""

    classes: int
    width: int
    stages: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = nn.Conv(self.width, (3, 3), 2)((images / 255.0 - MEAN) / STD)
        for stage in range(self.stages):
            channels, stride = self.width * 2**stage, 2 if stage else 1
            y = nn.Conv(channels, (3, 3), stride)(nn.relu(nn.GroupNorm(4)(x)))
            y = nn.Conv(channels, (3, 3))(nn.relu(nn.GroupNorm(4)(y)))
            x = y + nn.Conv(channels, (1, 1), stride)(x)
        return nn.Dense(self.classes)(nn.relu(nn.GroupNorm(4)(x)).mean((1, 2)))


class Programs(NamedTuple):
    """What is compiled for a network.

    Attributes:
        begin: seed -> parameters, state of the optimiser.
        step: parameters, state, images, labels -> parameters, state, loss.
        decide: parameters, images -> classes.
    """

    begin: Callable[..., Any]
    step: Callable[..., Any]
    decide: Callable[..., Any]


@cache
def programs(network: Network, size: int, steps: int, learning_rate: float) -> Programs:
    """Programs that train with AdamW and a cosine schedule of so many steps."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, steps // 20 + 1, steps + 1)
    optimiser = optax.adamw(schedule, weight_decay=0.05)

    def begin(seed):
        draw = np.random.default_rng(seed)  # compiling Flax's own draws takes longer than all else

        def first(path, of):
            if of.ndim > 1:
                return draw.normal(0, (2 / np.prod(of.shape[:-1])) ** 0.5, of.shape).astype(
                    np.float32
                )  # He et al. 2015
            return np.full(of.shape, path[-1].key == "scale", np.float32)

        shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
        parameters = jax.tree_util.tree_map_with_path(first, shapes)
        return parameters, optimiser.init(parameters)

    def step(parameters, state, images, labels):
        def loss(parameters):
            logits = network.apply(parameters, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, gradient = jax.value_and_grad(loss)(parameters)
        updates, state = optimiser.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, value

    def decide(parameters, images):
        return network.apply(parameters, images).argmax(-1)

    return Programs(begin, jax.jit(step, donate_argnums=(0, 1)), jax.jit(decide))


def train(paths: Sequence[Path], labels: np.ndarray, classes: int, given: argparse.Namespace) -> Callable[..., Any]:
    """Trains a network; returns a function that decides the classes of images."""
    steps = given.epochs * max(1, len(paths) // given.batch)
    made = programs(Network(classes, given.width, given.stages), given.size, steps, given.learning_rate)
    parameters, state = made.begin(given.seed)
    draw = np.random.default_rng(given.seed)
    for epoch in range(given.epochs):
        values = []
        for images, told in batches(paths, labels, given.batch, given.size, draw):
            parameters, state, value = made.step(parameters, state, images, told)
            values.append(value)
        print(f"epoch {epoch + 1} of {given.epochs}: loss {np.mean(jax.device_get(values)):.3f}", file=sys.stderr)
    return partial(made.decide, parameters)


def decisions(decide: Callable[..., Any], paths: Sequence[Path], given: argparse.Namespace) -> np.ndarray:
    """The class of each picture."""
    found = [
        np.asarray(decide(images))[told >= 0]
        for images, told in batches(paths, np.zeros(len(paths), int), given.batch, given.size)
    ]
    return np.concatenate(found) if found else np.zeros(0, int)


def bias(decided: np.ndarray, shapes: np.ndarray, textures: np.ndarray) -> dict[str, float | int | None]:
    """Counts the decisions for shape and for texture; `shape_bias` is None if there are none."""
    shape, texture = int((decided == shapes).sum()), int((decided == textures).sum())
    share = shape / (shape + texture) if shape + texture else None
    return {"conflicts": len(decided), "shape": shape, "texture": texture, "shape_bias": share}


def measure(name: str, paths: list[Path], given: argparse.Namespace, found: list[Picture]) -> dict:
    """Trains on files of these pictures and returns accuracy and shape bias."""
    classes = sorted({one.shape for one in found})
    number = {label: n for n, label in enumerate(classes)}
    labels = np.array([number[one.shape] for one in found])
    away = np.array([held_out(one) for one in found])
    if away.all() or not away.any():
        sys.exit(f"{len(found)} pictures are too few: some are trained on, and a tenth is held out.")
    chosen = [path for path, out in zip(paths, away, strict=True) if not out]
    decide = train(chosen, labels[~away], len(classes), given)
    tried = decisions(decide, [path for path, out in zip(paths, away, strict=True) if out], given)
    result = {"trained_on": name, "pictures": len(chosen), "accuracy": float((tried == labels[away]).mean())}
    if given.conflicts is not None:
        conflicts = [one for one in pictures(given.conflicts) if one.texture != one.shape]
        unknown = {label for one in conflicts for label in (one.shape, one.texture)} - {*classes}
        if unknown:
            sys.exit(f"{given.conflicts} has classes that were not trained: {', '.join(sorted(unknown)[:5]) or 'none'}")
        decided = decisions(decide, [one.path for one in conflicts], given)
        told = ([number[getattr(one, kind)] for one in conflicts] for kind in ("shape", "texture"))
        result |= bias(decided, *map(np.array, told))
    return result


def main(words: Sequence[str] | None = None) -> list[dict]:
    """Prints a line of JSON for each network, and returns them."""
    parser = argparse.ArgumentParser(prog="docs/texture_bias.py", description=__doc__.split("\n")[0])
    parser.add_argument("stylized", type=Path, help="output folder of jaxstyle, of a tree of classes")
    parser.add_argument("--photographs", type=Path, help="the tree itself, for a second network to compare with")
    parser.add_argument("--conflicts", type=Path, help="output folder with shapes and textures of different classes")
    parser.add_argument("--size", type=int, default=128, help="side of the network's input in pixels (128)")
    parser.add_argument("--width", type=int, default=32, help="channels of the first stage, a multiple of 4 (32)")
    parser.add_argument("--stages", type=int, default=4, help="stages, each with half the side and twice the width (4)")
    parser.add_argument("--epochs", type=int, default=60, help="times that all pictures are seen (60)")
    parser.add_argument("--batch", type=int, default=64, help="pictures a step (64)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="largest learning rate (0.001)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and crops (0)")
    given = parser.parse_args(words)
    found = pictures(given.stylized)
    trees = {str(given.stylized): [one.path for one in found]}
    if given.photographs is not None:
        trees[str(given.photographs)] = [given.photographs / one.photograph for one in found]
    results = []
    for name, paths in trees.items():
        results.append(measure(name, paths, given, found))
        print(json.dumps(results[-1]), flush=True)
    return results


if __name__ == "__main__":
    main()

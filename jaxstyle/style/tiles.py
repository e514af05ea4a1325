"""Computes what the terms read of a picture tile by tile, for pictures whose feature maps memory cannot hold.

Each block of the network is a loop over the tiles of its maps. The loop keeps the block's pooled maps, which are the
next block's input, the maps that a term reads whole, and sums over all tiles of what `Term.sums` makes of the others.
The gradient runs the loops again: it computes the maps of a tile a second time and adds the gradient of the tile's
window to that of the block's input. A window is the tile and a halo as wide as the block's convolutions reach, 2 to 4
positions, so the result is that of the whole picture up to rounding and no tile has a border of its own. (Tiles of the
image itself would need a halo of 58 pixels to reach relu5_1 of VGG16, computed in every block.) Keeping some maps and
computing the others again is gradient checkpointing (Chen et al. 2016, arXiv 1604.06174).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxstyle.model import ops, vgg
from jaxstyle.model.vgg import FeatureMap
from jaxstyle.presets import Objective
from jaxstyle.style import objective as objectives
from jaxstyle.style.grid import Block, blocks
from jaxstyle.style.objective import Source
from jaxstyle.style.terms.base import Image, View


class Made(NamedTuple):
    """What a block, or one tile of it, makes.

    Attributes:
        maps: features of the layers that a term reads whole, by layer.
        sums: `Term.sums` by layer and term.
        pooled: the next block's input; an empty tuple after the last block.
    """

    maps: dict[str, Float[Array, "h w C"]]
    sums: dict[str, dict[str, Any]]
    pooled: Any


@dataclass(frozen=True)
class Part:
    """One block of the network with what the terms read of it.

    Attributes:
        block: its layers and tiles.
        margin: halo of the next block, which lies around `pooled`.
        room: height and width of `pooled` with its margin.
        whole: layers of which a term reads the whole maps.
        summed: `Term.sums` by layer and term.
        pooling, pooling_gain: see `VGG`.
        dtype: number type of the maps.
        gain: factor on the maps that terms read.
        replicate: whether the first convolution repeats the array's border; tiles have it in their halo instead.
    """

    block: Block
    margin: int
    room: tuple[int, int]
    whole: tuple[str, ...]
    summed: Mapping[str, Mapping[str, Callable[[FeatureMap], Any]]]
    pooling: str
    pooling_gain: float
    dtype: Any
    gain: float
    replicate: bool

    def window(self, variables: Any, x: Any, inside: ops.Inside) -> Made:
        """Computes one tile.

        Args:
            variables: of the block's layers.
            x: the block's input in the window, h x w x c: the tile and its halo; 0 outside the picture.
            inside: mask of the picture in the window.
        """
        here, maps, sums = self._tile(inside), {}, {}
        for index, name in enumerate(self.block.layers):
            own = {kind: variables[kind][name] for kind in ("params", "backward")}
            channels, replicate = own["params"]["bias"].shape[0], self.replicate and index == 0
            x = vgg.ConvRelu(channels, replicate=replicate, dtype=self.dtype).apply(own, x, inside)
            if name in self.whole or name in self.summed:
                f = FeatureMap(self._tile(x) if self.gain == 1 else self._tile(x) * self.gain, here)
                if name in self.whole:
                    maps[name] = f.features
                if name in self.summed:
                    sums[name] = {term: of(f) for term, of in self.summed[name].items()}
        pooled = vgg.pool(self._tile(x), here, self.pooling, self.pooling_gain) if self.block.pooled else ()
        return Made(maps, sums, pooled)

    def _tile(self, window: Array) -> Array:
        halo, (rows, columns) = self.block.halo, (self.block.rows, self.block.columns)
        return window[halo : halo + rows.length, halo : halo + columns.length] if halo else window


def place(part: Part, number: Any) -> tuple[Any, Any]:
    """Returns the row and the column at which a tile begins."""
    columns = jnp.int32(part.block.columns.number)
    return number // columns * part.block.rows.length, number % columns * part.block.columns.length


def _get(whole: Array, at: tuple[Any, Any], size: tuple[int, ...]) -> Array:
    """Reads a rectangle that begins `at` this row and column."""
    rest = whole.shape[2:]
    return lax.dynamic_slice(whole, (*at, *(jnp.int32(0) for _ in rest)), (*size[:2], *rest))


def _set(whole: Array, at: tuple[Any, Any], values: Array) -> Array:
    """Writes a rectangle that begins `at` this row and column."""
    return lax.dynamic_update_slice(whole, values, (*at, *(jnp.int32(0) for _ in whole.shape[2:])))


def _pooled_at(part: Part, at: tuple[Any, Any]) -> tuple[Any, Any]:
    return at[0] // 2 + part.margin, at[1] // 2 + part.margin


def _blank(part: Part, tile: Made) -> Made:
    """Makes zeros for the results of all tiles, given the shapes of one."""
    covered = (part.block.rows.covered, part.block.columns.covered)
    maps = {name: jnp.zeros((*covered, one.shape[-1]), one.dtype) for name, one in tile.maps.items()}
    sums = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), tile.sums)
    pooled = jax.tree.map(lambda one: jnp.zeros((*part.room, one.shape[-1]), one.dtype), tile.pooled)
    return Made(maps, sums, pooled)


def in_tiles(part: Part, variables: Any, x: Float[Array, "h w c"], inside: ops.Inside) -> Made:
    """Computes a block tile by tile.

    Args:
        x: the block's input: its maps' positions, with the halo before them and up to the last tile's halo after them.
        inside: mask of the picture at these positions.
    """
    size = part.block.window
    number = part.block.rows.number * part.block.columns.number

    @jax.custom_vjp
    def run(variables, x, inside):
        def one(k, done):
            at = place(part, k)
            tile = part.window(variables, _get(x, at, size), _get(inside, at, size))
            maps = {name: _set(done.maps[name], at, values) for name, values in tile.maps.items()}
            pooled = jax.tree.map(lambda a, b: _set(a, _pooled_at(part, at), b), done.pooled, tile.pooled)
            return Made(maps, jax.tree.map(jnp.add, done.sums, tile.sums), pooled)

        shapes = (jax.ShapeDtypeStruct((*size, *a.shape[2:]), a.dtype) for a in (x, inside))
        blank = _blank(part, jax.eval_shape(part.window, variables, *shapes))
        return lax.fori_loop(jnp.int32(0), jnp.int32(number), one, blank)

    def forward(variables, x, inside):
        return run(variables, x, inside), (variables, x, inside)

    def backward(residual, gradient):
        variables, x, inside = residual

        def one(k, dx):
            at = place(part, k)
            mask, there = _get(inside, at, size), (part.block.rows.length, part.block.columns.length)
            _, pull = jax.vjp(lambda window: part.window(variables, window, mask), _get(x, at, size))
            maps = {name: _get(values, at, there) for name, values in gradient.maps.items()}
            half = (there[0] // 2, there[1] // 2)
            pooled = jax.tree.map(lambda a: _get(a, _pooled_at(part, at), half), gradient.pooled)
            (own,) = pull(Made(maps, gradient.sums, pooled))
            return _set(dx, at, _get(dx, at, size) + own)

        return None, lax.fori_loop(jnp.int32(0), jnp.int32(number), one, jnp.zeros_like(x)), None

    run.defvjp(forward, backward)
    return run(variables, x, inside)


def _parts(
    objective: Objective, source: Source, size: tuple[int, int], tile: int, dtype: Any, gain: float
) -> list[Part]:
    """Lists the blocks of the network for an image of this height and width."""
    network, summed = objective.architecture, objectives.summed(objective, source)
    whole = objectives.read_whole(objective, source)
    used = objectives.layers(objective, source)
    deepest = max(map(network.layers.index, used), default=-1)
    cut = blocks(network, network.layers[: deepest + 1], *size, tile)
    found: list[Part] = []
    for block, after in itertools.zip_longest(cut, cut[1:]):
        margin = after.halo if after else 0
        covered = [(block.rows.covered // 2, block.columns.covered // 2)]
        if after and not after.whole:
            covered.append((after.rows.covered, after.columns.covered))
        height, width = (max(sides) + 2 * margin for sides in zip(*covered, strict=True))
        found.append(
            Part(
                block=block,
                margin=margin,
                room=(height, width),
                whole=tuple(name for name in block.layers if name in whole),
                summed={name: summed[name] for name in block.layers if name in summed},
                pooling=objective.pooling,
                pooling_gain=objective.pooling_gain,
                dtype=dtype,
                gain=gain,
                replicate=block.whole and not found and objective.padding == "replicate",
            )
        )
    return found


def _surrounded(x: Image, block: Block, padding: str) -> Array:
    """Puts the halo of the first block around its input: zeros, for "replicate" beside one copy of the border."""
    (height, width), halo = x.shape[:2], block.halo
    ring = 1 if padding == "replicate" else 0
    if ring:
        x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rest = (block.rows.covered - height + halo - ring, block.columns.covered - width + halo - ring)
    return jnp.pad(x, ((halo - ring, rest[0]), (halo - ring, rest[1]), (0, 0)))


def _masked(inside: ops.Inside, block: Block) -> ops.Inside:
    """Puts the halo of a block around its mask."""
    rest = (block.rows.covered - block.height, block.columns.covered - block.width)
    return jnp.pad(inside, ((block.halo, rest[0] + block.halo), (block.halo, rest[1] + block.halo)))


def see(
    objective: Objective,
    source: Source,
    variables: Any,
    image: Image,
    inside: ops.Inside,
    *,
    tile: int,
    dtype: Any,
    gain: float,
) -> objectives.Seen:
    """Computes what the terms read, like `objective.see`, and never holds all maps of a block with several tiles.

    Args:
        source: see `objective.layers`.
        tile: see `grid.blocks`.
        dtype: number type of the convolutions.
        gain: factor on all feature maps.
    """
    scale, mask = variables["preprocessing"], inside
    maps: dict[str, FeatureMap] = {}
    sums: dict[str, dict[str, Any]] = {}
    x = vgg.normalised(image, inside, scale["mean"], scale["std"], objective.padding)
    parts = _parts(objective, source, (image.shape[0], image.shape[1]), tile, dtype, gain)
    if parts and not parts[0].block.whole:
        x = _surrounded(x, parts[0].block, objective.padding)
    for part in parts:
        block = part.block
        own = {kind: {name: variables[kind][name] for name in block.layers} for kind in ("params", "backward")}
        if block.whole:
            made = part.window(own, x[: block.height, : block.width], mask)
        else:
            made = in_tiles(part, own, x, _masked(mask, block))
        maps |= {name: FeatureMap(one[: block.height, : block.width], mask) for name, one in made.maps.items()}
        sums |= made.sums
        x, mask = made.pooled, ops.pool_inside(mask)
    return objectives.Seen(View(image, inside, maps), sums)

"""How the feature maps of a picture are cut into tiles: numbers only, without jax."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from jaxstyle.architecture import Architecture


class Cut(NamedTuple):
    """One side of a block's maps, cut into tiles of one length.

    Attributes:
        number: of tiles.
        length: of a tile in positions, without its halo; even. The last tile may end beyond the maps.
    """

    number: int
    length: int

    @property
    def covered(self) -> int:
        """Positions that the tiles cover together."""
        return self.number * self.length


class Block(NamedTuple):
    """One block of the network and how its maps are cut.

    Attributes:
        layers: its convolutions that are computed.
        height, width: of its maps, in positions.
        rows, columns: how the height and the width are cut.
        halo: positions beyond a tile on each side that its convolutions read; even, so that a window of the pooling
            never lies in two tiles; 0 if there is one tile.
        pooled: whether another block follows.
    """

    layers: tuple[str, ...]
    height: int
    width: int
    rows: Cut
    columns: Cut
    halo: int
    pooled: bool

    @property
    def whole(self) -> bool:
        """Whether the block has one tile, which is all of its maps."""
        return self.rows.number * self.columns.number == 1

    @property
    def window(self) -> tuple[int, int]:
        """Height and width in positions of the window that makes a tile: the tile and its halo."""
        return self.rows.length + 2 * self.halo, self.columns.length + 2 * self.halo


def cut(side: int, tile: int) -> Cut:
    """Cuts a side into the fewest tiles of at most `tile` positions, all of one even length."""
    number = -(-side // tile)
    return Cut(number, side if number == 1 else -(-side // (2 * number)) * 2)


def blocks(network: Architecture, layers: Sequence[str], height: int, width: int, tile: int) -> list[Block]:
    """Lists the blocks that compute these layers, each with its tiles.

    Args:
        layers: the first layers of the network.
        height, width: of the picture's array in pixels, multiples of the stride.
        tile: longest side of a tile, in positions of the block's maps: in pixels at the first block, in pairs of
            pixels at the second. A block whose maps have no longer side has one tile.
    """
    grouped = [tuple(names) for _, names in itertools.groupby(layers, key=lambda name: name.split("_")[0])]
    found = []
    for number, names in enumerate(grouped):
        h, w = height >> number, width >> number
        rows, columns = cut(h, tile), cut(w, tile)
        halo = 0 if rows.number * columns.number == 1 else -(-len(names) // 2) * 2
        found.append(Block(names, h, w, rows, columns, halo, number + 1 < len(grouped)))
    return found

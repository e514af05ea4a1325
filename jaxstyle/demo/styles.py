"""Draws style images: brush strokes along a flow field, wave scallops, stained glass.

Each function returns H x W x 3 uint8, the same image at every call.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

SIZE = 512
_SCALE = 2  # images are drawn larger and then reduced, which smooths the edges


def _mix(one: tuple, other: tuple, share: float) -> tuple[int, ...]:
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))


def _jitter(rng: np.random.Generator, colour: tuple, amount: float) -> tuple[int, ...]:
    shift = rng.normal(0, amount) + rng.normal(0, amount / 2, 3)
    return tuple(int(np.clip(c + s, 0, 255)) for c, s in zip(colour, shift, strict=True))


def _finish(image: Image.Image, rng: np.random.Generator, grain: float) -> np.ndarray:
    """Reduces the image to its size and adds the grain of canvas or paper."""
    pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS), np.float32)
    return np.clip(pixels + rng.normal(0, grain, (SIZE, SIZE, 1)), 0, 255).astype(np.uint8)


def flow() -> np.ndarray:
    """Draws long impasto strokes along a swirling field, night blue with gold whirls."""
    rng, side = np.random.default_rng(7), SIZE * _SCALE
    blues = [(16, 30, 84), (28, 62, 140), (50, 104, 176), (112, 162, 204), (186, 208, 206), (18, 74, 108)]
    golds = [(250, 214, 92), (240, 176, 44), (255, 240, 180), (214, 126, 40)]
    whirls = [(0.24, 0.22, 0.15, 1), (0.72, 0.30, 0.19, -1), (0.45, 0.62, 0.14, 1), (0.86, 0.74, 0.15, 1),
              (0.14, 0.80, 0.13, -1)]  # fmt: skip

    def direction(at: np.ndarray) -> np.ndarray:
        """Returns unit vectors of the field at points of the unit square: waves that turn around the whirls."""
        x, y = at.T
        vx, vy = np.ones_like(x), 0.45 * np.sin(7 * x + 2.5) + 0.35 * np.cos(5 * y + 9 * x)
        for cx, cy, radius, turn in whirls:
            dx, dy = x - cx, y - cy
            pull = 9 * np.exp(-((dx * dx + dy * dy) / radius**2)) * turn
            vx, vy = vx - pull * dy / radius, vy + pull * dx / radius
        return np.stack([vx, vy], 1) / np.hypot(vx, vy)[:, None]

    strokes = 9000
    paths = np.empty((strokes, 34, 2))
    paths[:, 0] = rng.uniform(-0.05, 1.05, (strokes, 2))
    for step in range(1, paths.shape[1]):
        paths[:, step] = paths[:, step - 1] + 0.0032 * direction(paths[:, step - 1])

    image = Image.new("RGB", (side, side), blues[0])
    draw = ImageDraw.Draw(image)
    colour: tuple[int, ...]
    for number, path in enumerate(paths):
        x, y = path[0]
        nearest = min(np.hypot(x - cx, y - cy) / radius for cx, cy, radius, _ in whirls)
        band = 0.5 + 0.5 * np.sin(9 * y + 4 * np.sin(4 * x))
        if rng.random() < np.exp(-((nearest / 0.55) ** 2)):
            colour = golds[rng.integers(len(golds))]
        else:
            colour = blues[int(np.clip(rng.normal(band * 4.6, 0.9), 0, 5))]
        length = int(rng.uniform(16, 34) * (1.0 - 0.4 * number / strokes))
        points = [(px * side, py * side) for px, py in path[:length]]
        width = int(rng.uniform(7, 13))
        colour = _jitter(rng, colour, 12)
        draw.line(points, fill=_mix(colour, (8, 12, 34), 0.45), width=width + 3, joint="curve")
        draw.line(points, fill=colour, width=width, joint="curve")
        ridge = [(px - 2, py - 2) for px, py in points]
        draw.line(ridge, fill=_mix(colour, (255, 250, 225), 0.3), width=max(2, width // 4), joint="curve")
    return _finish(image, rng, 5)


def scallops() -> np.ndarray:
    """Draws overlapping wave scallops in the colours of a woodblock print, with foam on the crests."""
    rng, side = np.random.default_rng(11), SIZE * _SCALE
    indigo, prussian, sky, cream, rust = (20, 44, 84), (36, 84, 136), (120, 164, 180), (240, 228, 198), (190, 92, 58)
    image = Image.new("RGB", (side, side), cream)
    draw = ImageDraw.Draw(image)
    row, y = 0, 0.0
    while y < side + 220:
        radius = 58 + 62 * y / side
        x = -radius if row % 2 else 0.0
        while x < side + 2 * radius:
            lift = 14 * np.sin(x / 170 + row)
            rings = [indigo, cream, prussian, cream, sky, cream, indigo if rng.random() < 0.8 else rust, prussian]
            for ring, colour in enumerate(rings):
                r = radius * (1 - ring / len(rings)) + rng.normal(0, 1.2)
                centre = (x + rng.normal(0, 1.5), y + lift + rng.normal(0, 1.5))
                box = (centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r)
                draw.ellipse(box, fill=_jitter(rng, colour, 7))
            for turn in np.linspace(np.pi * 1.08, np.pi * 1.92, 11):  # foam: beads along the crest
                bead = rng.uniform(3, 8)
                cx, cy = x + (radius + 3) * np.cos(turn), y + lift + (radius + 3) * np.sin(turn)
                draw.ellipse((cx - bead, cy - bead, cx + bead, cy + bead), fill=cream, outline=indigo, width=2)
            x += 2 * radius
        y += radius * 0.62
        row += 1
    return _finish(image, rng, 6)


def glass() -> np.ndarray:
    """Draws stained glass: unevenly lit cells around scattered points, between dark leads."""
    rng, side = np.random.default_rng(5), SIZE  # the edges are soft at this scale
    palette = np.array([(176, 24, 36), (224, 92, 28), (246, 186, 48), (24, 92, 160), (18, 44, 112), (30, 128, 92),
                        (132, 40, 120), (240, 226, 176), (58, 164, 190)], np.float32)  # fmt: skip
    turns = np.linspace(0, 26 * np.pi, 330)
    spiral = 0.5 + 0.78 * np.stack([np.cos(turns), np.sin(turns)], 1) * (turns / turns[-1])[:, None] ** 0.6
    points = (spiral + rng.normal(0, 0.012, spiral.shape)) * side
    ys, xs = np.mgrid[0:side, 0:side].astype(np.float32)
    first, second = np.full((2, side, side), np.inf, np.float32)
    owner = np.zeros((side, side), int)
    for index, (px, py) in enumerate(points):  # distances to the nearest and the second nearest point
        distance = np.hypot(xs - px, ys - py)
        nearer = distance < first
        second = np.where(nearer, first, np.minimum(second, distance))
        first, owner = np.where(nearer, distance, first), np.where(nearer, index, owner)
    ring = (turns / turns[-1] * 7).astype(int)
    choice = (ring * 2 + rng.integers(0, 3, len(points))) % len(palette)
    shade = rng.uniform(0.75, 1.2, len(points))
    pixels = palette[choice][owner] * shade[owner][..., None]
    streaks = np.sin(xs / 4.5 + 3 * np.sin(ys / 20)) + np.sin(ys / 6.5 + 2 * np.sin(xs / 28))
    pixels = pixels * (1 + 0.09 * streaks[..., None]) + 26 * np.exp(-first / 11)[..., None]
    lead = np.clip((second - first) / 4.5, 0, 1)[..., None] ** 2
    pixels = pixels * lead + np.array((14, 12, 18)) * (1 - lead)
    return _finish(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), rng, 4)


STYLES = {"flow": flow, "scallops": scallops, "glass": glass}
"""Drawing functions by name; the demo uses the names for its files."""


def example() -> np.ndarray:
    """Returns the style image `flow` as H x W x 3 float32 in [0, 1]."""
    return flow().astype(np.float32) / 255

"""What stored values mean as colours, by an ICC profile, PNG's chunks or an AVIF's code points, and their way to sRGB.

This is for what LittleCMS in Pillow cannot do: profiles at more than 8 bits, and colours described without a profile.
Colours are converted with relative colorimetric intent, and clipped to sRGB.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
STEPS = 65536
"""Entries of a tabulated curve; 8- and 16-bit values fall on entries."""
SAME_GAMMA, SAME_CHROMATICITY = 0.05, 0.005
"""Relative distance from gamma 1/2.2, and distance of chromaticities from sRGB's, that count as sRGB."""
SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
"""x and y of white, red, green and blue."""
BAND = 1 << 18
"""Pixels that are converted at a time."""


class Unusable(Exception):
    """The description of colours cannot be used; the message says why."""


@dataclass(frozen=True)
class Encoding:
    """How stored values in [0, 1] encode colours.

    Attributes:
        curves: linear light of `STEPS` even stored values, one curve for gray, or three.
        matrix: 3 x 3, from linear light of RGB to XYZ under D50; None for gray.
    """

    curves: tuple[np.ndarray, ...]
    matrix: np.ndarray | None


def srgb_curve(stored: np.ndarray) -> np.ndarray:
    """Returns sRGB's linear light of stored values."""
    return np.where(stored <= 0.04045, stored / 12.92, ((np.maximum(stored, 0) + 0.055) / 1.055) ** 2.4)


def _encode(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def tabulate(curve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Samples a curve at `STEPS` even stored values."""
    return np.asarray(curve(np.linspace(0, 1, STEPS)), np.float32)


def from_primaries(values: tuple[float, ...]) -> np.ndarray:
    """Returns the matrix from linear RGB to XYZ, adapted from its white to D50 by Bradford's method.

    Args:
        values: as `SRGB_PRIMARIES`.

    Raises:
        Unusable: they span no colours.
    """
    points = np.array(values, float).reshape(4, 2)
    if not (np.isfinite(points).all() and (points[:, 1] > 0).all()):
        raise Unusable("its chromaticities are no colours")
    xyz = np.stack([points[:, 0] / points[:, 1], np.ones(4), (1 - points.sum(1)) / points[:, 1]])
    white, primaries = xyz[:, 0], xyz[:, 1:]
    if abs(np.linalg.det(primaries)) < 1e-6:
        raise Unusable("its chromaticities lie on a line")
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    adapted = np.linalg.inv(bradford) @ np.diag((bradford @ D50) / (bradford @ white)) @ bradford
    return adapted @ (primaries * np.linalg.solve(primaries, white))


def from_gamma(gamma: float | None, primaries: tuple[float, ...] | None) -> Encoding | None:
    """The encoding of a PNG's gAMA and cHRM chunks; None if they say sRGB.

    Raises:
        Unusable: the values make no sense.
    """
    same_gamma = gamma is None or abs(gamma * 2.2 - 1) <= SAME_GAMMA
    same = primaries is None or np.abs(np.subtract(primaries, SRGB_PRIMARIES)).max() <= SAME_CHROMATICITY
    if same_gamma and same:
        return None
    if gamma is not None and not 0.01 <= gamma <= 100:
        raise Unusable(f"its gamma is {gamma:g}")
    curve = tabulate(srgb_curve if gamma is None else lambda stored: stored ** (1 / gamma))
    return Encoding((curve,) * 3, from_primaries(primaries or SRGB_PRIMARIES))


_CODED_PRIMARIES = {
    1: SRGB_PRIMARIES,
    4: (0.31, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (0.3127, 0.329, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
_UNSPECIFIED = 2
_VIDEO, _GAMMAS, _SRGB, _HDR = (1, 6, 14, 15), {4: 2.2, 5: 2.8, 8: 1.0}, 13, {16: "PQ", 18: "HLG"}


def from_code_points(primaries: int, transfer: int) -> Encoding | None:
    """The encoding of code points of ITU-T H.273; None if they say sRGB, or nothing.

    Video's transfer functions count as sRGB's, as in browsers: displays have shown them alike.

    Raises:
        Unusable: they are HDR or not known.
    """
    if transfer in _HDR:
        raise Unusable(f"it is HDR ({_HDR[transfer]})")
    known = {_UNSPECIFIED, _SRGB, *_VIDEO, *_GAMMAS}
    if transfer not in known or primaries not in (_UNSPECIFIED, *_CODED_PRIMARIES):
        raise Unusable(f"its code points are {primaries}/{transfer}")
    gamma = _GAMMAS.get(transfer)
    if gamma is None and primaries in (_UNSPECIFIED, 1, 5, 6, 7):
        return None
    curve = tabulate(srgb_curve if gamma is None else lambda stored: stored**gamma)
    return Encoding((curve,) * 3, from_primaries(_CODED_PRIMARIES.get(primaries, SRGB_PRIMARIES)))


def space_of(profile: bytes) -> str:
    """Returns an ICC profile's colour space, such as "RGB", "GRAY", "CMYK"; "" if it is no profile."""
    return profile[16:20].decode("ascii", "replace").strip() if profile[36:40] == b"acsp" else ""


def from_profile(profile: bytes) -> Encoding:
    """The encoding of an ICC profile of curves and a matrix, or of one gray curve.

    Raises:
        Unusable: it has tables, or is damaged.
    """
    try:
        tags = _tags(profile)
        if space_of(profile) == "GRAY" and profile[20:24] == b"XYZ ":
            return Encoding((_curve(tags[b"kTRC"]),), None)
        if space_of(profile) != "RGB" or profile[20:24] != b"XYZ " or b"A2B0" in tags:
            raise Unusable("it is more than curves and a matrix")
        columns = [np.array(struct.unpack(">3i", tags[c + b"XYZ"][8:20])) / 65536 for c in (b"r", b"g", b"b")]
        return Encoding(tuple(_curve(tags[c + b"TRC"]) for c in (b"r", b"g", b"b")), np.stack(columns, 1))
    except (KeyError, struct.error, ValueError, IndexError) as error:
        raise Unusable("it is damaged") from error


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack(">I", profile[128:132])
    entries = [struct.unpack(">4sII", profile[132 + 12 * n : 144 + 12 * n]) for n in range(min(count, 100))]
    return {name: profile[start : start + length] for name, start, length in entries}


def _curve(data: bytes) -> np.ndarray:
    """Tabulates a tag of type curv or para."""
    if data[:4] == b"curv":
        (count,) = struct.unpack(">I", data[8:12])
        if count == 0:
            return tabulate(lambda stored: stored)
        values = np.array(struct.unpack(f">{count}H", data[12 : 12 + 2 * count]))
        if count == 1:
            return tabulate(lambda stored: stored ** (values[0] / 256))
        return tabulate(lambda stored: np.interp(stored, np.linspace(0, 1, count), values / 65535))
    if data[:4] != b"para":
        raise ValueError("no curve")
    (kind,) = struct.unpack(">H", data[8:10])
    number = (1, 3, 4, 5, 7)[kind]
    given = [value / 65536 for value in struct.unpack(f">{number}i", data[12 : 12 + 4 * number])]
    g, a, b, c, d, e, f = given + [0.0] * (7 - number)
    if kind == 0:
        return tabulate(lambda stored: stored**g)
    if kind == 1:
        return tabulate(lambda x: np.where(a * x + b >= 0, np.maximum(a * x + b, 0) ** g, 0))
    if kind == 2:
        return tabulate(lambda x: np.where(a * x + b >= 0, np.maximum(a * x + b, 0) ** g, 0) + c)
    return tabulate(lambda x: np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f))


def to_srgb(pixels: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Converts stored values to sRGB, a band of pixels at a time.

    Args:
        pixels: H x W x 3, uint8 or floats in [0, 1]; gray ones have three equal channels.

    Returns:
        H x W x 3 of the same number type.
    """
    eight = pixels.dtype == np.uint8
    flat = pixels.reshape(-1, 3)
    made = np.empty(flat.shape, np.uint8 if eight else np.float32)
    for start in range(0, len(flat), BAND):
        band = flat[start : start + BAND]
        at = band.astype(np.int64) * 257 if eight else np.rint(np.clip(band, 0, 1) * (STEPS - 1)).astype(np.int64)
        curves = encoding.curves * (3 // len(encoding.curves))
        linear = np.stack([curve[at[:, n]] for n, curve in enumerate(curves)], 1)
        if encoding.matrix is not None:
            linear = linear @ (np.linalg.inv(from_primaries(SRGB_PRIMARIES)) @ encoding.matrix).T
        shown = _encode(linear)
        made[start : start + BAND] = np.rint(shown * 255) if eight else shown
    return made.reshape(pixels.shape)

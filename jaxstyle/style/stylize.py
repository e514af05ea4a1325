"""`stylize` takes arrays and returns stylized arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxstyle.architecture import STRIDE
from jaxstyle.coerce import combined
from jaxstyle.errors import InputError, SettingsError
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.initial import initial, lane_inputs
from jaxstyle.style.status import Status
from jaxstyle.style.stylizer import stylizer


@dataclass(frozen=True)
class Solution:
    """Stylized images and their losses; arrays have a leading axis N if N images were given.

    Attributes:
        image: gamma-encoded sRGB, float32 in [0, 1], (N x) H x W x 3.
        loss: objective at the image before clipping to [0, 1], (N); the largest float32 if even the start's loss was
            not finite.
        terms: terms of the loss by name (`content`, `style`, `tv`), weights applied, each (N); 0 for a term of
            weight 0.
        evaluations: number of evaluations of loss and gradient, (N).
        status: value of `Status` for each image, (N).
    """

    image: np.ndarray
    loss: np.ndarray
    terms: dict[str, np.ndarray]
    evaluations: np.ndarray
    status: np.ndarray


def stylize(
    images: Any,
    style: Any,
    settings: StylizeSettings | Mapping[str, Any] | None = None,
    **overrides: Any,
) -> Solution:
    """Stylizes one image, or several images of one size in one batch.

    Gatys, Ecker and Bethge 2016, with the objective and the solver of `settings`. The first call for a shape compiles.
    It works at the images' own size: `render` has scales, this call has none.

    Args:
        images: H x W x 3, or N x H x W x 3: gamma-encoded sRGB, floats in [0, 1] or uint8. Any size.
        style: h x w x 3, the same encoding. Its size sets the scale of the strokes; usually it has the images' size.
        settings: settings of the optimisation, or a dict of them [default: `StylizeSettings()`]
        **overrides: fields of `settings` to replace, e.g. `style_weight=20`.

    Returns:
        A `Solution`; image k of a batch equals the result of image k alone, up to rounding.

    Raises:
        InputError: an array has an unsupported shape, type or range.
        SettingsError: a setting has an invalid value.
        WeightsError: the network's weights cannot be loaded.
    """
    content, style_image = _checked(images, "images", (3, 4)), _checked(style, "style", (3,))
    settings = combined(StylizeSettings, settings, overrides)
    if isinstance(settings.evaluations, str):
        remedy = "Give one number: `stylize` works at the images' own size. `render` has scales."
        raise SettingsError(f"evaluations is {settings.evaluations!r}", remedy)
    if settings.objective().temporal_weight:
        remedy = "Leave it out: `stylize` knows no frame before. `render` has frames."
        raise SettingsError(f"temporal_weight is {settings.objective().temporal_weight:g}", remedy)
    if settings.precision == "mixed":
        remedy = "Give float32 or bfloat16: `stylize` remembers no choice of products. `render` has mixed."
        raise SettingsError("precision is 'mixed'", remedy)
    evaluations = settings.evaluations
    engine = stylizer(settings)
    single = content.ndim == 3
    content = content[None] if single else content
    if not len(content):
        raise InputError("images has no image in it", "Give at least one.")
    height, width = content.shape[1:3]
    targets = engine.style_targets(style_image)
    batch = engine.stack(
        [engine.start(_inputs(settings, image, style_image), targets, evaluations) for image in content]
    )
    while (jax.device_get(batch.lanes.status) == Status.RUNNING).any():
        batch = engine.advance(batch, evaluations, settings.tolerance)
    best, spent, status = jax.device_get((batch.lanes.result, batch.lanes.evaluations, batch.lanes.status))
    pick = (lambda a: a[0]) if single else (lambda a: a)
    return Solution(
        image=pick(np.clip(best.image[:, :height, :width], 0, 1)),
        loss=pick(best.loss),
        terms={name: pick(value) for name, value in best.terms.items()},
        evaluations=pick(spent),
        status=pick(status),
    )


def _inputs(settings: StylizeSettings, image: np.ndarray, style_image: np.ndarray) -> dict[str, np.ndarray]:
    """Makes the input arrays of an image's lane; its noise is the same alone and in a batch."""
    start = initial(settings, image, style_image, "")
    return lane_inputs(image, start, _multiple(image.shape[0]), _multiple(image.shape[1]))


def _checked(array: Any, name: str, dimensions: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise InputError(
            f"{name} has arrays of several sizes in it", "Give arrays of one size, or call once a size."
        ) from error
    if array.ndim not in dimensions or array.shape[-1] != 3 or 0 in array.shape[-3:]:
        expected = " or ".join({3: "H x W x 3", 4: "N x H x W x 3"}[d] for d in dimensions)
        raise InputError(f"{name} has shape {array.shape}", f"It must be {expected}, channels RGB.")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{name} has type {array.dtype}", "It must be uint8, or floats in [0, 1].")
    if not (np.isfinite(array).all() and array.min(initial=0) >= -1e-3 and array.max(initial=0) <= 1 + 1e-3):
        raise InputError(f"{name} has values from {array.min():.4g} to {array.max():.4g}", "Floats must be in [0, 1].")
    return array.astype(np.float32)


def _multiple(side: int) -> int:
    return -(-side // STRIDE) * STRIDE

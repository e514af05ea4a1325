"""Judges the image of a lane that has ended: figures for its row, and what is wrong with it.

The rules are the same for every status. They compare the image with its start, its input and the style image, not with
constants, so that a white page or a night photograph is no problem and a black result of a day photograph is one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxstyle.engine.lanes import Ended
from jaxstyle.engine.prepare import Prepared
from jaxstyle.presets import Objective
from jaxstyle.settings import RenderSettings
from jaxstyle.style.status import Status

ROUNDING = {"float32": 1e-6, "bfloat16": 1e-3, "mixed": 1e-3}
"""Share of the start loss by which the loss must fall, by precision of the convolutions: about ten times its rounding.
"""
STALLED = 0.01
"""The same for a lane whose solver found no acceptable step."""
OPTIMAL = 2.5e-7
"""A start loss up to this part of the objective's weights is rounding: the start is the optimum, as for a photograph
that is the style image."""
UNMOVED = 0.01
"""Mean change in levels of 255 below which the image is its start."""
FAINT = 0.1
"""Part of the lesser of the input's and the style's spread (or brightness, or darkness) that an image must have."""
SATURATED = 0.5
"""Share of black and white values that an image may have beyond half of the input's or the style's."""
SAMPLE = 64
"""Pixels a side of the sample that the figures are computed of."""


def sample(picture: np.ndarray) -> np.ndarray:
    """Returns at most `SAMPLE` x `SAMPLE` evenly spread pixels of an H x W x 3 picture, clipped to [0, 1]."""
    rows, columns = (-(-side // SAMPLE) for side in picture.shape[:2])
    return np.clip(picture[::rows, ::columns].astype(np.float32, copy=False), 0, 1)


def spread(pixels: np.ndarray) -> float:
    """Returns the standard deviation over the pixels in levels of 255, mean of the channels; 0 for one colour."""
    return 255 * float(pixels.std((0, 1)).mean())


def saturation(pixels: np.ndarray) -> float:
    """Returns the share of values that are 0 or 255 in eight bits."""
    return float(((pixels < 0.5 / 255) | (pixels > 254.5 / 255)).mean())


def picture_of(ended: Ended[Prepared]) -> np.ndarray:
    """Returns the image of a lane without the border that filled its bucket up."""
    assert ended.result is not None
    width, height = ended.task.job.work
    return ended.result.image[:height, :width]


def judgement(ended: Ended[Prepared]) -> dict[str, float]:
    """Returns the figures of an image for its row, see `data.rows.Row`; none if it is not finite."""
    result = ended.result
    if result is None or not (np.isfinite(result.image).all() and np.isfinite([result.loss, result.start_loss]).all()):
        return {}
    width, height = ended.task.job.work
    pixels, start = sample(picture_of(ended)), sample(ended.task.inputs["init"][:height, :width])
    fall = 1 - result.loss / result.start_loss if result.start_loss else 0.0
    found = {
        "fall": max(fall, -1e9),
        "moved": 255 * float(np.abs(pixels - start).mean()),
        "brightness": 255 * float(pixels.mean()),
        "spread": spread(pixels),
        "saturated": saturation(pixels),
    }
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def is_optimal(ended: Ended[Prepared], objective: Objective) -> bool:
    """Whether the start loss is rounding: there is nothing to gain."""
    weights = objective.content_weight + objective.style_weight + objective.tv_weight
    return ended.result is not None and abs(ended.result.start_loss) <= OPTIMAL * weights


def remark(ended: Ended[Prepared], settings: RenderSettings) -> str:
    """Says why an image that equals its start is no problem; "" for all others."""
    if ended.task.evaluations == ended.evaluations == 1:
        return "one evaluation: the result is the start"
    if is_optimal(ended, settings.objective()):
        return "the start is the optimum of the objective"
    return ""


def problem(ended: Ended[Prepared], settings: RenderSettings, found: Mapping[str, float] | None = None) -> str:
    """Says what is wrong with the image of a lane, so that a second try may help; "" if nothing is.

    A loss is compared with the start loss of the same stage: losses of other sizes are not comparable.

    Args:
        found: the figures of `judgement` [default: computed here]
    """
    result = ended.result
    if result is None:
        return ""  # a second try has no more memory
    found = judgement(ended) if found is None else found
    if ended.status == Status.DIVERGED or not found:
        return "diverged: its loss was not finite"
    if ended.task.evaluations == ended.evaluations == 1:  # whatever the start looks like, it was asked for
        return ""
    from_result = "before" in ended.task.inputs  # a frame of a still picture has nothing left to gain
    if not from_result and not is_optimal(ended, settings.objective()):
        went = f"its loss went from {result.start_loss:.4g} to {result.loss:.4g}"
        job = ended.task.job
        if ended.status == Status.STALLED and found["fall"] < STALLED and not job.continued:
            return f"stalled: no step lowered its loss ({went})"
        if found["fall"] < ROUNDING.get(result.precision, 0.0):
            return f"came out no better: {went}"
        if found["moved"] < UNMOVED and not (job.stage or job.continued):  # else it started from a result
            return f"came out as it began: a value changed by {found['moved']:.2g} of 255 on average"
    width, height = ended.task.job.work
    return _looks_wrong(found, sample(ended.task.inputs["content"][:height, :width]), sample(ended.task.style.picture))


def _looks_wrong(found: Mapping[str, float], content: np.ndarray, style: np.ndarray) -> str:
    """Says whether an image is darker, brighter, flatter or more saturated than the input and the style explain."""
    bright, least = found["brightness"], [255 * float(one.mean()) for one in (content, style)]
    beside = f"the input has {least[0]:.3g}, the style {least[1]:.3g}"
    if bright < FAINT * min(least):
        return f"came out nearly black: mean level {bright:.2g}; {beside}"
    if 255 - bright < FAINT * (255 - max(least)):
        return f"came out nearly white: mean level {bright:.4g}; {beside}"
    spreads = [spread(content), spread(style)]
    if found["spread"] < FAINT * min(spreads):
        beside = f"the input's is {spreads[0]:.3g}, the style's {spreads[1]:.3g}"
        return f"came out nearly flat: the spread of its levels is {found['spread']:.2g}; {beside}"
    if found["saturated"] > SATURATED + (1 - SATURATED) * max(saturation(content), saturation(style)):
        return f"came out saturated: {found['saturated']:.0%} of its values are 0 or 255"
    return ""

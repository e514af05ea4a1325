"""The stages of a job: at which sizes a picture is optimised, and with how many evaluations at each."""

from __future__ import annotations

from typing import NamedTuple

from jaxstyle.data.image import Header, Size
from jaxstyle.planning.buckets import shape
from jaxstyle.settings import RenderSettings


class Stage(NamedTuple):
    """One optimisation of a picture at one size.

    Attributes:
        work: width and height in pixels at which it is optimised.
        bucket: width and height of the array that holds it, filled up with its mirror image.
        evaluations: budget of loss-and-gradient evaluations.
    """

    work: Size
    bucket: Size
    evaluations: int


def stages(header: Header, settings: RenderSettings) -> tuple[Stage, ...]:
    """The stages of a picture with this header, in their order; each starts from the result of the one before.

    No picture is enlarged: the first scale that it does not exceed is its last, at its own size, and has the
    evaluations of the scales after it too, so that every picture of a run has as many.
    """
    made = [Stage(*shape(header, size), evaluations) for size, evaluations in settings.stages()]
    reached = [stage.work for stage in made].index(made[-1].work)
    rest = sum(stage.evaluations for stage in made[reached:])
    return (*made[:reached], made[-1]._replace(evaluations=rest))


def total_evaluations(settings: RenderSettings) -> int:
    """Evaluations of a picture, all stages together, unless a stage ends early."""
    return sum(evaluations for _, evaluations in settings.stages())

"""What a device is to the rest of the program: makes batches, runs their lanes, says what they cost.

`engine.device.JaxDevice` is the real one; tests have others. tests/test_contract.py says what all of them must do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxstyle.data.image import Size
from jaxstyle.planning.painting import Painting


class OutOfMemory(Exception):
    """The device has no room for a batch of this size."""


class Group(NamedTuple):
    """Tasks that one compiled program can work on.

    Attributes:
        bucket: width and height of the arrays in pixels.
        careful: they are second tries: float32 and smaller steps.
        stage: index of the job's stage that they are at.
        coarse: it is not their last stage, so that `RenderSettings.coarse_content_weight` applies.
    """

    bucket: Size
    careful: bool = False
    stage: int = 0
    coarse: bool = False


class Snapshot(NamedTuple):
    """The state of the N lanes of a batch.

    Attributes:
        status: N int, values of `style.status.Status`.
        evaluations: N int, spent on the image in the lane.
        loss: N float; any value for a lane that was never filled.
        terms: the objective's terms by name, weights applied, each N float.
    """

    status: np.ndarray
    evaluations: np.ndarray
    loss: np.ndarray
    terms: Mapping[str, np.ndarray]


class Result(NamedTuple):
    """The image of a lane and its losses.

    Attributes:
        image: H x W x 3 float32 as optimised, not clipped.
        loss: the objective at the image, as the device has it; compare it with `start_loss`.
        terms: the objective's terms by name, weights applied; their sum is the loss up to rounding.
        start_loss: the loss before the first step.
        precision: of the convolutions.
        tile: longest side in pixels of the tiles that it was computed in; 0 if it was computed whole.
    """

    image: np.ndarray
    loss: float
    terms: Mapping[str, float]
    start_loss: float
    precision: str
    tile: int = 0


class Batch(Protocol):
    """Lanes side by side on a device. Every method may raise OutOfMemory, after which the batch is lost."""

    def put(self, lane: int, inputs: Mapping[str, np.ndarray], evaluations: int, style: Painting) -> None:
        """Starts an image in a lane.

        Args:
            inputs: of `style.initial.lane_inputs`, of the bucket's size H x W: "content" and "init", H x W x 3 float32,
                and "inside", H x W bool: True on the picture, False on the border that fills the bucket up;
                with masks also "regions", H x W x `RenderSettings.lane_regions` bool.
            evaluations: budget of this image.
            style: its style; the style of all images on a device that was made for one.
        """

    def advance(self, ticks: int) -> Snapshot:
        """Runs some ticks of every lane that is running and returns when the device has done them. Never compiles."""

    def result(self, lane: int) -> Result:
        """The image of a lane and its losses."""

    def select(self, lanes: Sequence[int], size: int) -> Batch:
        """A batch of `size` lanes that goes on with these lanes in this order; this batch is used up. May compile."""


class Device(Protocol):
    """Makes batches. It may be several devices that share every batch.

    Attributes:
        count: how many; the number of lanes of a batch is a multiple of it.
        name: kind and number, for messages: rounding may differ between devices of two names.
        memory: bytes that batches may take, on all of them together. It is the same in every run on this machine,
            because it decides batches.
        free: bytes of it that are free at the moment; for messages.
        n_compiled: programs compiled for batches so far.
        precision: of the convolutions, resolved: "float32", "bfloat16" or "mixed".
        products: of "mixed", which layers are computed how: a JSON value, see `model.choice.Choice`; else empty.
    """

    @property
    def count(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def memory(self) -> int: ...
    @property
    def free(self) -> int: ...
    @property
    def n_compiled(self) -> int: ...
    @property
    def precision(self) -> str: ...
    @property
    def products(self) -> Mapping[str, Any]: ...

    def take(self, precision: str, products: Mapping[str, Any]) -> None:
        """Computes as an output folder remembers it, float32 or mixed, instead of as was chosen; before any batch."""

    def memory_bytes(self, bucket: Size, lanes: int) -> int:
        """Bytes that so many lanes take, with what they share."""

    def max_batch(self, bucket: Size) -> int:
        """Most lanes of a bucket that the memory has room for by estimate; at least one a device, to be tried."""

    def preferred_batch(self, bucket: Size) -> int:
        """Lanes of a bucket where the user asks for no number: the same in every run on this machine."""

    def worth_shrinking(self, group: Group, lanes: int, evaluations: int) -> bool:
        """Whether `evaluations` of so many idle lanes cost more than compiling a smaller batch."""

    def batch(self, group: Group, size: int) -> Batch:
        """A batch of idle lanes whose programs are compiled."""

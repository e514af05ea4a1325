"""Everything that runs on the device, batched once and compiled once a shape; and `stylize` for arrays."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxstyle.errors import InputError
from jaxstyle.model import vgg16, weights
from jaxstyle.settings import CAFFE_GAIN, CHUNK, INITS, RESCALED_GAIN, STRIDE, StylizeSettings
from jaxstyle.style import objective as objectives
from jaxstyle.style import solver as solvers
from jaxstyle.style.adam import Adam
from jaxstyle.style.initial import initial, pad_reflect
from jaxstyle.style.lbfgs import JaxoptZoom, Lbfgs
from jaxstyle.style.objective import ContentTargets, StyleTargets
from jaxstyle.style.solver import Lane, Solver, Status


def solver(settings: StylizeSettings) -> Solver:
    """The solver that the settings name."""
    match settings.solver:
        case "lbfgs":
            return Lbfgs(history=settings.history)
        case "adam":
            return Adam(learning_rate=settings.learning_rate)
        case "jaxopt-zoom":
            return JaxoptZoom(history=settings.history)
    raise AssertionError(settings.solver)


def _exact(function):
    """The function with products of float32 in float32: some devices take TF32 or bfloat16 unless told."""

    def traced(*arguments):
        with jax.default_matmul_precision("highest"):
            return function(*arguments)

    return traced


class Stylizer:
    """The compiled functions for one objective, solver and set of weights; see `stylizer` for who shares one.

    A shape is compiled when it is first met: `start` once a picture's shape, `advance` once a batch's.
    `compiled` counts the latter.
    """

    def __init__(self, settings: StylizeSettings, network_weights: weights.Weights):
        self.settings = settings
        self.weights = network_weights
        self.objective = settings.objective()
        self.variables = vgg16.variables(self.weights.parameters, self.weights.mean, self.weights.std)
        self.compiled = 0
        self._solver = solver(settings)
        self._style_targets = jax.jit(
            _exact(partial(self._targets, objectives.style_targets, self.objective.style_layers))
        )
        self._start = jax.jit(_exact(self._start_one))
        self._advance = jax.jit(_exact(self._advance_all), donate_argnums=1)
        self._put = jax.jit(lambda all_, i, one: jax.tree.map(lambda a, b: a.at[i].set(b), all_, one), donate_argnums=0)
        self._pick = jax.jit(lambda all_, lanes: jax.tree.map(lambda a: a[lanes], all_))

    def _network(self, layers: Sequence[str]) -> objectives.Network:
        dtype = jnp.bfloat16 if self.settings.precision == "bfloat16" else jnp.float32
        module = vgg16.VGG16(tuple(layers), pooling=self.objective.pooling, padding=self.objective.padding, dtype=dtype)
        gain = self.objective.feature_gain
        if gain is None:
            gain = CAFFE_GAIN if self.weights.feature_scale == "caffe" else RESCALED_GAIN

        def network(variables, image):
            maps: Any = module.apply(variables, image)
            return maps if gain == 1 else {name: features * gain for name, features in maps.items()}

        return network

    def _targets(self, function, layers, variables, image):
        return function(self.objective, self._network(layers), variables, image)

    def evaluate(self, variables: Any, style: StyleTargets, content: ContentTargets) -> solvers.Evaluate:
        """The function that is minimised for one image: image -> ((loss, terms), gradient)."""
        network = self._network((*self.objective.content_layers, *self.objective.style_layers))

        def loss(image):
            terms = objectives.terms(self.objective, network, variables, image, style, content)
            return sum(terms), terms

        return jax.value_and_grad(loss, has_aux=True)

    def _start_one(self, variables, style, content_image, init_image, budget, care):
        targets = self._targets(objectives.content_targets, self.objective.content_layers, variables, content_image)
        return solvers.start(self._solver, self.evaluate(variables, style, targets), init_image, budget, care), targets

    def _advance_all(self, variables, lanes, content, style, ticks, tolerance):
        self.compiled += 1  # runs while tracing, which is once a shape

        def tick(lane: Lane, targets: ContentTargets) -> Lane:
            evaluate = self.evaluate(variables, style, targets)
            return solvers.tick(self._solver, evaluate, lane, tolerance)

        # The one vmap: lanes and content targets by lane, parameters and style targets shared.
        return jax.lax.fori_loop(0, ticks, lambda _, lanes: jax.vmap(tick)(lanes, content), lanes)

    def style_targets(self, style: Float[np.ndarray, "h w 3"]) -> StyleTargets:
        """Gram targets of a style image, gamma-encoded sRGB in [0, 1], any size; tiny ones are mirrored."""
        height, width = style.shape[:2]
        padded = pad_reflect(np.asarray(style, np.float32), max(height, STRIDE), max(width, STRIDE))
        return self._style_targets(self.variables, padded)

    def start(
        self,
        content: Float[ArrayLike, "H W 3"],
        init: Float[ArrayLike, "H W 3"],
        style: StyleTargets,
        budget: int = sys.maxsize,
        care: float = 1.0,
    ) -> tuple[Lane, ContentTargets]:
        """A fresh lane and its content targets, for one image.

        Args:
            budget: most evaluations for this image.
            care: factor on the solver's first step.
        """
        arrays = jnp.asarray(content, jnp.float32), jnp.asarray(init, jnp.float32)
        return self._start(self.variables, style, *arrays, min(budget, np.iinfo(np.int32).max), care)

    def stack(self, started: Sequence[tuple[Lane, ContentTargets]]) -> tuple[Lane, ContentTargets]:
        """A batch of lanes from single ones."""
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *started)

    def put(
        self, batch: tuple[Lane, ContentTargets], index: int, one: tuple[Lane, ContentTargets]
    ) -> tuple[Lane, ContentTargets]:
        """The batch with one lane replaced; the old batch is used up."""
        return self._put(batch, index, one)

    def pick(self, batch: tuple[Lane, ContentTargets], lanes: Sequence[int]) -> tuple[Lane, ContentTargets]:
        """A batch of some lanes of a batch, in the order given."""
        return self._pick(batch, np.asarray(lanes, np.int32))

    def advance(
        self,
        batch: tuple[Lane, ContentTargets],
        style: StyleTargets,
        ticks: int = CHUNK,
        tolerance: float = 0.0,
    ) -> tuple[Lane, ContentTargets]:
        """The batch after some ticks of every lane that is still running; the old lanes are used up.

        Args:
            tolerance: of the settings.
        """
        lanes, content = batch
        return self._advance(self.variables, lanes, content, style, ticks, tolerance), content


@lru_cache(maxsize=4)
def _stylizer(settings: StylizeSettings, network_weights: weights.Weights) -> Stylizer:
    return Stylizer(settings, network_weights)


def stylizer(settings: StylizeSettings, network_weights: weights.Weights | None = None) -> Stylizer:
    """A `Stylizer` for these settings; the same one when asked again, so that nothing is compiled twice.

    Raises:
        WeightsError: the weights cannot be had.
    """
    own = {f.name: getattr(settings, f.name) for f in dataclasses.fields(StylizeSettings)}
    # What is an argument of the compiled functions, or happens before them, must not compile them again.
    own |= dict(seed=0, init=INITS[0], evaluations=1, tolerance=0.0, weights=None)
    return _stylizer(StylizeSettings(**own), network_weights or weights.load(settings.weights))


@dataclass(frozen=True)
class Solution:
    """Stylized images and what became of their losses; with a leading N where N images were given.

    Attributes:
        image: gamma-encoded sRGB, float32 in [0, 1], (N x) H x W x 3.
        loss: the objective at the image before clipping to [0, 1], (N).
        terms: the same by term, weights applied: dict of `content`, `style`, `tv`, each (N).
        evaluations: evaluations of loss and gradient spent, (N).
        status: a `Status` each, (N).
    """

    image: np.ndarray
    loss: np.ndarray
    terms: dict[str, np.ndarray]
    evaluations: np.ndarray
    status: np.ndarray


def stylize(
    images: Any,
    style: Any,
    settings: StylizeSettings | None = None,
    **overrides: Any,
) -> Solution:
    """Stylizes one image, or a batch of images of one size side by side.

    Gatys, Ecker and Bethge 2016, with the objective and the solver of `settings`. The first call for a shape compiles.

    Args:
        images: H x W x 3, or N x H x W x 3: gamma-encoded sRGB, floats in [0, 1] or uint8. Any size.
        style: h x w x 3, the same encoding. Its size sets the scale of the strokes: the working size is usual.
        settings: defaults of `StylizeSettings` where left out.
        **overrides: single fields of `settings`, e.g. `style_weight=20`.

    Returns:
        A `Solution`; image k of a batch is what image k alone gives, up to rounding.

    Raises:
        InputError: an array has another shape, type or range.
        SettingsError: an impossible setting.
        WeightsError: the network's weights cannot be had.
    """
    content, painting = _checked(images, "images", (3, 4)), _checked(style, "style", (3,))
    settings = dataclasses.replace(settings or StylizeSettings(), **overrides)
    engine = stylizer(settings)
    single = content.ndim == 3
    content = content[None] if single else content
    if not len(content):
        raise InputError("images has no image in it", "Give at least one.")
    height, width = content.shape[1:3]
    padded = [pad_reflect(image, _multiple(height), _multiple(width)) for image in content]
    targets = engine.style_targets(painting)
    starts = [initial(settings, image, painting, "") for image in padded]  # the same noise alone and in a batch
    batch = engine.stack(
        [engine.start(c, i, targets, settings.evaluations) for c, i in zip(padded, starts, strict=True)]
    )
    while (np.asarray(batch[0].status) == Status.RUNNING).any():
        batch = engine.advance(batch, targets, tolerance=settings.tolerance)
    lanes: Lane = jax.device_get(batch[0]._replace(state=None))
    pick = (lambda a: a[0]) if single else (lambda a: a)
    return Solution(
        image=pick(np.clip(lanes.image[:, :height, :width], 0, 1)),
        loss=pick(lanes.loss),
        terms={name: pick(value) for name, value in lanes.terms._asdict().items()},
        evaluations=pick(lanes.evaluations),
        status=pick(lanes.status),
    )


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

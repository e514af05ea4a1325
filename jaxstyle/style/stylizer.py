"""Everything that runs on the device: batched once, compiled once a shape, divided among several devices."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxstyle.model import vgg16, weights
from jaxstyle.settings import CAFFE_GAIN, INITS, RESCALED_GAIN, STRIDE, StylizeSettings
from jaxstyle.style import objective as objectives
from jaxstyle.style import solver as solvers
from jaxstyle.style.adam import Adam
from jaxstyle.style.initial import pad_reflect
from jaxstyle.style.lbfgs import JaxoptZoom, Lbfgs
from jaxstyle.style.objective import ContentTargets, StyleTargets
from jaxstyle.style.solver import Lane, Solver
from jaxstyle.style.status import Status

by_lane, all_of_it = P("lanes"), P()
"""How arrays lie on several devices."""


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


def _put(batch, index, one):
    """Lanes with one of them replaced, if there is one of this index."""
    return jax.tree.map(lambda a, b: a.at[index].set(b, mode="drop", wrap_negative_indices=False), batch, one)


def _put_on_one_of_several(batch, index, one):
    """The same for the lanes of one device, with an index over those of all."""
    return _put(batch, index - jax.lax.axis_index("lanes") * len(batch[0].status), one)


def _ended_from(batch, number):
    """The lanes, of which those from this index on have ended."""
    lanes, content = batch
    index = jnp.arange(len(lanes.status))
    return lanes._replace(status=jnp.where(index < number, lanes.status, Status.BUDGET)), content


def _filled(one, size):
    return _ended_from(jax.tree.map(lambda a: jnp.broadcast_to(a, (size, *a.shape)), one), 1)


def _picked(batch, indices, number):
    return _ended_from(jax.tree.map(lambda a: a[indices], batch), number)


class Stylizer:
    """The compiled functions for one objective, solver and set of weights; see `stylizer` for who shares one.

    A shape is compiled when it is first met: `start` once a picture's shape, `advance` once a batch's.
    `compiled` counts the latter.

    With several devices the lanes of a batch are divided among them in equal parts; parameters and style targets are
    on each. Nothing passes between devices while the lanes advance, so that none waits for another, and one whose
    lanes have all ended does nothing.
    """

    def __init__(self, settings: StylizeSettings, network_weights: weights.Weights, devices: int = 1):
        self.settings, self.devices = settings, devices
        self.weights = network_weights
        self.objective = settings.objective()
        self.variables = vgg16.variables(self.weights.parameters, self.weights.mean, self.weights.std)
        self._everywhere = self.variables  # targets are computed by one device, with its own
        self.compiled = 0
        self._solver = solver(settings)
        self._style_targets = jax.jit(
            _exact(partial(self._targets, objectives.style_targets, self.objective.style_layers))
        )
        self._start = jax.jit(_exact(self._start_one))
        advance, put, divided = self._advance_all, _put, None
        if devices > 1:
            mesh = Mesh(np.array(jax.local_devices()[:devices]), "lanes")
            self._everywhere = jax.device_put(self.variables, NamedSharding(mesh, all_of_it))
            advance = jax.shard_map(
                advance, mesh=mesh, in_specs=(all_of_it, by_lane, by_lane, all_of_it, all_of_it, all_of_it),
                out_specs=by_lane, check_vma=False,
            )  # fmt: skip
            put = jax.shard_map(
                _put_on_one_of_several, mesh=mesh, in_specs=(by_lane, all_of_it, all_of_it), out_specs=by_lane,
                check_vma=False,
            )  # fmt: skip
            divided = NamedSharding(mesh, by_lane)
        self._advance = jax.jit(_exact(advance), donate_argnums=1)
        self._put = jax.jit(put, donate_argnums=0)
        self._pick = jax.jit(_picked, out_shardings=divided)
        self._fill = jax.jit(_filled, static_argnums=1, out_shardings=divided)

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

        def go_on(done: tuple[Any, Lane]) -> Any:
            return (done[0] < ticks) & (done[1].status == Status.RUNNING).any()

        # The one vmap: lanes and content targets by lane, parameters and style targets shared.
        def all_tick(done: tuple[Any, Lane]) -> tuple[Any, Lane]:
            return done[0] + 1, jax.vmap(tick)(done[1], content)

        return jax.lax.while_loop(go_on, all_tick, (0, lanes))[1]

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
        """A batch of lanes from single ones, as many as a multiple of the devices."""
        batch = self.fill(started[0], len(started))
        for index, one in enumerate(started[1:], 1):
            batch = self.put(batch, index, one)
        return batch

    def fill(self, one: tuple[Lane, ContentTargets], size: int) -> tuple[Lane, ContentTargets]:
        """A batch of so many lanes, a multiple of the devices: this one, and copies of it that have ended."""
        return self._fill(one, size)

    def put(
        self, batch: tuple[Lane, ContentTargets], index: int, one: tuple[Lane, ContentTargets]
    ) -> tuple[Lane, ContentTargets]:
        """The batch with one lane replaced; the old batch is used up."""
        return self._put(batch, np.int32(index), one)

    def pick(self, batch: tuple[Lane, ContentTargets], lanes: Sequence[int], size: int) -> tuple[Lane, ContentTargets]:
        """A batch of some lanes of a batch, in the order given, and as many that have ended as make up the size."""
        indices = [*lanes, *[lanes[0]] * (size - len(lanes))]
        return self._pick(batch, np.asarray(indices, np.int32), np.int32(len(lanes)))

    def advance(
        self,
        batch: tuple[Lane, ContentTargets],
        style: StyleTargets,
        ticks: int = 10,
        tolerance: float = 0.0,
    ) -> tuple[Lane, ContentTargets]:
        """The batch after some ticks of every lane that is still running; the old lanes are used up.

        Args:
            tolerance: of the settings.
        """
        lanes, content = batch
        return self._advance(self._everywhere, lanes, content, style, ticks, tolerance), content


def precision(asked: str) -> str:
    """What the convolutions run in: "auto" is bfloat16 on devices with units for it, and float32 on the CPU."""
    return asked if asked != "auto" else "float32" if jax.default_backend() == "cpu" else "bfloat16"


@lru_cache(maxsize=4)
def _stylizer(settings: StylizeSettings, network_weights: weights.Weights, devices: int) -> Stylizer:
    return Stylizer(settings, network_weights, devices)


def stylizer(settings: StylizeSettings, network_weights: weights.Weights | None = None, devices: int = 1) -> Stylizer:
    """A `Stylizer` for these settings; the same one when asked again, so that nothing is compiled twice.

    Args:
        devices: the first so many local ones.

    Raises:
        WeightsError: the weights cannot be had.
    """
    own = {f.name: getattr(settings, f.name) for f in dataclasses.fields(StylizeSettings)}
    # What is an argument of the compiled functions, or happens before them, must not compile them again.
    own |= dict(seed=0, init=INITS[0], evaluations=1, tolerance=0.0, weights=None)
    own |= dict(precision=precision(settings.precision))
    return _stylizer(StylizeSettings(**own), network_weights or weights.load(settings.weights), devices)

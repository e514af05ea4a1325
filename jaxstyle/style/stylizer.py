"""Compiles the functions that run on the device: batched by one vmap, compiled once a shape, sharded over devices."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Float

from jaxstyle.architecture import STRIDE
from jaxstyle.model import vgg, weights
from jaxstyle.model.products import Forms
from jaxstyle.settings import INITS, StylizeSettings
from jaxstyle.style.batch import Batch, Started, all_of_it, by_lane, filled, picked, put, put_on_one_of_several, specs
from jaxstyle.style.initial import in_regions, lane_inputs, region_weights, warped
from jaxstyle.style.objective import Targets
from jaxstyle.style.one_image import OneImage
from jaxstyle.style.precision import highest_precision, precision
from jaxstyle.style.solvers import base
from jaxstyle.style.solvers.base import Lane
from jaxstyle.style.status import Status
from jaxstyle.style.terms import TERMS, Term
from jaxstyle.style.terms.base import Warped


class Stylizer:
    """The compiled functions for one objective, solver and set of weights; `stylizer` returns a shared one.

    The first call with a new shape compiles: `start` for the shape of an image, `advance` for the shape of a batch.
    `n_compiled` counts the programs of `advance`.

    Several devices hold equal parts of a batch's lanes; each has a copy of the parameters and the shared style targets.
    Devices do not communicate while the lanes advance, so that none waits for another, and a device whose lanes have
    all ended stops.
    """

    def __init__(
        self, settings: StylizeSettings, network_weights: weights.Weights, devices: int = 1, forms: Forms = (),
        platform: str | None = None,
    ):  # fmt: skip
        self.settings, self.devices, self.forms = settings, devices, forms
        self.weights = network_weights.require(settings.network)
        self.one = OneImage(settings, self.weights.feature_scale, forms, platform or jax.default_backend())
        self.objective, self.evaluate = self.one.objective, self.one.evaluate
        self.variables = vgg.variables_of(self.weights)
        if forms:
            self.variables = self.variables | {"products": highest_precision(vgg.products)(self.variables, forms)}
        self.n_compiled = 0
        self._mesh = None if devices == 1 else Mesh(np.array(jax.local_devices()[:devices]), "lanes")
        self._everywhere = self._on_all(self.variables)  # one device computes all targets, with `self.variables`
        self._style_targets = jax.jit(highest_precision(partial(self.one.targets, "style")))
        self._blend = jax.jit(lambda trees, w: jax.tree.map(lambda *a: jnp.tensordot(w, jnp.stack(a), 1), *trees))
        self._start = jax.jit(highest_precision(self.one.start))
        self._advance = jax.jit(highest_precision(self._advance_divided), donate_argnums=1)
        self._put = jax.jit(self._put_divided, donate_argnums=0)
        self._fill = {
            s: jax.jit(partial(filled, self.one.solver, s), static_argnums=1, **self._lies(s)) for s in (True, False)
        }
        self._result = jax.jit(lambda best, loss, index: jax.tree.map(lambda a: a[index], (best, loss)))
        self._pick = {s: jax.jit(picked, **self._lies(s)) for s in (True, False)}

    def _lies(self, shared: bool) -> dict[str, Any]:
        """Returns the arguments of `jax.jit` that shard a batch over several devices."""
        if self._mesh is None:
            return {}
        mesh = self._mesh
        return {"out_shardings": jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs(shared, by_lane))}

    def _on_all(self, arrays: Any) -> Any:
        """The arrays on every device, by an explicit transfer, which JAX's transfer guard allows."""
        return jax.device_put(arrays, NamedSharding(self._mesh, all_of_it) if self._mesh else None)

    @property
    def precision(self) -> str:
        """Precision of the convolutions: "mixed" with `forms`, which style targets do without."""
        return "mixed" if self.forms else self.settings.precision

    def _advance_all(self, variables, lanes, rest, ticks, tolerance):
        self.n_compiled += 1  # runs at tracing, once a shape
        one = self.one.alone() if len(lanes.status) == 1 else self.one
        variables, style_targets = one.loop_variables(variables), one.loop_targets(rest.style)

        def tick(lane: Lane, content: dict[str, Any], inside: Any, style: dict[str, Any]) -> Lane:
            return one.tick(variables, Targets(content, style), inside, lane, tolerance)

        # The one vmap: lanes and content by lane; parameters shared, and style targets too if all lanes have one style.
        ticks_of_all = jax.vmap(tick, in_axes=(0, 0, 0, None if rest.shared else 0))

        def go_on(done: tuple[Any, Lane]) -> Any:
            return (done[0] < ticks) & (done[1].status == Status.RUNNING).any()

        def all_tick(done: tuple[Any, Lane]) -> tuple[Any, Lane]:
            return done[0] + 1, ticks_of_all(done[1], rest.content, rest.inside, style_targets)

        return jax.lax.while_loop(go_on, all_tick, (jnp.int32(0), lanes))[1]

    def _by_device(self, function, ins):
        """Lets each of several devices call a function with its own lanes."""
        if self._mesh is None:
            return function
        return jax.shard_map(function, mesh=self._mesh, in_specs=ins, out_specs=by_lane, check_vma=False)

    def _advance_divided(self, variables, lanes, rest, ticks, tolerance):
        ins = (all_of_it, by_lane, specs(rest.shared, None), all_of_it, all_of_it)
        return self._by_device(self._advance_all, ins)(variables, lanes, rest, ticks, tolerance)

    def _put_divided(self, parts, index, one):
        function = put if self._mesh is None else put_on_one_of_several
        return self._by_device(function, (by_lane, all_of_it, all_of_it))(parts, index, one)

    def style_targets(
        self,
        style: Float[np.ndarray, "h w 3"],
        shape: tuple[int, int] | None = None,
        regions: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Computes the targets of a style image, gamma-encoded sRGB in [0, 1], of any size.

        Args:
            shape: width and height of the array that it is padded to, multiples of `STRIDE`, so that styles of several
                sizes have one program [default: the least]
            regions: h x w x R bool, see `initial.in_regions`.
        """
        width, height = shape or (-(-side // STRIDE) * STRIDE for side in style.shape[1::-1])
        inputs = lane_inputs(style, style[:1, :1], height, width, regions)
        arrays = (inputs["content"], inputs["inside"], *region_weights(inputs))
        return self._style_targets(self.variables, *jax.device_put(arrays))

    def blend(self, targets: Sequence[dict[str, Any]], weights: Sequence[float]) -> dict[str, Any]:
        """Computes the weighted mean of the targets of several style images."""
        if len(targets) == 1:
            return targets[0]
        shares = jax.device_put(np.asarray(weights, np.float32) / np.float32(sum(weights)))
        return self._blend(list(targets), shares)

    def no_targets(self, regions: int = 0) -> dict[str, Any]:
        """Makes targets of zeros, for a lane without an image. `regions` is their number, 0 without masks."""
        return jax.device_put(jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), self._shapes(regions)))

    def target_bytes(self, regions: int = 0) -> int:
        """Counts the bytes of one style's targets."""
        return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(self._shapes(regions)))

    def _shapes(self, regions: int) -> Any:
        blank = np.zeros((STRIDE, STRIDE, 3), np.float32)
        inputs = lane_inputs(blank, blank, STRIDE, STRIDE, in_regions(None, regions, blank.shape))
        arrays = (inputs["content"], inputs["inside"], *region_weights(inputs))
        return jax.eval_shape(self._style_targets, self.variables, *arrays)

    def start(
        self,
        inputs: Mapping[str, np.ndarray],
        style: dict[str, Any],
        budget: int = sys.maxsize,
        step_scale: float = 1.0,
    ) -> Started:
        """Makes a new lane for one image, with its targets.

        Args:
            inputs: see `initial.lane_inputs`: content, init, inside; with masks regions; for frames before and weights.
            style: result of `style_targets`.
            budget: most evaluations for this image.
            step_scale: factor on the solver's first step.
        """
        most = np.int32(min(budget, np.iinfo(np.int32).max))
        arrays = [np.asarray(inputs["content"], np.float32), np.asarray(inputs["init"], np.float32)]
        content, init, inside, most, step_scale, *rest = jax.device_put(
            (*arrays, np.asarray(inputs["inside"], bool), most, np.float32(step_scale), *region_weights(inputs))
        )
        if self.objective.temporal_weight:
            rest = [*(rest or [None]), Warped(*jax.device_put(warped(inputs)))]
        lane, own = self._start(self.variables, style, content, init, inside, most, step_scale, *rest)
        return Started(lane, Targets(own, style), inside)

    def stack(self, started: Sequence[Started]) -> Batch:
        """Makes a batch of single lanes, whose number is a multiple of the number of devices.

        The lanes share the style's targets if all were started with the same object.
        """
        shared = all(one.targets.style is started[0].targets.style for one in started)
        batch = self.fill(started[0], len(started), shared=shared)
        for index, one in enumerate(started):
            batch = self.put(batch, index, one)
        return batch

    def fill(self, one: Started, size: int, *, shared: bool = True) -> Batch:
        """Makes a batch of `size` copies of one lane, marked as ended; `size` is a multiple of the number of devices.

        Args:
            shared: whether all lanes will have this lane's style.
        """
        return self._fill[shared](self._on_all(one), size)

    def put(self, batch: Batch, index: int, one: Started) -> Batch:
        """Replaces one lane of a batch; the old batch's arrays are donated and cannot be used again.

        The solver's memory of the lane's last image is not cleared, since a new lane does not read it.
        """
        fresh = (one.lane, one.targets.content, one.inside, {} if batch.shared else one.targets.style)
        return batch.with_parts(self._put(batch.parts, *self._on_all((np.int32(index), fresh))))

    def pick(self, batch: Batch, lanes: Sequence[int], size: int) -> Batch:
        """Makes a batch of `size` lanes: these lanes of a batch in this order, padded with lanes marked as ended."""
        indices = np.asarray([*lanes, *[lanes[0]] * (size - len(lanes))], np.int32)
        return self._pick[batch.shared](batch, *self._on_all((indices, np.int32(len(lanes)))))

    def result(self, batch: Batch, index: int) -> tuple[base.Point, Any]:
        """Returns the best point of a lane and the loss at its start, as arrays on the device."""
        return self._result(batch.lanes.result, batch.lanes.start_loss, self._on_all(np.int32(index)))

    def advance(self, batch: Batch, ticks: int, tolerance: float = 0.0) -> Batch:
        """Runs ticks of every running lane; the old batch's arrays are donated and cannot be used again.

        Args:
            ticks: most ticks; 0 only compiles the program.
            tolerance: see `StylizeSettings.tolerance`.
        """
        rest = dataclasses.replace(batch, lanes=None)
        limits = self._on_all((np.int32(ticks), np.float32(tolerance)))
        return dataclasses.replace(batch, lanes=self._advance(self._everywhere, batch.lanes, rest, *limits))


@lru_cache(maxsize=8)
def _stylizer(terms: tuple[Term, ...], *arguments: Any) -> Stylizer:
    del terms  # part of the key: a Stylizer compiles what is registered when it is made
    return Stylizer(*arguments)


def stylizer(
    settings: StylizeSettings,
    network_weights: weights.Weights | None = None,
    devices: int = 1,
    tile: int | Literal["none"] | None = None,
    forms: Forms = (),
    platform: str | None = None,
) -> Stylizer:
    """Returns a `Stylizer` for these settings; a cache returns the same one again, so that a program is compiled once.

    Args:
        devices: number of local devices to use.
        tile: replaces `settings.tile` [default: the setting, "auto" being "none"]
        forms: of the layers' convolutions, where the precision is "mixed"; not with tiles.
        platform: JAX's name for the kind of device; GPUs and TPUs have their own forms, see `OneImage` [default: here]

    Raises:
        WeightsError: the weights cannot be loaded.
    """
    own = {f.name: getattr(settings, f.name) for f in dataclasses.fields(StylizeSettings)}
    # Settings that are arguments of the compiled functions, or act before them, are not part of the cache's key.
    own |= dict(seed=0, init=INITS[0], evaluations=1, tolerance=0.0, weights=None)
    tile = tile or ("none" if settings.tile == "auto" else settings.tile)
    own |= dict(precision=precision(settings.precision), tile=tile)
    network_weights = network_weights or weights.load(settings.weights, settings.network)
    return _stylizer(tuple(TERMS.values()), StylizeSettings(**own), network_weights, devices, forms, platform)

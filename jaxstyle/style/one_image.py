"""The functions of one image that `stylizer` batches and compiles, in the forms that suit a platform."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import jax
import jax.numpy as jnp

from jaxstyle.architecture import CAFFE_GAIN, RESCALED_GAIN
from jaxstyle.model import vgg
from jaxstyle.model.products import Forms
from jaxstyle.settings import StylizeSettings
from jaxstyle.style import objective as objectives
from jaxstyle.style import tiles
from jaxstyle.style.objective import Targets
from jaxstyle.style.precision import is_gpu
from jaxstyle.style.solvers import SOLVERS, base
from jaxstyle.style.solvers.base import Lane


class OneImage:
    """Targets, start and tick of one image, for one objective, solver and network.

    Attributes:
        gpu: whether the functions have the forms for GPUs: `model/fused.py` and a solver's option for GPUs.
        pairs: whether the network is that of `model/pairs.py`, for TPUs. The solver's form for TPUs does not follow it.
        terms: names of the terms that results show.
    """

    def __init__(self, settings: StylizeSettings, feature_scale: str, forms: Forms, platform: str):
        self.settings, self.forms, self.gpu = settings, forms, is_gpu(platform)
        self.pairs = platform == "tpu"
        self.objective = settings.objective()
        self.terms = objectives.shown(self.objective)
        self.solver = SOLVERS[settings.solver].make(settings, "gpu" if self.gpu else platform)
        self._dtype: Any = jnp.bfloat16 if settings.precision == "bfloat16" else jnp.float32
        gain = CAFFE_GAIN if feature_scale == "caffe" else RESCALED_GAIN
        self._gain = gain if self.objective.feature_gain is None else self.objective.feature_gain

    def alone(self) -> OneImage:
        """Returns the functions for a batch of one, which a TPU lays out so that pairs take longer."""
        own = copy(self)
        own.pairs = False
        return own

    def _see(
        self, source: objectives.Source, variables: Any, image: Any, inside: Any, regions: Any = None
    ) -> objectives.Seen:
        """Computes what the terms read of an image, in tiles if the settings say so."""
        tile = self.settings.tile
        if isinstance(tile, int) and regions is None:
            how = dict(tile=tile, dtype=self._dtype, gain=self._gain)
            return tiles.see(self.objective, source, variables, image, inside, **how)
        network = self._network(objectives.layers(self.objective, source), () if source == "style" else self.forms)
        return objectives.see(self.objective, source, network, variables, image, inside, regions)

    def _network(self, layers: Sequence[str], forms: Forms) -> objectives.Network:
        own, gain = self.objective, self._gain
        how = own.pooling, own.pooling_gain, own.padding, self._dtype, forms, self.gpu, self.pairs
        module = vgg.VGG(own.architecture, tuple(layers), *how)

        def network(variables, image, inside):
            if not layers:
                return {}
            maps: Any = module.apply(variables, image, inside)
            return maps if gain == 1 else {k: one.times(gain) for k, one in maps.items()}

        return network

    def targets(self, source, variables, image, inside, regions=None, before=None) -> dict[str, Any]:
        """Computes the targets of an image that is the terms' `source`.

        Args:
            regions: weights of its pixels in each region, with masks.
            before: for frames, the result of the frame before.
        """
        if regions is not None:
            regions = objectives.pooled(self.objective, regions, inside)
        seen = self._see(source, variables, image, inside, regions)
        return objectives.targets(self.objective, source, seen._replace(view=seen.view._replace(before=before)))

    def evaluate(self, variables: Any, targets: Targets, inside: Any) -> base.Evaluate:
        """Returns the function to minimise for one image: image -> ((loss, terms), gradient)."""

        def loss(image):
            seen = self._see(None, variables, image, inside, targets.content.get(objectives.REGIONS))
            terms = objectives.losses(self.objective, seen, targets)
            return sum(terms.values()), terms

        return jax.value_and_grad(loss, has_aux=True)

    def start(self, variables, style, content, init, inside, budget, step_scale, regions=None, before=None) -> Any:
        """Returns a new lane without a memory, and its content targets; see `Stylizer.start`."""
        own = self.targets("content", variables, content, inside, regions, before)
        evaluate = self.evaluate(variables, Targets(own, style), inside)
        values = 3 * jnp.sum(inside, dtype=jnp.float32)
        return base.start(self.solver, evaluate, init, self.terms, budget, values, step_scale), own

    def loop_variables(self, variables: Any) -> Any:
        """Returns the network's variables as all ticks of a loop read them: on a GPU XLA would round them at each."""
        return vgg.rounded(variables, self._dtype) if self.gpu else variables

    def loop_targets(self, style: dict[str, Any]) -> dict[str, Any]:
        """Returns style targets, shared or by lane, as all ticks of a loop read them."""
        return objectives.prepared(self.objective, style) if self.gpu else style

    def tick(self, variables: Any, targets: Targets, inside: Any, lane: Lane, tolerance: Any) -> Lane:
        """Runs one tick; see `base.tick`.

        Args:
            variables, targets: see `loop_variables` and `loop_targets`.
        """
        return base.tick(self.solver, self.evaluate(variables, targets, inside), lane, tolerance)

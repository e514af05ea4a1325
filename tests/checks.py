"""JAX's checks that a caller may have switched on, one evaluation, and the comparison of a batch with single runs."""

from contextlib import contextmanager
from functools import lru_cache

import jax
import numpy as np

from jaxstyle.engine.device import JaxDevice
from jaxstyle.planning.contract import Group

CHECKS = ["jax_numpy_rank_promotion=raise", "jax_numpy_dtype_promotion=strict", "jax_debug_infs=True",
          "jax_transfer_guard=disallow"]  # fmt: skip


@contextmanager
def switched_on(check):
    """One of `CHECKS`, for a while."""
    name, value = check.split("=")
    before = getattr(jax.config, name)
    jax.config.update(name, value == "True" or value)
    try:
        yield
    finally:
        jax.config.update(name, before)


@lru_cache(maxsize=4)
def _compiled(stylizer):
    return jax.jit(lambda variables, targets, inside, image: stylizer.evaluate(variables, targets, inside)(image))


def evaluated(stylizer, one, image):
    """((loss, terms), gradient) of an image with the targets of a started lane.

    Compiled once for all pictures of a shape; the parameters are arguments, since constants take long to compile.
    """
    return _compiled(stylizer)(stylizer.variables, one.targets, one.inside, jax.numpy.asarray(image, "float32"))


def batch_equal_to_its_single_runs(settings, network, styles, inputs, evaluations=8):
    """Renders images of 32 x 32 pixels, each in its own style, in one batch without compiling for a style, and asserts
    that each equals its run alone.

    Returns:
        the device of the batch, the batch's size, and the results.
    """
    group = Group((32, 32))
    together = JaxDevice(settings, network, None)
    size = -(-len(styles) // together.count) * together.count
    batch = together.batch(group, size)
    made = together.n_compiled
    for lane, (style, own) in enumerate(zip(styles, inputs, strict=True)):
        batch.put(lane, own, evaluations, style)
    batch.advance(3), batch.advance(evaluations - 3)
    assert together.n_compiled == made
    found = [batch.result(lane) for lane in range(len(styles))]
    for style, own, result in zip(styles, inputs, found, strict=True):
        alone = JaxDevice(settings, network, style)
        single = alone.batch(group, alone.count)
        single.put(0, own, evaluations, style)
        single.advance(evaluations)
        np.testing.assert_allclose(result.image, single.result(0).image, atol=2e-3)
        np.testing.assert_allclose(result.loss, single.result(0).loss, rtol=1e-3)
    return together, size, found

"""A VGG (Simonyan and Zisserman 2014, arXiv 1409.1556) as a Flax module that returns named feature maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxstyle.architecture import Architecture
from jaxstyle.model import fused, ops, pairs
from jaxstyle.model.products import FORMS, Form, Forms
from jaxstyle.model.weights_file import Weights


class ConvRelu(nn.Module):
    """Applies a 3x3 convolution, bias and ReLU. The gradient's flipped kernel is a variable beside the parameters, and
    so are the kernels that `forms` have prepared.

    Attributes:
        features: number of channels of the result.
        replicate, dtype: see `VGG`.
        operation: `ops.conv_relu`, or a function of `fused` or `pairs` with the same first arguments.
        pairs: whether the maps are packed, see `pairs`.
    """

    features: int
    replicate: bool = False
    dtype: Any = jnp.float32
    forms: tuple[Form, Form] = ("float32", "float32")
    operation: Callable[..., Any] = ops.conv_relu
    pairs: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "h w i"], inside: ops.Inside) -> Any:
        shape = (3, 3, x.shape[-1] // (2 if self.pairs else 1), self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        flipped = self.variable("backward", "kernel", ops.flip, kernel).value
        kernel, flipped, bias = (a.astype(self.dtype) for a in (kernel, flipped, bias))
        kernel, flipped = (
            self.variable("products", of, FORMS[form].prepare, whole).value if form in FORMS else whole
            for of, form, whole in (("kernel", self.forms[0], kernel), ("flipped", self.forms[1], flipped))
        )
        if self.pairs:
            kernel, flipped, bias = pairs.pack_kernel(kernel), pairs.pack_kernel(flipped), jnp.tile(bias, 2)
        x, how = x.astype(self.dtype), {} if self.operation is not ops.conv_relu else {"forms": self.forms}
        return self.operation(x, kernel, flipped, bias, inside, replicate=self.replicate, **how)


class FeatureMap(NamedTuple):
    """A layer's post-ReLU maps of one image, 0 outside the picture.

    Attributes:
        features: h x w positions, C channels.
        inside: mask of the positions whose input lies in the picture; sums leave out the others.
        packed: the same maps as they were computed, see `pairs`; None where they are not packed. Sums over positions
            take these, so that nothing unpacks the maps of which only sums are read.
    """

    features: Float[Array, "h w C"]
    inside: ops.Inside
    packed: Float[Array, "h v D"] | None = None

    def times(self, gain: float) -> FeatureMap:
        """Returns the maps times a number."""
        packed = None if self.packed is None else self.packed * gain
        return self._replace(features=self.features * gain, packed=packed)


def normalised(
    image: Float[Array, "H W 3"], inside: ops.Inside, mean: Array, std: Array, padding: str
) -> Float[Array, "H W 3"]:
    """Computes the network's input, 0 outside the picture; for "replicate" the picture's last row and column repeat."""
    x = (image - mean[None, None]) / std[None, None]
    return ops.repeat_edge(x, inside) if padding == "replicate" else jnp.where(inside[..., None], x, 0)


def pool(
    x: Float[Array, "h w c"], inside: ops.Inside, pooling: str, gain: float, packed: bool = False
) -> Float[Array, "a b c"]:
    """Pools maps; see `VGG`.

    Args:
        packed: whether x is packed, see `pairs`; the result is not.
    """
    x = pairs.unpack(x) if packed and pooling != "max" else x
    match pooling:
        case "max":
            x = pairs.max_pool(x) if packed else ops.max_pool(x)
        case "average":
            x = ops.average_pool(x, inside)
        case "l2":
            x = ops.l2_pool(x, inside)
        case _:
            raise AssertionError(pooling)
    return x if gain == 1 else x * gain


class VGG(nn.Module):
    """Computes the convolutional part of a VGG, up to the deepest layer in `layers`.

    Attributes:
        architecture: the VGG.
        layers: names of the post-ReLU maps to return, `block4_conv2` or `relu4_2`.
        pooling: "max" as trained, "average" as Gatys et al. suggest for smoother pictures, or "l2", the root of the sum
            of squares.
        pooling_gain: factor on the maps after every pooling.
        padding: padding of the first convolution: "zero" as trained, or "replicate", which avoids a dark frame.
        dtype: number type of the convolutions and the maps; parameters stay as given.
        forms: how layers' convolutions are computed; not for the first layer, and with float32 only.
        fused: compute with `fused`, for GPUs; the results are the same.
        pairs: compute the first block with `pairs`, for TPUs, if the array's width is even; the results are the same.
    """

    architecture: Architecture
    layers: tuple[str, ...]
    pooling: str = "max"
    pooling_gain: float = 1.0
    padding: str = "zero"
    dtype: Any = jnp.float32
    forms: Forms = ()
    fused: bool = False
    pairs: bool = False

    @nn.compact
    def __call__(self, image: Float[Array, "H W 3"], inside: ops.Inside | None = None) -> dict[str, FeatureMap]:
        """Returns feature maps of one gamma-encoded sRGB image in [0, 1], by Keras layer name.

        Args:
            inside: mask of the picture, which lies at the top left of the array [default: the whole array]. The maps
                inside equal those of the picture alone, whatever lies outside, as if pooling kept an odd last row
                or column.
        """
        network = self.architecture
        wanted = {network.layer_name(name) for name in self.layers}
        deepest = max(network.layers.index(name) for name in wanted)
        mean = self.variable("preprocessing", "mean", jnp.zeros, (3,)).value
        std = self.variable("preprocessing", "std", jnp.ones, (3,)).value
        if inside is None:
            inside = jnp.ones(image.shape[:2], bool)
        x, maps = normalised(image, inside, mean, std, self.padding), {}
        if self.fused:
            return self._fused(x, inside, network.layers[: deepest + 1], wanted)
        forms = {name: (forward, backward) for name, forward, backward in self.forms}
        packed = self.pairs and x.shape[1] % 2 == 0
        for index, name in enumerate(network.layers[: deepest + 1]):
            if index and name.endswith("conv1"):
                x = pool(x, inside, self.pooling, self.pooling_gain, packed)
                inside, packed = ops.pool_inside(inside), False
            replicate = index == 0 and self.padding == "replicate"
            how = dict(replicate=replicate, dtype=self.dtype, forms=forms.get(name, ("float32", "float32")))
            if packed:
                x = x if index else pairs.pack_image(x.astype(self.dtype), replicate)
                how |= dict(operation=pairs.conv_relu, pairs=True)
            x = ConvRelu(network.channels(name), **how, name=name)(x, inside)
            if name in wanted:
                maps[name] = FeatureMap(pairs.unpack(x), inside, x) if packed else FeatureMap(x, inside)
        return maps

    def _fused(self, x: Array, inside: ops.Inside, names: tuple[str, ...], wanted: set[str]) -> dict[str, FeatureMap]:
        """Computes the maps with `fused`; each operation is chosen by what reads its result."""
        maps: dict[str, FeatureMap] = {}
        for index, (name, after) in enumerate(zip(names, (*names[1:], ""), strict=True)):
            pools = after.endswith("conv1")
            read = name in wanted or (pools and self.pooling != "max")
            operation: Callable[..., Any] = fused.conv_relu_max_pool if pools else fused.conv_relu
            if read:
                operation = partial(fused.conv_relu_read, goes_on=bool(after) and not pools)
            replicate = index == 0 and self.padding == "replicate"
            layer = ConvRelu(self.architecture.channels(name), replicate, self.dtype, operation=operation, name=name)
            x = layer(x, inside)
            if read:
                x, masked = x
                if name in wanted:
                    maps[name] = FeatureMap(masked, inside)
                x = pool(masked, inside, self.pooling, self.pooling_gain) if pools else x
            elif pools and self.pooling_gain != 1:
                x = x * self.pooling_gain
            inside = ops.pool_inside(inside) if pools else inside
        return maps


def pooled_weights(
    network: Architecture, layers: Iterable[str], weights: Float[Array, "H W R"], inside: ops.Inside
) -> dict[str, Float[Array, "h w R"]]:
    """Pools weights of an image's pixels to the positions of layers: each pooling averages what is inside the picture.

    Args:
        layers: Keras's names.
        weights: R weights of every pixel.
        inside: mask of the picture.
    """
    wanted, found = set(layers), {}
    x = jnp.where(inside[..., None], weights, 0)
    for index, name in enumerate(network.layers):
        if index and name.endswith("conv1"):
            x, inside = ops.average_pool(x, inside), ops.pool_inside(inside)
        if name in wanted:
            found[name] = x
    return found


def variables(
    parameters: Mapping[str, Mapping[str, Any]], mean: Iterable[float], std: Iterable[float]
) -> dict[str, Any]:
    """Builds the variables of `VGG` from its parameters; flips the kernels for the gradient once.

    Args:
        parameters: `kernel` 3 x 3 x in x out and `bias` by Keras's layer name, for RGB input.
        mean, std: the network's input is (image - mean) / std with image in [0, 1].
    """
    # NumPy flips the kernels: JAX would compile a program for every shape before the first tick.
    host = {name: {k: np.asarray(v, np.float32) for k, v in layer.items()} for name, layer in parameters.items()}
    flipped = {name: {"kernel": np.ascontiguousarray(ops.flip(layer["kernel"]))} for name, layer in host.items()}
    scale = {"mean": np.asarray(tuple(mean), np.float32), "std": np.asarray(tuple(std), np.float32)}
    # JAX's transfer guard allows an explicit transfer.
    return jax.device_put({"params": host, "backward": flipped, "preprocessing": scale})


def rounded(variables: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """Returns the variables with kernels and biases in the number type of the convolutions."""
    kinds = ("params", "backward")
    return {k: jax.tree.map(lambda a: a.astype(dtype), v) if k in kinds else v for k, v in variables.items()}


@partial(jax.jit, static_argnums=1)
def products(variables: dict[str, Any], forms: Forms) -> dict[str, Any]:
    """Computes the variables "products": kernels as `forms` take them, so that no call of the device does so again."""
    found: dict[str, Any] = {}
    for name, *own in forms:
        plain = variables["params"][name]["kernel"], variables["backward"][name]["kernel"]
        kinds = zip(("kernel", "flipped"), own, plain, strict=True)
        found[name] = {of: FORMS[form].prepare(kernel) for of, form, kernel in kinds if form in FORMS}
    return found


@lru_cache(maxsize=2)
def variables_of(weights: Weights) -> dict[str, Any]:
    """Returns the variables of these weights on the default device; equal weights get the same arrays.

    The last two sets stay on the device: 118 MB each for VGG16, 160 MB for VGG19.
    """
    return variables(weights.parameters, weights.mean, weights.std)

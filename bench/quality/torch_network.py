"""VGG16 in plain PyTorch, with the weights that the renderer uses, and the interface of pictures for the peers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F

from jaxstyle.architecture import VGG16
from jaxstyle.model.weights import load


class Network:
    """Computes named feature maps of images, N x 3 x H x W in [0, 1]."""

    def __init__(self, layers: Iterable[str], *, replicate: bool = False):
        """Args:
        layers: the maps to return, such as relu4_2.
        replicate: repeat the border for the first convolution instead of padding with zeros.
        """
        self._wanted = {VGG16.layer_name(name): name for name in layers}
        deepest = max(map(VGG16.layers.index, self._wanted))
        self._layers, self._replicate, weights = VGG16.layers[: deepest + 1], replicate, load()
        self._mean, self._std = (
            torch.tensor(tuple(values), dtype=torch.float32).view(1, 3, 1, 1)
            for values in (weights.mean, weights.std)
        )  # fmt: skip
        self._parameters = {
            name: (
                torch.tensor(np.ascontiguousarray(np.asarray(one["kernel"]).transpose(3, 2, 0, 1))),
                torch.tensor(np.asarray(one["bias"])),
            )
            for name, one in ((name, weights.parameters[name]) for name in self._layers)
        }

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        x, found = (images - self._mean) / self._std, {}
        for index, name in enumerate(self._layers):
            if index and name.endswith("conv1"):
                x = F.max_pool2d(x, 2)
            if index == 0 and self._replicate:
                x = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), *self._parameters[name]))
            else:
                x = F.relu(F.conv2d(x, *self._parameters[name], padding=1))
            if name in self._wanted:
                found[self._wanted[name]] = x
        return found


def tensor(pixels: np.ndarray) -> torch.Tensor:
    """Converts H x W x 3 to 1 x 3 x H x W."""
    return torch.tensor(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]), dtype=torch.float32)


def array(image: torch.Tensor) -> np.ndarray:
    """Converts 1 x 3 x H x W to H x W x 3."""
    return image.detach()[0].permute(1, 2, 0).numpy()

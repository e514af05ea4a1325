"""The balanced objective in PyTorch, for the comparison of speed: same weights, layers, Gram matrices, zero padding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from jaxstyle.settings import LAYERS

VERSION = torch.__version__


def evaluation(
    engine, images: np.ndarray, contents: np.ndarray, style: np.ndarray, layout: str
) -> Callable[[], np.ndarray]:
    """A function of no arguments: losses of the batch, their gradients computed too. Images N x H x W x 3 in [0, 1]."""
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    objective, weights = engine.objective, engine.weights
    wanted = {*objective.content_layers, *objective.style_layers}
    layers = LAYERS[: max(map(LAYERS.index, wanted)) + 1]
    kernels = {
        name: (
            torch.tensor(weights.parameters[name]["kernel"].transpose(3, 2, 0, 1).copy()).contiguous(
                memory_format=memory
            ),
            torch.tensor(weights.parameters[name]["bias"]),
        )
        for name in layers
    }
    mean, std = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (weights.mean, weights.std))

    def nchw(array):
        return torch.tensor(array.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=memory)

    def maps(x):
        x, found = (x - mean) / std, {}
        for index, name in enumerate(layers):
            if index and name.endswith("conv1"):
                x = F.max_pool2d(x, 2)
            x = F.relu(F.conv2d(x, *kernels[name], padding=1))
            if name in wanted:
                found[name] = x
        return found

    def gram(features):
        flat = features.flatten(2)
        return flat @ flat.transpose(1, 2) / flat.shape[2]

    with torch.no_grad():
        styled, held = maps(nchw(style[None])), maps(nchw(contents))
        grams = {name: gram(styled[name]) for name in objective.style_layers}

    batch = nchw(images)

    def evaluate() -> np.ndarray:
        x = batch.detach().requires_grad_(True)
        found, loss = maps(x), 0
        for name in objective.content_layers:
            energy = held[name].square().mean((1, 2, 3))
            loss = loss + objective.content_weight * (found[name] - held[name]).square().mean((1, 2, 3)) / energy
        for name in objective.style_layers:
            distance = (gram(found[name]) - grams[name]).square().sum((1, 2)) / grams[name].square().sum((1, 2))
            loss = loss + objective.style_weight / len(objective.style_layers) * distance
        loss.sum().backward()
        assert x.grad is not None
        return loss.detach().numpy()

    return evaluate

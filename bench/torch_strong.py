"""The balanced objective in PyTorch: batched, channels last or first, float32 to bfloat16, optionally compiled.

All convolutions and Gram products run in one number type, as under autocast, with kernels converted once; image, loss
and gradient are float32.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from jaxstyle.style.terms.style import layer_weights

VERSION = torch.__version__
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


class Strong:
    """The objective of an engine for a batch of contents and one style.

    Attributes:
        losses: N x 3 x H x W images to N losses.
    """

    def __init__(
        self, engine, contents: np.ndarray, style: np.ndarray, *, device: str = "cpu", precision: str = "float32",
        compiled: bool = False, layout: str = "channels_last",
    ):  # fmt: skip
        """Args:
        engine: a `Stylizer` of the "energy" formula with weights' own gain.
        contents, style: N x H x W x 3 and h x w x 3 in [0, 1].
        precision: "float32", "tf32" or "bfloat16".
        compiled: by torch.compile.
        layout: memory layout of images, maps and kernels, a name in `LAYOUTS`.
        """
        objective = engine.objective
        assert objective.normalization == "energy" and objective.feature_gain == 1, objective
        self._device, self._dtype, self._objective = device, DTYPES[precision], objective
        self._layout = LAYOUTS[layout]
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        wanted = {*objective.content_layers, *objective.style_layers}
        layers = engine.objective.architecture.layers
        self._layers = layers[: 1 + max(map(layers.index, wanted))]
        self._wanted = wanted
        self._mean, self._std = (
            torch.tensor(v, dtype=torch.float32, device=device).view(1, 3, 1, 1)
            for v in (engine.weights.mean, engine.weights.std)
        )
        self._kernels = {}
        for name in self._layers:
            kernel = torch.tensor(engine.weights.parameters[name]["kernel"].transpose(3, 2, 0, 1).copy())
            bias = torch.tensor(engine.weights.parameters[name]["bias"])
            self._kernels[name] = (
                kernel.to(device, self._dtype).contiguous(memory_format=self._layout),
                bias.to(device, self._dtype),
            )
        with torch.no_grad():
            found = self._maps(self.images(style[None]))
            self._grams = {name: self._gram(found[name]) for name in objective.style_layers}
            found = self._maps(self.images(contents))
            self._content = {name: found[name].float() for name in objective.content_layers}
        self.losses = torch.compile(self._losses) if compiled else self._losses

    def images(self, arrays: np.ndarray) -> torch.Tensor:
        """Converts N x H x W x 3 to a tensor N x 3 x H x W on the device, in the program's layout."""
        nchw = torch.tensor(np.ascontiguousarray(arrays.transpose(0, 3, 1, 2)), dtype=torch.float32)
        return nchw.to(self._device).contiguous(memory_format=self._layout)

    def _maps(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        x, found = ((images - self._mean) / self._std).to(self._dtype, memory_format=self._layout), {}
        for index, name in enumerate(self._layers):
            if index and name.endswith("conv1"):
                x = self._pool(x)
            kernel, bias = self._kernels[name]
            if index == 0 and self._objective.padding == "replicate":
                x = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, bias))
            else:
                x = F.relu(F.conv2d(x, kernel, bias, padding=1))
            if name in self._wanted:
                found[name] = x
        return found

    def _pool(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, 2) if self._objective.pooling == "max" else F.avg_pool2d(x, 2)

    @staticmethod
    def _gram(maps: torch.Tensor) -> torch.Tensor:
        flat = maps.flatten(2)
        return torch.bmm(flat, flat.transpose(1, 2)).float() / flat.shape[2]

    def _losses(self, images: torch.Tensor) -> torch.Tensor:
        objective, found = self._objective, self._maps(images)
        loss: torch.Tensor = torch.zeros(len(images), device=images.device)
        for name in objective.content_layers:
            target = self._content[name]
            energy = target.square().mean((1, 2, 3)).clamp_min(1e-12)
            distance = (found[name].float() - target).square().mean((1, 2, 3)) / energy
            loss = loss + objective.content_weight / len(objective.content_layers) * distance
        for name, weight in zip(objective.style_layers, layer_weights(objective), strict=True):
            target = self._grams[name]
            distance = (self._gram(found[name]) - target).square().sum((1, 2))
            scale = objective.style_weight * objective.style_share(images.shape[2] * images.shape[3])
            loss = loss + scale * weight * distance / target.square().sum().clamp_min(1e-12)
        if objective.tv_weight:
            corner = images[:, :, :-1, :-1]
            across, down = corner - images[:, :, :-1, 1:], corner - images[:, :, 1:, :-1]
            steps = (100 * (across.square() + down.square())).pow(1.25).sum((1, 2, 3))
            loss = loss + objective.tv_weight * steps / images[0].numel()
        return loss

    def evaluate(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns N losses and the gradient."""
        x = images.detach().requires_grad_(True)
        losses = self.losses(x)
        losses.sum().backward()
        assert x.grad is not None
        return losses.detach(), x.grad

    def error(self, images: np.ndarray, losses: np.ndarray) -> float:
        """Returns the largest difference of the losses of N x H x W x 3 images from these, as a share."""
        found, _ = self.evaluate(self.images(images))
        return float(np.abs(found.cpu().numpy() / losses - 1).max())

    def wait(self) -> None:
        """Waits until the device is done."""
        if self._device != "cpu":
            torch.cuda.synchronize()

    def evaluations(self, x: torch.Tensor, number: int) -> None:
        """Runs so many evaluations one after another, and waits for the last."""
        for _ in range(number):
            self.evaluate(x)
        self.wait()

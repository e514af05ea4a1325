"""neural-style-pt's objective, solver and defaults in plain PyTorch, on our weights. Written from its documentation.

https://github.com/ProGamerGov/neural-style-pt: content relu4_2 with weight 5, style relu1_1 .. relu5_1 with weight 100,
total variation 0.001, 1000 iterations of L-BFGS from noise. It optimises pixels in 0..255 with Caffe's weights, so the
maps of torchvision's weights are scaled by `RESCALED_GAIN`.
"""

from __future__ import annotations

import time

import torch

from jaxstyle.architecture import RESCALED_GAIN
from quality.pairs import Made, Pair
from quality.torch_network import Network, array, tensor

CONTENT, STYLE = "relu4_2", ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
HISTORY = 100


def gram(maps: torch.Tensor) -> torch.Tensor:
    """Computes the Gram matrix of 1 x C x h x w, divided by C h w."""
    flat = maps[0].flatten(1)
    return flat @ flat.T / maps.numel()


def stylize(
    pair: Pair, factor: float, *, content_weight: float = 5.0, style_weight: float = 100.0, tv_weight: float = 1e-3,
    init: str = "random", evaluations: int = 1000, seed: int = 0,
) -> Made:  # fmt: skip
    """Minimises content_weight * MSE of maps + style_weight * MSE of Gram matrices, summed over layers, + TV.

    Args:
        factor: multiplies the style weight.
        init: "random", noise of standard deviation 0.001 around mean grey, or "image", the photograph.
        evaluations: iterations of L-BFGS; each takes one evaluation, since there is no line search.
    """
    began, network = time.perf_counter(), Network((CONTENT, *STYLE))

    def maps(image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: found * RESCALED_GAIN for name, found in network(image / 255).items()}

    content = 255 * tensor(pair.content.floats)
    with torch.no_grad():
        target = maps(content)[CONTENT]
        grams = {name: gram(found) for name, found in maps(255 * tensor(pair.style.floats)).items() if name in STYLE}
    if init == "random":
        noise = torch.randn(content.shape, generator=torch.Generator().manual_seed(seed))
        image = 0.001 * noise + torch.tensor((123.68, 116.779, 103.939)).view(1, 3, 1, 1)
    else:
        image = content.clone()
    image.requires_grad_(True)
    solver = torch.optim.LBFGS(
        [image], lr=1.0, max_iter=evaluations, max_eval=evaluations, tolerance_grad=-1, tolerance_change=-1,
        history_size=HISTORY,
    )  # fmt: skip
    done = 0

    def evaluate() -> torch.Tensor:
        nonlocal done
        done += 1
        solver.zero_grad()
        found = maps(image)
        loss = content_weight * torch.mean((found[CONTENT] - target) ** 2)
        for name in STYLE:
            loss = loss + factor * style_weight * torch.mean((gram(found[name]) - grams[name]) ** 2)
        across, down = image[..., 1:] - image[..., :-1], image[..., 1:, :] - image[..., :-1, :]
        loss = loss + tv_weight * (across.abs().sum() + down.abs().sum())
        loss.backward()
        return loss

    started = time.perf_counter()
    solver.step(evaluate)
    return Made(array(image) / 255, done, time.perf_counter() - started, started - began)

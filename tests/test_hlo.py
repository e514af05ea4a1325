"""The bench's reader of compiled programs, on texts made by hand: bytes, loops, parts, convolutions, collectives."""

import sys
from pathlib import Path

import pytest

BENCH, DATA = Path(__file__).parent.parent / "bench", Path(__file__).parent / "data"

GPU, TPU = ((DATA / f"{name}.hlo").read_text() for name in ("tick_of_a_gpu", "convolution_of_a_tpu"))
MAP, ROW, KERNEL = 8 * 4 * 4 * 64 * 2, 8 * 48 * 4, 64 * 9 * 64 * 2
"""Bytes of a feature map, of one image and of a kernel in GPU's program."""


@pytest.fixture(scope="module", autouse=True)
def path():
    """The bench's modules import one another by their bare names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCH), *sys.path])
        yield


def test_a_tick_of_a_gpu():
    """Slices and rows written in place count at their size, loops as often as they run, shared operands once."""
    import traffic

    found = traffic.summary(GPU)
    parts = {name: (its["launches"], its["bytes"]) for name, its in found["parts"].items()}
    assert parts == {
        "convolutions": (2, 2 * (2 * MAP + KERNEL) + 64 * 2),
        "ReLU backward": (1, 3 * MAP),
        "Gram matrices": (1, MAP + 8 * 64 * 64 * 4),
        "solver": (11, 10 * (2 * ROW + 4) + 2 * ROW + 4),
        "copies": (2, 4 * ROW),
    }
    assert found["launches"] == 17 and found["bytes"] == sum(bytes for _, bytes in parts.values())
    assert found["copies"] == {"launches": 2, "bytes": 4 * ROW} and found["transposes"] == 1


def test_what_a_gpu_program_holds():
    import traffic

    found = traffic.summary(GPU)
    assert found["relu"] == 1 and found["convolutions"] == {
        "convBiasActivationForward bf16 b01f_o01i->b01f": 1, "convForward bf16 b01f_o01i->b01f": 1,
    }  # fmt: skip
    assert found["collectives"] == {"all-gather": 1}  # which stands outside the tick
    assert traffic.summary(GPU, loop=False)["launches"] == 17 + 1  # the whole program, its loops once


def test_a_program_of_a_tpu():
    """Tiles of 8 x 128 pad two axes: 64 channels to 128, and 2 lanes to 8. What is in fast memory does not count."""
    import hlo
    import traffic

    (one,) = hlo.arrays("bf16[2,5,16,64]{3,0,2,1:T(8,128)(2,1)}")
    assert one.bytes == 8 * 5 * 16 * 128 * 2
    found = traffic.summary(TPU, loop=False)
    assert found["cycles"] == 4321 and found["bytes"] == 2 * one.bytes
    assert found["convolutions"] == {"convolution bf16 b01f_01io->b01f": 1} and list(found["parts"]) == ["convolutions"]


def test_other_text_is_refused():
    import hlo

    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.read("HloModule nothing")

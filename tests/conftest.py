"""What every test shares: a cache folder of the session, and the real weights, converted once a session."""

import functools
import gc
import os

import jax
import numpy as np
import pytest
import stub
from command import photographs, rendering
from pictures import painting, save
from whole_runs import PROVIDED

from jaxstyle.architecture import VGG19
from jaxstyle.demo import styles
from jaxstyle.engine import jax_setup
from jaxstyle.model import choice
from jaxstyle.model.weights_file import Weights
from jaxstyle.style import stylizer

WORTH_KEEPING = 0.2
"""Seconds of compiling from which a test keeps a program for the others. Each write looks at all programs of the
folder, which costs more than to compile one of the thousands that a single operation is."""


LONGEST = (
    "test_tiles.py",
    "test_stylize.py",
    "test_border.py",
    "test_gpu_program.py",
    "test_kill.py",
    "test_watchdog.py",
    "test_writer_kills.py",
)
"""Files that take long, and the last one by name. They come first, so that no process has one left while the other is
done."""


def pytest_collection_finish():
    """Collections of garbage pass over what has been imported, which lives on: they took 4% of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """$JAXSTYLE_CACHE of all processes of the session, so that no test reads or writes the user's own."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    folder.mkdir(mode=0o700, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSTYLE_CACHE", str(folder))
        patch.setattr(choice, "units", lambda: "")  # float32 on every machine
        patch.setattr(styles, "flow", functools.cache(styles.flow))  # it takes 2 s to draw the example
        jax_setup.enable_cache()  # what one test has compiled no other compiles again
        jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)
        jax.devices()  # begins JAX's work with one CPU device, whichever test comes first
        yield folder


@pytest.fixture(scope="module")
def quickly_compiled(cache):
    """XLA optimises little (JAX's setting) for a file's tests: compiling, most of their time, takes a third less.

    Sums are rounded otherwise and programs are slower. It is for tests whose tolerance is that of rounding; bits,
    speed, and the default from end to end are tested with programs that are compiled as users' are. No program of one
    kind is left to the tests of another file: a program belongs to a `Stylizer`, and these are forgotten.
    """
    forget = stylizer._stylizer.cache_clear
    forget()
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    forget()


@pytest.fixture(scope="session")
def network(cache):
    """The default weights."""
    from jaxstyle.model import weights

    return weights.load()


@pytest.fixture(scope="session")
def vgg19():
    """Weights of a VGG19 that cost nothing: all 0 but for one bias."""
    zeros = {
        name: {"kernel": np.broadcast_to(np.float32(0), shape), "bias": np.zeros(shape[3], np.float32)}
        for name, shape in VGG19.kernel_shapes.items()
    }
    zeros["block5_conv4"]["bias"][7] = 1
    return Weights(zeros, "caffe", "made up", VGG19)


@pytest.fixture
def devices(monkeypatch):
    """The stub in the place of the network; the list of its devices, which keep what was put into them."""
    return stub.install(monkeypatch.setattr, record=True)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with `style.png`, for runs of the stub; files of tests add inputs to it."""
    stub.install(monkeypatch.setattr)
    save(tmp_path / "style.png", painting())
    return tmp_path


@pytest.fixture(autouse=True)
def closed():
    """Closes the sources of `whole_runs.provided`."""
    yield
    while PROVIDED:
        PROVIDED.pop().close()


@pytest.fixture
def folder(tmp_path):
    """A folder with two photographs and a style, for the tests of the command line."""
    return photographs(tmp_path)


@pytest.fixture
def base(folder):
    """The command that renders them."""
    return rendering(folder)

"""What every test shares: a cache folder of the session, and the real weights, converted once a session.

Below them what tests/test_convert.py makes bad torch files with.
"""

import zipfile

import jax
import pytest
from command import photographs, rendering

from jaxstyle.engine import jax_setup
from jaxstyle.model.convert import TORCH_INDICES
from jaxstyle.model.weights import SHAPES


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """$JAXSTYLE_CACHE for the whole session, so that no test reads or writes the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSTYLE_CACHE", str(folder))
        jax_setup.keep()  # what one test has compiled no other compiles again
        jax.devices()  # begins JAX's work with one CPU device, whichever test comes first
        yield folder


@pytest.fixture(scope="session")
def network(cache):
    """The default weights."""
    from jaxstyle.model import weights

    return weights.load()


@pytest.fixture
def folder(tmp_path):
    """A folder with two photographs and a style, for the tests of the command line."""
    return photographs(tmp_path)


@pytest.fixture
def base(folder):
    """The command that renders them."""
    return rendering(folder)


def zipped(path, pickled, members=(), compression=zipfile.ZIP_STORED):
    """A file as torch.save makes them, of any pickle; the numbers of storage 0 are zeros."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in {"archive/data/0": bytes(4 * 2600), **dict(members)}.items():
            archive.writestr(name, content)
    return path


def ints(*numbers):
    return b"(" + b"".join(b"I%d\n" % n for n in numbers) + b"t"


def tensor(shape, stride=None, offset=0, kind=b"FloatStorage", key=b"0"):
    """Opcodes of a tensor as torch pickles it."""
    stride = (0,) * len(shape) if stride is None else stride
    storage = b"(Vstorage\nctorch\n%b\nV%b\nVcpu\nI0\ntQ" % (kind, key)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(%bI%d\n%b%bI00\nNtR" % (storage, offset, ints(*shape), ints(*stride))


def state_dict(**changed):
    """The pickle of a whole VGG16 of zeros, with some of its tensors replaced by other opcodes."""
    tensors = {}
    for index, shape in zip(TORCH_INDICES, SHAPES.values(), strict=True):
        tensors[f"features.{index}.weight"] = tensor((shape[3], shape[2], 3, 3))
        tensors[f"features.{index}.bias"] = tensor(shape[3:])
    tensors.update({name.replace("_", "."): opcodes for name, opcodes in changed.items()})
    return b"(" + b"".join(b"V%b\n%b" % (name.encode(), t) for name, t in tensors.items() if t) + b"d."

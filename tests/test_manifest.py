"""The manifest keeps every row that was appended, through kills; settings.json keeps two runs apart."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from jaxstyle.data.manifest import NAME, SETTINGS, Manifest, Row, settle
from jaxstyle.errors import SettingsMismatch, StorageError

DONE = Row(
    "sub/a.jpg", "done", style="s.png", seed=7, ended="budget", loss={"content": 1.5, "total": 2.25}, evaluations=200,
    seconds=1.25, input_size=(640, 480), work_size=(512, 384), output_size=(512, 384), frames=3, notes=("first of 3",),
)  # fmt: skip
SKIPPED = Row("notes.txt", "skipped", "not a picture")
FAILED = Row("b.jpg", "failed", "cannot be decoded")


def lines(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / NAME).read_text("ascii").splitlines()]


def reloaded(output: Path) -> dict[str, dict]:
    manifest = Manifest(output)
    manifest.close()
    return manifest.rows


@pytest.fixture
def written(tmp_path):
    """An output folder with three rows."""
    manifest = Manifest(tmp_path)
    manifest.append(DONE)
    manifest.append(SKIPPED, FAILED)
    manifest.close()
    return tmp_path


def test_rows_come_back_as_they_were(written):
    rows = reloaded(written)
    assert list(rows) == ["sub/a.jpg", "notes.txt", "b.jpg"]
    assert rows["sub/a.jpg"] == {
        "key": "sub/a.jpg", "status": "done", "reason": "", "style": "s.png", "seed": 7, "ended": "budget",
        "loss": {"content": 1.5, "total": 2.25}, "evaluations": 200, "seconds": 1.25,
            "input_bytes": 0, "input_size": [640, 480],
        "work_size": [512, 384], "output_size": [512, 384], "frames": 3, "notes": ["first of 3"],
    }  # fmt: skip
    assert rows["b.jpg"]["reason"] == "cannot be decoded"


def test_a_row_is_on_the_disk_when_append_returns(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(len(lines(tmp_path))), fsync(handle)))
    manifest = Manifest(tmp_path)
    manifest.append(DONE)
    manifest.append(SKIPPED, FAILED)
    assert synced == [1, 3] and len(lines(tmp_path)) == 3
    manifest.close()


def test_statuses_are_counted_by_their_last_row(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.append(FAILED, DONE, SKIPPED, Row("b.jpg", "done"))
    assert [manifest.count(status) for status in ("done", "skipped", "failed")] == [2, 1, 0]
    manifest.close()


def test_closing_leaves_one_row_a_key_and_the_last_one_wins(written):
    manifest = Manifest(written)
    manifest.append(Row("b.jpg", "done", evaluations=9))
    assert len(lines(written)) == 4
    manifest.close()
    assert [(row["key"], row["status"]) for row in lines(written)] == [
        ("sub/a.jpg", "done"), ("notes.txt", "skipped"), ("b.jpg", "done"),
    ]  # fmt: skip
    assert reloaded(written)["b.jpg"]["evaluations"] == 9
    assert [path.name for path in written.iterdir()] == [NAME]


def test_without_closing_the_last_row_wins_too(written):
    with (written / NAME).open("a") as file:
        file.write(json.dumps({"key": "b.jpg", "status": "done"}) + "\n")
    assert reloaded(written)["b.jpg"]["status"] == "done"
    assert len(lines(written)) == 3


def test_a_manifest_of_one_row_a_key_is_not_rewritten(written):
    before = (written / NAME).stat().st_ino
    reloaded(written)
    assert (written / NAME).stat().st_ino == before


def test_a_fresh_manifest_forgets(written):
    manifest = Manifest(written, fresh=True)
    assert manifest.rows == {}
    manifest.append(FAILED)
    manifest.close()
    assert [row["key"] for row in lines(written)] == ["b.jpg"]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_torn_last_line_is_dropped_and_appending_goes_on(written, kept):
    whole = (written / NAME).read_bytes().splitlines(keepends=True)
    length = len(whole[kept])
    for cut in {*range(1, length, 9), length - 2, length - 1}:  # the last has all but the newline
        (written / NAME).write_bytes(b"".join(whole[:kept]) + whole[kept][:cut])
        manifest = Manifest(written)
        assert len(manifest.rows) == kept
        manifest.append(Row("new.jpg", "done"))
        manifest.close()
        assert (written / NAME).read_bytes().startswith(b"".join(whole[:kept]))
        assert [row["key"] for row in lines(written)][kept:] == ["new.jpg"]


def test_zeros_that_a_power_loss_leaves_at_the_end_are_dropped(written):
    with (written / NAME).open("ab") as file:
        file.write(bytes(4096))
    assert len(reloaded(written)) == 3 and len(lines(written)) == 3


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[1]", b"7", b'"key"', b'{"status": "done"}', b'{"key": []}', b"\xff\0"]
)
def test_a_damaged_line_is_an_error_that_names_it(written, damage):
    whole = (written / NAME).read_bytes().splitlines(keepends=True)
    data = b"".join([whole[0], damage + b"\n", whole[2]])
    (written / NAME).write_bytes(data)
    with pytest.raises(SettingsMismatch, match=rf"line 2 of .*{NAME}") as caught:
        Manifest(written)
    assert caught.value.remedy
    assert (written / NAME).read_bytes() == data  # nothing was lost


@pytest.mark.parametrize(
    "key", [os.fsdecode(b"caf\xe9.png"), "new\nline\r\x85\u2028.png", 'quo"te\\.png', "größe 图.jpg"]
)
def test_any_name_can_be_a_key(tmp_path, key):
    manifest = Manifest(tmp_path)
    manifest.append(Row(key, "failed"), Row(key, "done"), SKIPPED)
    assert len(lines(tmp_path)) == 3
    manifest.close()  # rewrites
    assert reloaded(tmp_path)[key]["status"] == "done"


@pytest.mark.parametrize("function", ["append", "close"])
def test_a_full_disk_is_a_storage_error(tmp_path, function):
    manifest = Manifest(tmp_path)
    manifest._file.close()
    manifest._file = Path("/dev/full").open("a", encoding="ascii")  # noqa: SIM115
    if function == "close":
        manifest._file.write("{}\n")  # as a failed `append` leaves it
    with pytest.raises(StorageError, match=r"manifest\.jsonl cannot be written \(No space left on device\)"):
        manifest.append(DONE) if function == "append" else manifest.close()
    if function == "append":
        with pytest.raises(StorageError):
            manifest.close()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_manifest_that_cannot_be_opened_is_a_storage_error(tmp_path, fresh):
    (tmp_path / NAME).mkdir()
    with pytest.raises(StorageError, match=r"manifest\.jsonl cannot be written"):
        Manifest(tmp_path, fresh=fresh)


def test_a_failed_rewrite_keeps_all_rows(written, monkeypatch):
    manifest = Manifest(written)
    manifest.append(Row("b.jpg", "done"))

    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError):
        manifest.close()
    assert len(lines(written)) == 4
    monkeypatch.undo()
    assert reloaded(written)["b.jpg"]["status"] == "done"


RUN = {
    "decides": {"settings": {"size": 512, "style_layers": ("relu1_1",), "tv_weight": 0.0}, "style": "abc"},
    "about": {"jaxstyle": "1", "style": "s.png"},
}


def changed(**values) -> dict:
    settings = RUN["decides"]["settings"] | values
    return {"decides": RUN["decides"] | {"settings": settings}, "about": {"jaxstyle": "2", "style": "other.png"}}


def test_the_same_run_settles_twice_and_the_first_record_stays(tmp_path):
    settle(tmp_path, RUN)
    before = (tmp_path / SETTINGS).read_bytes()
    settle(tmp_path, changed())  # another version and name of the style do not decide the pixels
    assert (tmp_path / SETTINGS).read_bytes() == before
    assert json.loads(before) == json.loads(json.dumps(RUN))
    assert [path.name for path in tmp_path.iterdir()] == [SETTINGS]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"size": 256}, ["settings.size is 256 now and 512 there"]),
        ({"style_layers": ("relu2_1",)}, ["settings.style_layers is ['relu2_1'] now and ['relu1_1'] there"]),
        ({"new_setting": 3}, ["settings.new_setting is 3 now and None there"]),
        ({"size": 64, "tv_weight": 1.0}, ["settings.size is 64", "settings.tv_weight is 1.0 now and 0.0 there"]),
    ],
)
def test_other_settings_are_refused_by_name_with_both_values(tmp_path, values, named):
    settle(tmp_path, RUN)
    before = (tmp_path / SETTINGS).read_bytes()
    with pytest.raises(SettingsMismatch) as caught:
        settle(tmp_path, changed(**values))
    assert all(text in str(caught.value) for text in named)
    assert "tv_weight" not in str(caught.value) or "tv_weight" in values
    assert (tmp_path / SETTINGS).read_bytes() == before


def test_a_setting_that_is_gone_is_a_difference(tmp_path):
    settle(tmp_path, changed(old_setting=True))
    with pytest.raises(SettingsMismatch, match=r"settings\.old_setting is None now and True there"):
        settle(tmp_path, RUN)


def test_another_style_is_refused_and_overwrite_takes_it(tmp_path):
    settle(tmp_path, RUN)
    other = {"decides": RUN["decides"] | {"style": "def"}, "about": {}}
    with pytest.raises(SettingsMismatch, match="style is 'def' now and 'abc' there"):
        settle(tmp_path, other)
    settle(tmp_path, other, overwrite=True)
    settle(tmp_path, other)
    with pytest.raises(SettingsMismatch):
        settle(tmp_path, RUN)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"null", b'"x"', b"{}", b'{"decides": [1]}'])
def test_damaged_settings_are_refused_and_overwrite_mends_them(tmp_path, content):
    (tmp_path / SETTINGS).write_bytes(content)
    with pytest.raises(SettingsMismatch, match=r"settings\.json is damaged"):
        settle(tmp_path, RUN)
    settle(tmp_path, RUN, overwrite=True)
    settle(tmp_path, RUN)

"""settings.json keeps two runs apart: the same one goes on, another is refused by what differs."""

from __future__ import annotations

import json

import pytest

from jaxstyle.data.manifest import SETTINGS, compare, settle
from jaxstyle.errors import SettingsMismatch

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


def test_comparing_refuses_as_settling_does_and_writes_nothing(tmp_path):
    compare(tmp_path, RUN)
    assert not list(tmp_path.iterdir())
    settle(tmp_path, RUN)
    compare(tmp_path, changed())
    with pytest.raises(SettingsMismatch, match="settings.size is 64 now and 512 there"):
        compare(tmp_path, changed(size=64))


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

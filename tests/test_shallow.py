"""JSON of a folder that others may have written: too deep is damaged, wherever it is read."""

import json

import pytest
import stub
from command import run

from jaxstyle.data.shallow import DEEPEST, loads


def nested(depth):
    """Lists and objects in turn, in `depth` levels around a number."""
    value = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def test_a_value_is_read_up_to_a_depth():
    assert loads(json.dumps(nested(DEEPEST - 1))) == nested(DEEPEST - 1)
    for text in (json.dumps(nested(DEEPEST + 1)), "[" * 900 + "]" * 900, "[" * 100_000 + "]" * 100_000):
        with pytest.raises(ValueError, match="too deeply"):
            loads(text)
    with pytest.raises(ValueError):
        loads("{")


@pytest.mark.parametrize("depth", [DEEPEST, 970, 100_000])
@pytest.mark.parametrize(
    "where",
    ['{"decides": {"settings": {"a": %s}}, "about": {}}', '{"decides": {"settings": {}}, "about": {"style": %s}}'],
)
def test_a_deep_settings_json_is_damaged(base, folder, monkeypatch, capfd, depth, where):
    stub.install(monkeypatch.setattr)
    assert run(*base) == 0
    (folder / "out" / "settings.json").write_text(where % ("[" * depth + "]" * depth))
    assert run(*base) == 2
    assert "settings.json is damaged. Use another output folder" in capfd.readouterr().err
    for command in (["status"], ["status", "--json"], ["verify"]):
        assert run(*command, folder / "out") in (0, 3)
        assert "Traceback" not in capfd.readouterr().err
    assert run(*base, "--existing", "overwrite") == 0

"""OUT/settings.json: what the results in an output folder depend on, so that a run with other settings is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxstyle.data.layout import SETTINGS
from jaxstyle.data.ledger import forget
from jaxstyle.data.mutex import mutex
from jaxstyle.data.opening import read_regular, unreadable
from jaxstyle.data.sinks.folders import write_file
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import SettingsMismatch
from jaxstyle.settings import deciding

_PRECISION = "settings.precision"
_OTHERWISE = "another output folder, or --existing overwrite"


@dataclass(frozen=True)
class Fingerprint:
    """What a run's results depend on. All values are values of JSON, or tuples for lists.

    Attributes:
        decides: what decides the pixels. `settings` holds the settings, as `RenderSettings.pixels` returns them; the
            other names hold checksums of files, such as the style and the weights.
        defaults: a mapping of the same shape. It says what an absent name of `decides` stands for in the
            settings.json of a version that did not have it yet; for `settings`, `RenderSettings.defaults`.
        about: facts to show people, which are not compared.
    """

    decides: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


def compare(output: Path, run: Fingerprint) -> None:
    """Makes sure that the results in a folder, if there are any, have this run's fingerprint.

    - A name that is absent from settings.json stands for its default in this version, so that a new setting never
      makes an old folder refuse to resume.
    - A name that this version does not know was written by a newer version. It is refused unless its value is null,
      since nothing else tells whether the setting was in use.
    - Settings that decide nothing are not compared; see `settings.deciding`.
    - Precision is compared only where both sides name one; `record_precision` sees to "auto".

    Raises:
        SettingsMismatch: the folder has another fingerprint, and says in what; or its settings.json is damaged.
        StorageError: settings.json cannot be read.
    """
    recorded = _read(output)
    if recorded is None:
        return
    there = _flat(recorded["decides"] | {"settings": deciding(recorded["decides"]["settings"])})
    here, defaults = _flat(_as_json(run.decides)), _flat(_as_json(run.defaults))
    unknown = [name for name in there if name not in here | defaults and there[name] is not None]
    if unknown:
        version = recorded.get("about", {}).get("jaxstyle", "another version")
        shown = "; ".join(f"{name} is {there[name]!r} there" for name in unknown[:5])
        raise SettingsMismatch(
            f"{printable(output)} holds results of jaxstyle {version}, with settings that this version lacks: {shown}",
            f"Use that version, {_OTHERWISE}.",
        )
    pairs = {name: (here.get(name, defaults.get(name)), there.get(name, defaults.get(name))) for name in here | there}
    if "auto" in pairs.get(_PRECISION, ()):
        del pairs[_PRECISION]
    differing = [f"{name} is {now!r} now and {then!r} there" for name, (now, then) in pairs.items() if now != then]
    if differing:
        raise SettingsMismatch(
            f"{printable(output)} holds results of other settings: {'; '.join(differing[:5])}",
            f"Use the same settings, {_OTHERWISE}.",
        )


def write_fingerprint(output: Path, run: Fingerprint, *, overwrite: bool = False) -> None:
    """Writes settings.json unless the folder has it; refuses another run's. The caller holds the folder's mutex.

    Args:
        overwrite: replace the fingerprint. The rows are removed first: rows of other settings must never stand beside
            it, whenever the run is killed.

    Raises:
        SettingsMismatch: see `compare`.
        StorageError: a file cannot be read, written or removed.
    """
    if overwrite:
        forget(output)
    else:
        compare(output, run)
    if overwrite or _read(output) is None:
        _write(output, _as_json({"decides": run.decides, "about": run.about}))


def record_precision(output: Path, precision: str) -> None:
    """Records the precision that "auto" has come to, or refuses a run that would mix two in one folder.

    Which precision "auto" means is known only when there is a device. So the engine calls this in every run that
    renders, once, after its device has been made and before it publishes the first image: with the lock of the folder
    or shard held (`lock.locked`), the mutex free, and the precision of the device (`device.settings.precision`). The
    first of these calls replaces the "auto" of settings.json; two shards that start at the same time agree on one.

    Raises:
        SettingsMismatch: the folder's results have another precision; or settings.json is damaged or gone.
        OutputLocked, StorageError: see `mutex`; settings.json cannot be read or written.
    """
    with mutex(output):
        recorded = _read(output)
        if recorded is None:
            raise SettingsMismatch(f"{printable(output / SETTINGS)} was removed during the run", "Run again.")
        settings = recorded["decides"]["settings"]
        there = settings.get("precision", "auto")
        if there == "auto":
            settings["precision"] = precision
            _write(output, recorded)
        elif there != precision:
            raise SettingsMismatch(
                f"{printable(output)} holds results computed in {there}, and this run computes in {precision}",
                f"Give --precision {there}, or use {_OTHERWISE}.",
            )


def read_about(output: Path) -> dict[str, Any] | None:
    """What settings.json tells people of the run; None where it is absent, damaged or cannot be read."""
    try:
        about = json.loads(read_regular(output / SETTINGS))["about"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return about if isinstance(about, dict) else None


def _read(output: Path) -> dict[str, Any] | None:
    """The content of settings.json, with at least `decides` and the `settings` in it; None if there is no file."""
    path = output / SETTINGS
    try:
        recorded = json.loads(read_regular(path))
        if not (isinstance(recorded["decides"]["settings"], dict) and isinstance(recorded.get("about", {}), dict)):
            raise ValueError
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SettingsMismatch(f"{printable(path)} is damaged", f"Use {_OTHERWISE}.") from error
    return recorded


def _write(output: Path, recorded: Mapping[str, Any]) -> None:
    write_file(output / SETTINGS, (json.dumps(recorded, indent=2) + "\n").encode())


def _as_json(value: Any) -> Any:
    """The value as it comes back from JSON: lists for tuples."""
    return json.loads(json.dumps(value))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one of dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat

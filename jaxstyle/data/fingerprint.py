"""Reads, compares and writes OUT/settings.json, which states what the results in an output folder depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jaxstyle.data.folder import Folder, as_folder
from jaxstyle.data.layout import SETTINGS
from jaxstyle.data.ledger import forget, ledgers, lines
from jaxstyle.data.mutex import mutex
from jaxstyle.data.problems import unreadable
from jaxstyle.data.recorded import FORMAT
from jaxstyle.data.shallow import loads
from jaxstyle.data.sources.base import printable
from jaxstyle.data.writing import write_file
from jaxstyle.errors import SettingsMismatch
from jaxstyle.settings import deciding

MOST_BYTES = 2**20
"""Of settings.json; a larger one is damaged."""

_PRECISION, _EVALUATIONS = "settings.precision", "settings.evaluations"
_OTHERWISE = "another output folder, or --existing overwrite"


@dataclass(frozen=True)
class Fingerprint:
    """What the results of a run depend on. All values are JSON values, with tuples for lists.

    Attributes:
        decides: values that decide the pixels. `settings` holds `RenderSettings.pixels`; the other names hold
            checksums of files, such as the style image and the weights.
        defaults: a mapping of the same shape with the value of every name that the settings.json of an older
            version lacks; for `settings`, `RenderSettings.defaults`.
        about: facts that are shown to the user and not compared.
    """

    decides: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


def compare(output: Path | Folder, run: Fingerprint, *, continues: bool = False) -> None:
    """Checks that results in a folder have this run's fingerprint.

    - A name that is absent from settings.json stands for its default in this version, so that a new setting does not
      make an old folder refuse to resume.
    - A name that this version does not know was written by a newer version. It is refused unless its value is null,
      because this version cannot tell whether the setting was in use.
    - Settings that do not change the pixels are not compared; see `settings.deciding`.
    - The preset's name is not compared: all of its values are.
    - Precision is compared only if both sides state one; `record_precision` handles "auto".

    Args:
        continues: whether this run may have more evaluations.

    Raises:
        SettingsMismatch: the folder has another fingerprint (the message says how), or its settings.json is damaged.
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
    pairs.pop("settings.preset", None)  # its name; all of its values are compared
    if "auto" in pairs.get(_PRECISION, ()):
        del pairs[_PRECISION]
    more = total(pairs[_EVALUATIONS][0]) > total(pairs[_EVALUATIONS][1]) if _EVALUATIONS in pairs else False
    if continues and more:
        del pairs[_EVALUATIONS]
    differing = {
        name: f"{name} is {now!r} now and {then!r} there" for name, (now, then) in pairs.items() if now != then
    }
    if differing:
        instead = ", --existing continue" if more and [*differing] == [_EVALUATIONS] else ""
        raise SettingsMismatch(
            f"{printable(output)} holds results of other settings: {'; '.join([*differing.values()][:5])}",
            f"Use the same settings{instead}, {_OTHERWISE}.",
        )


def total(evaluations: Any) -> float:
    """The evaluations of an image as settings.json has them: a number, or one for each scale; 0 for anything else."""
    numbers = evaluations if isinstance(evaluations, list) else [evaluations]
    return sum(numbers) if all(type(one) is int for one in numbers) else 0


def write_fingerprint(
    output: Path | Folder, run: Fingerprint, *, overwrite: bool = False, continues: bool = False
) -> None:
    """Writes settings.json unless the folder has one; refuses a different one. The caller holds the folder's mutex.

    Args:
        overwrite: replace the fingerprint. The rows are removed first, so that a run killed in between leaves no rows
            beside a fingerprint that is not theirs.
        continues: see `compare`; a larger number of evaluations is recorded.

    Raises:
        SettingsMismatch: see `compare`.
        StorageError: a file cannot be read, written or removed.
    """
    if overwrite:
        forget(output)
    else:
        compare(output, run, continues=continues)
    recorded = None if overwrite else _read(output)
    if recorded is None:
        _write(output, _as_json({"format": FORMAT, "decides": run.decides, "about": run.about}))
    elif continues:
        now, settings = _as_json(run.decides["settings"]["evaluations"]), recorded["decides"]["settings"]
        if settings.get("evaluations") != now:
            settings["evaluations"] = now
            _write(output, recorded)


class Begun(NamedTuple):
    """How the results in a folder are computed.

    Attributes:
        device: name of the device that it was begun on.
        precision: of the convolutions.
        products: where that is "mixed", which layers are computed how, see `planning.contract.Device`.
    """

    device: str
    precision: str
    products: Mapping[str, Any]


def record_precision(
    output: Path | Folder,
    precision: str,
    device: str = "",
    products: Mapping[str, Any] | None = None,
    *,
    adopt: bool = False,
) -> Begun:
    """Records the precision that "auto" resolved to; refuses a run that would mix two precisions in one folder.

    Args:
        products: of a device whose precision is "mixed"; the first run's are recorded, and later runs take them.
        adopt: whether this run can take the folder's precision instead of its own where both are of CPUs: "float32" or
            "mixed".

    Returns:
        what is recorded: of the first run, or of this one.

    The device decides what "auto" means. So the engine calls this once in every run that renders, after making the
    device and before publishing the first image. The caller holds the lock of the folder or shard (`lock.locked`) but
    not the mutex, and passes `device.settings.precision`. The first call replaces "auto" in settings.json, so that
    two shards that start at the same time agree on one precision.

    Raises:
        SettingsMismatch: the folder's results have another precision; or settings.json is damaged or gone.
        OutputLocked, StorageError: see `mutex`; settings.json cannot be read or written.
    """
    with as_folder(output) as folder, mutex(folder):
        folder.check()
        recorded = _read(folder)
        if recorded is None:
            raise SettingsMismatch(f"{printable(output / SETTINGS)} was removed during the run", "Run again.")
        settings = recorded["decides"]["settings"]
        there = settings.get("precision", "auto")
        if there == "auto":  # version 0.1 left it so; its rows tell
            done = {row.precision for name in ledgers(folder) for _, row in lines(folder, name) if row.status == "done"}
            there = next(iter(done - {"", precision}), precision)
        if adopt and {there, precision} == {"float32", "mixed"}:
            precision = there
        if there != precision:
            raise SettingsMismatch(
                f"{printable(output)} holds results computed in {there}, and this run computes in {precision}",
                f"Give --precision {there}, or use {_OTHERWISE}.",
            )
        about = recorded.setdefault("about", {})
        began_on = str(about.get("device") or device)
        if precision != "mixed":
            products = None
        elif "products" in about:
            products = about["products"]
        if (settings.get("precision"), about.get("device", ""), about.get("products")) != (
            precision,
            began_on,
            products,
        ):
            settings["precision"] = precision
            about |= {"device": began_on} if began_on else {}
            about |= {} if products is None else {"products": products}
            _write(folder, recorded)
        return Begun(began_on, precision, products or {})


def recorded_products(output: Path | Folder) -> Mapping[str, Any] | None:
    """Reads how layers are computed in a folder whose results are of a CPU: none of them in bfloat16 for "float32".

    Returns:
        see `planning.contract.Device.products`; None if no run has decided it.
    """
    if read_settings(output).get("precision") == "float32":
        return {}
    found = (read_about(output) or {}).get("products")
    return found if isinstance(found, dict) else None


def read_about(output: Path | Folder) -> dict[str, Any] | None:
    """Reads the facts about the run from settings.json; None if it is absent, damaged or cannot be read."""
    try:
        about = loads(_bytes(output))["about"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return about if isinstance(about, dict) else None


def read_settings(output: Path | Folder) -> dict[str, Any]:
    """Reads the settings of a folder's runs from settings.json; none if it is absent, damaged or cannot be read."""
    try:
        settings = loads(_bytes(output))["decides"]["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return settings if isinstance(settings, dict) else {}


def output_format(output: Path | Folder) -> str:
    """Reads the setting `output_format` of a folder's runs: "keep" if settings.json lacks it or cannot be read."""
    try:
        return str(loads(_bytes(output))["decides"]["settings"]["output_format"])
    except (OSError, ValueError, KeyError, TypeError):
        return "keep"


def read_recorded(output: Path | Folder) -> dict[str, Any]:
    """Reads settings.json whole: `decides` with `settings` in it, and `about`.

    Raises:
        SettingsMismatch: it is absent, damaged, or of a newer version.
        StorageError: it cannot be read.
    """
    recorded = _read(output)
    if recorded is None:
        raise SettingsMismatch(f"{printable(output / SETTINGS)} is absent", f"Use {_OTHERWISE}.")
    return recorded | {"about": recorded.get("about", {})}


def _bytes(output: Path | Folder) -> bytes:
    folder = output if isinstance(output, Folder) else Folder(output)
    return folder.read(SETTINGS, MOST_BYTES)


def _read(output: Path | Folder) -> dict[str, Any] | None:
    """Reads settings.json, which must have `decides` with `settings` in it; None if there is no file."""
    path = output / SETTINGS
    try:
        recorded = loads(_bytes(output))
        if not (isinstance(recorded["decides"]["settings"], dict) and isinstance(recorded.get("about", {}), dict)):
            raise ValueError
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsMismatch(f"{printable(path)} is damaged", f"Use {_OTHERWISE}.") from error
    if recorded.get("format", FORMAT) != FORMAT:
        raise SettingsMismatch(
            f"{printable(path)} has the format {recorded['format']!r:.20}, and this version reads {FORMAT}",
            f"Use the version of jaxstyle that wrote it, or {_OTHERWISE}.",
        )
    return recorded


def _write(output: Path | Folder, recorded: Mapping[str, Any]) -> None:
    data = (json.dumps(recorded, indent=2) + "\n").encode()
    with as_folder(output) as folder:
        write_file((folder, SETTINGS), data)


def _as_json(value: Any) -> Any:
    """Returns the value after a round trip through JSON, which turns tuples into lists."""
    return json.loads(json.dumps(value))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens a nested mapping to one with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat

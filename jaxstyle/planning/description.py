"""What settings.json says of a run: its fingerprint, facts about it, and what may round otherwise."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jaxstyle
from jaxstyle.data import fingerprint
from jaxstyle.data.fingerprint import Fingerprint
from jaxstyle.model import weights
from jaxstyle.planning.styles import Styles
from jaxstyle.settings import RenderSettings

ROUNDING = ("batch", "tail", "devices", "cpu_devices", "tile", "regions")
"""Settings that change an output by rounding: settings.json shows them, and a run with others may go on in the folder.
Refusing it would leave no way on where the memory turns out too small; each row has its own batch."""


def describe(
    styles: Styles, settings: RenderSettings, network: weights.Weights, init_sha256: str | None = None
) -> Fingerprint:
    """The fingerprint of a run, for settings.json.

    Args:
        init_sha256: checksum of the picture that `init` names.
    """
    decides: dict[str, Any] = {"settings": settings.pixels(), "style": styles.fingerprint, "weights": network.digest}
    if init_sha256 is not None:
        decides["init"] = init_sha256
    about = {
        "jaxstyle": jaxstyle.__version__,
        "jax": version("jax"),
        "style": styles.name,
        "weights": network.source,
        "rounding": {name: getattr(settings, name) for name in ROUNDING},
    }
    return Fingerprint(decides, {"settings": settings.defaults(), "init": None}, about)


def with_facts(run: Fingerprint, **facts: Any) -> Fingerprint:
    """Adds facts about the run that are not compared."""
    return dataclasses.replace(run, about={**run.about, **facts})


def rounding(output: Path, run: Fingerprint) -> str:
    """Says which settings of `ROUNDING` the runs before had otherwise; "" if none."""
    here, there = run.about["rounding"], (fingerprint.read_about(output) or {}).get("rounding")
    there = there if isinstance(there, dict) else here  # of an older version
    differing = [
        f"{name} is {here[name]!r} now and was {there[name]!r}"
        for name in here
        if here[name] != there.setdefault(name, here[name])
    ]
    return (
        f"Results of earlier runs in this folder may be rounded otherwise: {', '.join(differing)}." if differing else ""
    )

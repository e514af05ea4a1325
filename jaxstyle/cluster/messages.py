"""What a coordinator and its workers tell each other: paths, settings and rows, never pixels."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jaxstyle
from jaxstyle import errors
from jaxstyle.errors import JaxstyleError
from jaxstyle.settings import RenderSettings

GO_ON, STOP, HOLD = "go on", "stop", "hold"
"""Answers to news: render on; finish the images on the device; tell it again later."""
SILENCE = 2.0
"""Time without news after which a shard counts as hung, in `stall_timeout`s: its own watchdog comes first."""
LOST = "lost"
"""Kind of the failure of an attempt whose process or machine has gone."""

Call = list[Any]
"""A call of `Progress` as [name, arguments]; or ["end", [figures]]; or ["error", [kind, what, remedy]]."""


class Failure(NamedTuple):
    """Why an attempt at a shard has failed.

    Attributes:
        kind: name of the error's class in `jaxstyle.errors`, or `LOST`.
        what, remedy: see `JaxstyleError`.
    """

    kind: str
    what: str
    remedy: str = ""

    def error(self) -> JaxstyleError:
        """Returns the error that it stands for."""
        return getattr(errors, self.kind, errors.ClusterError)(self.what, self.remedy)


class Outcome(NamedTuple):
    """How an attempt at a shard has ended.

    Attributes:
        code: exit code of the shard's process; negative for a signal; None if its worker has gone.
        failure: what the worker found to be wrong, None if it found nothing.
        node: the machine.
        node_id: its name in Ray.
    """

    code: int | None
    failure: Failure | None = None
    node: str = ""
    node_id: str = ""


class News(NamedTuple):
    """What an attempt at a shard has told since the last time."""

    shard: int
    attempt: int
    calls: list[Call]


def order(
    inputs: Iterable[Path | str], style: Iterable[Path | str], output: Path, settings: RenderSettings, shards: int,
    token: str,
) -> dict[str, Any]:  # fmt: skip
    """Returns what workers have to know of a run, as values of JSON.

    Args:
        token: name of an empty file in the output folder. A worker that finds it has the same folder.
    """
    once: dict[str, Any] = {"max_failures": None, "max_duration": None}  # the coordinator counts, over all shards
    once |= {"existing": "resume" if settings.existing == "error" else settings.existing}
    return {
        "version": jaxstyle.__version__,
        "folder": os.getcwd(),
        "inputs": [str(one) for one in inputs],
        "style": [str(one) for one in style],
        "output": str(output),
        "settings": {name: _plain(value) for name, value in (dataclasses.asdict(settings) | once).items()},
        "shards": shards,
        "token": token,
        "silence": SILENCE * settings.stall_timeout,
        "interval": max(1.0, shards / 500),
    }


def settings_of(told: Mapping[str, Any], shard: int) -> RenderSettings:
    """Returns the settings of a shard."""
    return RenderSettings(**{**told["settings"], "shard": f"{shard}/{told['shards']}"})


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value

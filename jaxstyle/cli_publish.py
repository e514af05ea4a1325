"""The command `jaxstyle publish`, which copies the outputs of a folder to an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from jaxstyle import arguments
from jaxstyle.errors import EXIT_OK
from jaxstyle.printing import Json, echo, show
from jaxstyle.settings import RenderSettings


def publish(
    folder: Annotated[Path, arguments.named("FOLDER"), Parameter(name="FOLDER")],
    url: Annotated[str, Parameter(name="URL")],
    *,
    allow_missing: bool = False,
    stall_timeout: float = RenderSettings.stall_timeout,
    json: Json = False,
) -> int:
    """Copy the outputs, the manifest and the settings of a folder to an object store.

    Each object is checked after it was written. The last one, _SUCCESS.json, is there only while all others are. The
    same command again writes what is absent or differs. An object that no publication of the folder wrote is never
    replaced.

    Parameters
    ----------
    folder
        The output folder of a run, which may be unfinished with --allow-missing.
    url
        Where the objects go, such as s3://bucket/stylized.
    allow_missing
        Publish although inputs have failed, or a run is at work in the folder.
    stall_timeout
        Timeout in seconds for a call of the store.
    """
    from jaxstyle.data.publishing import publish as published
    from jaxstyle.engine.watchdog import Calls, Watchdog

    calls, limit = Calls(), RenderSettings(stall_timeout=stall_timeout).stall_timeout  # which checks it
    with Watchdog(limit, calls, own_process=True):
        made = published(folder, url, allow_missing=allow_missing, watch=calls.of)
    show(made, json)
    for line in made.told():
        echo(line)
    return EXIT_OK

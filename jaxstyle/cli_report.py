"""The command `jaxstyle report`, which writes a page with all pictures of a folder, or serves it during the run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from jaxstyle import arguments
from jaxstyle.coerce import check
from jaxstyle.errors import EXIT_OK, SettingsError
from jaxstyle.printing import Json, echo, show


def report(
    folder: Annotated[Path, arguments.named("FOLDER"), Parameter(name="FOLDER")],
    *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    input: tuple[Path | str, ...] = (),
    style: tuple[str, ...] = (),
    dataset: str | None = None,
    thumbnails: int = 1000,
    watch: bool = False,
    port: int = 0,
    json: Json = False,
) -> int:
    """Write a page with every picture of a folder, its row and the settings; it needs no network and no server.

    The page shows each photograph, its style and its result under a slider; it filters, searches and sorts, and
    begins with the failures. The same command again writes what has changed.

    Parameters
    ----------
    folder
        The output folder of a run, which may be unfinished.
    output
        Folder of the page, index.html [default: FOLDER-report, beside FOLDER]
    input
        Where the photographs are, as render took them: a file, a folder or an HDF5 file; may be given several times.
        Without it the page shows the results alone.
    style
        Where the style pictures are, as render took them.
    dataset
        See render.
    thumbnails
        Most rows whose pictures get thumbnails. The page shows the pictures themselves of the other rows, where a
        browser can open them.
    watch
        Serve the page at 127.0.0.1 and bring it up to date while the run goes on, until Ctrl-C.
    port
        Port of --watch [default: a free one]
    """
    from jaxstyle.engine.stop import Stop, on_signals
    from jaxstyle.report.gallery import default_target, write
    from jaxstyle.report.rows_index import Asked

    check(thumbnails >= 0, "thumbnails", thumbnails, "at least 0")
    check(0 <= port <= 65535, "port", port, "0 to 65535")
    if port and not watch:
        raise SettingsError(f"port is {port}, and --watch is not given", "Add --watch, or leave it out.")
    if json and watch:
        raise SettingsError("--json is given with --watch", "Leave one of them out.")
    if dataset is not None and not input:
        raise SettingsError(f"dataset is {dataset!r}, and no input is given", "Add --input FILE.h5.")
    asked = Asked(folder, output or default_target(folder), input, style, dataset, thumbnails)
    if not watch:
        show(write(asked, echo), json)
        return EXIT_OK
    from jaxstyle.report.server import watch as watching

    with on_signals(stop := Stop()):
        watching(asked, port, stop, echo, lambda address: print(address, flush=True))
    return EXIT_OK

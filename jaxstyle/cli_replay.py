"""The command `jaxstyle replay`, which renders one row of a manifest again and compares the outcome."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from jaxstyle import arguments
from jaxstyle.engine.stop import Stop, on_signals
from jaxstyle.errors import EXIT_OK, EXIT_SOME_FAILED
from jaxstyle.printing import Json, show


def replay(
    folder: Annotated[Path, arguments.named("FOLDER"), Parameter(name="FOLDER")],
    key: Annotated[str, Parameter(name="KEY")],
    *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    input: Annotated[tuple[Path | str, ...], Parameter(negative=())] = (),
    style: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    anyway: bool = False,
    json: Json = False,
) -> int:
    """Render one image of an output folder again, and say whether it is the recorded one, byte for byte.

    Settings, style, seed, precision and batch are those of the folder and the row; nothing is written into the folder.
    Another device or another version of JAX may round otherwise.

    Exit code 0: the same; 3: different, or failed; 2: refused, since the input or the style has changed or is gone.

    Parameters
    ----------
    folder
        The output folder of a run.
    key
        Key of the row, or path of the input if that has one output.
    output
        New file for the image [default: it is only compared]
    input
        Where the run's inputs lie now: what `render` was given [default: where they lay then]
    style
        Where the styles lie now, likewise.
    anyway
        Render it although the input, the style or a setting has changed, or it was continued or is a frame.
    """
    stop = Stop()
    with on_signals(stop):  # before the imports: NumPy's turns Ctrl-C into an ImportError
        from jaxstyle.engine.replay import replay as replayed
        from jaxstyle.report.progress import progress

        with progress(sys.stderr) as listener:
            found = replayed(
                folder, key, output, inputs=input, style=style, anyway=anyway, progress=listener, stop=stop,
                own_process=True,
            )  # fmt: skip
    show(found, json)
    if stop.signal:
        return 128 + stop.signal
    return EXIT_OK if found.equal else EXIT_SOME_FAILED

"""The command `jaxstyle targets`, which writes the style targets of pictures to a file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from jaxstyle import arguments
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import EXIT_OK, EXIT_SOME_FAILED
from jaxstyle.printing import echo
from jaxstyle.settings import RenderSettings

Pictures = Annotated[
    list[str], Parameter(name="STYLE", negative=(), converter=partial(arguments.convert, name="STYLE"))
]


def targets(
    pictures: Pictures,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    settings: Annotated[RenderSettings | None, Parameter(name="*")] = None,
) -> int:
    """Write the style targets of a picture, or the mean of a collection's, to a file for --style.

    Flags are those of the render that will use the file: its network, weights, layers, pooling and style size must be
    the same. Exit code 3 if a picture cannot be read and was left out.

    Parameters
    ----------
    pictures
        Style images: files, folders (recursively), quoted patterns such as 'paintings/*.jpg', .txt lists of paths, or
        files of targets; :2 behind one is a weight. Their targets are averaged.
    output
        The file, which ends in .safetensors. An older file of targets is replaced.
    """
    from jaxstyle.engine.averaging import average

    made = average(pictures, output, settings, say=echo, own_process=True)
    left = f", {len(made.left_out)} left out" if made.left_out else ""
    echo(f"Targets of {made.images} style image{'s' * (made.images != 1)}{left}, for --style:")
    print(printable(made.path))
    return EXIT_SOME_FAILED if made.left_out else EXIT_OK

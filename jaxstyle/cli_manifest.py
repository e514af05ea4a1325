"""The command `jaxstyle manifest`, which writes the rows of an output folder as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from jaxstyle import arguments
from jaxstyle.errors import EXIT_OK, EXIT_SOME_FAILED
from jaxstyle.printing import echo


def manifest(
    folder: Annotated[Path, arguments.named("FOLDER"), Parameter(name="FOLDER")],
    *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    format: Literal["csv", "parquet", "jsonl"] | None = None,
) -> int:
    """Write the rows of an output folder as a table: CSV, Parquet or JSON lines, one row for each input.

    The folder may be unfinished, with shards at work. Exit code 3 if lines of its ledgers are no rows and are left out.

    Parameters
    ----------
    folder
        The output folder of a run.
    output
        The file; an older one is replaced [default: the standard output]
    format
        Format of the table [default: by the file's extension, else csv]
    """
    from jaxstyle.data import table

    own = "" if output is None else output.suffix.lower().removeprefix(".")
    chosen = format or ("parquet" if own == "parquet" else "jsonl" if own == "jsonl" else "csv")
    made = table.write(folder, output, chosen)
    left = f", {made.malformed} lines that are no rows left out" if made.malformed else ""
    if output is not None or made.malformed:
        echo(f"{made.rows} rows{left}: {output or 'standard output'}")
    return EXIT_SOME_FAILED if made.malformed else EXIT_OK

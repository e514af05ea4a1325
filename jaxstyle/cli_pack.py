"""The command `jaxstyle pack`, which writes outputs with labels to HDF5 files, shards or Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from jaxstyle import arguments
from jaxstyle.errors import EXIT_OK
from jaxstyle.printing import Json, echo, show


def pack(
    folder: Annotated[Path, arguments.named("FOLDER"), Parameter(name="FOLDER")],
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    input: tuple[Path, ...] = (),
    dataset: str | None = None,
    allow_missing: bool = False,
    per_file: int | None = None,
    layout: Literal["auto", "arrays", "encoded"] = "auto",
    leave_out: tuple[str, ...] = (),
    json: Json = False,
) -> int:
    """Write the outputs of a folder to HDF5 files, tar archives or Parquet files, with the labels of their inputs.

    In HDF5, row i of every dataset belongs to image i. Each tar archive (shard) or Parquet file of the inputs gives one
    of the same name, with the output in the place of the image, and with the other members of its sample or the other
    columns of its row. A file appears under its name when it is complete and has been read again. The same command
    again checks the files and writes those that differ.

    Parameters
    ----------
    folder
        The output folder of a run, which may be unfinished with --allow-missing.
    output
        An HDF5 file, which ends in .h5 or .hdf5; with --per-file, NAME.h5 stands for NAME-00000.h5 and so on. Or a
        folder for tar archives or Parquet files.
    input
        HDF5 file that was rendered, whose datasets with as many rows as images are carried over; or the tar archives
        or Parquet files that were.
    dataset
        See render.
    allow_missing
        Leave out the inputs that have no output, with their labels.
    per_file
        Most images of a file, if the input is no tar archive and no Parquet file [default: all in one].
    layout
        Of HDF5. arrays: N x H x W x 3 of uint8, or x 4 where the input has 4 channels; encoded: the outputs' files, as
        rows of variable length; auto: arrays if all outputs have one size.
    leave_out
        Dataset or column of the input that is not carried over; may be given several times.
    """
    from jaxstyle.data.packing import pack as packed

    made = packed(
        folder, output, source=input, dataset=dataset, allow_missing=allow_missing, per_file=per_file, layout=layout,
        leave_out=leave_out,
    )  # fmt: skip
    show(made, json)
    for line in made.told():
        echo(line)
    return EXIT_OK

"""Packs the outputs of runs into files of datasets, with the labels of the inputs: HDF5 or Parquet files, shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jaxstyle.data.packing.base import Packed
from jaxstyle.data.sources.base import HDF5, is_hdf5, is_parquet, is_tar, printable
from jaxstyle.errors import InputError


def pack(
    output: Path,
    target: Path,
    *,
    source: Path | Sequence[Path] | None = None,
    dataset: str | None = None,
    allow_missing: bool = False,
    per_file: int | None = None,
    layout: Literal["auto", "arrays", "encoded"] = "auto",
    leave_out: Sequence[str] = (),
) -> Packed:
    """Writes the outputs of a folder to files of datasets; those that are there already are only checked.

    Images stand in the order of the inputs, or of their keys without inputs. In HDF5, datasets of the source with as
    many rows as images are carried over, so that row i of each belongs to image i. In shards, the members of a sample
    are carried over beside the image; in Parquet files, the other columns of a row.

    Args:
        output: output folder of runs, at work or finished.
        target: a file called .h5 or .hdf5, of which NAME.h5 stands for NAME-00000.h5 and so on with `per_file`; or a
            folder for shards or Parquet files.
        source: the HDF5 file or the Parquet files whose rows were rendered, or the tar archives whose samples were.
        dataset: see `RenderSettings`.
        allow_missing: leave out inputs without an output, with their labels.
        per_file: most images of a file [default: all in one, and shards and Parquet files as in the source]
        layout: of HDF5 files: arrays, uint8 of one size; encoded, the files of the outputs; auto, arrays if all have
            one size.
        leave_out: datasets or columns of the source that are not carried over.

    Raises:
        InputError: outputs are missing; the folder, the source or the target cannot be used.
        StorageError: a file cannot be read or written; an output is not as its row says.
    """
    sources = [source] if isinstance(source, Path) else list(source or ())
    if per_file is not None and per_file < 1:
        raise InputError(f"per-file is {per_file}", "It must be at least 1.")
    if target.suffix.lower() in HDF5:
        from jaxstyle.data.packing import hdf5

        if other := next((one for one in sources if is_tar(one) or is_parquet(one)), None):
            kind = "tar archive" if is_tar(other) else "Parquet file"
            raise InputError(f"the output is {printable(target)}, and the input {printable(other)} a {kind}",
                             "Give a folder as the output.")  # fmt: skip
        return hdf5.pack(output, target, sources, dataset, allow_missing, per_file, layout, leave_out)
    a_file = target.exists() or target.suffix[1:2].isalpha()  # a folder may be called packed-1.0
    if any(map(is_hdf5, sources)) or (a_file and not target.is_dir()):
        raise InputError(f"the output {printable(target)} is no HDF5 file by its name, and no folder",
                         "End it in .h5 or .hdf5, or give a folder for tar archives and Parquet files.")  # fmt: skip
    if any(map(is_parquet, sources)):
        if per_file is not None or layout != "auto":
            raise InputError("per-file or a layout is given, and Parquet files are as those of the input",
                             "Leave it out.")  # fmt: skip
        from jaxstyle.data.packing import parquet

        return parquet.pack(output, target, sources, dataset, allow_missing, leave_out)
    if dataset is not None or leave_out or layout != "auto":
        raise InputError("a dataset, datasets to leave out or a layout are given, and the output is no HDF5 file",
                         "Leave them out, or end the output in .h5.")  # fmt: skip
    from jaxstyle.data.packing import tar

    return tar.pack(output, target, sources, allow_missing, per_file)

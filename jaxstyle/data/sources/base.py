"""Inputs, and the protocol of sources, which provide them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from jaxstyle.errors import printable as printable

HDF5 = (".h5", ".hdf5")
"""Extensions of HDF5 files."""
TAR = ".tar"
"""Extension of tar archives."""
PARQUET = ".parquet"
"""Extension of Parquet files."""
LISTS = (".csv", ".tsv", ".jsonl")
"""Extensions of lists of pictures."""

Locator = Path | str
"""Location of an input: the path of a file that every process can open, or a string that only the source can open."""


@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        key: path relative to the given folder, with forward slashes; the output has the same key, unless the image has
            several styles or `output_format` names another format. Then it is the output's.
        locator: location of its content.
        skipped: why it is skipped without being read, or "".
        failed: why it cannot be read, or how its output would collide with another, or "".
        note: note for its row, or "".
        image: the input's key where its output has another, or "".
        style: key of its style where images have different ones, or "".
        position: in its folder or in the listing, where the assignment of styles depends on it.
        shot: name of the shot whose frame it is, or "".
        plain: key that its output has in the input's own format, where `key` is another for the format's sake, or "".
    """

    key: str
    locator: Locator
    skipped: str = ""
    failed: str = ""
    note: str = ""
    image: str = ""
    style: str = ""
    position: int = 0
    shot: str = ""
    plain: str = ""


class Stamp(NamedTuple):
    """Length in bytes and time of the last change in nanoseconds; an input has changed if they differ.

    In an object store `modified` is a number made of the entity tag.
    """

    length: int
    modified: int


def is_hdf5(path: Path | str) -> bool:
    """Whether an input is an HDF5 file, by its name."""
    return Path(path).suffix.lower() in HDF5 and not Path(path).is_dir()


def is_tar(path: Path | str) -> bool:
    """Whether an input is a tar archive, by its name."""
    return Path(path).suffix.lower() == TAR and not Path(path).is_dir()


def is_list(path: Path | str) -> bool:
    """Whether an input is a list of pictures, by its name."""
    return Path(path).suffix.lower() in LISTS and not Path(path).is_dir()


def is_parquet(path: Path | str) -> bool:
    """Whether an input is a Parquet file, by its name."""
    return Path(path).suffix.lower() == PARQUET and not Path(path).is_dir()


class Source(Protocol):
    """Provides inputs. Several threads may call its methods.

    Attributes:
        roots: files and folders of this machine that the inputs lie in; outputs are never written there.
    """

    @property
    def roots(self) -> Sequence[Path]: ...

    def check(self, output: Path) -> None:
        """Checks that there are inputs and that outputs in this folder would not overwrite them.

        Raises:
            InputError: an input is unusable; the message names it and the reason.
        """

    def inputs(self) -> Iterator[Input]:
        """Yields all inputs in a stable order, each key once.

        Raises:
            InputError: an input named on the command line does not exist or cannot be read.
        """

    def open(self, locator: Locator) -> BinaryIO:
        """Opens the content of an input.

        Raises:
            OSError: the input cannot be read.
        """

    def stamp(self, locator: Locator) -> Stamp:
        """Returns the present stamp of an input.

        Raises:
            OSError: the input cannot be examined.
        """

"""Registry of sources, which provide inputs. `base.Source` defines the protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from jaxstyle.data.sources.base import Source, is_hdf5
from jaxstyle.data.sources.folders import FolderSource
from jaxstyle.errors import SettingsError
from jaxstyle.settings import RenderSettings


def _hdf5(inputs: Sequence[Path | str], *, settings: RenderSettings, case_insensitive: bool) -> Source:
    from jaxstyle.data.sources.hdf5 import Hdf5Source  # imports numpy, which the command line does without

    return Hdf5Source(inputs, settings=settings, case_insensitive=case_insensitive)


SOURCES: dict[str, Callable[..., Source]] = {"folders": FolderSource, "hdf5": _hdf5}
"""Sources by name. Each is called with the inputs of the command and `case_insensitive`, see `FolderSource`; the source
"hdf5" also with the settings."""


def source_for(name: str, inputs: Sequence[Path | str], settings: RenderSettings, *, case_insensitive: bool) -> Source:
    """Makes the source of this name; HDF5 files among the inputs make "folders" mean "hdf5".

    Raises:
        SettingsError: a dataset is named and there is no HDF5 file.
    """
    if name == "folders" and any(map(is_hdf5, inputs)):
        name = "hdf5"
    if name == "hdf5":
        return SOURCES[name](inputs, case_insensitive=case_insensitive, settings=settings)
    if settings.dataset is not None:
        raise SettingsError(f"dataset is {settings.dataset!r}, and no input is an HDF5 file", "Leave it out.")
    return SOURCES[name](inputs, case_insensitive=case_insensitive)


def close(source: Source) -> None:
    """Closes the files that a source holds open, at the end of a run: calls its `close` if it has one."""
    getattr(source, "close", lambda: None)()

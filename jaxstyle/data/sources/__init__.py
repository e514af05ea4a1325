"""Registry of sources, which provide inputs. `base.Source` defines the protocol."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from jaxstyle.data.sources.base import Source, is_hdf5, is_list, is_parquet, is_tar
from jaxstyle.data.sources.folders import FolderSource
from jaxstyle.errors import SettingsError
from jaxstyle.paths import is_url
from jaxstyle.settings import RenderSettings


def _hdf5(inputs: Sequence[Path | str], *, settings: RenderSettings, case_insensitive: bool) -> Source:
    from jaxstyle.data.sources.hdf5 import Hdf5Source  # imports numpy, which the command line does without

    return Hdf5Source(inputs, settings=settings, case_insensitive=case_insensitive)


def _tar(inputs: Sequence[Path | str], *, settings: RenderSettings, case_insensitive: bool) -> Source:
    from jaxstyle.data.sources.tar import TarSource  # imports numpy too

    return TarSource(inputs, settings=settings, case_insensitive=case_insensitive)


def _lists(inputs: Sequence[Path | str], *, settings: RenderSettings, case_insensitive: bool) -> Source:
    from jaxstyle.data.sources.lists import ListSource  # imports numpy too

    return ListSource(inputs, settings=settings, case_insensitive=case_insensitive)


def _parquet(inputs: Sequence[Path | str], *, settings: RenderSettings, case_insensitive: bool) -> Source:
    from jaxstyle.data.sources.parquet import ParquetSource  # likewise

    return ParquetSource(inputs, settings=settings, case_insensitive=case_insensitive)


def _stores(inputs: Sequence[Path | str], *, settings: RenderSettings, case_insensitive: bool) -> Source:
    from jaxstyle.data.sources.stores import StoreSource  # imports numpy too

    return StoreSource(inputs, settings=settings, case_insensitive=case_insensitive)


SOURCES: dict[str, Callable[..., Source]] = {
    "folders": FolderSource, "hdf5": _hdf5, "tar": _tar, "lists": _lists, "parquet": _parquet, "stores": _stores,
}  # fmt: skip
"""Sources by name. Each is called with the inputs of the command and `case_insensitive`, see `FolderSource`; those in
`BY_NAME` also with the settings."""
BY_NAME: dict[str, Callable[[Path | str], bool]] = {
    "stores": is_url, "tar": is_tar, "hdf5": is_hdf5, "lists": is_list, "parquet": is_parquet,
}  # fmt: skip
"""Sources of inputs that are told by their names, the first that any input has."""
OF_SOURCES = {
    "dataset": (("hdf5", "parquet"), "an HDF5 or Parquet file"),
    "member": (("tar",), "a tar archive"),
    "path_column": (("lists",), "a list"),
}
"""Settings of some sources, with their names and what their inputs are."""
_COMPRESSED = re.compile(r"\.(tgz|tbz2?|txz|tzst|tar\.\w+)$", re.IGNORECASE)


def source_for(name: str, inputs: Sequence[Path | str], settings: RenderSettings, *, case_insensitive: bool) -> Source:
    """Makes the source of this name; inputs of other kinds than pictures make "folders" mean theirs.

    Raises:
        InputError: an archive is compressed.
        SettingsError: a dataset or a member is named, and no input has any.
    """
    for path in inputs:
        if (found := _COMPRESSED.search(str(path))) and not is_url(path) and not Path(path).is_dir():
            from jaxstyle.data.tar import compressed

            raise compressed(Path(path), found[1].rpartition(".")[2])
    if name == "folders":
        name = next((source for source, has in BY_NAME.items() if any(map(has, inputs))), name)
    for setting, (sources, what) in OF_SOURCES.items():
        value = getattr(settings, setting)
        of_annotations = setting == "path_column" and settings.annotations is not None
        if value != getattr(RenderSettings, setting) and name not in sources and not of_annotations:
            raise SettingsError(f"{setting} is {value!r}, and no input is {what}", "Leave it out.")
    if name in BY_NAME:
        return SOURCES[name](inputs, case_insensitive=case_insensitive, settings=settings)
    return SOURCES[name](inputs, case_insensitive=case_insensitive)


def prepare(source: Source, watch: Callable[[], AbstractContextManager[object]]) -> None:
    """Lists the inputs of a source that has a generator `prepare` for it, a step at a time.

    Args:
        watch: a context for each step, so that no call is long.

    Raises what `Source.inputs` raises.
    """
    steps: Iterator[None] = iter(getattr(source, "prepare", tuple)())
    while True:
        with watch():
            if next(steps, steps) is steps:
                return


def close(source: Source) -> None:
    """Closes the files that a source holds open, at the end of a run: calls its `close` if it has one."""
    getattr(source, "close", lambda: None)()

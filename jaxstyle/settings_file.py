"""The settings file that `jaxstyle init` writes: TOML with every setting and its description behind #."""

from __future__ import annotations

import dataclasses
import json
import textwrap
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxstyle.coerce import kinds_of
from jaxstyle.data.problems import storage_error
from jaxstyle.errors import InputError, printable
from jaxstyle.presets import DEFAULTS, PRESETS
from jaxstyle.settings import RenderSettings, StylizeSettings

WIDTH = 100
"""Characters of a line of a description."""
HEAD = """\
Settings of jaxstyle's commands render, plan and sweep, which take this file with --config. Remove the # of a line such
as "size = 512" and change its value. Flags of the command line and JAXSTYLE_* variables override the file. Where no
value stands, there is none by default."""


def write(path: Path, texts: Mapping[str, str]) -> None:
    """Writes the file.

    Args:
        texts: the description of every setting.

    Raises:
        InputError: there is something of this name.
        StorageError: the file cannot be written.
    """
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text(texts))
    except FileExistsError as error:
        raise InputError(f"{printable(path)} is there", "Move it away, or name another file.") from error
    except OSError as error:
        raise storage_error(path, "written", error) from error


def text(texts: Mapping[str, str]) -> str:
    """Returns the file's text; see `write`."""
    return "\n".join(_lines(texts)) + "\n"


def _lines(texts: Mapping[str, str]) -> Iterator[str]:
    yield from _comment(HEAD.replace("\n", " "))
    yield from ("", '# style = "painting.jpg"', '# output = "stylized"')
    hints = typing.get_type_hints(RenderSettings)
    common = {field.name for field in dataclasses.fields(StylizeSettings)}
    for title, among in (("The optimisation", True), ("Files, sizes and batches", False)):
        yield from ("", "", f"# ---- {title} ----")
        for field in dataclasses.fields(RenderSettings):
            if (field.name in common) == among:
                yield ""
                yield from _comment(texts[field.name])
                yield f"# {field.name} = {_value(_default(field, texts[field.name]), hints[field.name])}"


def _comment(paragraph: str) -> list[str]:
    return [
        f"# {line}"
        for line in textwrap.wrap(
            " ".join(paragraph.split()), WIDTH - 2, break_on_hyphens=False, break_long_words=False
        )
    ]


def _default(field: dataclasses.Field[Any], description: str) -> Any:
    """The default; of a setting that the preset decides, the default preset's value."""
    usual = RenderSettings()
    if "[default: the preset's" in description:
        return getattr(PRESETS[usual.preset], field.name)
    return getattr(usual, field.name) if field.name in DEFAULTS else field.default


def _value(value: Any, hint: Any) -> str:
    """A value as TOML has it; of an absent one, what it would be."""
    if value is None:
        kinds = {int: "a whole number", float: "a number", str: '"a text"', Path: '"a path"'}
        return "# " + " or ".join(word for kind, word in kinds.items() if kind in kinds_of(hint))
    return json.dumps(str(value) if isinstance(value, Path) else value)

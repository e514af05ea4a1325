"""From words of the command line, JAXSTYLE_* variables and a TOML file to values of the types that commands take."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cyclopts
from cyclopts import Parameter

from jaxstyle.coerce import check, kinds_of, nearest, number_from, typed
from jaxstyle.config import FLAGS, read, setting_types
from jaxstyle.errors import JaxstyleError, SettingsError
from jaxstyle.paths import given_input, given_path

PREFIX = "JAXSTYLE_"
OTHER_VARIABLES = ("CACHE", "CONFIG")
"""Variables that are no setting of render."""

IMPLIED = {"--ray": "auto"}
"""Values of flags behind which no word stands, or another flag."""
LAYER = r"(relu|block|conv)\d+_(conv)?\d+"
NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
OF_SEVERAL = ("--style", "--input")
"""Flags whose words after the first belong to them if an input came before."""
_HINTS = [*setting_types().items(), *(pair for flags in FLAGS.values() for pair in flags.items())]
ALTERNATIVES = frozenset(
    f"--{name.replace('_', '-')}"
    for name, hint in setting_types().items()
    if not any(typing.get_origin(kind) is tuple for kind in kinds_of(hint))
)
"""Flags that may have several values in a sweep."""
SWITCHES = {"--no-measure", *(f"--{name.replace('_', '-')}" for name, hint in _HINTS if hint is bool)}
"""Flags that take no word."""
SEVERAL = {"--content-layers": LAYER, "--style-layers": LAYER, "--style-layer-weights": NUMBER}
"""Flags that take several words, and what their words look like. Another word after them is an input."""


def convert(hint: Any, tokens: Sequence[cyclopts.Token], name: str = "INPUT") -> Any:
    """Converts the words of one parameter; for cyclopts, as `Parameter.converter`.

    Args:
        name: name of the parameter in messages where it has no flag.

    Raises:
        SettingsError: a word is empty, or is none of the parameter's values; the message names the flag or variable.
    """
    for kind in kinds_of(hint):
        if typing.get_origin(kind) in (list, tuple):
            each = typing.get_args(kind)[0]
            return typing.get_origin(kind)(_one(each, token, name) for token in tokens)
    return _one(hint, tokens[-1], name)


def named(name: str) -> Parameter:
    """Returns the parameter of a path that has no flag."""
    return Parameter(converter=partial(convert, name=name))


def _one(hint: Any, token: cyclopts.Token, name: str) -> Any:
    name, text, kinds = token.keyword or name, token.value, kinds_of(hint)
    if Path in kinds and str in kinds:
        return given_input(text, name, SettingsError)
    if Path in kinds:
        return given_path(text, name, SettingsError)
    if not text:
        raise SettingsError(f"{name} is empty", "Give it a value. Is a variable unset?")
    if bool in kinds:
        return cyclopts.convert(bool, [token])
    for kind in (int, float):
        number = number_from(kind, text) if kind in kinds else None
        if number is not None and (kind is int or str not in kinds):  # 0.05 of a text or number stays as it is written
            return number
    found = typed(hint, text)
    check(found.good, name, text, found.allowed)
    return found.value


def apart(words: Iterable[str]) -> Iterator[str]:
    """Yields the words with each value of a flag in `SEVERAL` behind a flag of its own.

    So `--style-layers relu1_1 relu2_1 photos` takes two layers and leaves the input. The first word after the flag
    always belongs to it, so that a misspelt layer is called one. The words after --style and pack's --input belong to
    it if an input came before; else only the first does.
    """
    waiting, flag, inputs = list(words), "", -1  # the first word is the command
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            yield from (word, *waiting)
            return
        if flag in SEVERAL and re.fullmatch(SEVERAL[flag], word):  # also a negative number
            yield from (flag, word)
        elif word.startswith("-"):
            flag = word.partition("=")[0].replace("_", "-")
            yield _known(word)
            if word in IMPLIED and (not waiting or waiting[0].startswith("-")):
                yield IMPLIED[word]
            elif "=" not in word and flag not in SWITCHES and waiting:
                yield _known(waiting.pop(0))
        elif flag in OF_SEVERAL and inputs > 0:
            yield from (flag, word)
        else:
            flag, inputs = "", inputs + 1
            yield word


def _known(word: str) -> str:
    if word == "-":
        raise SettingsError("an argument is -", "Standard input is not read: give a path, ./- for a file named -.")
    return word


def sources(command: str, config: Path | None) -> list[Any]:
    """Returns where cyclopts takes values from that the command line does not give: variables, then the file."""
    if command not in FLAGS:
        return []
    found: list[Any] = [cyclopts.config.Env(PREFIX, command=False)]
    if config is not None:
        values = read(config, command)
        words = {name: [*map(_text, one)] if isinstance(one, list) else _text(one) for name, one in values.items()}
        # As a table of the command: at the top cyclopts ignores names of commands, such as weights.
        found.append(cyclopts.config.Dict({command: words}, source=str(config)))
    return found


def _text(value: Any) -> str:
    """The word that the command line would have."""
    return repr(value) if isinstance(value, float) else str(value)


def check_variables(command: str) -> str:
    """Refuses empty JAXSTYLE_* variables; returns a note about those that are no setting of the command, or "".

    Raises:
        SettingsError: names the variable.
    """
    for name in OTHER_VARIABLES:
        if os.environ.get(PREFIX + name) == "":
            raise SettingsError(f"{PREFIX}{name} is empty", "Give it a value, or unset it.")
    if command not in FLAGS:
        return ""
    known = {*map(str.upper, setting_types()), *map(str.upper, FLAGS[command])}
    unknown = []
    for variable in sorted(os.environ):
        name = variable.removeprefix(PREFIX)
        if name == variable or name in OTHER_VARIABLES:
            continue
        if name not in known:
            unknown.append(name)
        elif not os.environ[variable]:
            raise SettingsError(f"{variable} is empty", "Give it a value, or unset it.")
    if not unknown:
        return ""
    told = ", ".join(PREFIX + name for name in unknown)
    return f"no setting, and ignored: {told}. {''.join(nearest(name, known, PREFIX) for name in unknown)}".strip()


def misuse(error: cyclopts.CycloptsError, command: str, words: Iterable[str]) -> SettingsError:
    """Returns our error for one of cyclopts."""
    what = str(error).replace("--INPUT", "INPUT").replace("--STYLE", "STYLE").strip().rstrip(".")
    takers = [word for word in words if word in SEVERAL]
    if "INPUT requires" in what and takers:
        what += f"; the word after {takers[-1]} is not taken for one"
    return SettingsError(what, f"See `jaxstyle {command + ' ' if re.fullmatch('[a-z]+', command) else ''}--help`.")


def from_where(error: JaxstyleError, command: str, config: Path | None, words: Iterable[str]) -> JaxstyleError:
    """Adds to an error of a setting's value the variable or the file that the value stands in."""
    name = error.what.partition(" ")[0]
    flag = "--" + name.replace("_", "-")
    if (
        not isinstance(error, SettingsError)
        or command not in FLAGS
        or any(word.split("=")[0] == flag for word in words)
    ):
        return error
    if PREFIX + name.upper() in os.environ:
        return SettingsError(f"{error.what} (in {PREFIX}{name.upper()})", error.remedy)
    if config is not None and name in read(config, command):
        return SettingsError(f"{error.what} (in {config})", error.remedy)
    return error

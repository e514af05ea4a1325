"""What commands print: results on standard output, all else on standard error."""

from __future__ import annotations

import sys
from json import dumps
from typing import Annotated, Any, Protocol

from cyclopts import Parameter

from jaxstyle.data.sources.base import printable

Json = Annotated[bool, Parameter(help="Print JSON.")]


class Report(Protocol):
    """A result of a command."""

    def as_json(self) -> dict[str, Any]: ...
    def lines(self) -> list[str]: ...


def echo(text: str) -> None:
    """Prints a message for people on standard error."""
    print(printable(text), file=sys.stderr)


def show(report: Report, as_json: bool) -> None:
    """Prints a result on standard output."""
    print(dumps(report.as_json()) if as_json else "\n".join(report.lines()))

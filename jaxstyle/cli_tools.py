"""The commands that take no pictures of the user: `jaxstyle demo`, `jaxstyle bench` and `jaxstyle doctor`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from jaxstyle.errors import EXIT_OK, DeviceError
from jaxstyle.printing import Json, echo, show


def demo(output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("jaxstyle-demo")) -> int:
    """Stylize three photographs of the package in the style of images that it draws.

    Parameters
    ----------
    output
        Folder for the pictures and the contact sheet.
    """
    from jaxstyle.demo.demo import run
    from jaxstyle.report.progress import progress

    with progress(sys.stderr) as listener:
        sheet = run(output, listener)
    echo("Photographs, styles and results side by side:")
    print(sheet)
    return EXIT_OK


def bench(
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("jaxstyle-bench"),
    full: bool = False,
    json: Json = False,
    precision: Literal["auto", "float32", "bfloat16", "mixed"] = "auto",
) -> int:
    """Measure how fast this device renders: images/s by size and batch, compile time, memory, a whole run.

    Parameters
    ----------
    output
        Folder for bench.json and, if matplotlib is installed, the plot bench.png.
    full
        More sizes and batches; takes up to half an hour instead of two minutes.
    precision
        Number type of the convolutions, see render.
    """
    from jaxstyle.bench.measure import run

    show(run(output, full=full, precision=precision, tell=echo), json)
    return EXIT_OK


def doctor(*, json: Json = False) -> int:
    """List versions, weights, devices and formats, and render a test picture.

    Exit code 1 if a check fails.
    """
    from jaxstyle.doctor import examine, lines

    findings = []
    for finding in examine():
        findings.append(finding)
        if not json:
            print(*lines(finding), sep="\n", flush=True)
    if json:
        print(dumps([asdict(finding) for finding in findings]))
    failed = any(finding.state == "failed" for finding in findings)
    echo("Something does not work." if failed else "Everything works.")
    return DeviceError.exit_code if failed else EXIT_OK

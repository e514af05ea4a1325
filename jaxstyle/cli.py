"""The command line: turns flags into settings and errors into exit codes; imports jax after parsing the arguments."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
from cyclopts import App, Parameter

from jaxstyle import __version__, arguments, cli_weights
from jaxstyle.data.sources.base import printable
from jaxstyle.engine.stop import Quit, Stop, on_signals
from jaxstyle.errors import DeviceError, JaxstyleError, SettingsError, StorageError, refused_by_the_system
from jaxstyle.settings import RenderSettings
from jaxstyle.streams import lenient

if TYPE_CHECKING:
    from jaxstyle.engine.events import Summary

EXIT_OK, EXIT_USAGE, EXIT_SOME_FAILED, EXIT_LIMIT, EXIT_INTERRUPTED = 0, 2, 3, 4, 130

app = App(
    name="jaxstyle",
    help="Stylizes whole folders of photographs in the style of an image, in batches (Gatys et al. 2016).",
    version=__version__,
    default_parameter=Parameter(negative=(), converter=arguments.convert, json_list=False, json_dict=False),
    suppress_keyboard_interrupt=False,
)
app.command(cli_weights.app)
app.meta.suppress_keyboard_interrupt = False
app.meta.group_parameters = cyclopts.Group("Session")

Settings = Annotated[RenderSettings | None, Parameter(name="*")]


def _echo(text: str) -> None:
    print(printable(text), file=sys.stderr)


Inputs = Annotated[list[Path], Parameter(name="INPUT", negative=())]
Output = Annotated[Path, Parameter(name=("--output", "-o"))]
Json = Annotated[bool, Parameter(help="Print JSON.")]
Folder = Annotated[Path, arguments.named("OUTPUT"), Parameter(help="The output folder of a run.")]
Measure = Annotated[bool, Parameter(negative="--no-measure")]


@app.command
def render(
    inputs: Inputs,
    *,
    style: Path,
    output: Output,
    dry_run: bool = False,
    json: Json = False,
    measure: Measure = True,
    settings: Settings = None,
) -> int:
    """Render photographs in the style of an image.

    Every input gets one row in OUTPUT/manifest.jsonl: done, skipped or failed with a reason. The same command again
    renders what is missing. The first Ctrl-C or SIGTERM finishes the images on the device, the second quits at once.

    Exit code 0: all done; 1: a bug of jaxstyle, or no usable device; 2: wrong usage or settings, or another run is
    writing to OUTPUT; 3: finished, some inputs failed; 4: a limit was reached (--max-failures, --max-duration); 5: the
    output cannot be written; 130, 143: a signal.

    Parameters
    ----------
    inputs
        Photographs, or folders that are searched recursively.
    style
        The style image.
    output
        Folder for the results, outside the inputs; it mirrors their folders.
    dry_run
        Print what would be done and render nothing, like `jaxstyle plan`.
    json
        With --dry-run: print JSON.
    measure
        With --dry-run: time some evaluations, see plan.
    """
    if dry_run:
        return plan(inputs, style=style, output=output, json=json, measure=measure, settings=settings)
    if json or not measure:
        raise SettingsError("--json or --no-measure is given without --dry-run", "Add --dry-run, or leave it out.")

    stop, drawn = Stop(), []

    def draw_sheet(summary: Summary) -> None:
        try:
            if summary.examples and summary.style_image is not None:
                contact_sheet(output / SHEET, to_bytes(summary.style_image), summary.examples)
                drawn.append(output / SHEET)
        except StorageError as error:  # the run itself is finished
            listener.say(f"The contact sheet was not drawn: {error}")

    with on_signals(stop):  # before the imports: NumPy's turns Ctrl-C into an ImportError
        from jaxstyle.data.image import to_bytes
        from jaxstyle.data.layout import SHEET
        from jaxstyle.engine.pipeline import render as run
        from jaxstyle.report.ending import by_kind, why_nothing
        from jaxstyle.report.progress import progress
        from jaxstyle.report.sheet import contact_sheet

        with progress(sys.stderr) as listener:
            summary = run(
                inputs, style, output, settings, progress=listener, stop=stop, at_end=draw_sheet, own_process=True
            )
    _echo(f"{summary.done} done, {summary.skipped} skipped, {summary.failed} failed: {output}/manifest.jsonl")
    if summary.skipped_kinds:
        _echo(f"Skipped: {by_kind(summary.skipped_kinds)}")
    if not summary.rendered and not summary.stopped:
        _echo(why_nothing(summary, settings.shard if settings else None))
    if summary.rendered:
        rate = f"{summary.rendered / summary.seconds:.3g} images/s"
        busy = f"device busy {summary.device_seconds / summary.seconds:.0%}, lanes {summary.occupancy:.0%}"
        _echo(f"{summary.rendered} rendered in {summary.seconds:.0f} s: {rate}, {busy}")
    if drawn:
        _echo(f"Contact sheet: {drawn[0]}")
    if summary.stopped:
        _echo(f"Stopped ({summary.stopped}) with inputs left: run the same command again to finish them.")
        return 128 + stop.signal if stop.signal else EXIT_LIMIT
    return EXIT_SOME_FAILED if summary.failed else EXIT_OK


@app.command
def plan(
    inputs: Inputs,
    *,
    style: Path,
    output: Output,
    json: Json = False,
    measure: Measure = True,
    settings: Settings = None,
) -> int:
    """Print what `render` would do with the same arguments: inputs by status and shape, memory, disk, time.

    Parameters
    ----------
    inputs
        See render.
    style
        The style image.
    output
        See render.
    measure
        Time some evaluations on the device to estimate the time of the run.
    """
    from jaxstyle.engine import pipeline
    from jaxstyle.planning.forecast import forecast

    device_for = partial(pipeline.device_for, own_process=True)
    _print(forecast(inputs, style, output, settings or RenderSettings(), device_for, measure=measure), json)
    return EXIT_OK


@app.command
def status(output: Folder, *, json: Json = False) -> int:
    """Print the progress of the runs into a folder, and the runs that hold its lock."""
    from jaxstyle.data import audit

    _print(audit.status(output), json)
    return EXIT_OK


@app.command
def verify(output: Folder, *, json: Json = False) -> int:
    """Check that every output of a folder exists, is a whole picture, and has the checksum in its row.

    Exit code 3 if a check fails. Files without a row are listed.
    """
    from jaxstyle.data import audit

    verdict = audit.verify(output)
    _print(verdict, json)
    return EXIT_OK if verdict.ok else EXIT_SOME_FAILED


def _print(report, as_json: bool) -> None:
    print(dumps(report.as_json()) if as_json else "\n".join(report.lines()))


@app.command
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
    _echo("Photographs, styles and results side by side:")
    print(sheet)
    return EXIT_OK


@app.command
def bench(
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("jaxstyle-bench"),
    full: bool = False,
    json: Json = False,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
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

    _print(run(output, full=full, precision=precision, tell=_echo), json)
    return EXIT_OK


@app.command
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
    _echo("Something does not work." if failed else "Everything works.")
    return DeviceError.exit_code if failed else EXIT_OK


def _as_it_is(_: object, words: Sequence[cyclopts.Token]) -> str:
    return words[0].value


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True, converter=_as_it_is)],
    config: Annotated[Path | None, Parameter(env_var="JAXSTYLE_CONFIG")] = None,
) -> int:
    """Flags of render and plan override JAXSTYLE_* variables, which override the file, which overrides the defaults.

    Parameters
    ----------
    config
        TOML file with settings of render, named like their flags.
    """
    command, words = tokens[0] if tokens else "", [*arguments.apart(tokens)]
    if note := arguments.check_variables(command):
        _echo(f"jaxstyle: {note}")
    app.config = tuple(arguments.sources(command, config))
    try:
        return app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        raise arguments.misuse(error, command, words) from error
    except SettingsError as error:
        raise arguments.from_where(error, command, config, words) from error


def main(words: list[str] | None = None) -> None:
    """Runs the command line and exits with its code."""
    app.config = ()  # one process may run several command lines
    with lenient() as output:
        code = _exit_code(words)
        sys.stdout.flush()
        if output is not None and output.problem is not None:
            _echo(f"jaxstyle: standard output cannot be written ({output.problem.strerror}). Free space, or send it "
                  "elsewhere.")  # fmt: skip
            code = code or StorageError.exit_code
        sys.stderr.flush()
    if any(thread.daemon for thread in threading.enumerate()):  # a hanging one would keep the interpreter alive
        os._exit(code)
    sys.exit(code)


def _exit_code(words: list[str] | None) -> int:
    """Runs the command line; returns its exit code, and prints the error if there is one."""
    try:
        code = app.meta(words, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        _echo(f"jaxstyle: {arguments.misuse(error, '', ())}")
        return EXIT_USAGE
    except KeyboardInterrupt:
        _echo("jaxstyle: interrupted; run the same command again to finish what is missing")
        return EXIT_INTERRUPTED
    except Quit as quit_at_once:
        _echo("jaxstyle: quit; run the same command again to finish what is missing")
        return 128 + quit_at_once.signal
    except Exception as error:
        told = refused_by_the_system(error) or error
        if not isinstance(told, JaxstyleError):
            raise
        _echo(f"jaxstyle: {told}")
        return told.exit_code
    return code if isinstance(code, int) else EXIT_OK

"""The command line: turns flags into settings and errors into exit codes; imports jax after parsing the arguments."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import App, Parameter

from jaxstyle import (
    __version__,
    arguments,
    cli_manifest,
    cli_pack,
    cli_publish,
    cli_ray,
    cli_replay,
    cli_report,
    cli_setup,
    cli_targets,
    cli_tools,
    cli_weights,
)
from jaxstyle.engine.stop import Quit, Stop, on_signals
from jaxstyle.errors import (
    EXIT_INTERRUPTED,
    EXIT_LIMIT,
    EXIT_OK,
    EXIT_SOME_FAILED,
    EXIT_USAGE,
    JaxstyleError,
    SettingsError,
    StorageError,
    refused_by_the_system,
)
from jaxstyle.printing import Json, echo, show
from jaxstyle.ray_settings import RaySettings
from jaxstyle.settings import RenderSettings
from jaxstyle.streams import lenient
from jaxstyle.variants import variants

if TYPE_CHECKING:
    from jaxstyle.engine.events import Summary

app = App(
    name="jaxstyle",
    help="Stylizes whole folders of photographs in the style of an image, in batches (Gatys et al. 2016).",
    version=__version__,
    default_parameter=Parameter(negative=(), converter=arguments.convert, json_list=False, json_dict=False),
    suppress_keyboard_interrupt=False,
)
app.command(cli_weights.app)
OF_FOLDERS = (cli_pack.pack, cli_publish.publish, cli_report.report, cli_manifest.manifest, cli_replay.replay)
for command in (*OF_FOLDERS, cli_targets.targets, cli_tools.demo, cli_tools.bench, cli_tools.doctor):
    app.command(command)
cli_setup.register(app)
app.meta.suppress_keyboard_interrupt = False
app.meta.group_parameters = cyclopts.Group("Session")

Settings = Annotated[RenderSettings | None, Parameter(name="*")]
Cluster = Annotated[RaySettings | None, Parameter(name="*")]

Inputs = Annotated[list[Path | str], Parameter(name="INPUT", negative=())]
Style = Annotated[list[str], Parameter(negative=(), env_var_split=lambda text: [text])]
Output = Annotated[Path, Parameter(name=("--output", "-o"))]
Folder = Annotated[Path, arguments.named("OUTPUT"), Parameter(help="The output folder of a run.")]
Measure = Annotated[bool, Parameter(negative="--no-measure")]
Quiet = Annotated[bool, Parameter(help="Print errors alone.")]
LogJson = Annotated[
    bool, Parameter(help="Print an event a line on standard output, as JSON, in place of the progress.")
]


@app.command
def render(
    inputs: Inputs,
    *,
    style: Style,
    output: Output,
    dry_run: bool = False,
    json: Json = False,
    measure: Measure = True,
    quiet: Quiet = False,
    log_json: LogJson = False,
    settings: Settings = None,
    cluster: Cluster = None,
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
        Photographs, folders that are searched recursively, a list of photographs (.csv, .tsv, .jsonl), HDF5 or Parquet
        files with images, tar archives with samples, or URLs of an object store such as s3://bucket/photos.
    style
        Style images: files, folders (recursively), quoted patterns such as 'paintings/*.jpg', .txt lists of paths, or
        files that `jaxstyle targets` wrote. Several where the photographs come first, or --style again; :2 behind one
        is a weight. See --styles, --assign.
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
    if quiet and log_json:
        raise SettingsError("--quiet and --log-json are given", "Leave one out: --log-json prints events alone.")

    if cluster is not None and cluster.ray is not None:
        return cli_ray.render(inputs, style, output, settings or RenderSettings(), cluster, quiet, log_json)
    stop, drawn = Stop(), list[Path]()

    def draw_sheet(summary: Summary) -> None:
        try:
            if summary.examples:
                style = None if summary.style_image is None else to_bytes(summary.style_image)
                contact_sheet(output / SHEET, style, summary.examples)
                drawn.append(output / SHEET)
        except StorageError as error:  # the run itself is finished
            listener.say(f"The contact sheet was not drawn: {error}")

    with on_signals(stop):  # before the imports: NumPy's turns Ctrl-C into an ImportError
        from jaxstyle.data.image import to_bytes
        from jaxstyle.data.layout import SHEET
        from jaxstyle.engine.pipeline import render as run
        from jaxstyle.report.progress import listening
        from jaxstyle.report.sheet import contact_sheet

        with listening(quiet, log_json) as listener:
            summary = run(
                inputs, style, output, settings, progress=listener, stop=stop, at_end=draw_sheet, own_process=True
            )
    listener.end(summary, drawn[0] if drawn else None, settings.shard if settings else None)
    if summary.stopped:
        return 128 + stop.signal if stop.signal else EXIT_LIMIT
    return EXIT_SOME_FAILED if summary.failed or summary.unfit else EXIT_OK


@app.command
def plan(
    inputs: Inputs,
    *,
    style: Style,
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
        See render.
    output
        See render.
    measure
        Time some evaluations on the device to estimate the time of the run.
    """
    from jaxstyle.engine import pipeline
    from jaxstyle.planning.forecast import forecast

    device_for = partial(pipeline.device_for, own_process=True)
    show(forecast(inputs, style, output, settings or RenderSettings(), device_for, measure=measure), json)
    return EXIT_OK


@app.command
def sweep(inputs: Inputs, *, style: Style, output: Output, settings: Settings = None) -> None:
    """Render photographs with every combination of several values of settings, and draw a labelled sheet.

    Every flag of render takes alternatives: `--style-weight 10,40,160 --init matched,content` are six combinations.
    Alternatives whose values have commas are separated by semicolons: `--scales 'none;128,256'`. Each combination is a
    run of its own into a folder below OUTPUT; the same command again renders what is missing.

    Parameters
    ----------
    inputs
        See render. One or two are enough for a sheet.
    style
        See render.
    output
        Folder for the combinations' folders and the sheet.
    """
    raise AssertionError("launch divides the combinations")


def _sweep(words: Sequence[str]) -> int:
    cases = []
    for variant in variants(words, arguments.ALTERNATIVES):
        _, bound, _ = app.parse_args(variant.words, exit_on_error=False, print_error=False)
        cases.append((variant, bound.arguments))
    with on_signals(stop := Stop()):
        from jaxstyle import sweep as sweeping
        from jaxstyle.report.progress import progress

        first = cases[0][1]
        settings = [(variant, given.get("settings") or RenderSettings()) for variant, given in cases]
        with progress(sys.stderr) as listener:
            summaries, sheet = sweeping.run(first["inputs"], first["style"], first["output"], settings, listener, stop)
    sweeping.told(summaries, echo)
    if sheet is not None:
        echo("Sheet of all combinations:")
        print(sheet)
    if summaries[-1].stopped:
        return 128 + stop.signal if stop.signal else EXIT_LIMIT
    return EXIT_SOME_FAILED if any(one.failed for one in summaries) else EXIT_OK


@app.command
def status(output: Folder, *, json: Json = False) -> int:
    """Print the progress of the runs into a folder, of each shard, and which runs are at work."""
    from jaxstyle.data import audit
    from jaxstyle.report.terminal import show_status

    show_status(audit.status(output), json)
    return EXIT_OK


@app.command
def verify(output: Folder, *, json: Json = False) -> int:
    """Check that every output of a folder exists, is a whole picture, and has the checksum in its row.

    Exit code 3 if a check fails. Files without a row are listed.
    """
    from jaxstyle.data import audit

    verdict = audit.verify(output)
    show(verdict, json)
    return EXIT_OK if verdict.ok else EXIT_SOME_FAILED


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
        echo(f"jaxstyle: {note}")
    app.config = tuple(arguments.sources(command, config))
    try:
        if command == "sweep" and not {"--help", "-h"} & set(words):
            return _sweep(words)
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
            echo(f"jaxstyle: standard output cannot be written ({output.problem.strerror}). Free space, or send it "
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
        echo(f"jaxstyle: {arguments.misuse(error, '', ())}")
        return EXIT_USAGE
    except KeyboardInterrupt:
        echo("jaxstyle: interrupted; run the same command again to finish what is missing")
        return EXIT_INTERRUPTED
    except Quit as quit_at_once:
        echo("jaxstyle: quit; run the same command again to finish what is missing")
        return 128 + quit_at_once.signal
    except Exception as error:
        told = refused_by_the_system(error) or error
        if not isinstance(told, JaxstyleError):
            raise
        echo(f"jaxstyle: {told}")
        return told.exit_code
    return code if isinstance(code, int) else EXIT_OK

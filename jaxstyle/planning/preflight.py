"""What can be wrong with a run before its first byte is written, and what it has in common with an earlier one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from jaxstyle.data import fingerprint, image, layout, ledger
from jaxstyle.data.fingerprint import Fingerprint
from jaxstyle.data.ledger import Ledger
from jaxstyle.data.sinks.folders import check_writable, refuse_overlap
from jaxstyle.data.sources.base import Input, printable
from jaxstyle.data.sources.folders import discover
from jaxstyle.errors import ImageError, InputError
from jaxstyle.model import weights
from jaxstyle.settings import INITS, RenderSettings


@dataclass(frozen=True)
class Ready:
    """A run that has been found in order, with nothing written yet.

    Attributes:
        style_image: the style picture at its working size, h x w x 3 in [0, 1].
        start: the picture that `init` names, or None.
        run: see `describe`.
    """

    inputs: list[Path]
    output: Path
    settings: RenderSettings
    style_image: np.ndarray
    start: np.ndarray | None
    network: weights.Weights
    run: Fingerprint


def check(
    inputs: Path | str | Iterable[Path | str], style: Path | str, output: Path | str, settings: RenderSettings
) -> Ready:
    """Looks at everything that can be wrong before the first byte is written, the quick things first.

    Raises what `pipeline.render` raises.
    """
    paths = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(p) for p in inputs]
    output, style = Path(output), Path(style)
    check_folders(paths, style, output, settings)
    style_image = own_picture(style, "style", settings)
    size = settings.style_size or settings.size
    style_image = image.resize(style_image, *image.work_size(style_image.shape[1], style_image.shape[0], size))
    start = None if settings.init in INITS else own_picture(Path(settings.init), "init picture", settings)
    check_writable(output)
    network = weights.load(settings.weights, settings.network)
    run = describe(style, settings, network)
    if settings.existing != "overwrite":
        fingerprint.compare(output, run)
    return Ready(paths, output, settings, style_image, start, network, run)


def check_folders(inputs: list[Path], style: Path, output: Path, settings: RenderSettings) -> None:
    """Makes sure that the inputs exist, and that nobody's files are in the way of the outputs.

    Raises:
        InputError: says which and why.
    """
    if not inputs:
        raise InputError("there is no input", "Give files or folders of photographs.")
    next(discover(inputs), None)  # refuses what is absent or closed
    refuse_overlap(output, inputs)
    for name, path in (("style", style), ("init picture", Path(settings.init))):
        if path.resolve().is_relative_to(output.resolve()) and path.is_file():
            raise InputError(f"the {name} {printable(path)} lies in the output folder", "Choose another output folder.")
    if settings.existing == "overwrite" or not output.exists():
        return
    if not output.is_dir():
        raise InputError(f"the output {printable(output)} is not a folder", "Choose another.")
    if settings.existing == "error" and ledger.ledgers(output):
        raise InputError(
            f"{printable(output)} has results already", "Choose another folder, or --existing resume or overwrite."
        )
    known = (output / layout.SETTINGS).exists()
    if not known and any(not p.name.startswith(layout.LEFT_BEHIND) for p in output.iterdir()):
        raise InputError(
            f"{printable(output)} has files in it that no run of jaxstyle wrote",
            "Choose an empty or new folder, or --existing overwrite to write among them.",
        )


def own_picture(path: Path, name: str, settings: RenderSettings) -> np.ndarray:
    """The pixels of a picture that the whole run depends on.

    Raises:
        InputError: it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"the {name} {printable(path)} is not a file", "Give the path of one picture.")
    try:
        return image.read(path, settings.max_pixels).pixels
    except ImageError as error:
        raise InputError(f"the {name} {printable(path)}: {error.what}", "Give another picture.") from error
    except OSError as error:
        raise InputError(f"the {name} {printable(path)} cannot be read ({error.strerror})", "Give another.") from error


def describe(style: Path, settings: RenderSettings, network: weights.Weights) -> Fingerprint:
    """The fingerprint of a run, for settings.json."""
    decides = {
        "settings": settings.pixels(),
        "style": hashlib.sha256(style.read_bytes()).hexdigest(),
        "weights": network.digest,
    }
    if settings.init not in INITS:
        decides["init"] = hashlib.sha256(Path(settings.init).read_bytes()).hexdigest()
    about = {
        "jaxstyle": version("jaxstyle"),
        "jax": version("jax"),
        "style": printable(style),
        "weights": network.source,
    }
    return Fingerprint(decides, {"settings": settings.defaults(), "init": None}, about)


def is_unchanged(one: Input, before: Ledger, output: Path, settings: RenderSettings) -> bool:
    """Whether an earlier run is through with an input: what became of it still stands.

    Done needs the output to be there as well. A file stands as long as its length and its time do or, where a copy
    has lost the time, its checksum.
    """
    past = before.get(one.key)
    if past is None or (past.status == "failed" and settings.retry_failed):
        return False
    try:
        if past.status == "done":
            return not one.failed and _stands(one.path, past) and (output / one.key).is_file()
        return bool(one.failed or one.skipped) or _stands(one.path, past)
    except OSError:  # as it was when the row was written, if that did not know the file either
        return past.status != "done" and not past.modified


def _stands(path: Path, past: ledger.PastRow) -> bool:
    """Whether a file is the one that a row tells of."""
    now = path.stat()
    if now.st_size != past.length:
        return False
    if now.st_mtime_ns == past.modified:
        return True
    if not past.checksum:
        return not past.modified  # version 0.1 knew neither
    with path.open("rb") as file:
        return ledger.checksum_bits(hashlib.file_digest(file, "sha256").hexdigest()) == past.checksum

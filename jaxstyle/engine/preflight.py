"""What can be wrong with a run before its first byte is written, and what it has in common with an earlier one."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.data import image, manifest, sink
from jaxstyle.data.source import Input, printable
from jaxstyle.errors import ImageError, InputError
from jaxstyle.model import weights
from jaxstyle.settings import INITS, RenderSettings


def check_folders(inputs: list[Path], style: Path, output: Path, settings: RenderSettings) -> None:
    """Makes sure that the inputs exist, and that nobody's files are in the way of the outputs.

    Raises:
        InputError: says which and why.
    """
    if not inputs:
        raise InputError("there is no input", "Give files or folders of photographs.")
    for path in inputs:
        if not path.exists():
            raise InputError(f"the input {printable(path)} does not exist", "Give files or folders that exist.")
    sink.refuse_overlap(output, inputs)
    for name, path in (("style", style), ("init picture", Path(settings.init))):
        if path.resolve().is_relative_to(output.resolve()) and path.is_file():
            raise InputError(f"the {name} {printable(path)} lies in the output folder", "Choose another output folder.")
    if settings.existing == "overwrite" or not output.exists():
        return
    if not output.is_dir():
        raise InputError(f"the output {printable(output)} is not a folder", "Choose another.")
    if settings.existing == "error" and (output / manifest.NAME).exists():
        raise InputError(f"{output} has results already", "Choose another folder, or --existing resume or overwrite.")
    if not (output / manifest.SETTINGS).exists() and any(output.iterdir()):
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


def describe(style: Path, settings: RenderSettings, network: weights.Weights) -> dict[str, Any]:
    """What settings.json says of a run."""
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
    return {"decides": decides, "about": about}


def finished(one: Input, rows: dict[str, dict[str, Any]], output: Path, settings: RenderSettings) -> bool:
    """Whether an earlier run is through with an input: done means that the file is there, and made from this one."""
    row = rows.get(one.key)
    if row is None:
        return False
    if row["status"] == "done":
        try:
            return one.path.stat().st_size == row["input_bytes"] and (output / one.key).is_file()
        except OSError:
            return False
    return not (settings.retry_failed and row["status"] == "failed")

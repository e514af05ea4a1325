"""The fields of OUT/settings.json. `data.fingerprint` reads, compares and writes the file."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

FORMAT = 1
"""Version of the layout. A later version gets another number if this one would misread it."""


class Recorded(TypedDict):
    """The file.

    Attributes:
        format: version of the layout, 1; absent in files of older versions of jaxstyle, which count as 1.
        decides: what decides the pixels; a run that differs is refused.
        about: facts that are shown and not compared.
    """

    format: NotRequired[int]
    decides: Decides
    about: About


class Decides(TypedDict):
    """What decides the pixels.

    Attributes:
        settings: the settings that decide pixels by their names in Python; an absent name stands for its default.
        style: SHA-256 of the style image's file; "assigned" where photographs get different styles, whose checksums are
            in the rows; a checksum of all checksums and weights for a blend.
        weights: digest of the network's weights, see the weights file.
        init: SHA-256 of the picture that `--init` names; absent without one.
    """

    settings: dict[str, Any]
    style: str
    weights: str
    init: NotRequired[str]


class About(TypedDict):
    """Facts about the run that began the folder.

    Attributes:
        jaxstyle, jax: versions of the packages.
        style: name of the style.
        weights: description of the file or package of the weights.
        rounding: the settings batch, tail, devices, tile and regions, which change outputs by rounding.
        places: where the files of the run lay, for `jaxstyle replay`.
        style_notes, init_notes: conversions of the style image, and of the picture that `--init` names, that a user
            might not expect; absent without any.
        device: name of the device; absent before the first image.
    """

    jaxstyle: str
    jax: str
    style: str
    weights: str
    rounding: dict[str, Any]
    places: Places
    style_notes: NotRequired[str]
    init_notes: NotRequired[str]
    device: NotRequired[str]


class Places(TypedDict):
    """Where the files of the run lay: absolute paths, or URLs of inputs.

    Attributes:
        inputs, style: inputs and style images as they were given.
        init, assign, content_masks, style_masks, weights: the files or folders of these settings; absent if they name
            none.
        source: name of the source, where it is not "folders".
        dataset, member, path_column: these settings, where they are not their defaults.
    """

    inputs: list[str]
    style: list[str]
    init: NotRequired[str]
    assign: NotRequired[str]
    content_masks: NotRequired[str]
    style_masks: NotRequired[str]
    weights: NotRequired[str]
    source: NotRequired[str]
    dataset: NotRequired[str]
    member: NotRequired[str]
    path_column: NotRequired[str]

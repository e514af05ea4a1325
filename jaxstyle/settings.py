"""Every setting with its default. The command line, the Python calls and the documentation read these classes."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxstyle import film, masked, schedule
from jaxstyle.architecture import STRIDE, Network  # noqa: F401
from jaxstyle.coerce import check as _check
from jaxstyle.errors import SettingsError
from jaxstyle.optimisation import INITS, StylizeSettings, check_weight
from jaxstyle.paths import given_path
from jaxstyle.presets import OF_THE_PRESET

__all__ = ["INITS", "RULES", "RenderSettings", "StylizeSettings", "deciding"]

RULES = ("random", "balanced", "cycle", "each")
"""Rules of `assign` that read no file; see planning/assign.py."""
MOST_STEPS = 1000
"""Most intermediate pictures of an image."""


@dataclass(frozen=True, kw_only=True)
class RenderSettings(StylizeSettings):
    """Settings of a run over files: `StylizeSettings`, and settings of files, sizes and batches.

    Attributes:
        size: working length of the long side in pixels; smaller pictures keep their size.
        style_size: length of the style image's long side in pixels [default: the value of size]
        colors: the colours of the outputs: style, those of the style; content, the photograph's, put in place of the
            result's, whose lightness stays; luminance, the photograph's, with everything computed in gray; matched,
            those of the photograph as far as the style has them: each style image gets the photograph's colours first.
        strength: how much of the style the outputs show, from 0 (the photograph) to 1; applied to the result.
        style_scale: factor on style_size: below 1 the strokes become smaller, above 1 larger.
        style_crop: use the largest square in the middle of each style image.
        styles: several style images: blend mixes them, by their weights; assign gives each photograph one of them; auto
            assigns where a folder, a pattern or a list is given, and blends single files.
        assign: which style images a photograph gets: random, by a hash of its name; balanced, evenly within a folder of
            numbered photographs; cycle, one after the other as they are listed; each, all of them; or the path of
            a mapping: a CSV file with the columns image and style, or the manifest of another run.
        styles_per_image: style images that each photograph gets, each with an output called name~style.
        balance_by: where balanced and cycle share the style images out: within each folder (parent), or over all
            photographs together (none).
        scales: sizes at which an image is optimised one after the other, coarse to fine: lengths of the long side in
            pixels, ascending, the last one the value of size, as "128,256,512"; auto is half of size, then size; none
            is size alone; preset is what the preset has. Each starts from the result of the one before.
        coarse_content_weight: weight of the content term at all scales but the last [default: the value of
            content_weight]
        content_masks: masks of the photographs, whose colours name regions: a folder with a/b.png for a/b.jpg, or
            one picture for all.
        style_masks: masks of the style images, likewise. A region of a photograph gets the style of the region of the
            same colour.
        regions: most regions of a style image's mask; each costs time.
        keep: colour of the region where the output is the photograph: black, white, or #rrggbb.
        frames: the photographs are frames of films. Those of one folder whose names differ only in the number before
            the extension are a shot; each frame starts from the result of the one before, moved along with the picture.
        output_size: size of the outputs: work is the working size, input is the input's size, so that labels stay
            valid.
        batch: images optimised side by side, on all devices together; auto is the number that suits the devices.
            Another number gives the same picture up to rounding, which long runs amplify.
        tail: the last images of a shape: same keeps the batch as large as it was, so that an output does not depend on
            what else there is to do; shrink moves them to smaller batches, which is faster and rounds differently.
        devices: number of this machine's devices that share the work; a CPU counts as cpu_devices.
        cpu_devices: devices of JAX that a command divides the CPU into, 1 to 64, each with lanes of its own; auto is
            one for every four cores, at least 2 and at most 16, or 1 on one core. More than 2 are unmeasured.
        existing: treatment of results in the output folder: resume keeps them, overwrite renders all inputs again,
            error refuses the folder; continue keeps them too, and optimises each that spent fewer evaluations than
            are given now, from its output on, until it has spent as many.
        retry_failed: render the inputs again that failed in an earlier run.
        dataset: name of the images in HDF5 or Parquet inputs, such as train/images or image [default: the only dataset
            or column that can be images]
        member: extension of the images in samples of tar archives, such as png or rgb.png, where samples have several
            images [default: each sample's only .jpg, .png or the like]
        path_column: name of the column of paths, in a list of photographs and in annotations that are one.
        annotations: file that is copied to the output folder at the end, as annotations.json, .csv and so on, with what
            belongs to outputs that are done: COCO (.json), which needs output_size input, or a list (.csv, .tsv,
            .jsonl).
        limit: stop after this many images of the plan [default: all]
        shard: "2/8" takes the second eighth of the inputs, chosen by their names; the runs of all shards share an
            output folder.
        workers: processes that decode pictures; 0 decodes in the run's own process, which a crash would end.
        max_failures: end the run when more inputs than this have failed: a number, or a share of the inputs handled,
            as "5%" or as a fraction between 0 and 1, such as 0.05.
        max_duration: end the run after this time, once its batch is finished: "90m", "8h", "2d", or seconds.
        stall_timeout: timeout in seconds for decoding a picture, a call of storage and a call of the device.
        max_pixels: most pixels of a picture; a larger one is refused before it is decoded.
        white_level: value that is white in inputs of more than 8 bits a channel, such as 4095 for a camera of 12 bits
            [default: 65535, the most of 16 bits, or 1 in pictures of floats]
        save_every: evaluations after each of which an image's picture so far is saved as
            OUTPUT/jaxstyle-steps/NAME/EVALUATIONS.png [default: none are]
        output_format: format of the outputs: keep is the input's; with png, jpeg, webp or tiff an output whose name
            ends otherwise gets the format's extension added, so that a.jpg becomes a.jpg.png.
        bits: bits of a channel of the outputs, 8 or 16; 16 needs the output format png or tiff.
        color_profile: srgb says in the outputs that they are sRGB, which they always are: PNG's sRGB chunk, and an ICC
            profile in JPEG, WebP, TIFF and AVIF; none leaves it out, which most programs read as sRGB.
        metadata: EXIF of the photographs in JPEG, PNG, WebP, TIFF and AVIF outputs: none; copy has camera, dates, texts
            and exposure, without the place; copy-with-gps has the place too.
        quality: quality of JPEG, WebP and AVIF outputs, 1 to 100.
    """

    size: int = 512
    style_size: int | None = None
    colors: Literal["style", "content", "luminance", "matched"] = "style"
    strength: float = 1.0
    style_scale: float = 1.0
    style_crop: bool = False
    styles: Literal["auto", "blend", "assign"] = "auto"
    assign: str = "random"
    styles_per_image: int = 1
    balance_by: Literal["parent", "none"] = "parent"
    scales: str = OF_THE_PRESET
    coarse_content_weight: float | None = None
    content_masks: Path | None = None
    style_masks: Path | None = None
    regions: int = 2
    keep: str | None = None
    frames: bool = False
    output_size: Literal["work", "input"] = "work"
    batch: int | Literal["auto"] = "auto"
    tail: Literal["same", "shrink"] = "same"
    devices: int | Literal["all"] = "all"
    cpu_devices: int | Literal["auto"] = "auto"
    existing: Literal["resume", "overwrite", "error", "continue"] = "resume"
    retry_failed: bool = False
    dataset: str | None = None
    member: str | None = None
    path_column: str = "path"
    annotations: Path | None = None
    limit: int | None = None
    shard: str | None = None
    workers: int | Literal["auto"] = "auto"
    max_failures: int | float | str | None = None
    max_duration: int | float | str | None = None
    stall_timeout: float = 900.0
    max_pixels: int = 89_478_485
    white_level: float | None = None
    save_every: int | None = None
    output_format: Literal["keep", "png", "jpeg", "webp", "tiff"] = "keep"
    bits: int = 8
    color_profile: Literal["none", "srgb"] = "none"
    metadata: Literal["none", "copy", "copy-with-gps"] = "none"
    quality: int = 95

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames and self.temporal_weight is None and self.objective().normalization == "energy":
            object.__setattr__(self, "temporal_weight", self.objective().temporal_weight or film.TEMPORAL_WEIGHT)
        _check(STRIDE <= self.size <= 8192, "size", self.size, f"{STRIDE} to 8192 pixels")
        _check(self.style_size is None or STRIDE <= self.style_size <= 8192, "style_size", self.style_size,
               f"{STRIDE} to 8192 pixels")  # fmt: skip
        _check(0 <= self.strength <= 1, "strength", self.strength, "0 to 1")
        _check(0.05 <= self.style_scale <= 20, "style_scale", self.style_scale, "0.05 to 20")
        _check(STRIDE <= self.painted_size <= 8192, "style_size times style_scale", self.painted_size,
               f"{STRIDE} to 8192 pixels")  # fmt: skip
        _check(1 <= self.styles_per_image <= 10**6, "styles_per_image", self.styles_per_image, "1 to 1000000")
        if self.assign not in RULES:
            object.__setattr__(self, "assign", str(given_path(self.assign, "assign", SettingsError)))
            _check(os.path.isfile(self.assign), "assign", self.assign, f"{', '.join(RULES)}, or the path of a mapping")
        _check(self.batch == "auto" or 1 <= int(self.batch) <= 4096, "batch", self.batch, "auto, or 1 to 4096")
        _check(self.devices == "all" or 1 <= int(self.devices) <= 4096, "devices", self.devices, "all, or 1 to 4096")
        _check(self.dataset is None or bool(self.dataset.strip("/")), "dataset", self.dataset, "the name of a dataset")
        _check(self.cpu_devices == "auto" or 1 <= int(self.cpu_devices) <= 64, "cpu_devices", self.cpu_devices,
               "auto, or 1 to 64")  # fmt: skip
        _check(self.member is None or re.fullmatch(r"[^./][^/]*", self.member) is not None, "member", self.member,
               "an extension, without the dot before it")  # fmt: skip
        kinds, one = (".json", ".csv", ".tsv", ".jsonl"), self.annotations
        _check(one is None or one.suffix.lower() in kinds, "annotations", one and str(one),
               f"the path of a file that ends in {', '.join(kinds)}")  # fmt: skip
        _check(self.limit is None or 1 <= self.limit < 2**63, "limit", self.limit, "1 to 2**63 - 1")
        _check(1 <= self.max_pixels <= 178_956_970, "max_pixels", self.max_pixels, "1 to 178956970 (Pillow's limit)")
        _check(self.white_level is None or 0 < self.white_level < math.inf, "white_level", self.white_level, "above 0")
        if self.save_every is not None:
            least = -(-sum(evaluations for _, evaluations in self.stages()) // MOST_STEPS)
            _check(self.save_every >= least, "save_every", self.save_every,
                   f"at least {least}, for at most {MOST_STEPS} pictures of an image")  # fmt: skip
        _check(self.bits in (8, 16), "bits", self.bits, "8 or 16")
        if self.bits == 16 and self.output_format not in ("png", "tiff"):
            raise SettingsError(f"bits is 16 and output_format is {self.output_format!r}",
                                "Outputs of 16 bits are PNGs or TIFFs: give --output-format png or tiff.")  # fmt: skip
        _check(1 <= self.quality <= 100, "quality", self.quality, "1 to 100")
        _check(self.workers == "auto" or 0 <= int(self.workers) <= 256, "workers", self.workers, "auto, or 0 to 256")
        _check(0 < self.stall_timeout <= 10**8, "stall_timeout", self.stall_timeout, "above 0 and at most 1e8 seconds")
        coarse, own = self.coarse_content_weight, self.objective()
        check_weight("coarse_content_weight", coarse or 0)
        _check(coarse != 0 or own.style_weight + own.tv_weight > 0, "coarse_content_weight", 0,
               "above 0 where the other terms have no weight")  # fmt: skip
        self.part(), self.failures(), self.seconds(), self.stages()
        masked.check(self.content_masks, self.style_masks, self.regions, self.keep)
        film.check(self)
        if self.lane_regions:
            masked.check_objective(self.tile, self.objective())
        self._check_continuing()
        if self.retry_failed and self.existing not in ("resume", "continue"):
            raise SettingsError(f"retry_failed is given with existing {self.existing!r}", "Leave one of them out.")
        if self.shard is not None and self.existing == "overwrite":
            raise SettingsError(
                "existing is 'overwrite' for one shard", "Empty the output folder, then run the shards."
            )

    def _check_continuing(self) -> None:
        """Raises a SettingsError if outputs are not the optimised images that `existing` is to continue from."""
        for name, good in (("colors", self.colors in ("style", "matched")), ("strength", self.strength == 1)):
            if self.existing == "continue" and not good:
                raise SettingsError(
                    f"existing is 'continue' and {name} is {getattr(self, name)!r}: outputs are mixed with photographs",
                    "Use --existing overwrite, which renders all inputs again.",
                )

    @property
    def kept_colour(self) -> int | None:
        """The colour of `keep`, with 16 bits a channel, see `planning.masks.Mask`."""
        return None if self.keep is None else masked.colour(self.keep)

    @property
    def lane_regions(self) -> int:
        """Number of regions of a lane; 0 without masks. Without masks of styles, all that is not kept is one."""
        return 0 if self.content_masks is None else 1 if self.style_masks is None else self.regions

    @property
    def changes_styles(self) -> bool:
        """Whether a style image looks different for each photograph."""
        return self.colors in ("luminance", "matched")

    @property
    def painted_size(self) -> int:
        """Length of the style images' long side in pixels."""
        return round((self.style_size or self.size) * self.style_scale)

    def stages(self) -> tuple[tuple[int, int], ...]:
        """Returns (size, evaluations) of every scale, coarse to fine."""
        sizes = schedule.sizes(self.scales, self.size)
        return tuple(zip(sizes, schedule.divided(self.evaluations, len(sizes)), strict=True))

    def part(self) -> tuple[int, int]:
        """Returns the shard as (index from 1, number of shards); (1, 1) for all inputs."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", "1/1" if self.shard is None else self.shard)
        index, parts = map(int, found.groups()) if found else (0, 0)
        _check(1 <= index <= parts, "shard", self.shard, "i/n with i from 1 to n, such as 2/8")
        return index, parts

    def failures(self) -> tuple[int | None, float | None]:
        """Returns the most failed inputs, as (number, None) or (None, share of the inputs handled)."""
        if self.max_failures is None:
            return None, None
        found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(%?)", str(self.max_failures))
        number, percent = (float(found[1]), found[2] == "%") if found else (math.nan, False)
        whole = found is not None and "." not in found[1]
        good = number <= 100 if percent else whole or 0 < number < 1
        _check(good, "max_failures", self.max_failures, "a whole number, or a share: 0% to 100%, or 0.05")
        return (int(number), None) if whole and not percent else (None, number / 100 if percent else number)

    def seconds(self) -> float | None:
        """Returns the longest duration of the run in seconds, or None."""
        if self.max_duration is None:
            return None
        text, units = str(self.max_duration), {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1}
        parts = re.findall(r"(\d+(?:\.\d+)?)([dhms]?)", text)
        total = sum(float(number) * units[unit] for number, unit in parts)
        good = "".join(n + u for n, u in parts) == text and total > 0
        _check(good, "max_duration", self.max_duration, 'a time such as "90m", "8h", "1h30m" or seconds')
        return total

    def pixels(self) -> dict[str, Any]:
        """Returns the settings that decide the pixels; runs that share an output folder must agree on them."""
        return deciding(self._resolved())

    def defaults(self) -> dict[str, Any]:
        """Returns what an older version's settings stand for where a name is absent, in the form of `pixels`: the
        default under this run's preset and size, or `BEFORE`."""
        return type(self)(preset=self.preset, size=self.size)._resolved() | BEFORE

    def _resolved(self) -> dict[str, Any]:
        # The fingerprint has the checksum of a picture, and rows have those of the results in a folder.
        init = self.init if self.init in INITS else "a folder" if self.starts_from_folder else "a picture"
        resolved = dataclasses.asdict(self) | dataclasses.asdict(self.objective())
        sizes, evaluations = zip(*self.stages(), strict=True)
        own = self.coarse_content_weight
        coarse = self.objective().content_weight if own is None else own
        several = len(sizes) > 1  # with one scale the values are those of versions without scales
        return resolved | {
            "style_size": self.style_size or self.size,
            "init": init,
            "assign": self.assign if self.assign in RULES else "a mapping",  # likewise
            **{name: resolved[name] and "masks" for name in ("content_masks", "style_masks")},  # likewise
            "scales": sizes if several else None,
            "evaluations": evaluations if several else evaluations[0],
            "coarse_content_weight": coarse if several else None,
        }


BEFORE = {"style_pixels": 0, "style_loss": "gram", "preconditioner": "none", "tv_border": "omitted"}
"""What versions without a setting did, where that is not its default."""
NO_PIXELS = ("batch", "tail", "devices", "cpu_devices", "tile", "existing", "retry_failed", "limit", "shard", "workers",
             "max_failures", "max_duration", "stall_timeout", "max_pixels", "weights", "styles", "regions",
             "save_every", "dataset", "member", "path_column", "annotations")  # fmt: skip
"""Settings that do not change the pixels: `batch`, `tail`, `tile` and the devices change rounding, which rows and
`planning.description.ROUNDING` tell. The fingerprint has the checksums of the weights and of blended styles."""


def deciding(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Drops the settings that do not change the pixels: `NO_PIXELS`, and those that the solver does not use."""
    unused = {"adam": ("history", "history_dtype", "preconditioner"), "lbfgs": ("learning_rate", "averaging")}.get(
        resolved.get("solver", ""), ("learning_rate", "averaging", "preconditioner")
    )
    return {name: value for name, value in resolved.items() if name not in (*NO_PIXELS, *unused)}

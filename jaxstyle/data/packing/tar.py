"""Packs the outputs of runs into shards of samples, with the other members of the samples that they were made from."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from jaxstyle.data.folder import Folder
from jaxstyle.data.packing import base, tar_file, tar_folder
from jaxstyle.data.packing.base import Entry
from jaxstyle.data.packing.outputs import Output, Outputs, settings_of
from jaxstyle.data.packing.tar_file import Packed, Piece
from jaxstyle.data.samples import Sample, escaped, plain, recurring, samples
from jaxstyle.data.sources.base import Stamp, is_tar, printable
from jaxstyle.data.sources.folders import refuse_overlap
from jaxstyle.data.sources.given import expanded, refuse_equal_names
from jaxstyle.data.sources.tar import reading
from jaxstyle.data.styles import output_key, suffix
from jaxstyle.data.tar import Headers, Member, Part, open_archive
from jaxstyle.errors import InputError


@dataclass
class _Shard:
    """One archive of the source.

    Attributes:
        found: state of the file.
        outputs: of each of its images, by the image's key, while the archive is at work.
        stale: keys of images that have changed since their outputs were made.
        again: hashes of samples that lie in several places.
    """

    path: Path
    found: os.stat_result | None = None
    outputs: dict[str, list[Output]] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    again: frozenset[int] = frozenset()


def pack(output: Path, target: Path, sources: Sequence[Path], allow_missing: bool, per_file: int | None) -> Packed:
    """Writes the outputs to shards in a folder. See `packing.pack`."""
    folder, settings = base.opened(output)
    sources = [*expanded(sources)]
    for path in sources:
        if not is_tar(path):
            raise InputError(f"the input {printable(path)} is no tar archive", "Leave it out: folders have no labels.")
    if sources and per_file is not None:
        raise InputError("per-file is given, and shards are as large as those of the input", "Leave it out.")
    refuse_equal_names((path.stem, path) for path in sources)
    refuse_overlap(target, [output, *sources])
    about = {"settings": settings_of(settings)}
    if not sources:
        return tar_folder.pack(folder, target, about, allow_missing, per_file)
    with closing(Outputs(folder, [path.stem for path in sources])) as outputs:
        return _from_archives(folder, target, [_Shard(path) for path in sources], outputs, about, allow_missing)


def _from_archives(
    folder: Folder,
    target: Path,
    shards: list[_Shard],
    outputs: Outputs,
    about: dict[str, Any],
    allow_missing: bool,
) -> Packed:
    """Writes a shard for each archive. Everything is checked before the first is written."""
    files = [target / shard.path.name for shard in shards]
    made = Packed(files, 0, 0, 0)
    digests, missing, lacking = list[str](), list[str](), list[int]()
    for shard in shards:
        before, shard.outputs = made.missing, outputs.of(shard.path.stem)
        digests.append(_survey(shard, made, missing, about))
        lacking.append(made.missing - before)
        shard.outputs = {}
    if not allow_missing:
        base.refuse_missing(missing, made.missing, folder.path)
    if not made.images:
        raise InputError(
            f"{printable(folder.path)} has no outputs of {printable(shards[0].path)} (their keys begin with "
            f"{printable(shards[0].path.stem)}/)",
            "Give the folder and the inputs of one run.",
        )
    tar_file.prepare(target, files)
    for shard, path, digest, number in zip(shards, files, digests, lacking, strict=True):
        if tar_file.is_complete(path, digest):
            continue
        told = {"missing": number, "source": shard.path.name, "digest": digest} | about
        shard.outputs = outputs.of(shard.path.stem)
        with open_archive(shard.path) as file:
            tar_file.write(path, _content(shard, file), partial(base.read_output, folder), file, told)
        shard.outputs = {}
        made.written += 1
    return made


def _survey(shard: _Shard, made: Packed, missing: list[str], about: dict[str, Any]) -> str:
    """Counts the samples of an archive and drops outputs of images that have changed; returns the shard's digest."""
    told = hashlib.sha256()
    with open_archive(shard.path) as file, reading(shard.path):
        shard.found = os.fstat(file.fileno())
        shard.again = recurring(array("Q", (one.hash for one in samples(Headers(file, shard.path)))))
        state = _state(shard.found)  # members may have changed where the images did not
        told.update(json.dumps([tar_file.FORMAT, shard.path.name, *state, about], sort_keys=True).encode())
        split = set[int]()
        for sample in samples(Headers(file, shard.path)):
            if not sample.extensions and not sample.failed:
                made.left += 1
                continue
            if sample.hash in shard.again:
                if sample.hash in split:
                    continue
                split.add(sample.hash)
            image, outputs = _outputs_of(shard, sample)
            key = f"{shard.path.stem}/{plain(image.name)}"
            if not all(one.origin.is_current(*_present(shard, image)) for one in outputs):
                shard.stale.add(key)
            if not outputs or key in shard.stale:
                made.missing += 1
                if len(missing) < base.SHOWN:
                    missing.append(key)
            for pieces, entry in _packed(shard, sample):
                made.images += 1
                made.members += len(pieces) - 1
                told.update(json.dumps([[piece.name for piece in pieces], entry[:4]]).encode())
    return told.hexdigest()


def _outputs_of(shard: _Shard, sample: Sample) -> tuple[Member, list[Output]]:
    """The image of a sample, and its outputs; the sample's first member without any."""
    if not sample.failed and sample.hash not in shard.again:
        for member in sample.members:
            key = f"{shard.path.stem}/{plain(member.name)}"
            if key in shard.outputs and key not in shard.stale:
                return member, shard.outputs[key]
    return sample.members[0], []


def _present(shard: _Shard, image: Member) -> tuple[Stamp, Any]:
    """The stamp of an image in an archive, and what opens it."""
    assert shard.found is not None

    def opened() -> Part:
        return Part(open_archive(shard.path), image.start, image.size)

    return Stamp(image.size, shard.found.st_mtime_ns), opened


def _packed(shard: _Shard, sample: Sample) -> Iterator[tuple[list[Piece], Entry]]:
    """The samples that a sample becomes, with the output in each.

    Raises:
        InputError: an output has the name of another member.
    """
    image, outputs = _outputs_of(shard, sample)
    for one in outputs:
        style = _style_of(one.entry)
        pieces = []
        for member in sample.members:
            name = _in_style(member.name, style)
            ending = PurePosixPath(one.entry.key).suffix
            if member is image and ending.lower() != PurePosixPath(name).suffix.lower():
                name = name.removesuffix(PurePosixPath(name).suffix) + ending
            pieces.append(Piece(name, one.entry if member is image else member))
        if len({piece.name.lower() for piece in pieces}) < len(pieces):
            raise InputError(
                f"the output {printable(one.entry.key)} would have the name of another member of its sample",
                "Render with another --output-format.",
            )
        yield pieces, one.entry


def _content(shard: _Shard, file: IO[bytes]) -> Iterator[list[Piece]]:
    """The samples of a new shard; raises an InputError at their end if the archive is not as it was surveyed."""
    for sample in samples(Headers(file, shard.path)):
        for pieces, _ in _packed(shard, sample):
            yield pieces
    if _state(os.fstat(file.fileno())) != _state(shard.found):
        raise InputError(f"{printable(shard.path)} changed while it was read", "Pack it again.")


def _style_of(entry: Entry) -> str:
    """What the name of an output says of its style, where its image has several; else ""."""
    several = entry.style and entry.image != entry.key and entry.key.startswith(output_key(entry.image, entry.style))
    return escaped(suffix(entry.style)) if several else ""


def _in_style(name: str, style: str) -> str:
    """A member's name in one of the samples of its image."""
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.partition(".")
    return f"{folder}{slash}{stem}~{style}{dot}{extension}" if style else name


def _state(found: os.stat_result | None) -> tuple[int, int]:
    return (found.st_size, found.st_mtime_ns) if found else (0, 0)

"""Packs the outputs of any folder into shards, a sample of one member for each, under names that no two keys share."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from jaxstyle.data.folder import Folder
from jaxstyle.data.packing import base, tar_file
from jaxstyle.data.packing.base import Entry
from jaxstyle.data.packing.tar_file import Packed, Piece
from jaxstyle.data.pictures import kinds
from jaxstyle.data.samples import escaped, is_meta
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import InputError


def pack(folder: Folder, target: Path, about: dict[str, Any], allow_missing: bool, per_file: int | None) -> Packed:
    """Writes the outputs of any folder, in the order of their keys: each a sample of one member."""
    entries, missing = list[Entry](), list[str]()
    for row in base.last_rows(folder):
        found = base.entry(row)
        if found is not None:
            entries.append(found)
        elif row.status != "skipped":
            missing.append(row.key)
    if not allow_missing:
        base.refuse_missing(sorted(missing), len(missing), folder.path)
    if not entries:
        raise InputError(f"{printable(folder.path)} has no outputs", "Give the folder of a run.")
    groups = base.groups(sorted(entries), per_file)
    stem = folder.path.resolve().name or "shard"
    files = [target / f"{stem}-{n:06}.tar" for n in range(len(groups) + 1)]
    extra = files.pop()
    tar_file.prepare(target, files)
    if os.path.lexists(extra):
        raise InputError(
            f"{printable(extra)} is of an earlier packing into more files than {len(files)}", "Delete it and the rest."
        )
    made = Packed(files, 0, len(entries), len(missing))
    read = partial(base.read_output, folder)
    for n, (path, group) in enumerate(zip(files, groups, strict=True)):
        told = about | {"missing": len(missing), "part": f"{n + 1}/{len(files)}"}
        content = json.dumps([tar_file.FORMAT, told, [one[1:4] for one in group]], sort_keys=True)
        told["digest"] = hashlib.sha256(content.encode()).hexdigest()
        if tar_file.is_complete(path, told["digest"]):
            continue
        pieces = ([Piece(f"{sample_name(one.key)}.{_extension(one, read)}", one)] for one in group)
        tar_file.write(path, pieces, read, None, told)
        made.written += 1
    return made


def sample_name(key: str) -> str:
    """The name of an output's sample: its key with dots and per cent signs in URL encoding.

    `urllib.parse.unquote` makes the key of it, so that no two keys have one name. Dots in folders stay.
    """
    folder, slash, last = key.rpartition("/")
    name = f"{folder}{slash}".replace("%", "%25") + escaped(last)
    return f"%5F{name[1:]}" if is_meta(name) else name  # WebDataset passes over such names


def _extension(entry: Entry, read: Callable[[Entry], bytes]) -> str:
    """The extension of an output, or that of its format if its name has none."""
    named = PurePosixPath(entry.key).suffix.removeprefix(".")
    return named or kinds.usual_extension(kinds.by_content(read(entry)[: kinds.MAGIC_BYTES]) or "JPEG")

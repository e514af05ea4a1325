"""Groups the members of a tar archive into samples, as WebDataset does: members side by side with one base name."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxstyle.data.tar import Headers, Member
from jaxstyle.errors import printable

IMAGES = frozenset(("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif"))
"""Extensions of images in samples. One with a dot in it, such as seg.png, is another member's."""
MOST_MEMBERS = 1000
"""Members of a sample."""
MOST_NAME = 4096
"""Bytes of a member's name."""
SPLIT = "its members do not lie side by side in the archive. Sort it, with `tar --sort=name`."
_META = re.compile(r"__[^/]*__(/|$)")
"""Beginning of names that WebDataset passes over."""
_HERE = re.compile(r"(\./+)+")


class Sample(NamedTuple):
    """Members side by side with one base name.

    Attributes:
        base: their names up to the first dot of the last part, without `./`; the whole name of a file in no sample.
        members: in their order.
        extensions: the rest of their names; empty for a file that is in no sample.
        failed: why the sample is not used, with what helps; or "".
        nameless: whether no output can have its name.
    """

    base: str
    members: tuple[Member, ...]
    extensions: tuple[str, ...]
    failed: str = ""
    nameless: bool = False

    @property
    def hash(self) -> int:
        """64 bits that tell it from others."""
        return hash_of(f"{len(self.extensions) > 0}{self.base}")


def hash_of(text: str) -> int:
    """64 bits that tell a text from others."""
    data = text.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def plain(name: str) -> str:
    """A member's name without `./` at its beginning."""
    found = _HERE.match(name)
    return name[found.end() :] if found else name


def divided(name: str) -> tuple[str, str] | None:
    """The base and the extension of a member's plain name; None if it is in no sample."""
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.partition(".")
    return (folder + slash + stem, extension) if stem and dot and not _META.match(name) else None


def escaped(text: str) -> str:
    """A text without dots, for the name of a sample: dots and per cent signs in URL encoding."""
    return text.replace("%", "%25").replace(".", "%2E")


def is_meta(name: str) -> bool:
    """Whether WebDataset passes over members of this name."""
    return _META.match(name) is not None


def samples(headers: Headers) -> Iterator[Sample]:
    """Yields the samples of an archive, and the files that are in none, in their order.

    If the archive is cut short, the last of them has failed. A sample that goes on elsewhere in the archive is yielded
    several times, see `recurring`.

    Raises what iterating over `Headers` raises.
    """
    before: str | int | None = None
    kept: list[Member] = []
    for member in headers:
        name = plain(member.name)
        parts = None if _problem(name) else divided(name)
        group = member.offset if parts is None else parts[0]
        if kept and group != before:
            yield _sample(kept)
            kept = []
        before = group
        if len(kept) <= MOST_MEMBERS:
            kept.append(member)
    if kept:
        last = _sample(kept)
        yield last._replace(failed=headers.cut or last.failed)


def recurring(hashes: array[int]) -> frozenset[int]:
    """The hashes that occur more than once: of samples that lie in several places of an archive."""
    found, times = np.unique(np.frombuffer(hashes, np.uint64), return_counts=True)
    return frozenset(found[times > 1].tolist())


def _sample(members: Sequence[Member]) -> Sample:
    first = plain(members[0].name)
    if problem := _problem(first):
        return Sample(f"//{members[0].offset}", (members[0],), (), problem, nameless=True)
    base, _ = divided(first) or (first, "")
    extensions = tuple(parts[1] for one in members if (parts := divided(plain(one.name))))
    return Sample(base, tuple(members), extensions, _failed(members, extensions))


def _failed(members: Sequence[Member], extensions: Sequence[str]) -> str:
    """Why a sample with these members is not used; or ""."""
    if len(members) > MOST_MEMBERS:
        return f"has more than {MOST_MEMBERS} members"
    for one in members:
        if one.problem:
            return f"its member {printable(one.name)} {one.problem}"
    seen = set[str]()
    for extension in extensions:
        if extension.lower() in seen:  # WebDataset ignores case
            return f"has two members .{printable(extension)}. Rename one, or delete it."
        seen.add(extension.lower())
    return ""


def _problem(name: str) -> str:
    """Why no output can have a member's plain name; or ""."""
    if len(name) > MOST_NAME:
        return f"its name has {len(name)} characters"
    parts = name.split("/")
    if ".." in parts or not parts[0]:
        return f"its name {printable(name)} leads out of the folder. Write the archive anew, with relative names."
    return f"its name {printable(name)} is no name of a file" if "" in parts or "." in parts or "\0" in name else ""

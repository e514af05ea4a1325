"""Walks the headers of a tar archive as untrusted input: no data is read, nothing is extracted, memory is bounded.

`tarfile.TarInfo` parses each header block. `tarfile.TarFile` is not used: it reads extended headers of any size into
memory, keeps every member, ends without an error at a damaged header or a missing end, and decodes sparse files.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from jaxstyle.data.opening import open_regular
from jaxstyle.errors import InputError, printable

BLOCK = tarfile.BLOCKSIZE
"""Bytes of a header; the data of a member is padded to a multiple of it."""
MOST_EXTENDED = 2**20
"""Bytes of an extended header, which holds a long name or the records of pax."""
MOST_TRAILER = 2**20
"""Bytes of zeros at the end of an archive; programs pad to a multiple of 10 KiB or a few times as much."""
REWRITE = "Write the archive anew, with `tar --format=pax`."
COPY = "Copy it again, or leave it out."

_COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))
_SIZE = re.compile(rb"[ \0]*[0-7]*[ \0]*|[\x80\xff].*", re.DOTALL)
"""What the field of the size may hold: octal digits, or a number in base 256."""
_RECORD = re.compile(rb"([0-9]{1,9}) ([^=\n]{1,1000})=")
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
_WITHOUT_DATA = (tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
_NO_FILES = (tarfile.DIRTYPE, b"D", b"V")
"""Types that say something about folders and volumes, and are passed over."""
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_SPARSE = f"is a sparse file. {REWRITE}"
_PROBLEMS = {
    tarfile.SYMTYPE: "is a symbolic link, which is not followed. Use `tar --dereference`.",
    tarfile.LNKTYPE: "is a hard link, which is not followed. Use `tar --hard-dereference`.",
    tarfile.CHRTYPE: "is a device.",
    tarfile.BLKTYPE: "is a device.",
    tarfile.FIFOTYPE: "is a pipe.",
    tarfile.GNUTYPE_SPARSE: _SPARSE,
}


class Member(NamedTuple):
    """A file of an archive, or what is in its place.

    Attributes:
        name: as it stands in the archive; bytes that are not UTF-8 are surrogates.
        offset: of its header, in bytes.
        start, size: its data, in bytes.
        problem: why it is not read, with what helps; or "".
    """

    name: str
    offset: int
    start: int
    size: int
    problem: str = ""


class Headers:
    """The members of an open archive, in their order, without its folders.

    Attributes:
        path: of the archive, for messages.
        cut: how the archive ends if it is cut short, once all members were yielded; else "". The last member may then
            lack data.
    """

    def __init__(self, file: IO[bytes], path: Path):
        self.path, self.cut = path, ""
        self._file, self._length = file, os.fstat(file.fileno()).st_size

    def __iter__(self) -> Iterator[Member]:
        """Yields the members.

        Raises:
            InputError: the file is no tar archive, is compressed or damaged, or has data behind its end.
            OSError: it cannot be read.
        """
        at, extended, yielded = 0, _Extended(), False
        while True:
            block = self._read(at, BLOCK)
            if len(block) < BLOCK:
                if not yielded:
                    raise InputError(f"{printable(self.path)} ends after {self._length} bytes, before any member", COPY)
                self.cut = f"the archive ends at byte {self._length} without an end marker. {COPY}"
                return
            if not any(block):
                self._check_end(at)
                return
            info, start = self._parsed(block, at), at + BLOCK
            if info.type in (*_PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                if info.size > MOST_EXTENDED:
                    raise self._damaged(at, f"an extended header of {info.size} bytes, more than {MOST_EXTENDED}")
                body = self._read(start, info.size)
                if len(body) == info.size:  # else the archive ends here, which the next block tells
                    extended.add(info.type, body, partial(self._damaged, at))
                at = start + padded(info.size)
                continue
            if info.type == tarfile.GNUTYPE_SPARSE:
                start = self._after_sparse_headers(block, start)
            size = info.size if extended.size is None else extended.size
            size = 0 if info.type in _WITHOUT_DATA else size
            end = start + padded(size)
            if end > self._length:
                left = max(0, self._length - start)
                self.cut = f"its member {_short(extended.names[0] if extended.names else info.name)} claims {size} "
                self.cut += f"bytes, and the archive has {left} more: it is cut short or damaged. {COPY}"
            if info.type not in _NO_FILES:
                yielded = True
                yield extended.applied_to(info, at, start, size)
            if self.cut and yielded:
                return
            at, extended = end, _Extended()

    def _read(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        return self._file.read(size)

    def _parsed(self, block: bytes, at: int) -> tarfile.TarInfo:
        """Parses a header; its size is not negative."""
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            if at:
                raise self._damaged(at, "no valid header") from error
            kind = next((kind for magic, kind in _COMPRESSED if block.startswith(magic)), "")
            raise (
                compressed(self.path, kind)
                if kind
                else InputError(f"{printable(self.path)} is no tar archive: it does not begin with a header", COPY)
            ) from error
        if info.size < 0 or not _SIZE.fullmatch(block[124:136]):
            raise self._damaged(at, f"a member of {info.size} bytes" if info.size < 0 else "a size that is no number")
        return info

    def _damaged(self, at: int, what: str) -> InputError:
        return InputError(f"{printable(self.path)} is damaged: at byte {at} it has {what}", COPY)

    def _after_sparse_headers(self, block: bytes, at: int) -> int:
        """Returns where the data of an old sparse file of GNU begins: behind the blocks of its map."""
        more = block[482]
        while more and len(block := self._read(at, BLOCK)) == BLOCK:
            more, at = block[504], at + BLOCK
        return at

    def _check_end(self, at: int) -> None:
        """Checks that nothing but padding follows a block of zeros."""
        rest = self._length - at
        if rest > MOST_TRAILER or any(self._read(at, rest)):
            raise InputError(
                f"{printable(self.path)} has an end marker at byte {at}, and {rest} bytes are behind it",
                "It consists of several archives (`tar --ignore-zeros -xf` reads all), or its copying was "
                "interrupted: write or copy it again.",
            )


class _Extended:
    """What the extended headers before a member say of it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.size: int | None = None
        self.sparse = False

    def add(self, kind: bytes, body: bytes, damaged: Callable[[str], InputError]) -> None:
        """Takes in an extended header.

        Args:
            damaged: makes the error for one that is not valid, from its description.
        """
        if kind in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            if kind == tarfile.GNUTYPE_LONGNAME:
                self._name(body.split(b"\0", 1)[0])
            return
        at = 0
        while at < len(body) and body[at]:
            found = _RECORD.match(body, at)
            end = at + int(found[1]) if found else 0
            if found is None or end > len(body) or end <= found.end() or body[end - 1 : end] != b"\n":
                raise damaged("records of pax that are not valid")
            name, value = found[2], body[found.end() : end - 1]
            decides = name in (b"path", b"size") or name.startswith(b"GNU.sparse.")
            if decides and kind == tarfile.XGLTYPE:
                raise damaged(f"a global header with the {name.decode('ascii', 'replace')} of members")
            if name == b"path":
                self._name(value)
            elif name == b"size":
                if not re.fullmatch(rb"[0-9]{1,20}", value):
                    raise damaged("a size that is no number")
                self.size = int(value)
            self.sparse |= decides and name.startswith(b"GNU")
            at = end

    def _name(self, name: bytes) -> None:
        if len(self.names) < 2:
            self.names.append(name.decode("utf-8", "surrogateescape"))

    def applied_to(self, info: tarfile.TarInfo, at: int, start: int, size: int) -> Member:
        """The member that a header and the extended headers before it describe."""
        unknown = f"is of the type {info.type!r}, which is not read. {REWRITE}"
        problem = "" if info.type in _FILES else _PROBLEMS.get(info.type, unknown)
        if self.sparse:
            problem = _SPARSE
        if len(self.names) > 1:  # of which programs take the first or the last
            problem = f"has two names. {REWRITE}"
        return Member(self.names[0] if self.names else info.name, at, start, size, problem)


class Part(io.RawIOBase):
    """A part of a file, as a file of its own; it closes the whole."""

    def __init__(self, file: IO[bytes], start: int, size: int):
        super().__init__()
        self._file, self._left = file, size
        file.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Reads the next bytes.

        Raises:
            OSError: the file ends before the part does.
        """
        wanted = min(len(buffer), self._left)
        data = self._file.read(wanted) if wanted else b""
        if len(data) == 0 < wanted:
            raise OSError("its archive is cut short")
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def padded(size: int) -> int:
    """The length of data with its padding, in bytes."""
    return -(-size // BLOCK) * BLOCK


def _short(name: str) -> str:
    return printable(name if len(name) <= 200 else f"{name[:200]}...")


def compressed(path: Path, kind: str) -> InputError:
    """The error for an archive that is compressed."""
    return InputError(
        f"{printable(path)} is a compressed archive ({kind})",
        "Members are read where they are needed, so decompress it first: pictures are compressed already.",
    )


def open_archive(path: Path) -> IO[bytes]:
    """Opens an archive for `Headers`.

    Raises:
        InputError: it does not exist, is no regular file, or cannot be read.
    """
    try:
        return open_regular(path, follow=True)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InputError(f"the input {printable(path)} does not exist", "Give files that exist.") from error
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for an archive that cannot be read."""
    return InputError(f"{printable(path)} cannot be read ({error.strerror or error})",
                      "Give a tar archive, and correct its permissions.")  # fmt: skip

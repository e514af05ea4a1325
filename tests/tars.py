"""Tar archives for tests: whole ones of samples, and hostile ones of single blocks."""

import io
import tarfile
from pathlib import Path


def header(name, size=0, kind=tarfile.REGTYPE, field=None):
    """A header block.

    Args:
        field: 12 bytes in the place of the size's.
    """
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, "target" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[-512:])
    if field is not None:
        block[124:136] = field
    return checked(block)


def checked(block):
    """A header block with its checksum made anew."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name, data, kind=tarfile.REGTYPE):
    """A header and the padded data."""
    return header(name, len(data), kind) + data + bytes(-len(data) % 512)


def pax(*records, kind=tarfile.XHDTYPE):
    """An extended header with records of (name, value) in bytes."""
    return member("pax", b"".join(record(*one) for one in records), kind)


def record(name, value):
    """A record of pax, which begins with its own length."""
    rest = b" " + name + b"=" + value + b"\n"
    length = len(rest) + 1
    while length != len(rest) + len(b"%d" % length):
        length += 1
    return b"%d" % length + rest


def longname(name):
    """A long name as GNU writes it."""
    return member("././@LongLink", name + b"\0", tarfile.GNUTYPE_LONGNAME)


END = bytes(1024)


def written(path: Path, *parts: bytes, end: bytes = END) -> Path:
    """Writes an archive of these blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(parts) + end)
    return path


def archive(path: Path, members, format=tarfile.PAX_FORMAT) -> Path:
    """Writes an archive of {name: bytes} as `tarfile` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def content(path: Path):
    """{name: bytes} of an archive as `tarfile` reads it."""
    with tarfile.open(path) as file:
        found = {one.name: file.extractfile(one).read() for one in file if one.isreg()}
        assert len(found) == len(file.getmembers())
    return found

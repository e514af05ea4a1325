"""What Linux tells of mounts: where a folder really lies, and whether its file system's locks reach other machines."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_OF_ONE_KERNEL = {
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "nilfs2", "tmpfs", "ramfs", "rootfs",
    "overlay", "aufs", "vfat", "exfat", "ntfs3", "fuseblk", "hfsplus", "apfs", "udf", "squashfs", "erofs", "iso9660",
}  # fmt: skip
"""Types of file systems that only one kernel at a time can write to: its flock sees every process."""

_OF_CLUSTERS = {"nfs", "nfs4", "lustre", "ceph", "gpfs", "gfs2", "ocfs2"}
"""Types whose flock reaches other machines, unless mounted with one of `_LOCAL_LOCKS` (or `_NEEDED` is absent)."""

_LOCAL_LOCKS = {"nolock", "local_lock=all", "local_lock=flock", "localflock", "localflocks"}
_NEEDED = {"lustre": "flock"}


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo.

    Attributes:
        number: identifies the mount.
        device: major and minor number of the file system; also its source, where mounts of one number may have
            different roots (NFS).
        root: path in the file system of what is mounted.
        point: path at which it is mounted.
        kind: type of the file system.
        options: of the mount and of the file system.
    """

    number: int
    device: str
    root: str
    point: str
    kind: str
    options: frozenset[str]


class Place(NamedTuple):
    """Where a file or folder really lies, however often and wherever its file system is mounted.

    Attributes:
        device: of the file system.
        path: in the file system.
    """

    device: str
    path: PurePosixPath

    def overlaps(self, other: Place) -> bool:
        """Whether one is the other or lies in it."""
        one, two = self.path, other.path
        return self.device == other.device and (one.is_relative_to(two) or two.is_relative_to(one))


def mounts() -> list[Mount]:
    """Lists the mounts that this process sees; none on other systems than Linux."""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        number, _, device, root, point, own = before.split(" ")[:6]
        kind, source, rest = after.split(" ", 2)
        device = device if kind in _OF_ONE_KERNEL else f"{device} {source}"
        options = frozenset(f"{own},{rest}".split(","))
        found.append(Mount(int(number), device, _plain(root), _plain(point), kind, options))
    return found


def mount_number(handle: int) -> int | None:
    """Returns the number of the mount that an open file or folder lies in, or None if the system does not say."""
    try:
        text = Path(f"/proc/self/fdinfo/{handle}").read_text()
    except OSError:
        return None
    found = re.search(r"^mnt_id:\s*(\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else None


def mount_of(handle: int) -> Mount | None:
    """Returns the mount that an open file or folder lies in, or None if the system does not say."""
    number = mount_number(handle)
    return next((one for one in mounts() if one.number == number), None)


def place_of(handle: int) -> Place | None:
    """Returns the place of an open file or folder, or None if the system does not say."""
    mount = mount_of(handle)
    if mount is None:
        return None
    inside = os.path.relpath(os.readlink(f"/proc/self/fd/{handle}"), mount.point)
    return Place(mount.device, PurePosixPath(os.path.normpath(os.path.join(mount.root, inside))))


def real_places(path: Path) -> list[Place]:
    """Returns where a file or folder really lies, and what is mounted below it; [] if the system does not say."""
    try:
        handle = os.open(path, getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK))  # it is not read
    except OSError:
        return []
    try:
        place = place_of(handle)
    finally:
        os.close(handle)
    real = os.path.realpath(path)
    below = [one for one in mounts() if one.point != real and PurePosixPath(one.point).is_relative_to(real)]
    return [] if place is None else [place, *(Place(one.device, PurePosixPath(one.root)) for one in below)]


def locks_reach_everyone(handle: int) -> bool:
    """Whether flock on a file of this open folder excludes every process that can see the folder, on all machines.

    Where the system does not say, it is taken for a local file system. A type that is not known, such as FUSE, counts
    as one whose locks are local to each machine.
    """
    mount = mount_of(handle)
    if mount is None or mount.kind in _OF_ONE_KERNEL:
        return True
    needed = _NEEDED.get(mount.kind)
    reached = not mount.options & _LOCAL_LOCKS and (needed is None or needed in mount.options)
    return mount.kind in _OF_CLUSTERS and reached


def _plain(text: str) -> str:
    """Undoes the octal escapes of mountinfo."""
    if "\\" not in text:
        return text
    data = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), os.fsencode(text))
    return os.fsdecode(data)

"""Object stores through fsspec: URLs, calls that are tried again, and objects with their stamps."""

from __future__ import annotations

import errno
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from jaxstyle.errors import InputError, printable
from jaxstyle.paths import STORES, is_url

ATTEMPTS = 4
"""Times that a call is made before its error counts."""
PAUSE = 0.5
"""Seconds before the second attempt; each later pause is twice as long."""
PAGE = 1000
"""Entries of a listing that are handed on at a time."""
BLOCK = 2**23
"""Bytes of an object that one call reads."""
TOLD = 200
"""Most letters of a store's message in one of ours."""

_NO_RETRY = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError,
             NotImplementedError, TypeError, ValueError, AttributeError)  # fmt: skip
_NO_CREDENTIALS = re.compile(r"\w*(Credential|Token|Auth|Signature)\w*")
"""Names of the errors of several libraries for absent or refused credentials."""
_SECRETS = re.compile(
    r"(?<=//)[^/\s@]+(?=@)|(?<=\?)\S+|(?<=Bearer )\S+|"
    r"\w*(?:sig|token|secret|password|key|credential)\w*[\"']?\s*[=:]\s*\S+",
    re.IGNORECASE,
)
T = TypeVar("T")


class Found(NamedTuple):
    """An object, or a folder of objects, as a store lists it.

    Attributes:
        name: last part of its path.
        path: in the store, without the scheme.
        folder: whether it is a folder.
        length: in bytes.
        stamp: number that changes with the content: of the entity tag, or else of the time of the last change; 0 if the
            store tells neither.
    """

    name: str
    path: str
    folder: bool
    length: int
    stamp: int


class Place(NamedTuple):
    """A URL in its parts.

    Attributes:
        scheme: in lower case.
        path: bucket and key, without slashes at its ends.
        is_folder: whether the URL ends in a slash or names a bucket alone.
    """

    scheme: str
    path: str
    is_folder: bool

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path.lstrip('/')}"


def place_of(url: str, what: str) -> Place:
    """Takes a URL apart.

    Args:
        what: the URL in messages, which do not repeat it as long as it may have secrets.

    Raises:
        InputError: it is no URL of an object store, or has credentials in it.
    """
    scheme, found, rest = url.partition("://")
    scheme = scheme.lower()
    if not found or not is_url(url) or scheme not in STORES:
        known = ", ".join(f"{name}://" for name in STORES if name != "memory")
        raise InputError(f"{what} is no URL of an object store that is read: it begins with {printable(scheme[:20])}",
                         f"Known are {known}. Copy other things to this machine first.")  # fmt: skip
    top, _, below = rest.partition("/")
    if "?" in rest or "#" in rest:
        raise InputError(f"{what} is a URL with ? or #, behind which secrets may stand",
                         "Give the URL without it, and credentials as the store's own tools take them.")  # fmt: skip
    if "@" in top and (":" in top or not scheme.startswith(("az", "abfs"))):
        raise InputError(f"{what} is a URL with a user or a password",
                         "Leave it out: credentials come from the environment or the store's own files.")  # fmt: skip
    path = rest.strip("/") if scheme != "memory" else f"/{rest.strip('/')}"
    if not path or "\0" in path or "//" in below.rstrip("/") or {".", ".."} & set(path.split("/")):
        raise InputError(f"{what} is {printable(url)}, which names no prefix", "Give scheme://bucket/prefix.")
    return Place(scheme, path, rest.endswith("/") or not below.strip("/"))


def scrubbed(error: BaseException) -> str:
    """An error's message without what may be a secret, on one line of at most `TOLD` letters."""
    text = _SECRETS.sub("...", " ".join(f"{error}".split()))
    kind = type(error).__name__
    text = text if len(text) <= TOLD else f"{text[:TOLD]}..."
    return kind if not text else text if isinstance(error, OSError) else f"{kind}: {text}"


class Store:
    """An object store. Several threads may call it.

    Its calls raise OSErrors whatever the library behind it raises: FileNotFoundError for what is absent,
    PermissionError for what is refused, both at once; another error after `ATTEMPTS` attempts.
    """

    def __init__(self, scheme: str):
        """Opens it with the credentials that its own library finds.

        Raises:
            InputError: fsspec or the package for this scheme is not installed, or it cannot be set up.
        """
        self.scheme = scheme
        try:
            import fsspec
        except ImportError as error:
            raise InputError("URLs need the package fsspec, which is not installed",
                             "Install jaxstyle's extra 'stores': `pip install fsspec`.") from error  # fmt: skip
        try:
            self.system = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            package = STORES[scheme]
            raise InputError(f"{scheme}:// needs the package {package}, which cannot be imported",
                             f"Install it: `pip install {package}`.") from error  # fmt: skip
        except Exception as error:
            raise InputError(f"{scheme}:// cannot be set up ({scrubbed(error)})",
                             "Correct its credentials and settings.") from None  # fmt: skip

    def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Calls the store, and calls it again after errors that may pass.

        Raises:
            OSError: see the class.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return function(*arguments, **options)
            except MemoryError:
                raise
            except FileNotFoundError:
                raise FileNotFoundError(errno.ENOENT, "No such object") from None
            except PermissionError as error:
                raise PermissionError(errno.EACCES, f"refused by the store: {scrubbed(error)}") from None
            except Exception as error:  # of the library, whatever its class
                if _NO_CREDENTIALS.fullmatch(type(error).__name__):
                    raise PermissionError(errno.EACCES, f"no valid credentials: {scrubbed(error)}") from None
                if attempt == ATTEMPTS or isinstance(error, _NO_RETRY):
                    times = f", {attempt} times" if attempt > 1 else ""
                    raise OSError(f"error of the store{times}: {scrubbed(error)}") from None
                time.sleep(PAUSE * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    def look(self, path: str) -> Found:
        """Returns an object or folder as it is now."""
        return _found(self.call(self.system.info, path), path)

    def pages(self, path: str) -> Iterator[list[Found]]:
        """Lists a folder, `PAGE` entries at a time where the store can (S3); elsewhere it is in memory meanwhile."""
        if self.scheme in ("s3", "s3a") and hasattr(self.system, "call_s3"):
            yield from self._pages_of_s3(path)
            return
        prefix, found = f"{path.strip('/')}/", list[Found]()
        for one in self.call(self.system.ls, path, detail=True):
            name = str(one["name"]).lstrip("/")
            if name.rstrip("/") == prefix.rstrip("/"):  # the object of the folder itself
                continue
            name = name.removeprefix(prefix)
            found.append(_found(one, f"{path}/{name}", name.removesuffix("/")))
        found.sort()
        yield from (found[at : at + PAGE] for at in range(0, len(found), PAGE))

    def _pages_of_s3(self, path: str) -> Iterator[list[Found]]:
        bucket, _, key = path.partition("/")
        prefix, more = f"{key}/" if key else "", dict[str, str]()
        while True:
            answer = self.call(
                self.system.call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter="/", MaxKeys=PAGE,
                **more,
            )  # fmt: skip
            page = [
                Found(one["Prefix"][len(prefix) :].removesuffix("/"), f"{bucket}/{one['Prefix'].removesuffix('/')}",
                      True, 0, 0)
                for one in answer.get("CommonPrefixes", ())
            ]  # fmt: skip
            for one in answer.get("Contents", ()):
                if one["Key"] != prefix:  # the object of the folder itself
                    page.append(_found(one, f"{bucket}/{one['Key']}", one["Key"][len(prefix) :]))
            yield page
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def read(self, path: str, start: int, end: int) -> bytes:
        """Reads bytes of an object; an answer that is too short counts as an error that may pass."""

        def reading() -> bytes:
            data: bytes = self.system.cat_file(path, start=start, end=end)
            if len(data) != end - start:
                raise OSError(f"{len(data)} bytes came instead of {end - start}")
            return data

        return self.call(reading)

    def blocks(self, path: str, length: int) -> Iterator[bytes]:
        """Reads an object in blocks."""
        for start in range(0, length, BLOCK):
            yield self.read(path, start, min(start + BLOCK, length))

    def sha256(self, path: str, length: int) -> str:
        """SHA-256 of an object's content, in hexadecimal."""
        digest = hashlib.sha256()
        for block in self.blocks(path, length):
            digest.update(block)
        return digest.hexdigest()

    def write(self, path: str, data: bytes) -> None:
        """Writes an object whole; the store shows it when it is complete."""
        self.call(self.system.pipe_file, path, data)

    def write_file(self, path: str, file: str) -> None:
        """Writes an object from a file, which need not fit into memory; see `write`."""
        self.call(self.system.put_file, file, path)

    def remove(self, path: str) -> None:
        """Deletes an object, if it is there."""
        with suppress(FileNotFoundError):
            self.call(self.system.rm_file, path)


@contextmanager
def usable(place: object) -> Iterator[None]:
    """Turns errors of a store inside the block into an `InputError` about a URL."""
    try:
        yield
    except OSError as error:
        remedies = {
            errno.ENOENT: "Correct it. A prefix ends where a part of a path does, and patterns are not expanded.",
            errno.EACCES: "Give credentials as the store's own tools take them, or have access granted.",
        }
        raise InputError(f"{printable(place)} cannot be used ({error.strerror or error})",
                         remedies.get(error.errno or 0, "Try again later.")) from None  # fmt: skip


def _found(entry: dict[str, Any], path: str, name: str = "") -> Found:
    length = entry.get("size", entry.get("Size", entry.get("ContentLength")))
    folder = entry.get("type") == "directory"
    return Found(name or path.rpartition("/")[2], path, folder, int(length or 0), 0 if folder else _stamp(entry))


def stamp_of_md5(digest: str) -> int:
    """The stamp of an object whose entity tag is the MD5 of its content, as of most in S3."""
    return _stamp({"ETag": digest})


def _stamp(entry: dict[str, Any]) -> int:
    """See `Found.stamp`; below 2^62, as rows keep it."""
    tag = next((entry[name] for name in ("ETag", "etag", "md5Hash", "content_md5") if entry.get(name)), None)
    if tag is not None:
        tag = str(tag).removeprefix("W/").strip('"')
    else:
        names = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
        tag = next((entry[name] for name in names if entry.get(name)), None)
        tag = tag.timestamp() if isinstance(tag, datetime) else tag
        tag = f"{tag:.6f}" if isinstance(tag, float) else tag
    return int.from_bytes(hashlib.sha256(str(tag).encode()).digest()[:8], "big") >> 2 if tag is not None else 0

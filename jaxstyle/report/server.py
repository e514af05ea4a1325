"""Serves a report to browsers of this machine while the run goes on, and nothing besides it."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from jaxstyle.data.layout import SETTINGS
from jaxstyle.data.ledger import find, ledgers
from jaxstyle.data.opening import open_regular
from jaxstyle.data.pictures import kinds
from jaxstyle.engine.stop import Stop
from jaxstyle.errors import SettingsError, StorageError
from jaxstyle.report.chunks import script
from jaxstyle.report.gallery import Gallery
from jaxstyle.report.rows_index import Asked
from jaxstyle.report.site import ASSETS, CHUNK_NAME, DATA, INDEX, PAGE, THUMB_NAME, THUMBS
from jaxstyle.report.sources import SHOWN

HOST = "127.0.0.1"
PAUSE = 2.0
"""Seconds between two looks at the rows; at least, see `SHARE`."""
SHARE = 5
"""A pause lasts this many times as long as writing the report took."""
BLOCK = 2**16
"""Bytes that are sent at a time."""
POLL = 0.05
"""Seconds between two looks at whether to stop."""
SECONDS = 30
"""After which a silent connection is closed."""

OUTPUTS, INPUTS, STYLES = "out", "in", "style"
"""First parts of the addresses of pictures outside the report."""

POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; "
          "form-action 'none'; frame-ancestors 'none'")  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def watch(asked: Asked, port: int, stop: Stop, tell: Callable[[str], None], show: Callable[[str], None]) -> None:
    """Writes a report, serves it, and writes it again when rows are added, until it is asked to stop.

    Args:
        port: to listen at; 0 takes a free one.
        tell: called with messages for people.
        show: called with the page's address.

    Raises:
        SettingsError: the port is taken.
        InputError, StorageError, ProcessError: see `gallery.write`; later, storage errors are told.
    """
    with Gallery(asked) as gallery:
        before, began = _stamp(gallery), time.monotonic()
        gallery.build()
        with Server(gallery, port) as server:
            show(server.address)
            pause = max(PAUSE, SHARE * (time.monotonic() - began))
            said = ""
            while not stop.reason:
                try:
                    until = time.monotonic() + pause
                    gallery.make_thumbnails(ended=lambda: bool(stop.reason) or time.monotonic() > until)  # noqa: B023
                    _wait(pause, stop)
                    now = _stamp(gallery)
                    if now != before and not stop.reason:
                        began = time.monotonic()
                        gallery.build()
                        before, pause, said = now, max(PAUSE, SHARE * (time.monotonic() - began)), ""
                except StorageError as error:  # a run may be compacting the ledgers
                    if str(error) != said:
                        tell(f"The report is as it was: {error}")
                    said = str(error)
                    _wait(pause, stop)


def _wait(seconds: float, stop: Stop) -> None:
    until = time.monotonic() + seconds
    while not stop.reason and time.monotonic() < until:
        time.sleep(min(seconds, POLL))


def _stamp(gallery: Gallery) -> list[tuple[str, int, int]]:
    """What changes when rows are added: names, lengths and times of the ledgers and of the settings."""
    folder, found = gallery.folder, []
    for name in [*ledgers(folder), SETTINGS]:
        try:
            state = folder.stat(name)
        except FileNotFoundError:
            continue
        found.append((name, state.st_size, state.st_mtime_ns))
    return found


class _Quiet(ThreadingHTTPServer):
    """Says nothing of connections that browsers end when a picture is no longer in sight."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Server:
    """Serves a report on the loopback interface. A context manager that stops.

    Every address begins with a random token, so that other users of the machine cannot see the pictures. A request
    with another Host than this server's is refused, so that no page of the web reaches it through a name of its own.

    Attributes:
        address: of the page.
    """

    def __init__(self, gallery: Gallery, port: int = 0):
        """Raises SettingsError if the port cannot be listened at."""
        token = secrets.token_urlsafe(18)
        try:
            self._server = _Quiet((HOST, port), type("Handler", (_Handler,), {"gallery": gallery}))
        except OSError as error:
            raise SettingsError(
                f"port is {port}, and it cannot be used ({error.strerror})", "Choose another."
            ) from error
        port = self._server.server_address[1]
        handler: Any = self._server.RequestHandlerClass
        handler.token, handler.hosts = token, {f"{HOST}:{port}", f"localhost:{port}"}
        self.address = f"http://{HOST}:{port}/{token}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL,), name="report", daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers GET. An address is looked up among what the report names; it is no path."""

    gallery: Gallery
    token: str
    hosts: frozenset[str]
    protocol_version, timeout = "HTTP/1.1", SECONDS
    server_version, sys_version = "jaxstyle", ""
    error_message_format, error_content_type = "%(code)d %(message)s\n", "text/plain; charset=utf-8"

    def do_GET(self) -> None:
        if self.headers.get_all("Host") not in [[host] for host in self.hosts]:
            self.send_error(HTTPStatus.FORBIDDEN, "Forbidden")
            return
        address = self.path.partition("?")[0]
        start = f"/{self.token}/"
        if not secrets.compare_digest(address[: len(start)].encode(), start.encode()):
            self.send_error(HTTPStatus.NOT_FOUND, "Not found")
            return
        name = os.fsdecode(unquote_to_bytes(address[len(start) :])) or PAGE
        if name == INDEX:
            self._send_data(script("index", served(self.gallery.index)), _TYPES[".js"])
            return
        try:
            file = self._file(name)
        except (OSError, ValueError):
            file = None
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND, "Not found")
            return
        with file:
            length = os.fstat(file.fileno()).st_size
            self._begin(_type(name, self.gallery), length)
            while length and (data := file.read(min(length, BLOCK))):  # the file may grow meanwhile
                self.wfile.write(data)
                length -= len(data)
            self.close_connection |= length > 0

    def _file(self, name: str) -> IO[bytes] | None:
        """Opens what the report names so; None for all else."""
        gallery = self.gallery
        first, _, rest = name.partition("/")
        if first == OUTPUTS and find(gallery.named, rest) is not None:
            with gallery.folder.parent(rest) as (at, last):
                return open_regular(last, within=at)
        photograph = gallery.pictures.photographs.path(rest)
        if first == INPUTS and find(gallery.named_inputs, rest) is not None and photograph is not None:
            return open_regular(photograph, follow=True)
        if first == STYLES and (path := _style(rest, gallery)) is not None:
            return open_regular(path, follow=True)
        last = PurePosixPath(rest).name
        own = name == PAGE or (first == ASSETS and rest in gallery.site.assets)
        own |= first == DATA and CHUNK_NAME.fullmatch(rest) is not None
        own |= first == THUMBS and THUMB_NAME.fullmatch(last) is not None and rest == f"{last[:2]}/{last}"
        if not own:
            return None
        with gallery.site.folder.parent(name) as (at, last):
            return open_regular(last, within=at)

    def _send_data(self, data: bytes, kind: str) -> None:
        self._begin(kind, len(data))
        self.wfile.write(data)

    def _begin(self, kind: str, length: int) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: a page asks for thousands of pictures."""


def served(index: dict[str, Any]) -> dict[str, Any]:
    """The index with the addresses of pictures at the server, which has no folders beside the report."""
    styles = [[name, address and f"{STYLES}/{n}", *rest] for n, (name, address, *rest) in enumerate(index["styles"])]
    bases = [f"{INPUTS}/" for _ in index["bases"]]
    return index | {"outputs": f"{OUTPUTS}/", "bases": bases, "styles": styles, "refresh": PAUSE}


def _style(number: str, gallery: Gallery) -> Path | None:
    """The file of a style by its number in the index, if the page shows it."""
    styles = gallery.index["styles"]
    if not (number.isascii() and number.isdecimal() and int(number) < len(styles) and styles[int(number)][1]):
        return None
    return gallery.pictures.styles.path(gallery.style_keys[int(number)])


def _type(name: str, gallery: Gallery) -> str:
    """The content type of an address."""
    first, _, rest = name.partition("/")
    if first in (OUTPUTS, INPUTS, THUMBS, STYLES):
        path = _style(rest, gallery) if first == STYLES else None
        kind = kinds.by_name(rest if path is None else path.name)
        return f"image/{kind.lower()}" if kind in SHOWN else "application/octet-stream"
    return _TYPES[PurePosixPath(name).suffix]

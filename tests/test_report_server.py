"""`jaxstyle report --watch`: what the server answers and refuses, and how a report follows a run."""

import http.client
import json
import os
import socket
import threading
import time
from urllib.parse import quote, urlsplit

import pytest
import reports
from reports import HOSTILE, asked, done, folder, index_of

from jaxstyle.engine.stop import Stop
from jaxstyle.errors import SettingsError, StorageError
from jaxstyle.report import server
from jaxstyle.report.gallery import Gallery
from jaxstyle.report.server import HEADERS, Server, watch


@pytest.fixture(autouse=True)
def here(monkeypatch):
    reports.quickly(monkeypatch.setattr)


class Client:
    """Asks a server; addresses are below its token."""

    def __init__(self, address):
        self.place = urlsplit(address)

    def __call__(self, path="", *, host=None, method="GET", absolute=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.place.port, timeout=10)
        connection.putrequest(method, absolute or self.place.path + path, skip_host=True, skip_accept_encoding=True)
        for one in [f"127.0.0.1:{self.place.port}"] if host is None else host:
            connection.putheader("Host", one)
        connection.endheaders()
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), data


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def served(place):
    with pytest.MonkeyPatch.context() as patch:
        reports.quickly(patch.setattr)
        folder(place, ("a/one.jpg", "b/two.png", *HOSTILE[:1], *HOSTILE[5:6]))
        reports.write_file(place / "in/extra.jpg", b"an input without a row")
        with Gallery(asked(place)) as made:
            made.build()
            made.make_thumbnails()
            for name in ("data/mine.js", "page/mine.js", "thumbs/ab/mine.jpg"):
                reports.write_file(place / "report" / name, b"of another program")
            with Server(made) as one:
                yield Client(one.address)


def test_the_page_its_data_and_its_pictures_are_served(served, place):
    status, headers, data = served()
    assert status == 200 and data == (place / "report/index.html").read_bytes()
    assert headers["Content-Type"].startswith("text/html") and HEADERS.items() <= headers.items()
    index = index_of(place)
    own = [f"data/{name}" for _, *names in index["chunks"] for name in names] + ["page/main.js", "page/look.css"]
    own += [f"thumbs/{path.parent.name}/{path.name}" for path in (place / "report/thumbs").rglob("?" * 20 + ".jpg")]
    for name in own:
        assert served(name)[::2] == (200, (place / "report" / name).read_bytes()), name
    for key in ("a/one.jpg", "b/two.png", *HOSTILE[:1], *HOSTILE[5:6]):
        for where in ("in", "out"):
            status, headers, data = served(f"{where}/{quote(os.fsencode(key))}")
            assert (status, data) == (200, (place / where / key).read_bytes()), key
            assert headers["Content-Type"] == ("image/png" if key.endswith("png") else "image/jpeg")
    assert served("style/0")[::2] == (200, (place / "styles/x.png").read_bytes())


def test_the_index_has_addresses_of_the_server(served):
    text = served("data/index.js?12")[2].decode()
    index = json.loads(text[len("Report.index(") : -3])
    assert (index["outputs"], index["bases"]) == ("out/", ["in/"]) and index["refresh"] > 0
    assert [one[1] for one in index["styles"][:2]] == ["style/0", "style/1"]


@pytest.mark.parametrize(
    "name",
    ["report.json", "page/", "page/no.js", "page/../report.json", "page/%2e%2e/report.json", "data/", "data/x.js",
     "thumbs/", "out/manifest.jsonl", "out/settings.json", "out/../in/a/one.jpg", "out//etc/passwd",
     "out/%2fetc%2fpasswd", "out/", "in/extra.jpg", "data/mine.js", "page/mine.js", "thumbs/ab/mine.jpg",
     "in/notes.txt", "in/a/../a/one.jpg", "in//etc/passwd", "style/2", "style/-1", "style/x", "style/",
     "style/%C2%B2", "out/a/one.jpg%00", "../", "index.html/", "thumbs/ab/../../report.json"],
)  # fmt: skip
def test_all_else_is_not_found(served, name):
    assert served(name)[::2] == (404, b"404 Not found\n")


def test_without_the_token_nothing_is_found(served):
    token = served.place.path
    for path in (
        "/",
        "/index.html",
        "/out/a/one.jpg",
        token[:-2] + "/",
        token.swapcase(),
        token.rstrip("/"),
    ):
        assert served(absolute=path)[0] == 404, path


def test_a_request_under_another_name_is_refused(served):
    port = served.place.port
    good, bad = f"localhost:{port}", ["evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""]
    assert served(host=[good])[0] == 200
    for hosts in ([], [good, good], *([one] for one in bad)):
        assert served(host=hosts)[::2] == (403, b"403 Forbidden\n"), hosts


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_only_get_is_answered(served, method):
    assert served(method=method)[0] == 501


def test_a_picture_behind_a_link_that_came_later_is_not_served(tmp_path):
    folder(tmp_path)
    with Gallery(asked(tmp_path)) as made, Server(made) as one:
        made.build()
        ask = Client(one.address)
        assert ask("out/a/one.jpg")[0] == ask("out/b/three.jpg")[0] == 200
        (tmp_path / "out/a/one.jpg").unlink()
        (tmp_path / "out/a/one.jpg").symlink_to(tmp_path / "out/settings.json")
        os.rename(tmp_path / "out/b", tmp_path / "c")
        (tmp_path / "out/b").symlink_to(tmp_path / "c")
        assert ask("out/a/one.jpg")[0] == ask("out/b/three.jpg")[0] == 404


def test_it_listens_on_the_loopback_interface_alone(tmp_path):
    with Gallery(asked(folder(tmp_path))) as made, Server(made) as one:
        assert one._server.server_address[0] == "127.0.0.1" and one.address.startswith("http://127.0.0.1:")
        with (
            pytest.raises(SettingsError, match=r"port is \d+, and it cannot be used"),
            Server(made, urlsplit(one.address).port),
        ):
            pass  # pragma: no cover


def test_a_free_port_may_be_named(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Gallery(asked(folder(tmp_path))) as made, Server(made, port) as one:
        assert f":{port}/" in one.address


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A report that follows a folder: (folder, client, what was told)."""
    monkeypatch.setattr(server, "PAUSE", 0.02)
    monkeypatch.setattr(server, "SHARE", 0.1)
    folder(tmp_path)
    stop, told, shown = Stop(), [], []
    thread = threading.Thread(target=watch, args=(asked(tmp_path), 0, stop, told.append, shown.append))
    thread.start()
    until(lambda: shown)
    yield tmp_path, Client(shown[0]), told
    stop.request("the test is over")
    thread.join(10)
    assert not thread.is_alive()


def until(call, seconds=30):
    end = time.monotonic() + seconds
    while not call():
        assert time.monotonic() < end
        time.sleep(0.02)


def generation(client):
    return json.loads(client("data/index.js")[2][len("Report.index(") : -3])["generation"]


def test_a_report_follows_the_run(watched):
    place, client, _ = watched
    before = generation(client)
    data = reports.write_file(place / "out/b/new.png", (place / "out/a/two.png").read_bytes())
    assert client("out/b/new.png")[0] == 404  # no row names it yet
    with (place / "out/manifest.jsonl").open("a") as file:
        file.write(json.dumps(done("b/new.png", data).as_json()) + "\n")
    until(lambda: generation(client) != before)
    until(lambda: client("out/b/new.png")[::2] == (200, data))
    assert len(reports.shown(place)) == 6


def test_an_error_of_the_storage_is_told_once_and_the_report_stays(watched, monkeypatch):
    place, client, told = watched
    calls = []

    def fails(self):
        calls.append(1)
        raise StorageError("the ledger changed while it was read", "Try again.")

    before = generation(client)
    monkeypatch.setattr(Gallery, "build", fails)
    (place / "out/settings.json").write_text("{}")
    until(lambda: len(calls) > 2)
    assert told == ["The report is as it was: the ledger changed while it was read. Try again."]
    assert generation(client) == before

"""The server of a review: who gets an answer, and who gets nothing."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from explain_cnn_ros.analysis.label_file import read_labels
from explain_cnn_ros.analysis.review import server as server_module
from explain_cnn_ros.analysis.review.server import BODY_MAX, ReviewServer

SECOND = 10**9
START = 1_700_000_000 * SECOND


@pytest.fixture
def server(tables, review) -> Iterator[ReviewServer]:
    tables.add("walk", [0.7, 0.6, 0.99, 0.5, 0.9], times=[START + i * 10 * SECOND for i in range(5)])
    found = ReviewServer(review().session)
    thread = threading.Thread(target=found.serve_forever, args=(0.02,))
    thread.start()
    found.session.state(5)
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


class Reply:
    """Status, headers and body of a response."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, dict(response.getheaders()), response.read()

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


def ask(
    server: ReviewServer,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    token: str | None = None,
    **headers: str | None,
) -> Reply:
    """Send a request as the page does; None leaves a header out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    sent = {"Host": f"127.0.0.1:{server.server_port}"}
    if body is not None:
        sent |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    for name, value in headers.items():
        sent.pop(name.replace("_", "-"), None)
        if value is not None:
            sent[name.replace("_", "-")] = value
    prefix = server.token if token is None else token
    connection.putrequest(method, f"/{prefix}/{path}" if prefix else path, skip_host=True, skip_accept_encoding=True)
    for name, value in sent.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    try:
        return Reply(connection.getresponse())
    finally:
        connection.close()


def post(server: ReviewServer, path: str, value: Any, **headers: str | None) -> Reply:
    return ask(server, path, "POST", json.dumps(value).encode(), **headers)


ANSWER = json.dumps({"window": 0, "answer": "person"}).encode()


def test_the_address_is_local_and_secret(server, tables, review) -> None:
    assert server.address == f"http://127.0.0.1:{server.server_port}/{server.token}/"
    assert len(server.token) >= 43
    assert server.socket.getsockname()[0] == "127.0.0.1"
    with ReviewServer(server.session) as other:
        assert other.token != server.token


def test_the_page_and_its_files(server) -> None:
    for path, kind in (("", "text/html"), ("review.js", "text/javascript"), ("review.css", "text/css")):
        reply = ask(server, path)
        assert (reply.status, reply.headers["Content-Type"].split(";")[0]) == (200, kind)
        assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in reply.headers["Content-Security-Policy"]
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert not [name for name in reply.headers if name.startswith("Access-Control")]
        assert "Server" not in reply.headers
    assert ask(server, "window/0").body.startswith(b"\x89PNG")
    assert ask(server, "context/0").body.startswith(b"\xff\xd8")


def test_answers_of_the_page(server) -> None:
    origin = f"http://127.0.0.1:{server.server_port}"
    state = post(server, "answer", {"window": 0, "answer": "person"}, Origin=origin).json
    assert (state["done"], state["stale"], state["windows"][0]["number"]) == (1, False, 1)
    assert post(server, "answer", {"window": 0, "answer": "nobody"}).json["stale"]
    # The same machine by its name, as through a forwarded port.
    name = f"localhost:{server.server_port}"
    assert (
        post(server, "answer", {"window": 1, "answer": "nobody"}, Host=name, Origin=f"http://{name}").json["done"] == 2
    )
    assert post(server, "back", {"window": 1}).json["done"] == 1
    assert [label.person for label in read_labels(server.session._labels.path)] == [True]
    assert not server.session.ended.is_set()
    assert post(server, "end", {}).status == 200
    assert server.session.ended.wait(5)


FOREIGN: list[dict[str, Any]] = [
    {"token": "wrong"},
    {"token": "x" * 43},
    {"Host": None},
    {"Host": "evil.example"},
    {"Host": "evil.example:{port}"},
    {"Host": "127.0.0.1"},
    {"Host": "127.0.0.1:1"},
    {"Host": "127.0.0.1:{port}.evil.example"},
    {"Host": "0.0.0.0:{port}"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "https://127.0.0.1:{port}"},
    {"Origin": "http://127.0.0.1:{port}.evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1:{port}, http://evil.example"},
]


@pytest.mark.parametrize("foreign", FOREIGN, ids=str)
@pytest.mark.parametrize(("path", "method"), [("", "GET"), ("state", "GET"), ("window/0", "GET"), ("answer", "POST")])
def test_strangers_get_nothing(server, foreign, path, method) -> None:
    filled = {k: v.format(port=server.server_port) if v else v for k, v in foreign.items()}
    reply = ask(server, path, method, ANSWER if method == "POST" else None, **filled)
    assert (reply.status, reply.body) == (403, b"")
    assert set(reply.headers) == {"Connection", "Content-Length"}
    assert server.session.state()["done"] == 0


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/state",
        "/favicon.ico",
        "/x/{token}/state",
        "/{token}",
        "/{token}x/state",
        "{token}/state",
        "http://127.0.0.1/{token}/state",
        "*",
        "/%7Btoken%7D/state",
    ],
)
def test_paths_without_the_token_get_nothing(server, path) -> None:
    reply = ask(server, path.format(token=server.token), token="")
    assert (reply.status, reply.body) == (403, b"")


@pytest.mark.parametrize(
    "path",
    [
        "../analysis.json",
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/setup.py",
        "pages/review.js",
        "report.html",
        "window/../../x",
        "window/-1",
        "window/99",
        "window/0/",
        "window/" + "9" * 5000,
        "state?x=1",
        "answer",
        "review.js/",
        "/",
    ],
)
def test_there_is_nothing_else(server, path) -> None:
    reply = ask(server, path)
    assert (reply.status, reply.body) == (404, b"")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"x" * (BODY_MAX + 1), {}),
        (ANSWER, {"Content_Length": "9" * 30}),
        (ANSWER, {"Content_Length": "-1"}),
        (ANSWER, {"Content_Length": None}),
        (ANSWER, {"Content_Length": None, "Transfer_Encoding": "chunked"}),
        (ANSWER, {"Transfer_Encoding": "chunked"}),
        (ANSWER, {"Content_Type": "text/plain"}),
        (ANSWER, {"Content_Type": "application/x-www-form-urlencoded"}),
        (b"", {}),
        (b"[1]", {}),
        (b"\xff", {}),
        (b"[" * 1000, {}),
        (b"{}", {}),
        (b'{"window": 0}', {}),
        (b'{"window": 0, "answer": "maybe"}', {}),
        (b'{"window": 0, "answer": []}', {}),
        (b'{"window": "0", "answer": "person"}', {}),
        (b'{"window": true, "answer": "person"}', {}),
        (b'{"window": 0.0, "answer": "person"}', {}),
        (b'{"window": -1, "answer": "person"}', {}),
        (b'{"window": 99, "answer": "person"}', {}),
    ],
)
def test_requests_that_are_no_answers(server, body, headers) -> None:
    reply = ask(server, "answer", "POST", body, **headers)
    assert (reply.status, reply.body) == (400, b"")
    assert server.session.state()["done"] == 0


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "HEAD", "DELETE", "TRACE"])
def test_other_methods_get_nothing(server, method) -> None:
    """Among them the question of a browser whether a foreign page may send answers."""
    reply = ask(server, "answer", method, Origin="http://evil.example", Access_Control_Request_Method="POST")
    assert (reply.status, reply.body) == (501, b"")
    assert set(reply.headers) == {"Connection", "Content-Length"}


def test_a_request_that_never_ends_is_cut_off(server, monkeypatch) -> None:
    monkeypatch.setattr(server_module._Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(f"POST /{server.token}/answer HTTP/1.1\r\nHost: 127.0.0.1".encode())
        assert connection.recv(1024) == b""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n")
        reply = connection.recv(1024)
        assert reply.startswith(b"HTTP/1.1 414")
        assert b"<" not in reply


@pytest.mark.parametrize(
    ("path", "status"), [("\N{SUPERSCRIPT TWO}/state", 403), ("{token}/window/\N{SUPERSCRIPT TWO}", 404)]
)
def test_bytes_that_are_no_ascii(server, path, status) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        line = f"GET /{path.format(token=server.token)} HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n"
        connection.sendall(line.encode())
        assert connection.recv(1024).startswith(f"HTTP/1.1 {status}".encode())


def test_an_error_of_the_disk_is_told(server) -> None:
    server.session._labels.path.mkdir()
    reply = post(server, "answer", {"window": 0, "answer": "person"})
    assert reply.status == 409
    assert reply.json["error"].startswith("the answer could not be stored: ")
    assert server.session.state()["done"] == 0

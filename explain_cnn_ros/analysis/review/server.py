"""The local server of a review: one address with a random token, for pages of this machine only."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from explain_cnn_ros.analysis.review.labels_writer import Answer
from explain_cnn_ros.analysis.review.session import ReviewSession
from explain_cnn_ros.analysis.review.windows import ReviewError
from explain_cnn_ros.files import json_text

#: The only address that the server listens at, and the names that browsers of this machine know it by.
HOST, NAMES = "127.0.0.1", ("127.0.0.1", "localhost")

#: Maximum size of the body of a request, in bytes.
BODY_MAX = 1024

#: Time after which a connection without a request is closed, and maximum time that a page waits for pictures, in
#: seconds.
TIMEOUT, WAIT = 30.0, 10.0

_FOLDER = Path(__file__).parents[1] / "pages"

_JSON = "application/json"

#: Files of the page, with their types.
_FILES = {
    "": ("review.html", "text/html; charset=utf-8"),
    "review.js": ("review.js", "text/javascript; charset=utf-8"),
    "review.css": ("review.css", "text/css; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
}

#: The page loads nothing from other places, and no other page can embed it or learn its address from it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class ReviewServer(ThreadingHTTPServer):
    """Serves a review to browsers of this machine.

    Requests are answered if their path begins with the token, their Host is a name of this machine with the server's
    port, and their Origin, if they have one, is the same. Others get the status 403 without anything else.

    Args:
        session: The review.
        port: The port; 0 for any free one.

    Attributes:
        session: The review.
        token: The random first part of all paths.

    Raises:
        OSError: The port cannot be used.
    """

    daemon_threads = True

    def __init__(self, session: ReviewSession, port: int = 0) -> None:
        self.session = session
        self.token = secrets.token_urlsafe(32)
        super().__init__((HOST, port), _Handler)
        self.hosts = [f"{name}:{self.server_port}" for name in NAMES]
        if self.server_port == 80:
            self.hosts += NAMES

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        """Bind the socket. The base class would look the name of the address up, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: browsers close connections whenever they like."""


class _Handler(BaseHTTPRequestHandler):
    """Handles the requests of one connection."""

    server: ReviewServer
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT

    def do_GET(self) -> None:
        path = self._own_path()
        if path is None:
            return
        kind, _, rest = path.partition("/")
        if path in _FILES:
            name, content_type = _FILES[path]
            self._reply(HTTPStatus.OK, content_type, (_FOLDER / name).read_bytes())
        elif path == "state":
            self._reply_json(HTTPStatus.OK, self.server.session.state(WAIT))
        elif kind in ("window", "context"):
            self._picture(kind, rest)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        path = self._own_path()
        if path is None:
            return
        try:
            request = self._request()
            session = self.server.session
            if path == "answer":
                number, answer = _number(request, "window"), Answer(request.get("answer"))
                self._confirm(lambda: session.answer(number, answer))
            elif path == "back":
                number = _number(request, "window")
                self._confirm(lambda: session.back(number))
            elif path == "end":
                self._reply_json(HTTPStatus.OK, {})
                session.end()
            else:
                self.send_error(HTTPStatus.NOT_FOUND)
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)

    def _confirm(self, change: Callable[[], dict[str, Any]]) -> None:
        """Change the review, and reply with its new state, or with the reason why that is not possible."""
        try:
            self._reply_json(HTTPStatus.OK, change())
        except ReviewError as error:
            self._reply_json(HTTPStatus.CONFLICT, {"error": str(error)})

    def _own_path(self) -> str | None:
        """Return the path after the token. Refuse a request that is not one of the page, and return None."""
        token, slash, path = self.path.removeprefix("/").partition("/")
        fine = (
            self.path.startswith("/")
            and secrets.compare_digest(token.encode(), self.server.token.encode())
            and slash == "/"
            and self._is_own("Host", self.server.hosts)
            and self._is_own("Origin", [f"http://{host}" for host in self.server.hosts], required=False)
        )
        if fine:
            return path
        self.send_error(HTTPStatus.FORBIDDEN)
        return None

    def _is_own(self, name: str, allowed: list[str], required: bool = True) -> bool:
        values = self.headers.get_all(name, [])
        return len(values) == 1 and values[0] in allowed if values or required else True

    def _request(self) -> dict[str, Any]:
        """Return the JSON object in the body of a request.

        Raises:
            ValueError: There is none, or it is too large.
        """
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length) > BODY_MAX:
            raise ValueError("the body is too large, or of unknown size")
        if self.headers.get_content_type() != _JSON or "Transfer-Encoding" in self.headers:
            raise ValueError("the body is no JSON")
        try:
            request = json.loads(self.rfile.read(int(length)))
        except RecursionError as error:
            raise ValueError("the body is nested too deeply") from error
        if not isinstance(request, dict):
            raise ValueError("the body is no JSON object")
        return request

    def _picture(self, kind: str, number: str) -> None:
        known = number.isascii() and number.isdigit() and len(number) < 10
        pictures = self.server.session.pictures(int(number)) if known else None
        if pictures is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        elif kind == "window":
            self._reply(HTTPStatus.OK, "image/png", pictures.window)
        else:
            self._reply(HTTPStatus.OK, "image/jpeg", pictures.context)

    def _reply_json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._reply(status, _JSON, json_text(value).encode())

    def _reply(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Reply with a status and nothing else, and close the connection."""
        self.close_connection = True
        self.send_response_only(code)
        self.send_header("Connection", "close")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the addresses contain the token."""


def _number(request: dict[str, Any], name: str) -> int:
    """Return a whole number of a request.

    Raises:
        ValueError: There is none.
    """
    number = request.get(name)
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"{name} is no whole number")
    return number

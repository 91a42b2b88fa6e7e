"""Serves a listening test and keeps the answers: a small HTTP server of the standard library.

Meant for loopback, or behind a web server that adds encryption. It reads nothing but the files of
the site, named when it starts.
"""

import contextlib
import http.server
import ipaddress
import json
import mimetypes
import socketserver
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from sep_tf.errors import DataError
from sep_tf.listening_test.builder import read_key
from sep_tf.listening_test.store import FILE, Refused, Store

# A whole test's answers are a tenth of it.
LARGEST_MESSAGE = 64 * 1024
# Numbers of more digits are of no file, and Python refuses to read thousands of them.
_DIGITS = 18
# A client that stops in the middle of a message is dropped.
_TIMEOUT_SECONDS = 30
_TYPES = {".flac": "audio/flac", ".js": "text/javascript", ".css": "text/css"}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_POLICY = "default-src 'self'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'"


class Server(http.server.ThreadingHTTPServer):
    """One test on one address.

    Attributes:
      store: where answers go.
      files: {path in URLs: file}.
      names: hosts in URLs that are answered; None for any.
    """

    daemon_threads = True
    # A restarted server takes the port again at once.
    allow_reuse_address = True

    def __init__(self, folder: Path, host: str, port: int, names: Iterable[str] = ()) -> None:
        """Opens the answers and the address.

        Args:
          folder: the test.
          host: address to listen on.
          port: 0 for any.
          names: further ones in URLs of the page, where it listens on loopback.

        Raises:
          DataError: the folder is no listening test, or holds other answers.
          OSError: the address is taken or not allowed.
        """
        key = read_key(folder)
        site = folder / "site"
        if not (site / "index.html").is_file():
            raise DataError(f"{folder}: no page to serve: it was built for another program")
        self.files = {
            f"/{path.relative_to(site).as_posix()}": path
            for path in site.rglob("*")
            if path.is_file()
        }
        self.files["/"] = self.files["/index.html"]
        settings = key["settings"]
        self.store = Store(
            folder / FILE, key["id"], key["design"], settings["ties"], settings["headphone_trials"]
        )
        try:
            super().__init__((host, port), Handler)
        except BaseException:
            self.store.close()
            raise
        # The name of a page elsewhere could be made to point to loopback: it would pass for ours.
        loopback = ipaddress.ip_address(self.server_address[0]).is_loopback
        self.names = {*_LOOPBACK, *map(host_name, names)} if loopback else None

    def server_bind(self) -> None:
        """Binds without looking the host's name up, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def server_close(self) -> None:
        """Closes the address and the answers."""
        super().server_close()
        self.store.close()

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = self.server_address[:2]
        return f"http://{host}:{port}/"

    def handle_error(self, request, client_address) -> None:
        """A client that went away is no news; anything else is."""
        import sys

        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def host_name(address: str) -> str | None:
    """listen.example.org of https://Listen.example.org:8443/; raises ValueError."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(address))
    name = urlsplit(address if "//" in address else f"//{address}").hostname
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(name or ""))
    return name


class Handler(http.server.BaseHTTPRequestHandler):
    """GET of the site's files; POST of api/participants and api/answers."""

    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_SECONDS
    server_version = "sep-tf"
    sys_version = ""
    server: Server

    def parse_request(self) -> bool:
        """Reads the head of a request; refuses one that is for another host."""
        if not super().parse_request():
            return False
        try:
            name = host_name(self.headers.get("Host", ""))
        except ValueError:
            name = None
        known = self.server.names is None or name in self.server.names
        if not known:
            self.close_connection = True  # its body was not read
            self._send_json(HTTPStatus.MISDIRECTED_REQUEST, {"error": "not of this name"})
        return known

    def do_GET(self) -> None:
        self._send_file(with_body=True)

    def do_HEAD(self) -> None:
        self._send_file(with_body=False)

    def do_POST(self) -> None:
        try:
            message = self._message()
            path = urlsplit(self.path).path
            if path == "/api/participants":
                identity, sheet = self.server.store.enrol(message.get("sheet"))
                self._send_json(HTTPStatus.OK, {"participant": identity, "sheet": sheet})
            elif path == "/api/answers":
                self._send_json(HTTPStatus.OK, {"kept": self.server.store.keep(message)})
            else:
                self._send_json(HTTPStatus.NOT_FOUND, {"error": "no such page"})
        except _Unacceptable as error:
            self.close_connection = True  # its body was not read
            self._send_json(error.status, {"error": str(error)})
        except Refused as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _message(self) -> dict:
        """The JSON object that was sent.

        Raises:
          _Unacceptable: from another page, of unknown or excessive length, no JSON.
        """
        origin, host = self.headers.get("Origin"), self.headers.get("Host", "")
        # A page elsewhere could make a participant's browser send answers.
        if origin is not None and urlsplit(origin).netloc != host:
            raise _Unacceptable(HTTPStatus.FORBIDDEN, "not from this page")
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind != "application/json":
            raise _Unacceptable(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "JSON is expected")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            raise _Unacceptable(HTTPStatus.LENGTH_REQUIRED, "how long?")
        if len(length) > _DIGITS or int(length) > LARGEST_MESSAGE:
            raise _Unacceptable(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long")
        body = self.rfile.read(int(length))
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _Unacceptable(HTTPStatus.BAD_REQUEST, "no JSON") from error
        if not isinstance(message, dict):
            raise _Unacceptable(HTTPStatus.BAD_REQUEST, "an object is expected")
        return message

    def _send_file(self, with_body: bool) -> None:
        path = self.server.files.get(urlsplit(self.path).path)
        try:
            data = path.read_bytes() if path is not None else None
        except OSError:
            data = None
        if path is None or data is None:
            self._send(
                HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"no such page\n", with_body
            )
            return
        kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"
        if kind.startswith("text/"):
            kind += "; charset=utf-8"
        status, more = HTTPStatus.OK, {"Accept-Ranges": "bytes"}
        part = _range(self.headers.get("Range", ""), len(data))
        if part is not None:
            start, stop = part
            status = HTTPStatus.PARTIAL_CONTENT
            more["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            data = data[start:stop]
        self._send(status, kind, data, with_body, more)

    def _send_json(self, status: HTTPStatus, value: dict) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(
        self,
        status: HTTPStatus,
        kind: str,
        data: bytes,
        with_body: bool = True,
        more: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Cache-Control": "no-cache" if kind.startswith(("text", "application")) else "private",
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        } | (more or {})
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, format: str, *args) -> None:
        """Keeps addresses of participants out of logs."""


class _Unacceptable(Exception):
    """A message that is answered without being looked at."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def _range(header: str, length: int) -> tuple[int, int] | None:
    """(start, stop) of a simple "bytes=" range, which Safari needs for audio; else None."""
    unit, _, text = header.partition("=")
    first, dash, last = text.partition("-")
    if unit.strip() != "bytes" or not dash or not (first or last):
        return None
    numbers = [part for part in (first, last) if part]
    if not all(x.isascii() and x.isdecimal() and len(x) <= _DIGITS for x in numbers):
        return None
    if first:
        start, stop = int(first), min(int(last) + 1 if last else length, length)
    else:
        start, stop = max(length - int(last), 0), length
    return (start, stop) if start < stop else None

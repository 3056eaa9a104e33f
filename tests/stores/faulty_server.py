"""A proxy before an S3 server that does what networks and half-compatible servers do."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# What to do with a request: its method and path -> None (pass it on), a status or an S3 error code to answer
# with, or one of the actions below.
Plan = Callable[[str, str, int], str | int | None]

LOSE_ANSWER = "lose-answer"  # pass it on, then drop the connection
DROP = "drop"  # drop the connection without passing it on
TWICE = "twice"  # pass it on two times, as a network that repeats does; answer with the second answer
CUT = "cut"  # half of the body, then the connection drops
SHORT = "short"  # half of the body, with headers that fit it, but for the size of the whole object
TRICKLE = "trickle"  # the body in pieces, slowly
FLIP = "flip"  # one bit of the request's body is another on the way
SPOIL = "spoil"  # one bit of the answer's body is another on the way

STATUS = {
    "SignatureDoesNotMatch": 403,
    "AccessDenied": 403,
    "RequestTimeTooSkewed": 403,
    "ExpiredToken": 400,
    "InvalidAccessKeyId": 403,
    "ConditionalRequestConflict": 409,
    "PreconditionFailed": 412,
    "InternalError": 500,
    "NotImplemented": 501,
    "SlowDown": 503,
}
_CODES = {403: "SignatureDoesNotMatch", 409: "ConditionalRequestConflict", 503: "SlowDown"}


class FaultyServer:
    """Passes requests to `upstream`, without the headers in `strip`, as `plan(method, path, number)` decides.

    `add`: headers of every answer. `listener`: a socket of another network than this machine's.
    """

    def __init__(
        self,
        upstream: str,
        plan: Plan,
        *,
        strip: tuple[str, ...] = (),
        add: dict[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self.count = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                with outer._lock:
                    outer.count += 1
                    number = outer.count
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                action = plan(self.command, self.path, number)
                if action == DROP:
                    self.close_connection = True
                    return
                if isinstance(action, int) or action in STATUS:
                    status = action if isinstance(action, int) else STATUS[str(action)]
                    code = _CODES.get(status, "InternalError") if isinstance(action, int) else action
                    self.refuse(status, str(code))
                    return
                if action == FLIP and body:
                    body = bytes([body[0] ^ 1]) + body[1:]
                if action == TWICE:
                    self.pass_on(body)
                status, headers, data = self.pass_on(body)
                if action == LOSE_ANSWER:
                    self.close_connection = True
                    return
                length = {k.lower(): v for k, v in headers}.get("content-length", len(data))
                if action == SHORT:
                    data = data[: len(data) // 2]
                if action == SPOIL and data:
                    data = bytes([data[0] ^ 1]) + data[1:]
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                for name, value in (add or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(length if self.command == "HEAD" else len(data)))
                self.end_headers()
                if action == CUT:
                    data = data[: len(data) // 2]
                    self.close_connection = True
                if action == TRICKLE:
                    for start in range(0, len(data), 1 + len(data) // 8):
                        self.wfile.write(data[start : start + 1 + len(data) // 8])
                        self.wfile.flush()
                        time.sleep(0.05)
                else:
                    self.wfile.write(data)

            def refuse(self, status: int, code: str) -> None:
                text = b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code></Error>".encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                parts = urlsplit(upstream)
                connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in strip}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                result = (answer.status, answer.getheaders(), answer.read())
                connection.close()
                return result

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if listener is not None:
            self._server.socket.close()
            self._server.socket = listener
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        host, port = self._server.socket.getsockname()[:2]
        self.endpoint = f"{'https' if tls else 'http'}://{host}:{port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

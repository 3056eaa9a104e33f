"""A proxy before an S3 server that does what networks and half-compatible servers do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# What to do with a request: its method and path -> None (pass it on) or one of the actions below.
Plan = Callable[[str, str, int], str | int | None]

LOSE_ANSWER = "lose-answer"  # pass it on, then drop the connection
DROP = "drop"  # drop the connection without passing it on


class FaultyServer:
    """Passes requests to `upstream`.

    `plan(method, path, number)` decides; an int is a status to answer with.
    """

    def __init__(self, upstream: str, plan: Plan, *, strip: tuple[str, ...] = ()) -> None:
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
                if isinstance(action, int):
                    code = {403: "SignatureDoesNotMatch", 409: "ConditionalRequestConflict", 503: "SlowDown"}
                    text = f"<Error><Code>{code.get(action, 'InternalError')}</Code></Error>".encode()
                    self.send_response(action)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                    return
                status, headers, data = self.pass_on(body)
                if action == LOSE_ANSWER:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                length = {k.lower(): v for k, v in headers}.get("content-length", len(data))
                self.send_header("Content-Length", str(length if self.command == "HEAD" else len(data)))
                self.end_headers()
                self.wfile.write(data)

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
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

"""Who tells the operator at each step whether to go on: a small HTTP server in the test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

Verdict = Literal["go", "die", "fail"]
When = Literal["before", "after"]


@dataclass(frozen=True)
class Point:
    """One side of one request: the `call`th of a step, before it is made or after it has taken effect."""

    step: str
    call: int
    when: When
    object: str = ""
    does: str = ""

    @property
    def key(self) -> str:
        """The point's id, as `Backup.BindContent#1.after`."""
        return f"{self.step}#{self.call}.{self.when}"


class Director:
    """Answers `go` unless its rule says otherwise. A rule may take its time: the operator waits in that step."""

    def __init__(self, listener: socket.socket | None = None) -> None:
        self.seen: list[Point] = []
        self.errors: list[BaseException] = []
        self.rule: Callable[[Point], Verdict] | None = None
        self._lock = threading.Lock()
        director = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                words = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
                when: When = "before" if words["when"] == "before" else "after"
                body = director.ask(
                    Point(
                        words["step"],
                        int(words["call"]),
                        when,
                        words.get("object", ""),
                        words.get("does", ""),
                    )
                ).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if listener is not None:  # in another network than this machine's
            self._server.socket.close()
            self._server.socket = listener
        self.url = "http://{}:{}/".format(*self._server.socket.getsockname()[:2])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="director", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.rule = None
        self._server.shutdown()
        self._server.server_close()

    def ask(self, point: Point) -> Verdict:
        """The verdict at a point. What a rule raises is kept in `errors`, for the test to see."""
        with self._lock:
            self.seen.append(point)
            rule = self.rule
        try:
            return rule(point) if rule is not None else "go"
        except BaseException as error:  # noqa: BLE001 - it must reach the test, not the server's log
            self.errors.append(error)
            return "go"


@dataclass
class Once:
    """Something is done at the first point of this key, and the verdict given; nothing anywhere else."""

    key: str
    verdict: Verdict = "go"
    do: Callable[[Point], None] | None = None
    struck: Point | None = None

    def __call__(self, point: Point) -> Verdict:
        """The verdict at a point."""
        if self.struck is not None or point.key != self.key:
            return "go"
        self.struck = point
        if self.do is not None:
            self.do(point)
        return self.verdict


class Everywhere:
    """The verdict is given at each point once; `when`: only before requests, or only after them."""

    def __init__(self, verdict: Verdict, when: When) -> None:
        self._verdict: Verdict = verdict
        self._when = when
        self.struck: set[str] = set()

    def __call__(self, point: Point) -> Verdict:
        """The verdict at a point."""
        if point.when != self._when or point.key in self.struck:
            return "go"
        self.struck.add(point.key)
        return self._verdict

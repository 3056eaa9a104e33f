"""Keys that are exchanged while a store is used count from the next request on (A12, F14)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from blockvault.stores import InvalidCredentials, StoreLocation
from blockvault.stores.s3 import S3Store
from blockvault.stores.secret_files import SecretFiles

WRONG = b"<Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>"


class Doorkeeper(ThreadingHTTPServer):
    """An S3 server with one object in it, for whoever has the right key."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.key = "old"
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Doorkeeper

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
        self.server.asked.append(given)
        right = given == self.server.key
        body = b"data" if right else WRONG
        self.send_response(200 if right else 403)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Mon, 23 Nov 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def door() -> Iterator[Doorkeeper]:
    server = Doorkeeper()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def write(folder: Path, key: str) -> None:
    """As the kubelet does: whole files take the place of the former ones."""
    for name, text in (("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", f"secret of {key}")):
        (folder / "new").write_text(text)
        (folder / "new").rename(folder / name)


def store(door: Doorkeeper, folder: Path, retry_seconds: float = 10) -> S3Store:
    write(folder, "old")
    place = StoreLocation(
        "s3://bucket/v", endpoint=f"http://127.0.0.1:{door.server_port}", secrets_folder=str(folder)
    )
    return S3Store(SecretFiles(str(folder)).applied(place), retry_seconds=retry_seconds)


def test_new_keys_count_from_the_next_request_on(door: Doorkeeper, tmp_path: Path) -> None:
    made = store(door, tmp_path)
    assert made.get("a") == b"data"
    write(tmp_path, "new")
    door.key = "new"
    assert made.get("a") == b"data"
    assert door.asked == ["old", "new"]


def test_keys_that_were_withdrawn_are_waited_for(door: Doorkeeper, tmp_path: Path) -> None:
    """The store knows of the new ones before the kubelet has brought them."""
    made = store(door, tmp_path)
    made.get("a")
    door.key = "new"
    threading.Timer(1.0, lambda: write(tmp_path, "new")).start()
    assert made.get("a") == b"data"
    assert door.asked[-1] == "new"
    assert len(door.asked) > 2


def test_keys_that_never_were_right_fail_at_once(door: Doorkeeper, tmp_path: Path) -> None:
    door.key = "new"
    began = time.monotonic()
    with pytest.raises(InvalidCredentials):
        store(door, tmp_path).get("a")
    assert time.monotonic() - began < 3
    assert door.asked == ["old"]


def test_a_folder_that_was_emptied_takes_no_keys_away(door: Doorkeeper, tmp_path: Path) -> None:
    """Or the identity of the pod would be tried in their place."""
    made = store(door, tmp_path)
    made.get("a")
    (tmp_path / "AWS_ACCESS_KEY_ID").unlink()
    assert made.get("a") == b"data"
    assert door.asked == ["old", "old"]


def test_keys_that_were_exchanged_before_the_first_request_are_seen(door: Doorkeeper, tmp_path: Path) -> None:
    made = store(door, tmp_path)
    write(tmp_path, "new")
    door.key = "new"
    assert made.get("a") == b"data"
    assert door.asked == ["new"]


def test_files_that_cannot_be_read_for_a_moment_are_read_at_the_next_request(
    door: Doorkeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has changed is not forgotten because a look at it failed."""
    made = store(door, tmp_path)
    made.get("a")
    write(tmp_path, "new")
    door.key = "new"
    failures = iter([True])
    text = SecretFiles.text

    def unreadable(self: SecretFiles, name: str) -> str | None:
        if next(failures, False):
            raise OSError(5, "Input/output error")
        return text(self, name)

    monkeypatch.setattr(SecretFiles, "text", unreadable)
    assert made.get("a") == b"data"
    assert door.asked == ["old", "new"]

"""What goes wrong outside Blockvault: each ends with its code, and words that name cause and remedy."""

from __future__ import annotations

import itertools
import os
import random
import resource
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from blockvault.engine.hashing import ObjectChecksum
from tests.disks import loop, root, sh, small_disk
from tests.unit.cli.support import MIB, inside, inside_json, run, tried, words_of


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """An S3 that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = f"<Error><Code>{code}</Code><Message>told by the store</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "said", "code", "remedy"),
    [
        (404, "NoSuchBucket", 66, "Create the bucket"),
        (403, "InvalidAccessKeyId", 77, "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", 77, "AWS_SECRET_ACCESS_KEY"),
        (403, "ExpiredToken", 77, "session token"),
        (403, "AccessDenied", 77, "Allow GetObject"),
        (403, "RequestTimeTooSkewed", 77, "clock"),
    ],
)
def test_a_store_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str, code: int, remedy: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    (tmp_path / "volume").write_bytes(b"x")
    with answering(status, said) as endpoint:
        options = ("--endpoint-url", endpoint, "--region", "us-east-1")
        for command in (("init", "s3://bucket/p"), ("list", "s3://bucket/p"),
                        ("backup", str(tmp_path / "volume"), "s3://bucket/p", "--volume", "v")):  # fmt: skip
            done = inside(*command, *options, code=code)
            assert "s3://bucket/p" in words_of(done)[0] or "bucket" in words_of(done)[0]
            assert said in words_of(done)[0]
            assert remedy.lower() in words_of(done)[1].lower()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("backups", "is not a store"),
        ("s3://", "is not a store"),
        ("http://host/bucket", "is not a store"),
        ("file://relative/path", "is not a store"),
        ("/srv/backups", "is not a store"),
    ],
)
def test_what_is_no_place_for_a_store(url: str, words: str) -> None:
    done = inside("list", url, code=64)
    assert words in words_of(done)[0]
    assert "s3://bucket/prefix or file:///" in words_of(done)[1]


def test_a_store_of_a_newer_version(place: Path) -> None:
    record = place / "store" / "blockvault"
    data = bytearray(record.read_bytes())
    data[8] += 1
    checksum = ObjectChecksum()
    checksum.update(data[128:])
    data[96:128] = checksum.finish(bytes(data[:96]), "blockvault")
    record.write_bytes(data)
    done = inside("list", f"file://{place}/store", code=65)
    assert "version 2" in words_of(done)[0]
    assert "or a newer one" in words_of(done)[1]


def test_a_file_in_the_place_of_the_store(place: Path) -> None:
    done = inside("list", f"file://{place}/volume", code=66)
    assert "does not exist" in words_of(done)[0] or "not a directory" in words_of(done)[0]


CHANGED: list[tuple[str, int, str]] = [
    ("no json", 64, "line 1: not JSON"),
    ("[1]", 64, "line 1: not an object"),
    ('{"offset": 0}', 64, "line 1: needs whole numbers"),
    ('{"offset": 0, "length": 1}\n{"offset": -1, "length": 1}', 64, "line 2: needs whole numbers"),
    ('{"offset": 0, "length": 1.5}', 64, "line 1: needs whole numbers"),
    ('{"offset": 0, "length": true}', 64, "line 1: needs whole numbers"),
    ('{"offset": 3145728, "length": 1}', 64, "leaves the volume of 3145728 bytes"),
    ('{"offset": 99999999999999999999, "length": 1}', 64, "leaves the volume"),
    ("\x00\x01", 64, "line 1: not JSON"),
]


@pytest.mark.parametrize(("text", "code", "words"), CHANGED)
def test_changed_block_lists_that_cannot_be(place: Path, text: str, code: int, words: str) -> None:
    store = f"file://{place}/store"
    inside("backup", str(place / "volume"), store, "--volume", "v")
    (place / "list").write_text(text)
    done = inside("backup", str(place / "volume"), store, "--volume", "v", "--parent", "latest",
                  "--changed", str(place / "list"), code=code)  # fmt: skip
    assert words in words_of(done)[0]
    assert "the list" in words_of(done)[1]
    done = inside("backup", str(place / "volume"), store, "--volume", "v", "--parent", "latest",
                  "--changed", str(place / "absent"), code=64)  # fmt: skip
    assert "No such file" in words_of(done)[0]


def test_overlapping_ranges_of_a_list_are_merged(place: Path) -> None:
    store = f"file://{place}/store"
    inside("backup", str(place / "volume"), store, "--volume", "v")
    with open(place / "volume", "r+b") as file:
        file.write(b"changed")
    ranges = [(100, 300_000), (0, 200_000), (250_000, 10)]
    (place / "list").write_text("".join(f'{{"offset": {o}, "length": {n}}}\n' for o, n in ranges))
    made = inside_json("backup", str(place / "volume"), store, "--volume", "v", "--parent", "latest",
                       "--changed", str(place / "list"))  # fmt: skip
    assert (made["changedBlockSource"], made["bytesScanned"]) == ("List", 2 * 262144)


def test_a_source_that_shrinks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from blockvault.engine.scan import Scanner

    look = Scanner.look

    def shrink(self: Scanner, batch: object) -> object:
        os.truncate(place / "volume", MIB)
        return look(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Scanner, "look", shrink)
    done = inside("backup", str(place / "volume"), f"file://{place}/store", "--volume", "v", code=74)
    assert f"{place}/volume" in words_of(done)[0]
    assert "ends at 1048576, not at 3145728" in words_of(done)[0]
    assert "snapshot" in words_of(done)[1]
    assert inside_json("list", f"file://{place}/store")["backups"] == []


@pytest.mark.parametrize("what", ["absent", "folder", "pipe"])
def test_a_source_that_is_none(place: Path, what: str) -> None:
    (place / "folder").mkdir()
    os.mkfifo(place / "pipe")
    done = inside("backup", str(place / what), f"file://{place}/store", "--volume", "v", code=66)
    assert f"{place}/{what}" in words_of(done)[0]


@root
def test_a_source_with_unreadable_sectors(place: Path) -> None:
    """A loop device over a file that was cut short: reads past the cut fail with EIO."""
    data = random.Random(2).randbytes(2 * MIB)
    (place / "disk").write_bytes(data)
    with loop(place / "disk") as device:
        os.truncate(place / "disk", MIB + 8192)
        store = f"file://{place}/store"
        done = inside("backup", device, store, "--volume", "v", code=74)
        assert f"{device}: reading at " in words_of(done)[0]
        assert "--skip-unreadable" in words_of(done)[1]
        assert inside_json("list", store)["backups"] == []
        done = inside("backup", device, store, "--volume", "v", "--skip-unreadable")
        assert "1016.0 KiB could not be read" in done.stderr
    lost = [[MIB + 8192, MIB - 8192]]
    assert inside_json("show", store, "--volume", "v")["unreadable"] == lost
    assert f"{MIB - 8192} bytes at {MIB + 8192}" in inside("show", store, "--volume", "v").stdout
    inside("restore", store, str(place / "target"), "--volume", "v")
    assert (place / "target").read_bytes() == data[: MIB + 8192] + bytes(MIB - 8192)


@pytest.fixture
def kept(place: Path) -> Path:
    """A store that holds the volume."""
    inside("backup", str(place / "volume"), f"file://{place}/store", "--volume", "v")
    return place


def restore(kept: Path, target: str, *options: str, code: int) -> tuple[str, str]:
    return words_of(inside("restore", f"file://{kept}/store", target, "--volume", "v", *options, code=code))


def test_a_target_that_is_too_small_is_not_touched(kept: Path) -> None:
    (kept / "small").write_bytes(b"12345")
    message, remedy = restore(kept, str(kept / "small"), code=66)
    assert "has 5 bytes, the backup 3145728" in message
    assert "at least as large" in remedy
    assert (kept / "small").read_bytes() == b"12345"


@pytest.mark.parametrize("target", ["absent/file", "."])
def test_a_target_that_is_none(kept: Path, target: str) -> None:
    assert str(kept / target) in restore(kept, str(kept / target), code=66)[0]


@root
def test_a_target_that_is_mounted(kept: Path) -> None:
    (kept / "disk").write_bytes(bytes(16 * MIB))
    sh("mkfs.ext4", "-q", str(kept / "disk"))
    (kept / "mnt").mkdir()
    with loop(kept / "disk") as device:
        sh("mount", device, str(kept / "mnt"))
        try:
            message, remedy = restore(kept, device, code=66)
        finally:
            sh("umount", str(kept / "mnt"))
    assert device in message
    assert "in use" in message
    assert "Unmount" in remedy


@root
def test_a_full_disk_under_the_target(kept: Path) -> None:
    with small_disk(kept / "tiny", "1m") as tiny:
        message, remedy = restore(kept, str(tiny / "target"), code=74)
        assert str(tiny / "target") in message
        assert "No space left" in message
        assert "Free space" in remedy
        sh("mount", "-o", "remount,size=16m", str(tiny))
        inside("restore", f"file://{kept}/store", str(tiny / "target"), "--volume", "v")
        assert (tiny / "target").read_bytes() == (kept / "volume").read_bytes()


@root
def test_a_full_disk_under_the_store(place: Path) -> None:
    with small_disk(place / "tiny", "1m") as tiny:
        inside("init", f"file://{tiny}/store")
        done = inside("backup", str(place / "volume"), f"file://{tiny}/store", "--volume", "v", code=77)
        assert "No space left" in words_of(done)[0]
        assert "Free space" in words_of(done)[1]
        sh("mount", "-o", "remount,size=16m", str(tiny))
        assert (
            "going on"
            in inside("backup", str(place / "volume"), f"file://{tiny}/store", "--volume", "v").stderr
        )


@pytest.mark.parametrize(("count", "code"), [(6, 77), (40, 0)])
def test_too_few_file_descriptors(kept: Path, count: int, code: int) -> None:
    """As a process, of which the limit is one."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))

    done = run("backup", str(kept / "volume"), f"file://{kept}/store", "--volume", "w", code=code,
               preexec_fn=limit)  # fmt: skip
    if code:
        assert "Too many open files" in words_of(done)[0]
        assert "ulimit -n" in words_of(done)[1]
        assert "Go on with" in done.stderr


def leaves_free(count: int) -> int:
    """The limit below which so many descriptors of this process are free."""
    # The listing's own one is closed again by then.
    used = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    free = itertools.filterfalse({int(name) for name in used}.__contains__, itertools.count())
    return next(itertools.islice(free, count, None))


@pytest.mark.parametrize("command", ["init", "backup", "restore", "verify", "list", "usage", "doctor", "key"])
def test_each_number_of_file_descriptors_is_enough_or_told(kept: Path, command: str) -> None:
    """From none on until there are enough; what failed leaves the store as it was."""
    store, key, volume = f"file://{kept}/store", str(kept / "key"), str(kept / "volume")
    inside("key", "generate", key)
    arguments = {
        "init": (f"file://{kept}/new/store",),
        "backup": (volume, store, "--volume", "v"),
        "restore": (store, str(kept / "target"), "--volume", "v", "--force"),
        "key": ("show", store, "--key-file", key),
    }.get(command, (store,))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for more in range(20):
        resource.setrlimit(resource.RLIMIT_NOFILE, (leaves_free(more), most))
        try:
            done = tried(command, *arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if done.code == 0:
            break
        assert done.code == 77, done.stderr
        said = done.stdout + done.stderr
        # The doctor has it in a table, whose lines are folded.
        assert ("TooManyOpenFiles" if command == "doctor" else "Too many open files") in said
        assert "ulimit -n" in said
    assert (done.code, more > 0) == (0, True)
    assert inside_json("verify", store)["ok"]
    inside("restore", store, str(kept / "target"), "--volume", "v", "--force")
    assert (kept / "target").read_bytes() == (kept / "volume").read_bytes()


def test_nothing_is_asked_of_a_terminal(kept: Path) -> None:
    """Every error comes without a question: stdin is closed."""
    done = run("restore", f"file://{kept}/store", "--volume", "v", code=64, stdin=subprocess.DEVNULL)
    assert "TARGET" in words_of(done)[0]

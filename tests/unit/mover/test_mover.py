"""The real mover, as a subprocess: request in, progress and last words out."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import Access, Repository
from blockvault.mover import words
from blockvault.mover.timings import Stopwatch
from blockvault.stores import StoreLocation, open_store

MIB = 1 << 20


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    Repository.init(open_store(StoreLocation(f"file://{tmp_path}/store")))
    (tmp_path / "device").write_bytes(random.Random(1).randbytes(3 * MIB))
    return tmp_path


def start(place: Path, **request: Any) -> subprocess.Popen[str]:
    whole = {
        "version": 1,
        "operation": "backup",
        "operationId": "uid-1",
        "volume": "shop/db",
        "device": str(place / "device"),
        "store": {"url": f"file://{place}/store"},
        **request,
    }
    folder = place / "request"
    folder.mkdir(exist_ok=True)
    (folder / "request.json").write_text(json.dumps({k: v for k, v in whole.items() if v is not ...}))
    env = {
        **os.environ,
        "BLOCKVAULT_REQUEST": str(folder / "request.json"),
        "BLOCKVAULT_TERMINATION": str(place / "termination"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "blockvault.mover"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(place: Path, code: int = 0, **request: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(last words, progress lines)."""
    process = start(place, **request)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    lines = [json.loads(line) for line in stdout.splitlines()]
    words = json.loads((place / "termination").read_text())
    assert lines[-1] == words
    return words, [line["progress"] for line in lines[:-1]]


def test_backup_and_restore(place: Path) -> None:
    words, progress = run(place, full=False, compareWith="latest", meta={"claim": {"a": 1}})
    result = words["result"]
    assert words["ok"]
    assert result.keys() >= {
        "backupId", "volume", "type", "size", "bytesScanned", "bytesChanged", "bytesStored", "requests", "seconds",
        "rootHash", "createdAt", "changedBlockSource", "fileSystem", "peakMemoryBytes", "usedBytes",
    }  # fmt: skip
    assert (result["type"], result["changedBlockSource"], result["size"]) == ("full", "Full", 3 * MIB)
    assert (result["retries"], result["throttles"]) == (0, 0)
    assert progress[-1]["bytesScanned"] == progress[-1]["bytesTotal"] == 3 * MIB
    assert progress[-1]["bytesStored"] == result["bytesStored"]
    assert progress[-1].keys() == {
        "phase", "bytesScanned", "bytesChanged", "bytesStored", "bytesWritten", "bytesTotal"
    }  # fmt: skip
    target = place / "target"
    target.write_bytes(b"\xff" * 4 * MIB)
    words, progress = run(place, operation="restore", device=str(target), backupId=result["backupId"])
    assert words["result"].keys() >= {
        "backupId", "bytesWritten", "bytesRead", "seconds", "size", "fileSystem", "peakMemoryBytes"
    }  # fmt: skip
    assert progress[-1]["phase"] == "Writing"
    assert target.read_bytes() == (place / "device").read_bytes() + b"\xff" * MIB


def test_a_mover_tells_what_its_time_went_into(place: Path) -> None:
    """Its steps follow each other from the start of the process on, and their sum is its life."""
    before = time.time()
    told, _ = run(place)
    life = time.time() - before
    timings = told["timings"]
    assert [t["name"] for t in timings] == ["Loading", "Opening", "Reading", "Committing"]
    starts = [datetime.fromisoformat(t["startTime"]).timestamp() for t in timings]
    assert before - 0.05 <= starts[0] <= time.time()  # the kernel counts by hundredths
    for start, timing, end in zip(starts, timings, starts[1:], strict=False):
        assert abs(start + timing["seconds"] - end) < 0.002  # they are rounded
    assert 0 < sum(t["seconds"] for t in timings) < life + 0.05
    failed, _ = run(place, 66, device="/absent")
    assert [t["name"] for t in failed["timings"]] == ["Loading", "Opening", "Reading"]
    result = told["result"]
    restored, _ = run(place, operation="restore", backupId=result["backupId"])
    assert [t["name"] for t in restored["timings"]] == ["Loading", "Opening", "Writing"]


def test_a_step_that_comes_again_goes_on_counting() -> None:
    watch = Stopwatch("Loading", time.time() - 2)
    for name in ("Reading", "Committing", "Reading", "Reading"):
        watch.enter(name)
        time.sleep(0.01)
    timings = {t["name"]: t["seconds"] for t in watch.timings()}
    assert list(timings) == ["Loading", "Reading", "Committing"]
    assert timings["Loading"] >= 2
    assert timings["Reading"] > timings["Committing"] >= 0.01


def test_f18_only_the_store_that_is_meant_is_erased(place: Path) -> None:
    """The place of the vault may lead to another store than it did."""
    run(place)
    store = Access(StoreLocation(url=f"file://{place}/store")).open()
    words, _ = run(place, 64, operation="erase", storeId="another")
    assert words["error"]["reason"] == "BadRequest"
    assert "and not another" in words["error"]["message"]
    assert store.list("shop/db")
    words, _ = run(place, 64, operation="erase", storeId=...)
    assert "storeId is missing" in words["error"]["message"]
    words, _ = run(place, operation="erase", storeId=store.store_id)
    assert words["result"]["errors"] == []


def test_the_same_operation_again_is_the_same_backup(place: Path) -> None:
    """A mover that was restarted after its commit finds what it did."""
    first, _ = run(place)
    again, _ = run(place)
    assert again["result"]["backupId"] == first["result"]["backupId"]
    later, _ = run(place, operationId="uid-2", compareWith="latest")
    assert (later["result"]["type"], later["result"]["bytesChanged"]) == ("incremental", 0)
    full, _ = run(place, operationId="uid-3", full=True, compareWith=None)
    assert full["result"]["type"] == "full"


@pytest.mark.parametrize(
    ("request_", "code", "reason", "retryable"),
    [
        ({"version": 2}, 64, "BadRequest", False),
        ({"operation": "dance"}, 64, "BadRequest", False),
        ({"volume": ...}, 64, "BadRequest", False),
        ({"limitRate": 0}, 64, "BadRequest", False),
        ({"operation": "restore"}, 64, "BadRequest", False),
        ({"store": {"url": "nonsense"}}, 64, "BadLocation", False),
        ({"store": {"url": "file:///absent/store"}}, 66, "BucketNotFound", False),
        ({"device": "/absent"}, 66, "SourceNotFound", False),
        ({"operation": "restore", "backupId": "x"}, 66, "VolumeNotFound", False),
    ],
)
def test_failures_have_reason_remedy_and_code(
    place: Path, request_: dict[str, Any], code: int, reason: str, retryable: bool
) -> None:
    words, _ = run(place, code, **request_)
    error = words["error"]
    assert not words["ok"]
    assert (error["reason"], error["retryable"]) == (reason, retryable)
    assert error["message"]
    assert error["remedy"]


def test_credentials_are_files_and_never_shown(place: Path) -> None:
    """A server that refuses every key: the words name the cause, not the key."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            body = b"<Error><Code>InvalidAccessKeyId</Code></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (place / "request").mkdir()
    (place / "request" / "AWS_ACCESS_KEY_ID").write_text("the-access-key\n")
    (place / "request" / "AWS_SECRET_ACCESS_KEY").write_text("the-secret-key\n")
    location = {"url": "s3://bucket/x", "endpoint": f"http://127.0.0.1:{server.server_port}"}
    words, _ = run(place, 77, store=location)
    server.shutdown()
    server.server_close()
    assert words["error"]["reason"] == "InvalidCredentials"
    assert "the-access-key" in seen[0]
    assert "the-" not in (place / "termination").read_text()


def test_sigterm_ends_it_within_seconds_even_when_the_store_hangs(place: Path) -> None:
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    (place / "request").mkdir()
    (place / "request" / "AWS_ACCESS_KEY_ID").write_text("a")
    (place / "request" / "AWS_SECRET_ACCESS_KEY").write_text("b")
    endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
    process = start(place, store={"url": "s3://bucket/x", "endpoint": endpoint})
    silent.settimeout(20)
    connection, _ = silent.accept()
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=10)
    assert time.monotonic() - started < 5
    connection.close()
    silent.close()
    assert process.returncode == 75
    error = json.loads(stdout.splitlines()[-1])["error"]
    assert (error["reason"], error["retryable"]) == ("Interrupted", True)


def test_last_words_fit_where_kubernetes_keeps_them(place: Path) -> None:
    words, _ = run(place, 74, device="/absent/" + "x" * 10_000)
    assert (place / "termination").stat().st_size <= 4096
    assert words["error"]["reason"]


def test_a_mover_killed_and_started_again(place: Path) -> None:
    """F2, in its first form: whatever the moment, the next one ends with a right backup."""
    for delay in (0.25, 0.35, 0.45):
        process = start(place, operationId=f"killed-{delay}", full=True)
        time.sleep(delay)
        process.kill()
        process.communicate()
        words, _ = run(place, operationId=f"killed-{delay}", full=True)
        target = place / "target"
        target.unlink(missing_ok=True)
        run(place, operation="restore", device=str(target), backupId=words["result"]["backupId"])
        assert target.read_bytes() == (place / "device").read_bytes()
    listed = Repository.open(open_store(StoreLocation(f"file://{place}/store"))).list("shop/db")
    assert len(listed) == 3


def test_words_that_would_be_cut_leave_out_the_ends_of_their_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kubelet cuts is no JSON, and then a run that failed for some volumes would pass for a good one."""
    monkeypatch.setenv("BLOCKVAULT_TERMINATION", str(tmp_path / "words"))
    errors = [{"volume": f"v{n}", "message": "ä" * 300} for n in range(9)]
    words.last_words({"ok": True, "result": {"failed": 9, "errors": errors, "warnings": ["w"]}})
    said = json.loads((tmp_path / "words").read_text())
    assert said["result"]["failed"] == 9
    assert 0 < len(said["result"]["errors"]) < 9
    assert said["result"]["errors"][0]["volume"] == "v0"
    assert said["result"]["warnings"] == ["w"]

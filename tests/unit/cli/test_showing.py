"""Progress: rate and time left, lines, events, bars."""

from __future__ import annotations

import io
import json
import sys

import pytest

from blockvault.cli.showing import INTERVAL, Display, Pace, _Lines
from blockvault.engine import Progress

MIB = 1 << 20


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_late() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.note(0, 1000) == (None, None)
    clock.now += 10
    assert pace.note(100, 1000) == (10, 90)
    for done in range(100, 400, 100):
        clock.now += 10
        rate, left = pace.note(done, 1000)
    for done in range(400, 700, 50):
        clock.now += 1
        rate, left = pace.note(done, 1000)
    assert rate is not None
    assert 10 < rate < 50
    assert left == pytest.approx((1000 - 650) / rate)
    clock.now += 100
    assert pace.note(650, 1000) == (None, None), "a run that stands has no time left to tell"


def said(monkeypatch: pytest.MonkeyPatch, *, as_json: bool) -> list[str]:
    """A run of 10 s at 8 MiB/s, reported eight times a second."""
    clock, err = Clock(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    report = _Lines("db", as_json=as_json, clock=clock)
    progress = Progress(bytes_total=80 * MIB)
    for _ in range(80):
        report(progress)
        clock.now += 0.125
        progress.bytes_scanned += MIB
        progress.bytes_stored += MIB // 2
    progress.phase = "Committing"
    report(progress)
    report(progress)
    return err.getvalue().splitlines()


def test_lines_come_every_few_seconds_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = said(monkeypatch, as_json=False)
    assert len(lines) == 10 // INTERVAL + 1
    assert lines[0] == "db: reading 24.0 MiB of 80.0 MiB, 8.0 MiB/s, 0:00:07 left, 12.0 MiB moved"
    assert lines[-1] == "db: committing 80.0 MiB of 80.0 MiB, 8.0 MiB/s, 40.0 MiB moved"


def test_events_are_json_objects_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [json.loads(line)["progress"] for line in said(monkeypatch, as_json=True)]
    assert events[0]["volume"] == "db"
    assert events[0]["bytesPerSecond"] == pytest.approx(8 * MIB)
    assert events[0]["etaSeconds"] == pytest.approx(7, abs=0.2)
    assert events[-1]["bytesScanned"] == events[-1]["bytesTotal"] == 80 * MIB


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("mode", "bars"), [("auto", True), ("plain", False), ("json", False), ("none", False)]
)
def test_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch, mode: str, bars: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Display(mode) as display:
        report = display.of("db")
        report(Progress(bytes_scanned=MIB, bytes_total=2 * MIB, bytes_stored=MIB))
        report(Progress("Committing", bytes_scanned=2 * MIB, bytes_total=2 * MIB, bytes_stored=MIB))
    assert ("\x1b[" in terminal.getvalue()) == bars
    assert bool(terminal.getvalue()) == (mode != "none")

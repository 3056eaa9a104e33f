"""What a mover says: progress lines while it runs, and last words that Kubernetes keeps with the pod."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from blockvault.engine import Progress
from blockvault.engine.progress import camel
from blockvault.stores import BlockvaultError
from blockvault.stores.base import Traffic

DEFAULT_TERMINATION = "/dev/termination-log"
# The kubelet cuts a termination message here.
TERMINATION_BYTES = 4096
LONGEST_MESSAGE = 1500


def say(line: dict[str, Any]) -> None:
    """One JSON object on a line of stdout."""
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def progress(state: Progress) -> None:
    """A progress line."""
    say({"progress": camel(state)})


def success(result: Any, timings: list[dict[str, Any]], traffic: Traffic) -> dict[str, Any]:
    """Last words of a run that did its work."""
    repeated = {"retries": traffic.retries, "throttles": traffic.throttles}
    return {"ok": True, "result": camel(result) | repeated, "timings": timings}


def failure(error: BaseException, timings: list[dict[str, Any]]) -> dict[str, Any]:
    """Last words of a run that failed."""
    if not isinstance(error, BlockvaultError):
        # A defect, or something of Python's: its own words are all there is.
        error = BlockvaultError(f"{type(error).__name__}: {error}")
    return {
        "ok": False,
        "error": {
            "reason": error.reason,
            "message": _short(error.message),
            "remedy": _short(error.remedy),
            "retryable": error.retryable,
        },
        "timings": timings,
    }


def last_words(words: dict[str, Any]) -> None:
    """Leave them in the termination message, and as the last line of the log."""
    text = _fitting(words)
    path = os.environ.get("BLOCKVAULT_TERMINATION", DEFAULT_TERMINATION)
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text[:TERMINATION_BYTES])
    except OSError as error:
        sys.stderr.write(f"{path}: {error.strerror}; the last words are in the log only\n")
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _fitting(words: dict[str, Any]) -> str:
    """As JSON that the kubelet does not cut: of lists the last items are left out until it fits."""
    text = json.dumps(words, separators=(",", ":"))
    result = words.get("result") or {}
    while len(text) > TERMINATION_BYTES:
        longest = max((v for v in result.values() if isinstance(v, list) and v), key=len, default=None)
        if longest is None:
            return text
        longest.pop()
        text = json.dumps(words, separators=(",", ":"))
    return text


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"

"""Exit codes of both command lines and of the movers, one table for all (docs/exit-codes.md)."""

from __future__ import annotations

import os
import sys

OK = 0
USAGE = 64
DATA = 65
NOT_FOUND = 66
FAILED = 69
INTERNAL = 70
CANT_CREATE = 73
IO = 74
TEMPORARY = 75
REFUSED = 77

MEANINGS: dict[int, str] = {
    OK: "everything that was asked for was done",
    USAGE: "the command line, request or changed-block list is wrong",
    DATA: "stored data is damaged, missing, or of a format that this version cannot read",
    NOT_FOUND: "source, target, store, volume, backup or object of the cluster is not there or does not fit",
    FAILED: "a Backup, a Restore or a check in the cluster ended in failure, which it says itself",
    INTERNAL: "a defect in Blockvault",
    CANT_CREATE: "the target holds something, and `--force` was not given",
    IO: "an I/O error on the volume",
    TEMPORARY: "a passing failure: repeating makes sense",
    REFUSED: "store or cluster refuses: credentials, permission, space, or a missing ability",
}


def flush_or_end(code: int) -> None:
    """Let all be read that was said. Where nobody reads it, the process ends here: a flush later would complain."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        os._exit(code or INTERNAL)

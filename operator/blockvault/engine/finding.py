"""What the doctor says of one thing."""

from __future__ import annotations

from typing import Any

Check = dict[str, Any]

# What a finding is: nothing to do; somebody should do something some day; backups, or making them, are in danger.
OK, WARN, FAIL = "ok", "warn", "fail"


def finding(check: str, level: str, detail: str, remedy: str | None = None, code: int = 0) -> Check:
    """One line of what the doctor says. `code`: of a failure, as in exitcodes.py."""
    return {"check": check, "level": level, "detail": detail, "remedy": remedy, "exitCode": code}

"""Programs that some tests need, and not every machine has."""

from __future__ import annotations

import os
import shutil

import pytest


def need(name: str, reason: str, *programs: str) -> None:
    """Skip, saying why, without these programs; fail where BLOCKVAULT_REQUIRE names `name`, as in CI."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    if name in os.environ.get("BLOCKVAULT_REQUIRE", "").split(","):
        pytest.fail(f"{reason} ({missing})")
    pytest.skip(f"{reason} ({missing})")

"""The engine at a small scale, so that a few KiB make segments, trees of several levels, merges and compactions."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import blockvault.engine

# Most seeds: everything a sixty-fourth of its size, so that many seeds can be run.
TINY: dict[str, float] = {
    "BLOCK_SIZE": 4096,
    "SECTOR_SIZE": 64,
    "FANOUT": 4,
    "BATCH_BLOCKS": 2,
    "BATCH_SIZE": 2 * 4096,
    "SEGMENT_SIZE": 10_000,
    "PAGES_SIZE": 3_000,
    "AMONG_PAGES": 3,
    "GAP": 1_000,
    "LARGEST_READ": 9_000,
    "MAX_DEPTH": 3,
    "MAX_PATCHES": 3,
    "FIRST_READ": 200,
    "MILESTONE": 8,
    "OUTCOMES": 8,
    "KEEP_STORED": 4,
    "KEEP_ZERO": 2,
    "KEEP_EDGES": 1,
    "CHECKED": 4,
    # With so few entries, a patch of a page is seldom half as large as the page.
    "PATCH_SHARE": 1.5,
}
# Some: blocks and sectors as they are.
WHOLE: dict[str, float] = {
    **TINY,
    "BLOCK_SIZE": 256 * 1024,
    "SECTOR_SIZE": 4096,
    "BATCH_SIZE": 2 * 256 * 1024,
    "SEGMENT_SIZE": 400_000,
    "LARGEST_READ": 600_000,
}


@contextmanager
def scaled(constants: dict[str, float]) -> Iterator[None]:
    """Let the engine use these constants inside the block."""
    for found in pkgutil.iter_modules(blockvault.engine.__path__):
        importlib.import_module(f"blockvault.engine.{found.name}")
    former = []
    for name, module in list(sys.modules.items()):
        if name.startswith("blockvault.engine."):
            for constant, value in constants.items():
                if hasattr(module, constant):
                    former.append((module, constant, getattr(module, constant)))
                    setattr(module, constant, value)
            if hasattr(module, "peak_memory"):
                former.append((module, "peak_memory", module.peak_memory))
                module.peak_memory = lambda: 0  # what the machine measures is not to be repeated
    try:
        yield
    finally:
        for module, constant, old in reversed(former):
            setattr(module, constant, old)

"""Noticing that a store shows an older state than there has been: commits were lost, or the store was set back.

Rule 6 in docs/protocol.md. Names of objects begin with the epoch of their run, and commits know the highest: what is of
a later one was made by somebody whose commits are gone.
"""

from __future__ import annotations

from blockvault.engine.names import LineagePaths
from blockvault.stores import ObjectStore


def data_in(store: ObjectStore, paths: LineagePaths) -> str | None:
    """The key of a segment, page object or root of a lineage: somebody had begun a run in it. None without any."""
    folders = tuple(paths.folders.values())
    return next((info.key for info in store.list(paths.folder) if info.key.startswith(folders)), None)

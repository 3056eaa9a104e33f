"""The command line some seconds later: the machine's clock and the store's are that much ahead."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from blockvault.cli import main
from blockvault.engine import runtime
from blockvault.stores import DirectoryStore, ObjectInfo


@contextmanager
def ahead(seconds: float) -> Iterator[None]:
    """All of this process lives so many seconds later."""
    stat = DirectoryStore.stat

    def later(store: DirectoryStore, key: str) -> ObjectInfo:
        found = stat(store, key)
        return replace(found, modified=found.modified + seconds)

    DirectoryStore.stat = later  # type: ignore[method-assign]
    try:
        with runtime.use(runtime.Runtime(wall=lambda: time.time() + seconds)):
            yield
    finally:
        DirectoryStore.stat = stat  # type: ignore[method-assign]


if __name__ == "__main__":
    with ahead(float(sys.argv[1])):
        sys.argv[1:2] = []
        main.main()

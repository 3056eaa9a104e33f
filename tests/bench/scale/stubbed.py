"""The operator by its own entry point, with stores that answer at once. Its worker processes are the real ones."""

from __future__ import annotations

import sys


def main() -> int:
    """Run it. What it imports is imported here, because its workers begin by importing this module."""
    from collections.abc import Callable
    from typing import Any

    from blockvault.handlers import app
    from blockvault.storework import StoreWork
    from tests.bench.scale.stubs import STUBS

    class StubbedStoreWork(StoreWork):
        """The same pool of processes."""

        async def _call(self, function: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
            return await super()._call(STUBS[function.__name__], *arguments, timeout=timeout)

    app.StoreWork = StubbedStoreWork  # type: ignore[misc]
    return app.main()


if __name__ == "__main__":
    sys.exit(main())

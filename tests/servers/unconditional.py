"""A store that cannot create exclusively: moto behind a proxy that drops `If-None-Match`."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from blockvault.stores import StoreLocation
from tests.stores.faulty_server import FaultyServer


@contextlib.contextmanager
def without_conditions(location: StoreLocation) -> Iterator[StoreLocation]:
    """The same place in the same S3 server, which must not check signatures (moto), through that proxy."""
    assert location.endpoint is not None
    proxy = FaultyServer(location.endpoint, lambda *_: None, strip=("if-none-match",))
    try:
        yield replace(location, endpoint=proxy.endpoint)
    finally:
        proxy.close()

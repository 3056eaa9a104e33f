"""Which version of an object was stored first: with object lock the only one that counts.

Whoever may store can store over an object, or hide it below a delete marker, but cannot come before the version that
is locked. A listing of versions tells; what it told stays true, as names are never used again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

from blockvault.stores.base import ObjectInfo
from blockvault.stores.errors import ObjectNotFound
from blockvault.stores.s3_versions import Version, Versions

# Ids that are remembered, about 200 bytes each.
KEPT = 16 * 1024
# So many keys of one folder are worth a listing of all that lies between them, of at most one page for each ten.
WORTH = 10

# Requests about versions and locks that go at once.
THREADS = 8

# Makes one request, given its key and what to do, and translates its errors.
Ask = Callable[[str, Callable[[], Any]], Any]


class Firsts:
    """First versions of the objects below `prefix`. Errors are for the caller's patience."""

    def __init__(self, versions: Versions, prefix: str, ask: Ask) -> None:
        self._versions = versions
        self._prefix = prefix
        self._ask = ask
        self._known: dict[str, str] = {}

    def version(self, key: str) -> str:
        """The id. Raises ObjectNotFound when there is no version, whatever markers there are."""
        known = self._known.get(key)
        return known if known is not None else self._find(key).version

    def stat(self, key: str) -> ObjectInfo:
        """Size and tag. Raises ObjectNotFound."""
        return self._info(self._find(key))

    def listed(self, prefix: str) -> list[ObjectInfo]:
        """All objects whose key begins so."""
        found = []
        for page in self._pages(prefix):
            found += [self._info(each) for each in page]
            if len(self._known) + len(page) <= KEPT:  # whoever lists is likely to ask for some of it
                for each in page:
                    self._keep(each)
        return found

    def forget(self, key: str) -> None:
        """It is to be deleted, or was."""
        self._known.pop(key, None)

    def learn(self, keys: Sequence[str]) -> None:
        """Learn those of many keys by few listings, as keys in order lie side by side. Others are asked for later."""
        for folder, group in groupby(sorted(keys), key=lambda key: key.rpartition("/")[0] + "/"):
            wanted = [key for key in group if key not in self._known]
            if len(wanted) < WORTH:
                continue
            # The marker itself is left out of a listing, so it is what the first key begins with.
            for number, page in enumerate(self._pages(folder, self._prefix + wanted[0][:-1])):
                for each in page:
                    self._keep(each)
                if (page and page[-1].path >= self._prefix + wanted[-1]) or number >= len(wanted) // WORTH:
                    break

    def _find(self, key: str) -> Version:
        # Other keys that begin with this one come after it.
        found = next((each for page in self._pages(key) for each in page), None)
        if found is None or found.path != self._prefix + key:
            raise ObjectNotFound(f"{key} does not exist")
        self._keep(found)
        return found

    def _keep(self, found: Version) -> None:
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[found.path[len(self._prefix) :]] = found.version

    def _pages(self, prefix: str, after: str = "") -> Iterator[list[Version]]:
        """The first version of each path, a list for each request that is made."""
        more: dict[str, str] | None = {"KeyMarker": after} if after else {}
        last: Version | None = None
        while more is not None:
            page, more = self._page(prefix, more)
            found: list[Version] = []
            for each in page:
                if last is not None and last.path != each.path:
                    found.append(last)
                last = each
            if more is None and last is not None:
                found.append(last)
            yield found

    def _page(self, prefix: str, more: dict[str, str]) -> tuple[list[Version], dict[str, str] | None]:
        answer: tuple[list[Version], dict[str, str] | None]
        answer = self._ask(prefix, lambda: self._versions.page(self._prefix + prefix, more))
        return answer

    def _info(self, found: Version) -> ObjectInfo:
        return ObjectInfo(found.path[len(self._prefix) :], found.size, found.etag)


def for_each(work: Callable[[str], None], keys: Iterable[str]) -> None:
    """`work` for each key, several at once; raises the first error after all have been tried."""
    with ThreadPoolExecutor(THREADS) as pool:
        tried = [pool.submit(work, key) for key in keys]
    for one in tried:
        one.result()

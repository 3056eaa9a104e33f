"""What is left of damaged backups, by the second decoder: it goes on past pieces of blocks that are not what they were."""

from __future__ import annotations

from collections import defaultdict

from cryptography.exceptions import InvalidTag
from zstandard import ZstdError

from tests.unit.engine.decoder import DIGESTS, Decoder, Item, text_of

# What the decoder says of bytes that were changed.
WRONG = (AssertionError, InvalidTag, ZstdError)


class Survey(Decoder):
    """Reads backups whose pages are sound. After `survey` of one, what it found of that one is here.

    `pieces`: of each block its base, patches and digests; `lost`: blocks that cannot be had; `unfit`: blocks of which
    sector digests do not fit the data that they lie beside.
    """

    pieces: defaultdict[int, list[Item]]
    lost: set[int]
    unfit: set[int]

    def survey(self, backup_id: str) -> bytes:
        """The volume as of a backup, with zeros in place of what is lost."""
        self.pieces, self.lost, self.unfit = defaultdict(list), set(), set()
        return self.read(backup_id)

    def masks(self) -> dict[int, list[int]]:
        """Of each block that is stored, the masks of its patches, oldest first."""
        return {
            number: [item.mask for item in items if item.mask and item.kind != DIGESTS]
            for number, items in self.pieces.items()
        }

    def key_of(self, item: Item) -> str:
        """The key of the object in which an item lies."""
        return f"{self.base}{item.folder}/{text_of(item.name)}"

    def item(self, item: Item) -> bytes:
        if item.folder == "pages" and item.kind != DIGESTS:
            return super().item(item)
        self.pieces[item.number].append(item)
        try:
            return super().item(item)
        except WRONG:
            if item.kind == DIGESTS:
                self.unfit.add(item.number)
            else:
                self.lost.add(item.number)
            return bytes(item.plain)

    def _digests(self, item: Item, data: bytes) -> None:
        try:
            super()._digests(item, data)
        except AssertionError:
            self.unfit.add(item.number)

    def block(self, entry: bytes, names: bytes, table: bytes, number: int) -> bytes:
        try:
            found = super().block(entry, names, table, number)
        except AssertionError:
            self.lost.add(number)
            found = entry[32:64]
        if number in self.lost:
            self.found.pop(number, None)
            self.hashes[number] = found
        return found

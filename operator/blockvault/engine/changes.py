"""Lists of changed blocks: checked before they are believed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from blockvault.engine.errors import BadChangedList
from blockvault.engine.pages import BLOCK_SIZE
from blockvault.engine.ranges import merged

# Who made a list.
LIST = "List"
SNAPSHOT_METADATA = "SnapshotMetadata"


@dataclass(frozen=True)
class ChangedList:
    """Byte ranges (offset, length) that may differ from the backup `parent` (None: not said).

    `source`: what a backup made by it says of where the knowledge came from.
    """

    ranges: list[tuple[int, int]]
    parent: str | None = None
    source: str = LIST


def parse(lines: Iterable[str], name: str) -> ChangedList:
    """JSON lines `{"offset": n, "length": n}`; the first may be `{"parent": "<backup id>"}`.

    Raises BadChangedList, naming the line.
    """
    ranges: list[tuple[int, int]] = []
    parent: str | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            raise BadChangedList(f"{name}, line {number}: not JSON ({error})") from error
        if not isinstance(item, dict):
            raise BadChangedList(f"{name}, line {number}: not an object")
        if "parent" in item and not ranges and parent is None and isinstance(item["parent"], str):
            parent = item["parent"]
            continue
        offset, length = item.get("offset"), item.get("length")
        if type(offset) is not int or type(length) is not int or offset < 0 or length < 0:
            raise BadChangedList(
                f"{name}, line {number}: needs whole numbers `offset` and `length`, not negative"
            )
        ranges.append((offset, length))
    return ChangedList(ranges, parent)


def block_ranges(ranges: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """The list as block ranges [first, end): sorted, merged, rounded outwards.

    `size` is the volume's, in bytes. Raises BadChangedList for a range that leaves the volume.
    """
    blocks: list[tuple[int, int]] = []
    for offset, length in sorted(ranges):
        if offset + length > size:
            raise BadChangedList(f"range at {offset} of {length} bytes leaves the volume of {size} bytes")
        if length:
            blocks.append((offset // BLOCK_SIZE, -(-(offset + length) // BLOCK_SIZE)))
    return merged(blocks)


def split(ranges: Iterable[tuple[int, int]], step: int) -> Iterator[tuple[int, int]]:
    """The same blocks in pieces that do not cross multiples of `step`."""
    for first, end in ranges:
        while first < end:
            stop = min(end, (first // step + 1) * step)
            yield first, stop
            first = stop

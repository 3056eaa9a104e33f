"""F1: what arrives is checked by the rules of the CSI specification, and kept in bounded memory."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockvault.engine import BLOCK_SIZE
from blockvault.mover.listing import BadListError, Listing
from blockvault.mover.wire import Delta, DeltaRequest, decode, encode
from tests.metadata_service import FIXED, VARIABLE, Request, Response, response

KIB = 1 << 10
SIZE = 64 * BLOCK_SIZE


def delta(*tuples: tuple[int, int], capacity: int = SIZE, kind: int = VARIABLE) -> Delta:
    return Delta(kind, capacity, list(tuples))


def listed(*messages: Delta, size: int = SIZE) -> list[tuple[int, int]]:
    listing = Listing(size)
    listing.begin()
    for message in messages:
        listing.add(message)
    return listing.ranges()


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([delta((0, 4096), kind=0)], "unknown kind 0"),
        ([delta((0, 4096), kind=3)], "unknown kind 3"),
        ([delta((0, 4096)), delta((4096, 4096), kind=FIXED)], "kind of the tuples changes from 2 to 1"),
        ([delta((0, 512)), delta((512, 512), capacity=SIZE // 2)], "capacity changes from 16777216 to 8388608"),
        ([delta(capacity=0)], "has 0 bytes"),
        ([delta(capacity=-1)], "has -1 bytes"),
        ([delta(capacity=SIZE + 512)], "has 16777728 bytes, but its device 16777216"),
        ([delta((-512, 1024))], "not a place"),
        ([delta((512, 0))], "not a place"),
        ([delta((512, -512))], "not a place"),
        ([delta((4096, 4096), (0, 4096))], "begins before the one before it ends"),
        ([delta((0, 4096), (0, 4096))], "begins before the one before it ends"),
        ([delta((0, 4096), (2048, 4096))], "begins before the one before it ends, at 4096"),
        ([delta((0, 4096)), delta((2048, 4096))], "begins before the one before it ends, at 4096"),
        ([delta((SIZE, 512))], "behind the volume's end"),
        ([delta((SIZE - 512, 1024), (SIZE + 512, 512))], "behind the volume's end"),
        ([delta((SIZE - 512, BLOCK_SIZE + 512))], "goes beyond the volume's end"),
        ([delta((0, 100), (105, 200))], "not of whole sectors"),
        ([delta((100, 412))], "not of whole sectors"),
        ([delta((0, 4096), (4096, 8192), kind=FIXED)], "all are to have 4096 bytes"),
        ([delta((0, 4096), (4096, 2048), kind=FIXED)], "all are to have 4096 bytes"),
    ],
)  # fmt: skip
def test_f1_a_list_that_breaks_a_rule_counts_for_nothing(messages: list[Delta], why: str) -> None:
    with pytest.raises(BadListError, match=why):
        listed(*messages)


@pytest.mark.parametrize(
    ("messages", "size", "ranges"),
    [
        ([], SIZE, []),
        ([delta()], SIZE, []),
        ([delta((0, 512))], SIZE, [(0, BLOCK_SIZE)]),
        ([delta((BLOCK_SIZE - 512, 1024))], SIZE, [(0, 2 * BLOCK_SIZE)]),
        ([delta((0, 512), (3 * BLOCK_SIZE, BLOCK_SIZE))], SIZE, [(0, BLOCK_SIZE), (3 * BLOCK_SIZE, BLOCK_SIZE)]),
        # Neighbours are one range, also across messages.
        ([delta((0, BLOCK_SIZE)), delta((BLOCK_SIZE, BLOCK_SIZE))], SIZE, [(0, 2 * BLOCK_SIZE)]),
        # A last block that is counted as a whole one ends with the volume; one that is told short is right, too.
        ([delta((0, 4096), (8192, 4096), kind=FIXED, capacity=10240)], 10240, [(0, 10240)]),
        ([delta((0, 4096), (8192, 2048), kind=FIXED, capacity=10240)], 10240, [(0, 10240)]),
        ([delta((8192, 4096), capacity=10240)], 10240, [(0, 10240)]),
        # What the device has beyond the volume of the list counts as changed.
        ([delta(capacity=SIZE - 512)], SIZE, [(SIZE - BLOCK_SIZE, BLOCK_SIZE)]),
        ([delta(capacity=SIZE)], SIZE + 512, [(SIZE, 512)]),
        ([delta((0, 512), capacity=512)], SIZE, [(0, SIZE)]),
    ],
)  # fmt: skip
def test_f1_a_list_covers_the_blocks_that_it_touches(
    messages: list[Delta], size: int, ranges: list[tuple[int, int]]
) -> None:
    assert listed(*messages, size=size) == ranges


def test_f1_a_stream_that_was_cut_goes_on_at_a_whole_block() -> None:
    listing = Listing(SIZE)
    assert listing.resume_at() == 0
    listing.begin()
    listing.add(delta((0, 4096), (5 * BLOCK_SIZE + 4096, 4096)))
    assert (listing.position, listing.resume_at()) == (5 * BLOCK_SIZE + 8192, 5 * BLOCK_SIZE)
    listing.begin()
    # The first tuple begins before, and what was told is told again.
    listing.add(delta((4 * BLOCK_SIZE, BLOCK_SIZE + 8192), (SIZE - 512, 512)))
    assert listing.resume_at() == SIZE - BLOCK_SIZE  # not the volume's end, which some drivers refuse
    listing.begin()
    assert listing.ranges() == [
        (0, BLOCK_SIZE),
        (4 * BLOCK_SIZE, 2 * BLOCK_SIZE),
        (SIZE - BLOCK_SIZE, BLOCK_SIZE),
    ]


def test_f1_a_stream_that_begins_anew_adds_nothing() -> None:
    listing = Listing(SIZE)
    for _ in range(3):
        listing.begin()
        listing.add(delta((0, 512), (9 * BLOCK_SIZE, 512)))
    assert listing.ranges() == [(0, BLOCK_SIZE), (9 * BLOCK_SIZE, BLOCK_SIZE)]


def test_f1_a_giant_list_takes_little_memory_and_covers_all() -> None:
    """16 TiB of 4 KiB blocks in messages of 4,096 tuples, every other block of 256 KiB touched: a sample of it."""
    size = 16 << 40
    listing = Listing(size, most=1000)
    listing.begin()
    touched = range(0, size, 128 << 20)  # 131,072 tuples
    tracemalloc.start()
    for at in range(0, len(touched), 4096):
        listing.add(delta(*((offset, 4096) for offset in touched[at : at + 4096]), capacity=size))
    found = listing.ranges()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) <= 1000
    assert peak < 4 << 20
    ends = iter(found)
    first, length = next(ends)
    for offset in touched:
        while offset >= first + length:
            first, length = next(ends)
        assert first <= offset


def test_neighbours_of_a_giant_list_are_one_range() -> None:
    listing = Listing(SIZE, most=4)
    listing.begin()
    for block in range(64):
        listing.add(delta((block * BLOCK_SIZE, 4096)))
    assert listing.ranges() == [(0, SIZE)]


# Any list, in any messages, cut anywhere: the same blocks.

TUPLES = st.lists(st.integers(0, SIZE // 4096 - 1), max_size=60, unique=True).map(sorted)


@given(
    TUPLES,
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=8),
    st.sampled_from([FIXED, VARIABLE]),
    st.sampled_from([SIZE, SIZE - 4096, SIZE - 512]),
)
def test_f1_cuts_change_nothing(
    places: list[int], cuts: list[tuple[int, int]], kind: int, capacity: int
) -> None:
    """The server sends from the block that lies at the asked byte on, or somewhat before it."""
    whole = [(place * 4096, 4096) for place in places if place * 4096 < capacity]
    listing = Listing(SIZE)
    for count, early in [*cuts, (len(whole), 0)]:
        start = listing.resume_at()
        listing.begin()
        rest = [each for each in whole if each[0] + 4096 * early + each[1] > start]
        for each in rest[:count]:
            listing.add(delta(each, capacity=capacity, kind=kind))
    wanted = {offset // BLOCK_SIZE for offset, _ in whole}
    if capacity < SIZE and whole:
        wanted.add(SIZE // BLOCK_SIZE - 1)
    found = listing.ranges()
    assert {
        block
        for offset, length in found
        for block in range(offset // BLOCK_SIZE, -(-(offset + length) // BLOCK_SIZE))
    } == wanted
    assert all(a + n < b for (a, n), (b, _) in itertools.pairwise(found))


# The messages, beside Google's library.

NUMBERS = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.integers(0, 2), NUMBERS, st.lists(st.tuples(NUMBERS, NUMBERS)))
def test_answers_are_read_as_google_writes_them(
    kind: int, capacity: int, tuples: list[tuple[int, int]]
) -> None:
    data = response(capacity, *tuples, kind=kind).SerializeToString()
    assert decode(data) == Delta(kind, capacity, tuples)


@given(st.tuples(st.text(), st.text(), st.text(), st.text()), NUMBERS, st.integers(0, (1 << 31) - 1))
def test_requests_are_written_as_google_reads_them(
    texts: tuple[str, str, str, str], start: int, most: int
) -> None:
    read = Request.FromString(encode(DeltaRequest(*texts, start, most)))
    assert (read.security_token, read.namespace, read.base_snapshot_id, read.target_snapshot_name) == texts
    assert (read.starting_offset, read.max_results) == (start, most)


def test_fields_that_are_not_known_are_passed_over() -> None:
    known = response(SIZE, (512, 512)).SerializeToString()
    unknown = b"\x22\x03abc" + b"\x29" + bytes(8) + b"\x35" + bytes(4) + b"\x38\x01"
    assert decode(unknown + known + unknown) == Delta(FIXED, SIZE, [(512, 512)])


@given(st.binary(max_size=40))
def test_anything_else_is_refused_or_read_as_google_does(data: bytes) -> None:
    try:
        found = decode(data)
    except ValueError:
        return
    try:
        read = Response.FromString(data)
    except Exception:  # noqa: BLE001 - Google is stricter about what is passed over
        return
    assert found.capacity == read.volume_capacity_bytes
    assert found.tuples == [(each.byte_offset, each.size_bytes) for each in read.block_metadata]


@pytest.mark.parametrize(
    "data", [b"\x1a\x05\x08", b"\x1a\x7f", b"\x08", b"\x10" + b"\xff" * 11, b"\x0b", b"\x29\x00"]
)
def test_a_message_that_is_cut_short_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|longer|ten bytes|unknown kind"):
        decode(data)

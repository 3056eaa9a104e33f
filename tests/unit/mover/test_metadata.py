"""F1: the client of the SnapshotMetadata service against a real server over TLS, which plays every fault."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import pytest

from blockvault.engine import BLOCK_SIZE, SNAPSHOT_METADATA
from blockvault.mover import metadata
from blockvault.mover.metadata import NoListError, Patience, changed_since
from blockvault.mover.request import Asked
from tests.certificates import certificates
from tests.metadata_service import VARIABLE, MetadataService, response

SIZE = 64 * BLOCK_SIZE
PATIENCE = Patience(idle=5.0, stall=20.0, tries=3, pause=0.01)
Answer = Callable[[Any, grpc.ServicerContext], Iterable[Any]]


def batched(places: Iterable[Any], count: int) -> Iterator[tuple[Any, ...]]:
    rest = iter(places)
    while some := tuple(islice(rest, count)):
        yield some


class Script:
    """A service that answers as the test says, and remembers what it was asked."""

    def __init__(self, place: Path) -> None:
        self.requests: list[Any] = []
        self.answer: Answer = lambda *_: []
        self.token = place / "token"
        self.token.write_text("word-1\n")
        self.service = MetadataService(place, self._answer)

    def _answer(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.requests.append(request)
        yield from self.answer(request, context)

    @property
    def asked(self) -> Asked:
        return Asked(
            self.service.address, self.service.ca, str(self.token), "own", "target", "handle", "backup-1"
        )

    def ask(self, answer: Answer, **patience: Any) -> list[tuple[int, int]]:
        self.answer = answer
        found = changed_since(self.asked, SIZE, replace(PATIENCE, **patience))
        assert (found.parent, found.source) == ("backup-1", SNAPSHOT_METADATA)
        return found.ranges

    def refused(self, answer: Answer, **patience: Any) -> NoListError:
        with pytest.raises(NoListError) as raised:
            self.ask(answer, **patience)
        assert raised.value.reason in metadata.REASONS
        return raised.value


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    script = Script(tmp_path)
    with script.service:
        yield script


def aborting(code: grpc.StatusCode, text: str = "why", *before: Any) -> Answer:
    def answer(_: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield from before
        context.abort(code, text)

    return answer


def test_f1_a_list_comes_by_one_request(script: Script) -> None:
    ranges = script.ask(lambda *_: [response(SIZE, (0, 4096)), response(SIZE, (BLOCK_SIZE, 4096))])
    assert ranges == [(0, 2 * BLOCK_SIZE)]
    (request,) = script.requests
    assert (request.security_token, request.namespace) == ("word-1", "own")
    assert (request.base_snapshot_id, request.target_snapshot_name) == ("handle", "target")
    assert (request.starting_offset, request.max_results) == (0, metadata.MOST_TUPLES)


def test_f1_a_stream_without_a_message_says_that_nothing_changed(script: Script) -> None:
    assert script.ask(lambda *_: []) == []


def test_f1_cut_streams_are_resumed_with_a_fresh_token(script: Script) -> None:
    """Each try has a new token, and begins at a whole block; what is told twice counts once."""
    whole = [(block * BLOCK_SIZE + 4096, 4096) for block in range(0, 64, 2)]

    def cut(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        assert request.starting_offset % BLOCK_SIZE == 0
        assert request.security_token == f"word-{len(script.requests)}"
        script.token.write_text(f"word-{len(script.requests) + 1}")
        rest = [each for each in whole if sum(each) > request.starting_offset]
        for each in rest[:3]:
            yield response(SIZE, each)
        if len(rest) > 3:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "ten minutes are over")

    assert script.ask(cut) == [(block * BLOCK_SIZE, BLOCK_SIZE) for block in range(0, 64, 2)]
    starts = [request.starting_offset for request in script.requests]
    assert len(starts) > 10
    assert starts == sorted(set(starts))


@pytest.mark.parametrize("chance", range(8))
def test_f1_whatever_the_ranges_and_cuts_the_same_blocks_are_covered(script: Script, chance: int) -> None:
    draw = random.Random(chance)
    places = sorted(draw.sample(range(SIZE // 4096), draw.choice([1, 30, 500])))
    whole = [(place * 4096, 4096) for place in places]
    size = draw.choice([1, 7, 256])
    failing = draw.choice(
        [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL]
    )

    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        rest = [each for each in whole if sum(each) > request.starting_offset - draw.choice([0, 5000])]
        for tuples in batched(rest, size):
            if draw.random() < 0.1:
                context.abort(failing, "cut")
            yield response(SIZE, *tuples)

    ranges = script.ask(answer, tries=50, pause=0.0001)
    found = {b for o, n in ranges for b in range(o // BLOCK_SIZE, (o + n) // BLOCK_SIZE)}
    assert found == {offset // BLOCK_SIZE for offset, _ in whole}


def test_f1_a_list_counts_only_when_its_stream_ended_well(script: Script) -> None:
    error = script.refused(
        aborting(grpc.StatusCode.UNAVAILABLE, "lost", response(SIZE, (0, 4096), (SIZE - 4096, 4096)))
    )
    assert (error.reason, len(script.requests)) == (metadata.SERVICE_UNAVAILABLE, 4)
    # All was told, but nobody said so: it is asked once more from the last block on, not from the end.
    assert {request.starting_offset for request in script.requests[1:]} == {SIZE - BLOCK_SIZE}


@pytest.mark.parametrize(
    ("code", "reason", "tries"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, "NotTracked", 1),
        (grpc.StatusCode.UNIMPLEMENTED, "NotSupported", 1),
        (grpc.StatusCode.NOT_FOUND, "BaseGone", 1),
        (grpc.StatusCode.INVALID_ARGUMENT, "RequestRefused", 1),
        (grpc.StatusCode.OUT_OF_RANGE, "RequestRefused", 1),
        (grpc.StatusCode.PERMISSION_DENIED, "PermissionDenied", 1),
        (grpc.StatusCode.UNAUTHENTICATED, "Unauthenticated", 1),
        (grpc.StatusCode.UNAVAILABLE, "ServiceUnavailable", 3),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "StreamFailed", 3),
        (grpc.StatusCode.INTERNAL, "StreamFailed", 3),
        (grpc.StatusCode.UNKNOWN, "StreamFailed", 3),
        (grpc.StatusCode.ABORTED, "StreamFailed", 3),
        (grpc.StatusCode.CANCELLED, "StreamFailed", 3),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "StreamFailed", 3),
        (grpc.StatusCode.DATA_LOSS, "StreamFailed", 3),
        (grpc.StatusCode.ALREADY_EXISTS, "StreamFailed", 3),
    ],
)
def test_f1_every_refusal_has_its_reason(
    script: Script, code: grpc.StatusCode, reason: str, tries: int
) -> None:
    error = script.refused(aborting(code, "the driver says so"))
    assert (error.reason, len(script.requests)) == (reason, tries)
    assert "the driver says so" in str(error)
    # Also where some of the list has come.
    script.requests.clear()
    assert script.refused(aborting(code, "why", response(SIZE, (0, 4096)))).reason == reason
    assert len(script.requests) == tries


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([response(SIZE, (8192, 4096), (0, 4096))], "begins before"),
        ([response(SIZE, (0, 8192), kind=VARIABLE), response(SIZE, (4096, 4096), kind=VARIABLE)], "begins before"),
        ([response(SIZE, (0, 4096)), response(SIZE // 2, (4096, 4096))], "capacity changes"),
        ([response(SIZE, (0, 4096)), response(SIZE, (4096, 4096), kind=VARIABLE)], "kind of the tuples changes"),
        ([response(SIZE, (SIZE, 4096))], "behind the volume's end"),
        ([response(2 * SIZE, (SIZE, 4096))], "its device"),
        ([response(SIZE, (0, 100), (105, 200), kind=VARIABLE)], "whole sectors"),
        ([b"\x1a\x7f"], "no message of this service"),
    ],
)  # fmt: skip
def test_f1_an_invalid_list_is_refused_at_once(script: Script, messages: list[Any], why: str) -> None:
    error = script.refused(lambda *_: messages)
    assert (error.reason, len(script.requests)) == (metadata.INVALID_LIST, 1)
    assert why in str(error)


def test_f1_a_capacity_that_changes_between_streams_is_refused(script: Script) -> None:
    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield response(SIZE // len(script.requests), (request.starting_offset, BLOCK_SIZE))
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "cut")

    assert script.refused(answer).reason == metadata.INVALID_LIST


@pytest.mark.parametrize("first", [[], [response(SIZE, (0, BLOCK_SIZE))], [response(SIZE)]])
def test_f1_a_service_that_hangs_is_given_up(script: Script, first: list[Any]) -> None:
    """Nobody limits how long a list takes, but how long nothing comes."""
    over = threading.Event()

    def hanging(request: Any, _: grpc.ServicerContext) -> Iterator[Any]:
        if request.starting_offset == 0:
            yield from first
        over.wait(30)

    begun = time.monotonic()
    error = script.refused(hanging, idle=0.3, tries=2)
    over.set()
    assert error.reason == metadata.NO_PROGRESS
    assert len(script.requests) == (2 if not first or not first[0].block_metadata else 3)
    assert time.monotonic() - begun < 10


def test_f1_messages_without_an_end_and_without_a_tuple_are_no_progress(script: Script) -> None:
    def endless(_: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        while context.is_active():
            yield response(SIZE)
            time.sleep(0.02)

    assert script.refused(endless, idle=0.3, tries=2).reason == metadata.NO_PROGRESS


def test_f1_a_slow_list_is_waited_for(script: Script) -> None:
    def slow(*_: Any) -> Iterator[Any]:
        for block in range(8):
            time.sleep(0.2)
            yield response(SIZE, (block * BLOCK_SIZE, 4096))

    assert script.ask(slow, idle=0.8, stall=0.8) == [(0, 8 * BLOCK_SIZE)]


def test_f1_without_progress_for_long_no_further_try_is_made(script: Script) -> None:
    assert (
        script.refused(aborting(grpc.StatusCode.INTERNAL), stall=0.05, pause=0.1, tries=99).reason
        == "StreamFailed"
    )
    assert len(script.requests) == 2


def test_f1_patience_begins_anew_with_each_progress(script: Script) -> None:
    """A list of many streams takes longer than a service may stand still; one that fails is not the end of it."""

    def crawling(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        time.sleep(0.15)
        if len(script.requests) == 7:
            context.abort(grpc.StatusCode.UNAVAILABLE, "once")
        yield response(SIZE, (request.starting_offset, BLOCK_SIZE))
        if len(script.requests) < 9:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "cut")

    assert script.ask(crawling, stall=0.6) == [(0, 8 * BLOCK_SIZE)]


def test_f1_progress_for_ever_has_an_end(script: Script) -> None:
    def crawling(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield response(SIZE, (request.starting_offset, BLOCK_SIZE))
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "cut")

    assert script.refused(crawling, streams=5).reason == metadata.STREAM_FAILED
    assert len(script.requests) == 5


def test_f1_the_same_tuple_again_and_again_is_no_progress(script: Script) -> None:
    """Less than a block further is no progress either: the next stream would begin where this one did."""

    def same(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield response(SIZE, (4096 * len(script.requests), 4096))
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "cut")

    script.refused(same)
    assert len(script.requests) == PATIENCE.tries


def test_f1_a_message_that_is_too_large_is_refused(script: Script) -> None:
    giant = response(SIZE)
    for _ in range(metadata.MESSAGE_BYTES // 4):
        giant.block_metadata.add(byte_offset=0, size_bytes=512)
    error = script.refused(lambda *_: [giant])
    assert (error.reason, "larger than max" in str(error)) == (metadata.STREAM_FAILED, True)


def test_f1_a_giant_list_comes_through(script: Script) -> None:
    """As many tuples as 1 GiB has blocks of 4 KiB, in messages as large as they may be."""
    size = 1 << 30
    script.answer = lambda *_: (
        response(size, *((place * 4096, 4096) for place in places))
        for places in batched(range(size // 4096), metadata.MOST_TUPLES)
    )
    assert changed_since(script.asked, size, PATIENCE).ranges == [(0, size)]


def test_f1_without_a_token_nobody_is_asked(script: Script) -> None:
    script.token.write_text("\n")
    assert script.refused(lambda *_: []).reason == metadata.NO_TOKEN
    script.token.unlink()
    assert script.refused(lambda *_: []).reason == metadata.NO_TOKEN
    assert script.requests == []


def test_f1_a_service_with_another_certificate_is_not_talked_to(script: Script, tmp_path: Path) -> None:
    """The token goes to the one whose certificate the cluster's administrator named, and to nobody else."""
    (tmp_path / "other").mkdir()
    for ca in (certificates(tmp_path / "other")[0], "no certificate"):
        with pytest.raises(NoListError) as raised:
            changed_since(replace(script.asked, ca=ca), SIZE, PATIENCE)
        assert raised.value.reason == metadata.SERVICE_UNAVAILABLE
    assert script.requests == []


def test_f1_nobody_at_the_address(script: Script) -> None:
    for address in ("127.0.0.1:1", "no address"):
        with pytest.raises(NoListError) as raised:
            changed_since(replace(script.asked, address=address), SIZE, PATIENCE)
        assert raised.value.reason == metadata.SERVICE_UNAVAILABLE


def test_f1_a_service_that_restarts_is_found_again(script: Script, tmp_path: Path) -> None:
    def dying(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if len(script.requests) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
        yield response(SIZE, (0, 4096))

    assert script.ask(dying) == [(0, BLOCK_SIZE)]


def test_f1_a_long_stream_that_ended_well_may_have_been_stopped(script: Script) -> None:
    """As drivers do that take a cancelled request for the end of the list: the rest is asked for."""
    whole = [(block * BLOCK_SIZE, 4096) for block in range(0, 60, 2)]

    def stopped(request: Any, _: grpc.ServicerContext) -> Iterator[Any]:
        rest = [each for each in whole if sum(each) > request.starting_offset]
        for each in rest[:10]:
            yield response(SIZE, each)
        if len(rest) > 10:
            time.sleep(0.3)

    assert script.ask(stopped, soon=0.2) == [(offset, BLOCK_SIZE) for offset, _ in whole]
    assert len(script.requests) == 4
    # One that was quick is believed.
    script.requests.clear()
    assert len(script.ask(stopped, soon=5.0)) == 10
    assert len(script.requests) == 1


def test_f1_nothing_changed_is_believed_only_when_it_is_said_soon(script: Script) -> None:
    def late(*_: Any) -> Iterator[Any]:
        time.sleep(0.2)
        yield from ()

    assert script.refused(late, soon=0.1).reason == metadata.NO_PROGRESS
    assert len(script.requests) == PATIENCE.tries
    assert script.ask(late, soon=5.0) == []


def test_f1_a_long_list_that_reaches_the_end_of_the_volume_is_whole(script: Script) -> None:
    def long(*_: Any) -> Iterator[Any]:
        yield response(SIZE, (0, 4096))
        time.sleep(0.2)
        yield response(SIZE, (SIZE - 4096, 4096))

    assert len(script.ask(long, soon=0.1)) == 2
    assert len(script.requests) == 1

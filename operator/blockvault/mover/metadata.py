"""Asks a storage system which blocks changed, by the SnapshotMetadata service of Kubernetes.

A stream may end at any moment (the service itself ends each after some minutes): the next goes on where it ended, with
a fresh token, for as long as there is progress. Only a stream that ended well completes a list, and soon: some drivers
(Ceph RBD, hostpath) say that all is well also where somebody stopped them or their time was over, which nobody can tell
from the end of the list. Whatever goes wrong otherwise costs the list and not the backup, which then compares with its
parent; the reason stands in its status.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from blockvault.engine import SNAPSHOT_METADATA, ChangedList
from blockvault.mover.listing import BadListError, Listing
from blockvault.mover.request import Asked
from blockvault.mover.wire import METHOD, Delta, DeltaRequest, decode, encode

# Tuples that the service may put into one message, of some 15 bytes each.
MOST_TUPLES = 4096
MESSAGE_BYTES = 4 << 20

NO_TOKEN = "NoToken"  # noqa: S105
INVALID_LIST = "InvalidList"
NO_PROGRESS = "NoProgress"
SERVICE_UNAVAILABLE = "ServiceUnavailable"
STREAM_FAILED = "StreamFailed"

# What no further try would mend.
PERMANENT = {
    grpc.StatusCode.FAILED_PRECONDITION: "NotTracked",
    grpc.StatusCode.UNIMPLEMENTED: "NotSupported",
    grpc.StatusCode.NOT_FOUND: "BaseGone",
    grpc.StatusCode.INVALID_ARGUMENT: "RequestRefused",
    grpc.StatusCode.OUT_OF_RANGE: "RequestRefused",
    grpc.StatusCode.PERMISSION_DENIED: "PermissionDenied",
    grpc.StatusCode.UNAUTHENTICATED: "Unauthenticated",
}
REASONS = frozenset(
    {NO_TOKEN, INVALID_LIST, NO_PROGRESS, SERVICE_UNAVAILABLE, STREAM_FAILED, *PERMANENT.values()}
)

OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # it is a service of the cluster
    ("grpc.enable_retries", 0),  # a hidden one would know nothing of where a stream ended
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),  # each try connects anew
]


class NoListError(Exception):
    """There is no list. `reason` is one of REASONS, the text is for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Patience:
    """How long it is tried: seconds without a tuple in a stream, seconds and tries without progress, streams at all.

    `pause`: seconds before the second try without progress; each further waits twice as long. `soon`: a stream of more
    seconds may have been stopped, however it ended; what is left is asked for then.
    """

    idle: float = 300.0
    stall: float = 600.0
    tries: int = 5
    pause: float = 1.0
    streams: int = 1000
    soon: float = 60.0


@dataclass(frozen=True)
class _Failure:
    reason: str
    message: str
    permanent: bool = False


def changed_since(asked: Asked, size: int, patience: Patience | None = None) -> ChangedList:
    """What changed since the asked backup, for a device of so many bytes. Raises NoListError."""
    patience = patience or Patience()
    listing = Listing(size)
    since, failures = time.monotonic(), 0
    for _ in range(patience.streams):
        start = listing.resume_at()
        listing.begin()
        begun = time.monotonic()
        failure = _stream(asked, listing, start, patience.idle)
        seconds = time.monotonic() - begun
        if failure is None and seconds > patience.soon and not listing.at_end():
            failure = _Failure(
                NO_PROGRESS, f"it ended after {seconds:.0f} s, and nobody can tell whether at its end"
            )
        if failure is None:
            return ChangedList(listing.ranges(), asked.parent, SNAPSHOT_METADATA)
        sys.stderr.write(f"blockvault: {asked.address}: {failure.message} (from byte {start})\n")
        if failure.permanent:
            raise NoListError(failure.reason, failure.message)
        if listing.resume_at() > start:
            since, failures = time.monotonic(), 0
            continue
        failures += 1
        if failures >= patience.tries or time.monotonic() - since > patience.stall:
            raise NoListError(
                failure.reason, f"{failure.message}; given up after {failures} tries without progress"
            )
        time.sleep(patience.pause * 2 ** (failures - 1))
    raise NoListError(STREAM_FAILED, f"{patience.streams} streams did not bring the list to its end")


def _stream(asked: Asked, listing: Listing, start: int, idle: float) -> _Failure | None:
    """One stream, from a byte of the volume on; None when it ended well."""
    try:
        token = _read_token(asked.token)
    except OSError as error:
        return _Failure(NO_TOKEN, f"{asked.token}: {error.strerror}", permanent=True)
    if not token:
        return _Failure(NO_TOKEN, f"{asked.token}: it is empty", permanent=True)
    request = DeltaRequest(token, asked.namespace, asked.base, asked.target, start, MOST_TUPLES)
    credentials = grpc.ssl_channel_credentials(asked.ca.encode())
    with closing(grpc.secure_channel(asked.address, credentials, OPTIONS)) as channel:
        call = channel.unary_stream(METHOD, encode, None)(request)
        with _watched(call, idle) as watch:
            try:
                for message in call:
                    before = listing.position
                    listing.add(_decoded(message))
                    if listing.position > before:
                        watch.feed()
            except grpc.RpcError as error:
                return _Failure(NO_PROGRESS, f"no tuple came for {idle:g} s") if watch.bit else _of(error)
            except BadListError as error:
                return _Failure(INVALID_LIST, f"a list that cannot be right: {error}", permanent=True)
            finally:
                call.cancel()
    return _Failure(NO_PROGRESS, f"no tuple came for {idle:g} s") if watch.bit else None


def _decoded(message: bytes) -> Delta:
    try:
        return decode(message)
    except ValueError as error:
        raise BadListError(f"no message of this service: {error}") from error


def _of(error: Any) -> _Failure:
    code = error.code()
    message = f"{code.name}: {error.details()}"
    if code in PERMANENT:
        return _Failure(PERMANENT[code], message, permanent=True)
    return _Failure(SERVICE_UNAVAILABLE if code is grpc.StatusCode.UNAVAILABLE else STREAM_FAILED, message)


def _read_token(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


class _Watchdog:
    """Cancels a call when it was not fed for so many seconds."""

    def __init__(self, cancel: Callable[[], Any], idle: float) -> None:
        self._cancel = cancel
        self._idle = idle
        self._fed = threading.Event()
        self._over = False
        self.bit = False
        """Whether it has cancelled the call."""

    def feed(self) -> None:
        """There is progress."""
        self._fed.set()

    def end(self) -> None:
        """The call has ended."""
        self._over = True
        self._fed.set()

    def run(self) -> None:
        """Until the end, in a thread of its own."""
        while self._fed.wait(self._idle):
            self._fed.clear()  # before the look at what may have been set just now
            if self._over:
                return
        self.bit = True
        self._cancel()


@contextmanager
def _watched(call: Any, idle: float) -> Iterator[_Watchdog]:
    dog = _Watchdog(call.cancel, idle)
    thread = threading.Thread(target=dog.run, name="watchdog", daemon=True)
    thread.start()
    try:
        yield dog
    finally:
        dog.end()
        thread.join()

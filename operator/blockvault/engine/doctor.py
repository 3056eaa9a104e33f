"""Is this store all right, and what should somebody do about it? Looks, and changes nothing but canaries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from blockvault.engine import runtime, trash
from blockvault.engine.canary import check_store
from blockvault.engine.collect import ATTEMPT_SECONDS
from blockvault.engine.commits import Commits
from blockvault.engine.errors import NotAVault
from blockvault.engine.generations import open_store_record
from blockvault.engine.keys import KeyRing
from blockvault.engine.names import CANARIES, STORE
from blockvault.engine.state import ACTIVE, State
from blockvault.engine.volumes import Volume, Volumes
from blockvault.stores import BlockvaultError, ObjectNotFound, ObjectStore

Check = dict[str, Any]

# Seconds for which a listing may lag before that is worth mentioning.
LISTING_SECONDS = 10
# Clocks may differ by so many seconds; S3 itself refuses signatures at 15 minutes.
SKEW_SECONDS = 300


def examine(store: ObjectStore, ring: KeyRing) -> list[Check]:
    """Findings [{check, ok, detail, remedy}], in the order in which they were looked at.

    What cannot be looked at because something before it failed is left out. Errors of the store are findings.
    """
    checks: list[Check] = []
    if not _look(checks, "reachable", lambda: _reach(store)):
        return checks
    try:
        facts = open_store_record(store, ring)
    except BlockvaultError as error:
        _add(checks, "store" if isinstance(error, NotAVault) else "key", error)
        return checks
    key = "the key fits" if facts.encrypted else "not encrypted"
    checks.append(_fine("key", f"store {facts.store_id} of {facts.created_at}: {key}"))
    _look(checks, "creation", lambda: _create(store, single_writer=facts.single_writer))
    _look(checks, "listing", lambda: _list(store))
    volumes = Volumes(store, facts)
    newest: list[str] = []
    try:
        names = sorted(set(volumes.names()))
    except BlockvaultError as error:
        _add(checks, "volumes", error)
        return checks
    for name in names:
        try:
            found = volumes.find(name)
        except BlockvaultError as error:
            _add(checks, f"volume {name}", error)
            continue
        if found is not None and found.state.status == ACTIVE:
            newest.append(found.state.written_at)
            checks += _volume(store, found)
    checks.append(_clock(newest))
    return checks


def _fine(check: str, detail: str) -> Check:
    return {"check": check, "ok": True, "detail": detail, "remedy": None}


def _wrong(check: str, detail: str, remedy: str) -> Check:
    return {"check": check, "ok": False, "detail": detail, "remedy": remedy}


def _add(checks: list[Check], check: str, error: BlockvaultError) -> None:
    checks.append(_wrong(check, f"{error.reason}: {error}", error.remedy))


def _look(checks: list[Check], check: str, look: Callable[[], Check]) -> bool:
    try:
        found = look()
    except BlockvaultError as error:
        _add(checks, check, error)
        return False
    checks.append({**found, "check": check})
    return bool(found["ok"])


def _reach(store: ObjectStore) -> Check:
    started = runtime.monotonic()
    try:
        store.get(STORE, 0, 1)
    except ObjectNotFound:
        next(iter(store.list(STORE)), None)  # a bucket that is not there says so now
    return _fine("", f"{store.url} answers ({runtime.monotonic() - started:.2f} s)")


def _create(store: ObjectStore, *, single_writer: bool) -> Check:
    check_store(store, single_writer=single_writer)
    if single_writer:
        return _fine("", "objects are kept; only one may write, as was said when the store was made")
    return _fine("", "objects are kept, and a second creation of a name is refused")


def _list(store: ObjectStore) -> Check:
    key = f"{CANARIES}{runtime.random_id()}"
    store.create(key, runtime.random(64))
    try:
        for second in range(LISTING_SECONDS):
            if any(info.key == key for info in store.list(CANARIES)):
                return _fine(
                    "", "a listing shows a new object " + (f"after {second} s" if second else "at once")
                )
            runtime.sleep(1)
    finally:
        store.delete([key])
    return _wrong(
        "",
        f"a listing does not show an object {LISTING_SECONDS} s after its creation",
        "No backup is in danger; space is freed later than it could be. Ask who runs the store.",
    )


def _age(time: str) -> float:
    then = datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return runtime.wall() - then.timestamp()


def _clock(written: list[str]) -> Check:
    """Commits say when they were written, by the clocks of those who wrote them."""
    ahead = max((-_age(time) for time in written if time), default=0.0)
    if ahead > SKEW_SECONDS:
        return _wrong(
            "clock",
            f"the newest commit was written {ahead:.0f} s in the future of this machine's clock",
            "Set the clocks right (NTP): this machine's, or that of who wrote last.",
        )
    return _fine("clock", "no commit is from the future")


def _volume(store: ObjectStore, found: Volume) -> list[Check]:
    state, name = found.state, f"volume {found.state.volume}"
    checks: list[Check] = []
    living = len(trash.living(state))
    told = f"{living} backups, {state.used_bytes} bytes, commit {state.number}"
    try:
        Commits(store, found.lineage).check_chain(state)
        checks.append(_fine(name, told))
    except BlockvaultError as error:
        _add(checks, name, error)
    return [*checks, *_attempts(name, state), *_leftovers(name, state), *_trust(name, state)]


def _attempts(name: str, state: State) -> list[Check]:
    checks = []
    for attempt in state.attempts:
        age = _age(attempt.started_at)
        told = f"a {attempt.kind} has stood for {age / 3600:.1f} hours (operation {attempt.operation})"
        if age > ATTEMPT_SECONDS:
            checks.append(_wrong(name, told, "Run `blockvault collect`: it counts as dead and is dropped."))
        else:
            checks.append(_fine(name, told))
    return checks


def _leftovers(name: str, state: State) -> list[Check]:
    checks = []
    if state.condemned:
        told = f"{len(state.condemned)} objects are condemned and have not been deleted"
        checks.append(
            _wrong(name, told, "Run `blockvault collect`: a former one was interrupted, or refused.")
        )
    due = len(trash.due(state))
    if due:
        told = f"{due} backups in the trash are due"
        checks.append(_wrong(name, told, "Run `blockvault collect`, regularly."))
    return checks


def _trust(name: str, state: State) -> list[Check]:
    checks = []
    if state.damaged:
        told = f"{len(state.damaged)} pieces were found damaged"
        remedy = "Make a backup, which stores anew what is damaged; then run `blockvault verify`."
        checks.append(_wrong(name, told, remedy))
    if state.distrusted:
        told = f"lists of changed blocks are not believed since {state.distrusted['since']}"
        remedy = "Make a backup without a list; find out why the list left something out."
        checks.append(_wrong(name, told, remedy))
    return checks

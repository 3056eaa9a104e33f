"""Is this store all right, and what should somebody do about it? Looks, and changes nothing but canaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from blockvault.engine import rollback, runtime, trash
from blockvault.engine.canary import check_store
from blockvault.engine.collect import ATTEMPT_SECONDS
from blockvault.engine.commits import Commits
from blockvault.engine.envelope import VERSION
from blockvault.engine.errors import FormatUnsupported, NotAVault, RollbackSuspected, StoredDataDamaged
from blockvault.engine.exitcodes import exit_code
from blockvault.engine.finding import FAIL, OK, WARN, Check, finding
from blockvault.engine.generations import StoreFacts, newest, open_store_record
from blockvault.engine.keys import KeyRing
from blockvault.engine.lockcheck import locked_as_told
from blockvault.engine.names import CANARIES, STORE
from blockvault.engine.rollback import Seen
from blockvault.engine.state import ACTIVE, State
from blockvault.engine.volumes import Volume, Volumes
from blockvault.exitcodes import DATA
from blockvault.stores import AccessDenied, BlockvaultError, ObjectLock, ObjectNotFound, ObjectStore

# Seconds for which a listing may lag before that is worth mentioning.
LISTING_SECONDS = 10
# Clocks may differ by so many seconds; S3 itself refuses signatures at 15 minutes.
SKEW_SECONDS = 300


def examine(
    store: ObjectStore, ring: KeyRing, *, actor: str | None = None, seen: dict[str, Seen] | None = None
) -> list[Check]:
    """Findings [{check, level, detail, remedy, exitCode}], in the order in which they were looked at.

    `level` is `ok`, `warn` or `fail`; `remedy` is None where nothing is to be done; `exitCode` is 0 unless it fails.
    What cannot be looked at because something before it failed is left out. Errors of the store are findings.
    `actor`: the cluster that acts. `seen`: newest commits as they were seen before, by lineage.
    """
    checks: list[Check] = []
    if not _look(checks, "reachable", lambda: _reach(store)):
        return checks
    try:
        facts = open_store_record(store, ring)
    except BlockvaultError as error:
        _add(checks, _of_opening(error), error)
        return checks
    checks.append(finding("format", OK, f"store {facts.store_id} of {facts.created_at}, format {VERSION}"))
    _look(checks, "key", lambda: _key(store, facts))
    if facts.lock is not None:
        lock = facts.lock
        _look(checks, "lock", lambda: _lock(store, lock))
    if _permissions(checks, store, locked=facts.lock is not None):
        _look(checks, "creation", lambda: _create(store, single_writer=facts.single_writer))
        _look(checks, "listing", lambda: _list(store))
    written: list[str] = []

    def failed(key: str, name: str | None, error: BlockvaultError) -> None:
        _add(checks, f"volume {name}" if name else key, error)

    try:
        for found in Volumes(store, facts).all(failed=failed):
            if found.state.status == ACTIVE:
                written.append(found.state.written_at)
                checks.extend(_volume(store, found, actor, (seen or {}).get(found.state.lineage)))
                if facts.lock is not None:
                    name = f"volume {found.state.volume}"
                    _look(checks, name, partial(locked_as_told, store, found, facts.lock))
    except BlockvaultError as error:
        _add(checks, "volumes", error)
        return checks
    checks.append(_clock(written))
    return checks


def of_error(check: str, error: BlockvaultError, words: str = "") -> Check:
    """The line that an error makes; `words` come before it."""
    return finding(check, FAIL, f"{words}{error.reason}: {error}", error.remedy, exit_code(error))


def _add(checks: list[Check], check: str, error: BlockvaultError) -> None:
    checks.append(of_error(check, error))


def _look(checks: list[Check], check: str, look: Callable[[], Check]) -> bool:
    try:
        found = look()
    except BlockvaultError as error:
        _add(checks, check, error)
        return False
    checks.append({**found, "check": check})
    return bool(found["level"] != FAIL)


def _of_opening(error: BlockvaultError) -> str:
    if isinstance(error, FormatUnsupported):
        return "format"
    return "store" if isinstance(error, NotAVault | StoredDataDamaged) else "key"


def _reach(store: ObjectStore) -> Check:
    started = runtime.monotonic()
    try:
        store.get(STORE, 0, 1)
    except ObjectNotFound:
        next(iter(store.list(STORE)), None)  # a bucket that is not there says so now
    return finding("", OK, f"{store.url} answers ({runtime.monotonic() - started:.2f} s)")


def _key(store: ObjectStore, facts: StoreFacts) -> Check:
    current = facts.ring.current
    if not facts.encrypted or current is None:
        return finding("", OK, "the store is not encrypted")
    last = newest(store, facts)
    if last.fingerprint != current.fingerprint:
        return finding(
            "",
            WARN,
            f"the key given is {current.fingerprint}; the newest, of generation {last.number}, {last.fingerprint}",
            "Use the newest key; the one given makes no new volumes, and reads none made since.",
        )
    return finding("", OK, f"{current.fingerprint} fits, and is the newest (generation {last.number})")


def _lock(store: ObjectStore, lock: ObjectLock) -> Check:
    store.check_locks()
    until = store.lock_until(STORE)
    if until is None or until.timestamp() < runtime.wall():
        told = "the store's own record is not locked any more"
        return finding("", WARN, told, "Make a backup, which extends it; it does so for all that is due.")
    return finding("", OK, f"backups are locked for {lock.days} days, {lock.mode}")


def _permissions(checks: list[Check], store: ObjectStore, *, locked: bool) -> bool:
    """Whether the credentials may do all that backups and collecting need, tried out on a canary.

    `locked`: backups are, and then it is better if whoever makes them may not delete.
    """
    key, data = f"{CANARIES}{runtime.random_id()}", runtime.random(64)
    tries: list[tuple[str, Callable[[], object]]] = [
        ("put", lambda: store.put(key, data)),
        ("get", lambda: store.get(STORE)),
        ("list", lambda: list(store.list(CANARIES))),
        ("delete", lambda: store.delete([key])),
    ]
    failed = []
    for name, attempt in tries:
        try:
            attempt()
        except AccessDenied as error:
            if name == "delete" and locked:
                told = "put, get and list, but not delete: enough for backups, and collecting takes other credentials"
                checks.append(finding("permissions", OK, told))
                return False  # every canary would stay
            failed.append(of_error("permissions", error, f"{name}: "))
        except BlockvaultError as error:
            failed.append(of_error("permissions", error, f"{name}: "))
    checks += failed or [finding("permissions", OK, "put, get, list and delete")]
    return not failed


def _create(store: ObjectStore, *, single_writer: bool) -> Check:
    check_store(store, single_writer=single_writer)
    if single_writer:
        return finding("", OK, "objects are kept; only one may write, as was said when the store was made")
    return finding("", OK, "objects are kept, and a second creation of a name is refused")


def _list(store: ObjectStore) -> Check:
    key = f"{CANARIES}{runtime.random_id()}"
    store.create(key, runtime.random(64))
    try:
        for second in range(LISTING_SECONDS):
            if any(info.key == key for info in store.list(CANARIES)):
                when = f"after {second} s" if second else "at once"
                return finding("", OK, f"a listing shows a new object {when}")
            runtime.sleep(1)
    finally:
        store.delete([key])
    return finding(
        "",
        WARN,
        f"a listing does not show an object {LISTING_SECONDS} s after its creation",
        "No backup is in danger; space is freed later than it could be. Ask who runs the store.",
    )


def _age(time: str) -> float:
    return runtime.wall() - runtime.seconds_of(time)


def _clock(written: list[str]) -> Check:
    """Commits say when they were written, by the clocks of those who wrote them."""
    ahead = max((-_age(time) for time in written if time), default=0.0)
    if ahead > SKEW_SECONDS:
        return finding(
            "clock",
            WARN,
            f"the newest commit was written {ahead:.0f} s in the future of this machine's clock",
            "Set the clocks right (NTP): this machine's, or that of who wrote last.",
        )
    return finding("clock", OK, "no commit is from the future")


def _volume(store: ObjectStore, found: Volume, actor: str | None, seen: Seen | None) -> list[Check]:
    state, name = found.state, f"volume {found.state.volume}"
    checks: list[Check] = []
    living = trash.living(state)
    read_back = [entry.labels["verified"]["at"] for entry in living if "verified" in entry.labels]
    told = f"{len(living)} backups, {len(state.roots) - len(living)} in the trash, commit {state.number}, "
    told += f"last verified {max(read_back)}" if read_back else "never verified"
    try:
        commits = Commits(store, found.lineage)
        commits.check_chain(state)
        cause = commits.set_back(state, seen)
        if cause is not None:
            raise RollbackSuspected(cause)
        rollback.refuse(state)
        _refuse_unknown(store, found, commits)
        checks.append(finding(name, OK, told))
    except BlockvaultError as error:
        _add(checks, name, error)
    parts = _format(state), _owner(state, actor), _attempts(state), _leftovers(state), _trust(state)
    return [*checks, *({**check, "check": name} for part in parts for check in part)]


def _refuse_unknown(store: ObjectStore, found: Volume, commits: Commits) -> None:
    """Raises RollbackSuspected for objects of runs that no commit knows: not the state that we read, nor the newest."""
    paths, epoch = found.lineage.paths, found.state.epoch
    listed = rollback.highest_epoch(store, paths)
    if listed > epoch:
        newest = commits.newest(at_least=found.state.number) or found.state
        if listed > newest.epoch:
            raise RollbackSuspected(
                f"there are objects of epoch {listed}, and the newest commit, {newest.number}, knows of none after "
                f"{newest.epoch}"
            )


def _format(state: State) -> Iterator[Check]:
    if not state.writable:
        told = "a newer version of Blockvault writes to it, with features that this one lacks"
        yield finding("", FAIL, told, "Use the newer version; this one must not write to it.", DATA)


def _owner(state: State, actor: str | None) -> Iterator[Check]:
    owner = state.owner["cluster"] if state.owner else None
    if owner is not None and actor is not None and owner != actor:
        told = f"belongs to {owner}, not to {actor}"
        yield finding("", WARN, told, f"Write from {owner}; if that cluster is gone, act for it.")
    elif owner is not None:
        yield finding("", OK, f"belongs to {owner}")


def _attempts(state: State) -> Iterator[Check]:
    for attempt in state.attempts:
        age = _age(attempt.started_at)
        told = f"a {attempt.kind} has stood for {age / 3600:.1f} hours (operation {attempt.operation})"
        if age > ATTEMPT_SECONDS:
            yield finding("", WARN, told, "Run `blockvault collect`: it counts as dead and is dropped.")
        else:
            yield finding("", OK, told)


def _leftovers(state: State) -> Iterator[Check]:
    if state.condemned:
        told = f"{len(state.condemned)} objects are condemned and have not been deleted"
        yield finding("", WARN, told, "Run `blockvault collect`: a former one was interrupted, or refused.")
    due = len(trash.due(state, runtime.wall()))
    if due:
        told = f"{due} backups in the trash are due"
        yield finding("", WARN, told, "Run `blockvault collect`, regularly.")


def _trust(state: State) -> Iterator[Check]:
    if state.damaged:
        told = f"{len(state.damaged)} pieces were found damaged"
        remedy = "Make a backup, which stores anew what is damaged; then run `blockvault verify`."
        yield finding("", FAIL, told, remedy, DATA)
    if state.distrusted:
        told = f"lists of changed blocks are not believed since {state.distrusted['since']}"
        remedy = "Make a backup without a list; find out why the list left something out."
        yield finding("", WARN, told, remedy)

"""What a commit holds: the whole current state of a lineage, as JSON that keeps what it does not know."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from blockvault.engine import runtime
from blockvault.engine.names import ObjectName

ACTIVE = "Active"
DELETED = "Deleted"
# Of a lineage that is active and holds nothing; only commits' clear sections say so.
EMPTY = "Empty"

# Kinds of attempts.
BACKUP = "backup"
COMPACT = "compact"
RESTORE = "restore"

# How many outcomes a state remembers: as many as the commits that are never trimmed.
OUTCOMES = 64
# Attempts of dead runs are dropped, oldest first, past this many; a live one that is dropped fails cleanly.
ATTEMPTS = 32
# So many pins of readers; more read unpinned.
PINS = 32

# What a run reports and results are made of.
FIGURES = {
    "bytesScanned",
    "bytesChanged",
    "bytesStored",
    "requests",
    "seconds",
    "changedBlockSource",
    "fallbackReason",
    "unreadable",
    "fileSystem",
    "peakMemoryBytes",
}

_TYPES: dict[str, type] = {"str": str, "int": int, "dict": dict, "list": list, "None": type(None)}


def _fits(value: object, declared: str) -> bool:
    """Whether a value from JSON is of a field's type; what is inside a list or map is not looked at, but integers."""
    if declared == "list[int]" and not (isinstance(value, list) and all(type(item) is int for item in value)):
        return False
    return any(type(value) is _TYPES[each.partition("[")[0]] for each in declared.split(" | "))


def _check_map(value: object, **types: type) -> None:
    """Raises ValueError unless a map has these keys, with values of these types."""
    if not isinstance(value, dict) or any(type(value.get(key)) is not kind for key, kind in types.items()):
        raise ValueError(f"{', '.join(types)} missing or of a wrong type")


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


@dataclass
class Record:
    """Fields to and from camelCase JSON; unknown keys are carried along in `extra`."""

    extra: dict[str, Any] = field(default_factory=dict, kw_only=True)
    nested: ClassVar[dict[str, type[Record]]] = {}
    unsaved: ClassVar[frozenset[str]] = frozenset({"extra"})

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        out = dict(self.extra)
        for f in dataclasses.fields(self):
            if f.name in self.unsaved:
                continue
            value = getattr(self, f.name)
            out[_camel(f.name)] = [item.to_json() for item in value] if f.name in self.nested else value
        return out

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """From what is stored. Raises TypeError when a field is missing or of another type, ValueError."""
        if not isinstance(data, dict):
            raise TypeError(f"{cls.__name__}: not a JSON object")
        rest = dict(data)
        fields: dict[str, Any] = {}
        for f in dataclasses.fields(cls):
            if f.name not in cls.unsaved and _camel(f.name) in rest:
                value = rest.pop(_camel(f.name))
                if not _fits(value, str(f.type)):
                    raise TypeError(f"{_camel(f.name)} is not {f.type}")
                kind = cls.nested.get(f.name)
                fields[f.name] = [kind.from_json(item) for item in value] if kind else value
        return cls(**fields, extra=rest)


@dataclass
class RootEntry(Record):
    """One backup. `object` names the root of its present `revision`; `figures` are the run's results."""

    id: str
    operation: str
    object: str
    object_bytes: int
    object_checksum: str
    content_hash: str
    size: int
    type: str
    parent: str | None
    created_at: str
    figures: dict[str, Any]
    revision: int = 1
    labels: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError."""
        ObjectName.parse(self.object)
        if not self.figures.keys() >= FIGURES:
            raise ValueError("a backup without its figures")
        if "trash" in self.labels:
            _check_map(self.labels["trash"], since=str, until=str)


@dataclass
class Attempt(Record):
    """A run that may still commit. `parent` is the pinned root: {id, revision, object, bytes}, or None.

    A pin is of a revision: a compaction may give the backup another root object meanwhile, and the run goes on
    with the one that it has read. `kind`: what runs; of kind `restore`, it only reads, and its epoch is 0.

    `adopts`: epochs of dead runs of the operation, whose objects it may name; `patches_of`: the one of them whose
    patches fit as well, as it had the same parent and size. `size`: of the volume, in bytes. `key`: fingerprint of
    the vault's key that the run was given; None where the store is not encrypted. `turn`: which try of the operation it
    is, as whoever starts them counts; 0 where nobody does.
    """

    id: str
    operation: str
    epoch: int
    parent: dict[str, Any] | None
    size: int
    started_at: str
    adopts: list[int] = field(default_factory=list)
    patches_of: int | None = None
    kind: str = BACKUP
    key: str | None = None
    turn: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError."""
        runtime.seconds_of(self.started_at)
        if self.parent is not None:
            _check_map(self.parent, id=str, revision=int, object=str)
            ObjectName.parse(self.parent["object"])


@dataclass
class Outcome(Record):
    """What a recent commit did: a proof that it counted, for whoever made it.

    `ended`: operations that make no backup any more: those whose backups it removed, or that it gave up for good.
    """

    commit: str
    action: str
    attempt: str | None = None
    operation: str | None = None
    root: str | None = None
    ended: list[str] = field(default_factory=list)


@dataclass
class State(Record):
    """A lineage's state, held by commit `number` of id `commit_id` (0 and "" before the first).

    `uncounted`: ids of backups that `used_bytes` leaves out, as a root that says what they need is damaged.
    `tag`: the version of that object as a listing showed it before it was read. `doubled`: keys of commits of which
    one number is there twice, in a store for one writer.
    """

    lineage: str
    volume: str
    writable: bool = True
    tag: str | None = None
    doubled: list[str] = field(default_factory=list)
    number: int = 0
    commit_id: str = ""
    previous: str | None = None
    written_at: str = ""
    status: str = ACTIVE
    epoch: int = 0
    used_bytes: int = 0
    trash_bytes: int = 0
    uncounted: list[str] = field(default_factory=list)
    owner: dict[str, Any] | None = None
    roots: list[RootEntry] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    condemned: list[Any] = field(default_factory=list)
    damaged: list[dict[str, Any]] = field(default_factory=list)
    distrusted: dict[str, Any] | None = None
    rollback: dict[str, Any] | None = None

    nested: ClassVar[dict[str, type[Record]]] = {"roots": RootEntry, "attempts": Attempt, "outcomes": Outcome}
    unsaved: ClassVar[frozenset[str]] = frozenset({"extra", "writable", "tag", "doubled"})

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.owner is not None:
            _check_map(self.owner, cluster=str)
        if self.rollback is not None:
            _check_map(self.rollback, since=str, reason=str)
        for item in self.damaged:
            _check_map(item, object=str, offset=int, blocks=list)
        for key in self.condemned:
            ObjectName.parse(str(key).rpartition("/")[2])

    @property
    def empty(self) -> bool:
        """Whether nobody could read anything of it: no backups, not in the trash either, and none pinned by a run."""
        return not self.roots and all(attempt.parent is None for attempt in self.attempts)

    def encode(self) -> bytes:
        """The body of a commit."""
        return json.dumps(self.to_json(), separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> State:
        """The reverse. Raises ValueError, TypeError or KeyError."""
        return cls.from_json(json.loads(data))

    def copy(self) -> State:
        """One that can be changed freely."""
        return State.decode(self.encode())

    def root(self, backup_id: str) -> RootEntry | None:
        """The backup of that id."""
        return next((root for root in self.roots if root.id == backup_id), None)

    def root_of(self, operation: str) -> RootEntry | None:
        """The backup that an operation made."""
        return next((root for root in self.roots if root.operation == operation), None)

    def attempt(self, attempt_id: str) -> Attempt | None:
        """The running attempt of that id."""
        return next((attempt for attempt in self.attempts if attempt.id == attempt_id), None)

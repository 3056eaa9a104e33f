"""What a claim was like when its snapshot was taken.

It is noted in the Backup's status before the snapshot is taken, and on the operator's own content of it, so that a
backup goes on, and can be described, when the claim is changed or deleted under it; and it goes into the stored backup,
from which a lost claim is made again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_args

from pydantic import TypeAdapter

from blockvault.api import parse_quantity
from blockvault.api.restore import AccessMode

from .naming import SOURCE_ANNOTATION
from .objects import Object

# Written by controllers, meaningless for a claim made again; the last-applied one can be very large.
DROPPED_ANNOTATIONS = (
    "pv.kubernetes.io/",
    "volume.kubernetes.io/",
    "volume.beta.kubernetes.io/",
    "kubectl.kubernetes.io/",
    "blockvault.dev/",
)
# Of labels and annotations together: what goes into the stored backup with them has room to grow (docs/format.md).
MOST_BYTES = 40_000
ACCESS_MODES = frozenset(get_args(AccessMode))


@dataclass(frozen=True)
class Source:
    """A claim and its volume at the moment of the snapshot. `capacity` is a quantity of the volume.

    What was written by an earlier version lacks the later fields: each has a default.
    """

    driver: str
    capacity: str
    storage_class: str | None
    volume_mode: str
    access_modes: list[str]
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    node_affinity: dict[str, Any] | None = None
    claim_uid: str = ""
    volume_handle: str = ""

    def to_json(self) -> str:
        """As an annotation's value."""
        return json.dumps(asdict(self), sort_keys=True)


_SOURCE = TypeAdapter(Source)


def describe_source(claim: Object, volume: Object) -> Source:
    """The source as the claim and its volume are now."""
    meta, spec = claim["metadata"], claim["spec"]
    annotations = meta.get("annotations") or {}
    labels, annotations = _as_fit(
        dict(meta.get("labels") or {}),
        _kept(annotations),
    )
    return Source(
        driver=volume["spec"]["csi"]["driver"],
        capacity=volume["spec"]["capacity"]["storage"],
        storage_class=spec.get("storageClassName"),
        volume_mode=spec.get("volumeMode") or "Filesystem",
        access_modes=list(spec.get("accessModes") or ["ReadWriteOnce"]),
        labels=labels,
        annotations=annotations,
        node_affinity=(volume["spec"].get("nodeAffinity") or {}).get("required"),
        claim_uid=meta["uid"],
        volume_handle=volume["spec"]["csi"].get("volumeHandle") or "",
    )


def _as_fit(labels: dict[str, str], annotations: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """As many as fit into MOST_BYTES, the smallest first and labels before annotations.

    A claim may carry 256 KiB of annotations; that must not keep it from being backed up.
    """
    kept: tuple[dict[str, str], dict[str, str]] = ({}, {})
    left = MOST_BYTES
    for pairs, into in zip((labels, annotations), kept, strict=True):
        for key, value in sorted(pairs.items(), key=lambda pair: (len(json.dumps(pair)), pair)):
            left -= len(json.dumps({key: value}))
            if left >= 0:
                into[key] = value
    return kept


def stored_source(meta: Any) -> Source | None:
    """The source that a stored backup describes; None where it does not, or not as it should.

    What a store says is not trusted: only what is known is taken, only of its right type, and nothing that a claim
    would not have been asked for.
    """
    found = (meta or {}).get("source") if isinstance(meta, dict) else None
    try:
        source = _SOURCE.validate_python(found)
        parse_quantity(source.capacity)
    except ValueError:  # pydantic's ValidationError is one
        return None
    if source.volume_mode not in ("Block", "Filesystem") or not ACCESS_MODES.issuperset(source.access_modes):
        return None
    return replace(source, annotations=_kept(source.annotations))


def _kept(annotations: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in annotations.items() if not k.startswith(DROPPED_ANNOTATIONS)}


def read_source(content: Object | None, noted: str | None = None) -> Source | None:
    """The source that a content of the operator's remembers, else that which is noted; None where neither is.

    Both are the operator's own words: a snapshot in a tenant's namespace is the tenant's to write on. What a later
    version has added is passed over, so that an operator can be set back while Backups are under way.
    """
    known = {each.name for each in fields(Source)}
    text = ((content or {}).get("metadata") or {}).get("annotations", {}).get(SOURCE_ANNOTATION) or noted
    return Source(**{key: value for key, value in json.loads(text).items() if key in known}) if text else None

"""Names and labels of everything the operator makes.

Names are derived from the uid of the object that the thing belongs to, so that making it twice is the
same as making it once, and an object of the same name made by somebody else can be told from ours.
"""

from __future__ import annotations

import hashlib

GROUP = "blockvault.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "blockvault"
OPERATION_LABEL = f"{GROUP}/operation"
KIND_LABEL = f"{GROUP}/kind"
CLAIM_LABEL = f"{GROUP}/claim"
NAMESPACE_ANNOTATION = f"{GROUP}/namespace"
NAME_ANNOTATION = f"{GROUP}/name"
SOURCE_CONTENT_ANNOTATION = f"{GROUP}/source-content"
SOURCE_ANNOTATION = f"{GROUP}/source"
VOLUME_HANDLE_ANNOTATION = f"{GROUP}/volume-handle"
RESTORE_ANNOTATION = f"{GROUP}/restore-uid"
RESTORED_BY_ANNOTATION = f"{GROUP}/restored-by"
POPULATES_ANNOTATION = f"{GROUP}/populates"
FENCED_ANNOTATION = f"{GROUP}/taken-from"
HAVE_ANNOTATION = f"{GROUP}/have"
RECLAIM_POLICY_ANNOTATION = f"{GROUP}/reclaim-policy"
RETAINED_BY_ANNOTATION = f"{GROUP}/retained-by"
DEFAULT_CLASS_ANNOTATION = f"{GROUP}/is-default-class"
POLICY_ANNOTATION = f"{GROUP}/policy"
SLOT_ANNOTATION = f"{GROUP}/slot"
RETENTION_ANNOTATION = f"{GROUP}/retention"
TIME_ZONE_ANNOTATION = f"{GROUP}/time-zone"
RUN_ANNOTATION = f"{GROUP}/run"
ALLOW_DELETION_ANNOTATION = f"{GROUP}/allow-deletion"
ACKNOWLEDGE_ANNOTATION = f"{GROUP}/acknowledge"
IMPORTED_ANNOTATION = f"{GROUP}/imported"
IMPORTED_LABEL = f"{GROUP}/imported"
TAKE_OVER_ANNOTATION = f"{GROUP}/take-over"
UNDELETE_ANNOTATION = f"{GROUP}/undelete"
RUN_NOW_ANNOTATION = f"{GROUP}/run-now"
EXCLUDE_ANNOTATION = f"{GROUP}/exclude"
ENCRYPTED_LABEL = f"{GROUP}/encrypted"
SNAPSHOT_CLASS_LABEL = f"{GROUP}/snapshot-class"
TASK_TYPE_LABEL = f"{GROUP}/task-type"
TASK_PHASE_LABEL = f"{GROUP}/task-phase"
TASK_DAY_LABEL = f"{GROUP}/day"
VAULT_LABEL = f"{GROUP}/vault"
RESOURCE_LABEL = f"{GROUP}/resource"
OBJECT_LABEL = f"{GROUP}/object"

# Characters of a label's value.
MOST_LABEL = 63

DEVICE_PATH = "/dev/blockvault/volume"
REQUEST_DIR = "/var/run/blockvault"
TOKEN_DIR = "/var/run/blockvault-token"  # noqa: S105
TOKEN_FILE = "token"  # noqa: S105


def owned_name(uid: str) -> str:
    """Name of every object that an operation makes, except those of its movers after the first, and Jobs."""
    return f"bv-{uid}"


def mover_name(uid: str, attempt: int) -> str:
    """Name of a mover's raw claim and Secret: what one that was given up may still hold is not used again."""
    return owned_name(uid) if attempt == 1 else job_name(uid, attempt)


def populating_name(claim_uid: str) -> str:
    """Name of the Restore that fills a claim by its dataSourceRef."""
    return f"populate-{claim_uid}"


def former_name(uid: str) -> str:
    """Name of the PersistentVolume under which a restore in place keeps the former storage of its claim."""
    return f"{owned_name(uid)}-former"


def job_name(uid: str, attempt: int) -> str:
    """Name of the mover's Job; a new attempt or run has a new name, so that the old one can be told from it."""
    return f"bv-{uid}-{attempt}"


def volume_name(namespace: str, claim: str) -> str:
    """Name under which a claim's backups lie in the store."""
    return f"{namespace}/{claim}"


def claim_label(namespace: str, claim: str) -> str:
    """A label value for a claim: names can be longer than the 63 characters of a label."""
    return hashlib.sha256(volume_name(namespace, claim).encode()).hexdigest()[:32]


def label_value(name: str) -> str:
    """A name as a label value: itself where it fits the 63 characters, else its beginning and a hash."""
    if len(name) <= MOST_LABEL:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: MOST_LABEL - 17].rstrip('-.')}-{digest}"


def asked_id(value: str | None) -> str:
    """The backup that a value of `undelete` names: `ID`, or `ID@word` to ask for the same one again."""
    return (value or "").partition("@")[0]


def task_name(type: str, *key: str) -> str:
    """Name of the Task of an operation, from what tells the operation from all others."""
    return f"{type.lower()}-{hashlib.sha256('/'.join(key).encode()).hexdigest()[:16]}"


def owned_metadata(
    uid: str, kind: str, namespace: str, name: str, *, claim: str | None = None
) -> dict[str, dict[str, str]]:
    """Labels and annotations of what an operation makes.

    Never copies labels or annotations of the parent: Argo CD's tracking label on a child would make it
    prune the child.
    """
    labels = {MANAGED_BY_LABEL: MANAGED_BY, OPERATION_LABEL: uid, KIND_LABEL: kind}
    if claim is not None:
        labels[CLAIM_LABEL] = claim_label(namespace, claim)
    return {"labels": labels, "annotations": {NAMESPACE_ANNOTATION: namespace, NAME_ANNOTATION: name}}

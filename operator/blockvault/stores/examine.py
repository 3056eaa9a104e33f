"""What a bucket's own settings would do to backups in it: for `doctor` and for the first look at a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blockvault.stores.errors import AccessDenied, ObjectNotFound, StoreRefused
from blockvault.stores.location import StoreLocation

# What has to be brought back before it can be read.
ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}


@dataclass(frozen=True)
class BucketFacts:
    """Settings of a bucket; None where the store does not tell. `rules`: lifecycle rules as S3 writes them."""

    versioned: bool | None = None
    locks: bool | None = None
    default_lock: str | None = None
    rules: Sequence[Mapping[str, Any]] | None = field(default_factory=list)


def findings(location: StoreLocation, facts: BucketFacts) -> list[str]:
    """What a person should know, one sentence each; nothing when all is well."""
    said = []
    for rule in facts.rules or ():
        if rule.get("Status") == "Enabled" and _touches(rule, location.prefix):
            said += _of_rule(rule)
    if location.object_lock is not None and facts.locks is False:
        said.append(
            "The bucket was made without object lock, which is configured here: storing will be refused."
        )
    if location.object_lock is None and facts.default_lock:
        said.append(
            f"The bucket locks every new object ({facts.default_lock}): deleting fails until then. "
            "Configure the object lock here, so that locks are counted with."
        )
    return said


def examine(location: StoreLocation) -> list[str]:
    """Ask an S3 bucket for its settings and say what they mean; what may not be asked is left out.

    Raises StoreUnreachable, InvalidCredentials, BucketNotFound. A directory has no such settings.
    """
    if location.scheme == "file":
        return []
    return findings(location, _ask(location))


def _ask(location: StoreLocation) -> BucketFacts:
    from blockvault.stores.s3_answers import RAISED, translate
    from blockvault.stores.s3_clients import boto_client

    client: Any = boto_client(location)

    def ask(call: Callable[..., Any]) -> Mapping[str, Any] | None:
        """The answer; {} when there is no such setting, None when it may not be asked or is not known."""
        try:
            return dict(call(Bucket=location.bucket))
        except RAISED as error:
            translated = translate(error, location.url)
            if isinstance(translated, ObjectNotFound):  # NoSuchLifecycleConfiguration and the like
                return {}
            if isinstance(translated, AccessDenied | StoreRefused):
                return None
            raise translated from error

    versioning = ask(client.get_bucket_versioning)
    lock = ask(client.get_object_lock_configuration)
    rules = ask(client.get_bucket_lifecycle_configuration)
    settings = (lock or {}).get("ObjectLockConfiguration", {})
    default = settings.get("Rule", {}).get("DefaultRetention")
    span = default and (f"{default['Days']} days" if default.get("Days") else f"{default.get('Years')} years")
    return BucketFacts(
        versioned=None if versioning is None else versioning.get("Status") == "Enabled",
        locks=None if lock is None else settings.get("ObjectLockEnabled") == "Enabled",
        default_lock=default and f"{default['Mode'].capitalize()}, {span}",
        rules=None if rules is None else rules.get("Rules", []),
    )


def _touches(rule: Mapping[str, Any], prefix: str) -> bool:
    """Whether a rule applies to some of our objects. Tags and sizes are taken to fit: better one word too many."""
    chosen = rule.get("Filter") or {}
    theirs = chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix") or ""
    ours = prefix + "/" if prefix else ""
    return bool(ours.startswith(theirs) or theirs.startswith(ours))


def _of_rule(rule: Mapping[str, Any]) -> list[str]:
    name = f"Lifecycle rule {rule.get('ID') or '(without a name)'}"
    said = []
    expiry = rule.get("Expiration", {})
    if "Days" in expiry or "Date" in expiry:
        when = f"after {expiry['Days']} days" if "Days" in expiry else f"at {expiry['Date']:%Y-%m-%d}"
        said.append(f"{name} deletes objects of this store {when}: backups will be lost. Exclude the prefix.")
    said += [
        f"{name} moves objects of this store to {step['StorageClass']}: not readable at once. Exclude the prefix."
        for step in rule.get("Transitions", ())
        if step.get("StorageClass") in ARCHIVES
    ]
    return said

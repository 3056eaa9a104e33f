"""`blockvault doctor`: whether a store, its key and its credentials are all right."""

from __future__ import annotations

import click

from blockvault.cli import output
from blockvault.cli.options import STORE, Settings, common
from blockvault.cli.seen import known
from blockvault.engine import KeyRing, Repository
from blockvault.engine.doctor import examine, of_error
from blockvault.engine.finding import FAIL, OK, WARN, Check, finding
from blockvault.exitcodes import TEMPORARY
from blockvault.stores import BadLocation, BlockvaultError, StoreError
from blockvault.stores import examine as examine_bucket


@click.command()
@STORE
@common
def doctor(store: str, settings: Settings) -> None:
    """Look whether STORE is fit and in order, and say what to do about what is not.

    Is it reachable; does the key fit; may the credentials put, get, list and delete; is a second creation of a name
    refused; do listings lag, do clocks differ; what does a bucket's own settings do to backups; and of each volume
    its chain of commits, unfinished runs, trash that is due, known damage, distrusted lists, its owner, and by samples
    whether what should be locked is. It changes nothing but small objects under canary/, which it deletes again. It
    reads no backups: that is `blockvault verify`.

    A line that says fail makes the exit code what such an error has anywhere else; warn does not.

    \b
    Example:
      blockvault doctor s3://backups/prod
    """
    ring = settings.ring
    checks = _examine(store, ring, settings)
    if checks[0]["level"] == OK:
        checks[1:1] = _bucket(store, settings)
    if settings.json:
        output.as_json({"ok": all(check["level"] != FAIL for check in checks), "checks": checks})
    else:
        output.as_table(
            ("", "CHECK", "FINDING", "WHAT TO DO"),
            [(check["level"], check["check"], check["detail"], check["remedy"] or "") for check in checks],
        )
    codes = [check["exitCode"] for check in checks if check["level"] == FAIL]
    if codes:
        output.note(f"{len(codes)} of {len(checks)} checks failed")
        raise click.exceptions.Exit(next((code for code in codes if code != TEMPORARY), TEMPORARY))


def _examine(store: str, ring: KeyRing, settings: Settings) -> list[Check]:
    try:
        opened = settings.store(store)
    except BadLocation:
        raise
    except StoreError as error:
        return [of_error("reachable", error)]
    try:
        seen = known(Repository.open(opened, ring))
    except BlockvaultError:
        seen = {}  # the doctor says why it cannot be opened
    return examine(opened, ring, actor=settings.actor, seen=seen)


def _bucket(store: str, settings: Settings) -> list[Check]:
    """What the bucket's own settings would do: versions, object lock, rules that delete."""
    location = settings.location(store)
    if location.scheme == "file":
        return []
    try:
        said = examine_bucket(location)
    except BlockvaultError as error:
        return [finding("bucket", WARN, f"its settings cannot be read: {error}", error.remedy)]
    if not said:
        return [
            finding("bucket", OK, "none of its settings that may be read deletes, moves or locks backups")
        ]
    found = []
    for words in said:
        detail, _, remedy = words.partition(". ")
        found.append(finding("bucket", WARN, detail, remedy or "Correct the settings of the bucket."))
    return found

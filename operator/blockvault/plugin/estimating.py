"""`kubectl blockvault estimate`: how much capacity is needed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from blockvault.cluster.resources import BACKUPS, POLICIES, VAULTS
from blockvault.plugin import facts, rows, words
from blockvault.plugin.completing import names
from blockvault.plugin.errors import UsageError
from blockvault.plugin.facts import status_of
from blockvault.plugin.options import common, output, show, span
from blockvault.plugin.settings import Settings
from blockvault.plugin.words import NONE, name_of
from blockvault.terminal import size

if TYPE_CHECKING:
    from blockvault.plugin.session import Session

DAY = timedelta(days=1)
# Days of what a scheme of retention counts by.
PERIODS = {"hourly": 1 / 24, "daily": 1, "weekly": 7, "monthly": 30, "yearly": 365}


@click.command()
@click.argument("vault", required=False, metavar="[VAULT]", shell_complete=names("VAULTS"))
@click.option("--size", metavar="SIZE", help="By formula: bytes to protect, such as 500Gi.")
@click.option("--change", metavar="SIZE|%", help="By formula: what changes in a day, such as 5Gi or 2%.")
@click.option("--every", metavar="TIME", help="Time between backups, such as 1d (else as the policy has it).")
@click.option(
    "--keep", "kept", metavar="TIME", help="How long backups stay, such as 30d (else as the policy has it)."
)
@output("json", "yaml")
@common
def estimate(
    vault: str | None,
    size: str | None,
    change: str | None,
    every: str | None,
    kept: str | None,
    form: str,
    settings: Settings,
) -> None:
    """Estimate the capacity that a vault needs.

    With --change by formula: (size + kept / every x change of a day) x 120 %. That needs no cluster when --size is
    given; with VAULT the sizes are those of its claims. Without --change, by what each claim's backups have added to
    the store so far.

    \b
    Examples:
      kubectl blockvault estimate --size 500Gi --change 2% --every 1d --keep 30d
      kubectl blockvault estimate disks
    """
    interval, keep = span(every, "--every"), span(kept, "--keep")
    if size is not None:
        if vault is not None:
            raise UsageError("name a VAULT or --size, not both", "A vault's claims have their sizes.")
        if change is None or interval is None or keep is None:
            raise UsageError("--size goes with --change, --every and --keep", "See the example of --help.")
        show_formula(form, _quantity(size, "--size"), change, interval, keep)
        return
    if vault is None:
        raise UsageError("name a VAULT, or --size", "`kubectl blockvault estimate --help` has examples.")

    async def ask(session: Session) -> tuple[Any, list[Any], list[Any]]:
        found = await session.get(VAULTS, vault)
        policies, backups = await session.each_of(POLICIES, BACKUPS)
        return found, policies, [b for b in backups if facts.vault_of(b) == vault]

    found, policies, backups = settings.converse(ask)
    policy = next(
        (p for p in policies if name_of(p) == (status_of(found).get("policy") or {}).get("name")), None
    )
    interval = interval or interval_of(policy)
    keep = keep or kept_for(policy, interval)
    if keep is None:
        raise UsageError(
            f"Vault {vault} has no policy that says how long backups stay",
            "Say it by --keep, such as --keep 30d.",
        )
    if change is not None:
        if interval is None:
            raise UsageError(
                f"Vault {vault} has no policy that says how often", "Say it by --every, such as --every 1d."
            )
        show_formula(form, int(status_of(found).get("associatedBytes") or 0), change, interval, keep)
        return
    show_measured(form, found, backups, keep)


def _quantity(text: str, option: str) -> int:
    from blockvault.api import parse_quantity

    try:
        return parse_quantity(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}", "Write it as in a manifest: 500Gi.") from error


def show_formula(form: str, whole: int, change: str, every: timedelta, keep: timedelta) -> None:
    """By the guide's formula (A14)."""
    from blockvault.core.estimate import by_formula

    if change.endswith("%"):
        try:
            daily = whole * float(change[:-1]) / 100
        except ValueError as error:
            raise UsageError(f"--change {change!r} is no share", "Write it as 2% or 5Gi.") from error
    else:
        daily = float(_quantity(change, "--change"))
    try:
        needs = by_formula(whole, daily, every, keep)
    except ValueError as error:
        raise UsageError(str(error), "Write --every 1d and --keep 30d.") from error
    facts_ = {
        "sizeBytes": whole, "dailyChangeBytes": int(daily), "backups": needs.backups, "capacityBytes": needs.capacity,
    }  # fmt: skip
    table = [[
        size(whole), size(daily), f"{needs.backups:g}", size(whole + needs.backups * daily),
        size(needs.capacity),
    ]]  # fmt: skip
    show(form, facts_, ["SIZE", "CHANGE/DAY", "BACKUPS", "TOGETHER", "CAPACITY"], table)


def show_measured(form: str, vault: Any, backups: list[Any], keep: timedelta) -> None:
    """By what each claim's backups have added."""
    from blockvault.core.estimate import by_rate, measured

    claims = sorted({facts.claim_of(b) for b in backups} | set(_held(vault)))
    table, data, total, unknown = [], [], 0, []
    for claim in claims:
        rate = measured(stored_of([b for b in backups if facts.claim_of(b) == claim]))
        if rate is None:
            unknown.append(claim)
            table.append([claim, NONE, NONE, NONE, NONE, "too few backups to tell"])
            continue
        needs = by_rate(rate, keep)
        total += needs.capacity
        over = f"{rate.backups} backups over {words.span(rate.span.total_seconds())}"
        table.append(
            [claim, size(rate.whole), size(rate.daily), words.span(keep.total_seconds()),
             size(needs.capacity), over]
        )  # fmt: skip
        data.append(
            {
                "claim": claim,
                "fullBytes": rate.whole,
                "dailyBytes": int(rate.daily),
                "capacityBytes": needs.capacity,
            }
        )
    facts_ = {"capacityBytes": total, "claims": data, "unknown": unknown, "capacity": rows.capacity_of(vault)}
    columns = ["CLAIM", "FULL", "ADDED/DAY", "KEPT", "NEEDS", "TOLD BY"]
    show(form, facts_, columns, table, none=f"Vault {name_of(vault)} has no claims and no backups.")
    if form == "table" and data:
        more = f", besides {', '.join(unknown)}" if unknown else ""
        click.echo(f"Together {size(total)}{more}; the capacity is {rows.capacity_of(vault)}.")


def _held(vault: Any) -> list[str]:
    return [
        str(line["name"])
        for line in status_of(vault).get("resources") or []
        if line.get("state") == "Associated"
    ]


def stored_of(backups: list[Any]) -> list[Any]:
    """What the good ones of some Backups have added to the store."""
    from blockvault.core.estimate import Stored

    found = []
    for backup in backups:
        volume, at = facts.volume_of(backup), words.moment(rows.volume_time(backup))
        if facts.phase_of(backup) == "Available" and volume.get("bytesStored") is not None and at is not None:
            found.append(Stored(at, int(volume["bytesStored"]), status_of(backup).get("type") == "Full"))
    return found


def interval_of(policy: Any) -> timedelta | None:
    """The mean time between a policy's next runs."""
    runs = [m for text in status_of(policy or {}).get("nextRuns") or [] if (m := words.moment(text))]
    return (runs[-1] - runs[0]) / (len(runs) - 1) if len(runs) > 1 else None


def kept_for(policy: Any, interval: timedelta | None) -> timedelta | None:
    """How long a policy's rule keeps backups; of a scheme the longest; None for ever, or where it cannot be told."""
    rule = ((policy or {}).get("spec") or {}).get("retention") or {}
    if rule.get("days"):
        return DAY * int(rule["days"])
    if rule.get("months"):
        return DAY * 30 * int(rule["months"])
    if rule.get("count") and interval is not None:
        return interval * int(rule["count"])
    scheme = rule.get("keep") or {}
    spans = [DAY * days * int(scheme.get(kind) or 0) for kind, days in PERIODS.items()]
    if interval is not None:
        spans.append(interval * int(scheme.get("last") or 0))
    return max(spans, default=timedelta(0)) or None

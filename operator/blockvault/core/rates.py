"""How fast each mover may be, so that together they keep within the bandwidth (F10). Pure.

Each has a fixed share: what is never taken together needs nobody who watches, and a mover that is not told anew cannot
be too fast.
"""

from __future__ import annotations

from blockvault.api.common import Limits, parse_quantity


def most_at_once(limits: Limits) -> int | None:
    """How many Backups of a Vault work at once; None: as many as there are places. With a bandwidth, one by one."""
    return limits.concurrent_backups or (1 if limits.bandwidth else None)


def backup_rate(limits: Limits, overall: int | None, places: int) -> int | None:
    """Bytes a second for one Backup, or for upkeep, of a Vault with these limits; None: as fast as it goes.

    `overall`: of all Vaults together, shared by the `places` of Backups that work at once.
    """
    own = parse_quantity(limits.bandwidth) // (most_at_once(limits) or 1) if limits.bandwidth else None
    return _least(own, overall // places if overall else None)


def restore_rate(limits: Limits, overall: int | None) -> int | None:
    """Bytes a second for one Restore: all of the bandwidth, as somebody waits for it."""
    return _least(parse_quantity(limits.bandwidth) if limits.bandwidth else None, overall)


def _least(*rates: int | None) -> int | None:
    return min((max(1, rate) for rate in rates if rate is not None), default=None)

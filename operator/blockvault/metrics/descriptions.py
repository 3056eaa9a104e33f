"""All metrics that are served: names, labels and meanings in one table, which docs/metrics.md repeats.

Names follow the Prometheus conventions (one prefix, base units, `_total` for what only grows), but for
`used_vault_size` and `vault_util`: those are called as the cloud service's own monitoring calls them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Description:
    """One metric: `name` as it is scraped (a counter's ends in `_total`), its type, labels and meaning."""

    name: str
    type: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str


_VAULT = ("instance_id", "namespace", "vault")
_PLACE = ("namespace", "vault")
_CLAIM = ("namespace", "claim", "vault")


def _gauge(name: str, labels: tuple[str, ...], help: str) -> Description:
    return Description(name, "gauge", labels, help)


def _counter(name: str, labels: tuple[str, ...], help: str) -> Description:
    return Description(name, "counter", labels, help)


def _histogram(name: str, labels: tuple[str, ...], help: str) -> Description:
    return Description(name, "histogram", labels, help)


# fmt: off
USED_VAULT_SIZE = _gauge("used_vault_size", _VAULT, "Size of what the vault's backups occupy in the object store, in GB of 1024^3 bytes.")
VAULT_UTIL = _gauge("vault_util", _VAULT, "Used part of the vault's capacity in percent, 0 to 100. A vault that holds more than its capacity shows 100: blockvault_vault_used_bytes tells by how much.")
USED_BYTES = _gauge("blockvault_vault_used_bytes", _VAULT, "Bytes that the vault's backups occupy in the object store, as its status says.")
CAPACITY_BYTES = _gauge("blockvault_vault_capacity_bytes", _VAULT, "Capacity of the vault in bytes.")
ASSOCIATED_BYTES = _gauge("blockvault_vault_associated_bytes", _VAULT, "Sizes of the claims that the vault holds, together, in bytes.")
VAULT_UP = _gauge("blockvault_vault_up", _VAULT, "1 when the vault can be used (phase Available or Locked), else 0.")
VAULT_STATUS = _gauge("blockvault_vault_status", (*_VAULT, "phase", "reason"), "Always 1; the labels tell the vault's phase and its reason, of which docs/troubleshooting.md has all (Other: one that this version does not know).")
VAULT_CHECKED = _gauge("blockvault_vault_last_check_timestamp_seconds", _VAULT, "When the vault's store last answered a check, in seconds since 1970.")
VAULT_BACKUPS = _gauge("blockvault_vault_backups", _VAULT, "Number of backups that lie in the vault's store.")
VAULT_ANOMALIES = _gauge("blockvault_vault_anomalies", _VAULT, "Backups that are suddenly nearly empty or nearly wholly rewritten, and that nobody has acknowledged: no rule removes backups of their claims.")
VAULT_DAMAGED = _gauge("blockvault_vault_damaged", _VAULT, "1 while the state of some volumes in the store cannot be read, else 0.")
VAULT_HELD = _gauge("blockvault_vault_held", (*_VAULT, "hold"), "1 while something of the vault waits for a word of somebody: a mass Deletion, a Dissociation, or Expiry by an anomaly; else 0.")
VAULT_RESOURCES = _gauge("blockvault_vault_resources", (*_VAULT, "state"), "Claims that the vault names or selects, by state: Associated, Waiting, Refused or Gone.")
VAULT_NEXT_RUN = _gauge("blockvault_vault_next_run_timestamp_seconds", _VAULT, "When the vault's policy runs next, in seconds since 1970.")
VAULT_FAILING = _gauge("blockvault_vault_failing_claims", _VAULT, "Claims of the vault whose newest ended Backup has failed.")
TRASH_BYTES = _gauge("blockvault_vault_trash_bytes", _VAULT, "How many of the used bytes only deleted backups need that can still be brought back.")
TRASH_BACKUPS = _gauge("blockvault_vault_trash_backups", _VAULT, "Deleted backups that can still be brought back.")
TRASH_GOES = _gauge("blockvault_vault_trash_goes_timestamp_seconds", _VAULT, "When the first of the deleted backups that the status names goes for good, in seconds since 1970.")
UPKEEP_ENDED = _gauge("blockvault_vault_upkeep_timestamp_seconds", _VAULT, "When the vault's store was last tidied up (collect and compaction), in seconds since 1970; before the first time, when the vault was made.")
UPKEEP_WELL = _gauge("blockvault_vault_upkeep_successful", _VAULT, "1 when that ended well, else 0.")
LAST_SUCCESS = _gauge("blockvault_claim_last_backup_timestamp_seconds", _CLAIM, "When the claim's newest good backup was safe, in seconds since 1970.")
DUE = _gauge("blockvault_claim_backup_due_timestamp_seconds", _CLAIM, "When the policy wants the next backup after the newest good one, in seconds since 1970: a time in the past is how late it is.")
COVERAGE = _gauge("blockvault_claims", ("namespace", "state", "reason"), "Bound claims of the cluster by state: Protected, Excluded or Unprotected; and why.")
BACKUPS = _gauge("blockvault_backups", ("namespace", "phase"), "Number of Backup objects by phase. A phase in which there is none has no series.")
BACKUPS_WORKING = _gauge("blockvault_backups_working", (), "Backups at work now.")
BACKUPS_QUEUED = _gauge("blockvault_backups_queued", (), "Backups that could begin and wait for their turn.")
BACKUPS_LIMIT = _gauge("blockvault_backups_working_limit", (), "How many Backups may work at once in all vaults together.")
BACKUP_RUNS = _counter("blockvault_backup_runs_total", (*_PLACE, "result", "type"), "Finished backup runs; result is succeeded or failed, type is full, incremental, or unknown for a run that failed before it was decided.")
SLOTS_SKIPPED = _counter("blockvault_slots_skipped_total", (*_PLACE, "reason"), "Slots of policies at which no backup of a claim was made: StillRunning, as the one before had not ended, or Missed.")
BACKUP_SCANNED = _counter("blockvault_backup_scanned_bytes_total", _PLACE, "Bytes that backups read from snapshots.")
BACKUP_CHANGED = _counter("blockvault_backup_changed_bytes_total", _PLACE, "Bytes of the blocks that backups found changed, before compression.")
BACKUP_STORED = _counter("blockvault_backup_stored_bytes_total", _PLACE, "Bytes that backups wrote to object stores: compressed blocks and metadata.")
STORE_REQUESTS = _counter("blockvault_backup_requests_total", _PLACE, "Requests of backups to object stores, repeated ones too.")
STORE_RETRIES = _counter("blockvault_backup_retries_total", _PLACE, "Requests that backups repeated, as the store did not answer or had an error.")
STORE_THROTTLES = _counter("blockvault_backup_throttles_total", _PLACE, "Requests that backups repeated, as the store asked to slow down; they are retries too.")
BACKUP_DURATION = _histogram("blockvault_backup_duration_seconds", ("type",), "Time that movers took for a backup, without the waiting for snapshot and clone.")
STEP_DURATION = _histogram("blockvault_step_duration_seconds", ("kind", "step"), "Time that each step of a Backup or Restore took (docs/resources.md has the steps), counted at its end.")
CHANGED_BLOCKS = _counter("blockvault_backup_changed_blocks_total", ("source", "reason"), "Successful backups by what told which blocks changed: SnapshotMetadata (the storage's own list), Compare or Full; reason is why it was no list (docs/resources.md), or empty.")
RESTORES = _gauge("blockvault_restores", ("namespace", "phase"), "Number of Restore objects by phase; Restored: its former data is kept, and can be had back. A phase in which there is none has no series.")
RESTORE_RUNS = _counter("blockvault_restore_runs_total", ("namespace", "result"), "Finished restore runs; result is succeeded or failed.")
RESTORE_WRITTEN = _counter("blockvault_restore_written_bytes_total", (), "Bytes that restores wrote to volumes.")
RESTORE_DURATION = _histogram("blockvault_restore_duration_seconds", (), "Time that movers took for a restore, without the waiting for the new volume.")
LOST_MOVERS = _counter("blockvault_lost_movers_total", (), "Movers of backups and restores that were given up as their node was lost; another one goes on.")
UPKEEP_RUNS = _counter("blockvault_upkeep_runs_total", ("result",), "Finished runs that tidied a vault's store up (collect and compaction); result is succeeded or failed.")
UPKEEP_DELETED = _counter("blockvault_upkeep_deleted_bytes_total", (), "Bytes that upkeep removed from object stores.")
UPKEEP_OBJECTS = _counter("blockvault_upkeep_deleted_objects_total", (), "Objects that upkeep removed from object stores.")
UPKEEP_REWRITTEN = _counter("blockvault_upkeep_rewritten_bytes_total", (), "Bytes that upkeep stored anew, so that what lay beside them could go (compaction).")
RECONCILE_ERRORS = _counter("blockvault_reconcile_errors_total", ("kind",), "Steps that ended in an error of the API server or a defect, by kind of the object; the operator tries again.")
LOOP_LAG = _gauge("blockvault_event_loop_lag_seconds", (), "How late the operator's event loop was at its last beat, which comes every five seconds.")
BUILD_INFO = _gauge("blockvault_build_info", ("version",), "Always 1; the label tells the operator's version.")
# fmt: on

DESCRIPTIONS = tuple(each for each in list(globals().values()) if isinstance(each, Description))

"""Write docs/metrics.md from the collector's table. With --check, only say whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from blockvault.metrics.descriptions import DESCRIPTIONS

TARGET = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

HEAD = """\
<!-- Written by hack/gen_metrics_doc.py: change operator/blockvault/metrics/descriptions.py, then run it. -->
# Metrics

The operator serves these at `/metrics` on its port `http` (8080), as Prometheus text or, when asked for
it, as OpenMetrics. The chart makes a Service for it (`metrics.service`).

- What belongs to an object (a vault's usage, the number of Backups) goes with the object.
- Counters and histograms begin at zero when the operator starts: use `rate()` or `increase()`.
- No series is labelled with the name of a Backup or Restore, so their number does not grow with time. Two are of
  each claim that a vault holds, about forty of each vault, some hundreds of the operator.
- A scrape asks nobody: figures are kept up by what the operator sees anyway. Its work grows with the number of
  series, and not with that of Backups.
- How late a claim is: `time() - blockvault_claim_backup_due_timestamp_seconds`, where that is more than zero. One
  rule fits all schedules.
- `blockvault_backup_stored_bytes_total` against `_changed_bytes_total` is the compression, `_changed_` against
  `_scanned_` the share that had changed.
- Verification of stored data on a schedule is not served yet, so nothing tells its age.
- [alerts.yaml](../charts/blockvault/files/alerts.yaml) has rules for these, each with a
  [runbook](runbooks/README.md). Where Prometheus sets labels of its own on what it scrapes, let those of the operator
  win (`honor_labels: true`): `namespace` is the Vault's, and not the operator's.
- `instance_id` is the vault's `metadata.uid`: a vault made again under the same name is another instance.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
"""


def document() -> str:
    """The text of docs/metrics.md."""
    rows = []
    for each in DESCRIPTIONS:
        labels = ", ".join(f"`{label}`" for label in each.labels)
        rows.append(f"| `{each.name}` | {each.type} | {labels} | {each.help} |\n")
    return HEAD + "".join(rows)


def main() -> int:
    """Exit status: 1 when --check finds another text."""
    if "--check" in sys.argv[1:]:
        if TARGET.read_text(encoding="utf-8") == document():
            return 0
        print("docs/metrics.md is not up to date: run hack/gen_metrics_doc.py", file=sys.stderr)
        return 1
    TARGET.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

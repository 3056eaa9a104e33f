"""Write docs/metrics.md from the collector's table. With --check, only say whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from blockvault.metrics.collector import DESCRIPTIONS

TARGET = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

HEAD = """\
<!-- Written by hack/gen_metrics_doc.py: change operator/blockvault/metrics/collector.py, then run it. -->
# Metrics

The operator serves these at `/metrics` on its port `http` (8080), as Prometheus text or, when asked for
it, as OpenMetrics. The chart makes a Service for it (`metrics.service`).

- What belongs to an object (a vault's usage, the number of Backups) goes with the object.
- Counters and histograms begin at zero when the operator starts: use `rate()` or `increase()`.
- No series is labelled with the name of a Backup or Restore, so their number does not grow with time.
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

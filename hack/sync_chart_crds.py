"""Copy crds/ into the chart, which cannot read files outside of itself. With --check, only compare."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "crds"
COPY = ROOT / "charts" / "blockvault" / "files" / "crds"


def texts(directory: Path) -> dict[str, str]:
    """Manifests of a directory by file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.yaml"))}


def main() -> int:
    """Exit status: 1 when --check finds a difference."""
    source, copy = texts(SOURCE), texts(COPY)
    different = sorted(name for name in source.keys() | copy.keys() if source.get(name) != copy.get(name))
    if "--check" in sys.argv[1:]:
        if different:
            names = ", ".join(different)
            print(
                f"{COPY.relative_to(ROOT)} differs from crds/ in {names}: run {Path(__file__).name}",
                file=sys.stderr,
            )
        return bool(different)
    COPY.mkdir(parents=True, exist_ok=True)
    for name in different:
        if name in source:
            (COPY / name).write_text(source[name], encoding="utf-8")
        else:
            (COPY / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())

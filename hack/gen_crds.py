"""Write crds/ from the models: `python hack/gen_crds.py [--check]`. With --check nothing is written."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from blockvault.api.kinds import KINDS
from blockvault.api.schema import GROUP, definition

CRDS = Path(__file__).parents[1] / "crds"
HEADER = "# Generated from operator/blockvault/api by `make crds`; do not edit.\n"


def rendered() -> dict[str, str]:
    """File name and text of each definition."""
    return {
        f"{GROUP}_{kind.plural}.yaml": HEADER
        + yaml.safe_dump(definition(kind), sort_keys=False, width=110, allow_unicode=True)
        for kind in KINDS
    }


def main() -> int:
    """Exit 1 when --check finds a difference."""
    wanted = rendered()
    there = {path.name: path.read_text() for path in CRDS.glob("*.yaml")}
    if wanted == there:
        return 0
    different = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
    if "--check" in sys.argv:
        sys.stderr.write(f"crds/ is not what the models say: {', '.join(different)}. Run `make crds`.\n")
        return 1
    CRDS.mkdir(exist_ok=True)
    for name in different:
        if name in wanted:
            (CRDS / name).write_text(wanted[name])
        else:
            (CRDS / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())

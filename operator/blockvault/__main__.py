"""`python -m blockvault [operator|mover] [ARGUMENT ...]`: one image, two programs. The command line is `blockvault`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run what the first argument names; the operator when there is none. Exit 64 on anything else."""
    what = sys.argv[1] if len(sys.argv) > 1 else "operator"
    # Imported here, because a mover has no use for Kopf's memory, and an operator none for the engine's.
    if what == "operator":
        from blockvault.handlers.app import main as operate

        return operate(sys.argv[2:])
    if what == "mover":
        from blockvault.mover.__main__ import main as move

        return move()
    sys.stderr.write(f"blockvault: {what!r} is not a program of this image: operator or mover.\n")
    return 64


if __name__ == "__main__":
    sys.exit(main())

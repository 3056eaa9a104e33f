"""`python -m blockvault.cli`."""

from __future__ import annotations

from blockvault.cli.main import main

if __name__ == "__main__":
    main()

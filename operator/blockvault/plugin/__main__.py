"""`python -m blockvault.plugin`, the same as `kubectl blockvault`."""

from __future__ import annotations

from blockvault.plugin.main import main

if __name__ == "__main__":
    main()

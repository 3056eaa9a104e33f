"""Whose a volume is, asked at each commit of a collect and a compaction: the checks are taken out one at a time."""

from __future__ import annotations

import pytest

from blockvault.engine import collect, relocate
from tests.simulation.takeovers import taken_over
from tests.simulation.test_rules import Change, rewritten

SEEDS = range(12)

# At which commit, how the check is taken out, and a seed that notices.
CHECKS: dict[str, tuple[Change, int]] = {
    "tidy": (
        rewritten(
            collect.Collector, "_tidy", "self._update(decide, state)", "self._commits.update(decide, state)"
        ),
        4,
    ),
    "condemn": (rewritten(collect.Collector, "_collect", "self._update(", "self._commits.update("), 0),
    "forget": (
        rewritten(
            collect.Collector, "_delete", "self._update(forget, state)", "self._commits.update(forget, state)"
        ),
        2,
    ),
    "begin-compaction": (
        rewritten(relocate.Relocation, "begin", "trash.owned(decide, self._actor)", "decide"),
        1,
    ),
    "compaction": (
        rewritten(
            relocate.Relocation,
            "_commit",
            "decide = trash.owned(",
            "decide = (lambda decide, actor: decide)(",
        ),
        0,
    ),
}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_taken_over_is_left_alone(seed: int) -> None:
    """Rule 2, at whatever request it is taken over; and all that was kept is there at the end."""
    assert taken_over(seed) is None


@pytest.mark.parametrize("action", CHECKS)
def test_a_check_that_is_taken_out_is_missed(action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, noticed = CHECKS[action]
    change(monkeypatch)
    errors = (taken_over(seed) for seed in (noticed, *range(60)))
    error = next((error for error in errors if error), None)
    assert error is not None, f"no seed notices that nobody asks any more whose it is: {action}"
    assert f"decides on {action!r} although" in error

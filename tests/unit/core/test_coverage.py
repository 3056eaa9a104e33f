"""Which claims are protected (F23)."""

from __future__ import annotations

from typing import Any

import pytest

from blockvault.core.coverage import count, cover, exclusions
from blockvault.core.naming import EXCLUDE_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL

Object = dict[str, Any]
LINE: Object = {
    "kind": "PersistentVolumeClaim", "name": "db", "state": "Associated", "lastBackupAt": "T1", "nextRun": "T2",
}  # fmt: skip


def claim(name: str = "db", namespace: str = "shop", phase: str = "Bound", **meta: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace} | meta,
        "spec": {"volumeName": "pv"},
        "status": {"phase": phase},
    }


def vault(*lines: Object, name: str = "disks", phase: str = "Available", **status: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "status": {"phase": phase, "resources": list(lines)} | status,
    }


NOTE = {"annotations": {EXCLUDE_ANNOTATION: "scratch data"}}
ROWS: list[tuple[Object, list[Object], str, str]] = [
    (claim(), [vault(LINE)], "Protected", "Scheduled"),
    (claim(), [], "Unprotected", "NoVault"),
    (claim(), [vault()], "Unprotected", "NoVault"),
    (claim("other"), [vault(LINE)], "Unprotected", "NoVault"),
    (claim(namespace="else"), [vault(LINE)], "Unprotected", "NoVault"),
    (claim(), [vault({**LINE, "state": "Refused", "message": "no room"})], "Unprotected", "NotAssociated"),
    (claim(), [vault({**LINE, "lastBackupAt": None})], "Unprotected", "NoBackupYet"),
    (claim(), [vault({**LINE, "nextRun": None})], "Unprotected", "NoPolicy"),
    (claim(), [vault(LINE, phase="Error")], "Unprotected", "VaultUnusable"),
    (claim(), [vault(LINE, phase="Pending")], "Protected", "Scheduled"),
    (claim(**NOTE), [], "Excluded", "Annotation"),
    (claim(**NOTE), [vault({**LINE, "state": "Refused", "message": "no room"})], "Excluded", "Annotation"),
    # What is backed up is not left out, whatever a note says.
    (claim(**NOTE), [vault(LINE)], "Protected", "Scheduled"),
    # Two vaults want it, and one has it: whichever comes first.
    (claim(), [vault({**LINE, "state": "Refused"}, name="a"), vault(LINE)], "Protected", "Scheduled"),
    (claim(), [vault(LINE, name="a"), vault({**LINE, "state": "Refused"})], "Protected", "Scheduled"),
]


@pytest.mark.parametrize(("one", "vaults", "state", "why"), ROWS)
def test_f23_each_bound_claim_is_one_of_three(
    one: Object, vaults: list[Object], state: str, why: str
) -> None:
    (found,) = cover([one], vaults)
    assert (found.state, found.why) == (state, why)
    assert found.message


def test_f23_a_namespace_is_left_out_as_a_whole() -> None:
    spaces = [
        {"metadata": {"name": "shop", "annotations": {EXCLUDE_ANNOTATION: "tests only"}}},
        {"metadata": {"name": "x"}},
    ]
    assert exclusions(spaces) == {"shop": "tests only"}
    (found,) = cover([claim()], [], exclusions(spaces))
    assert (found.state, found.message) == ("Excluded", "Its namespace is left out: tests only")


def test_f23_what_is_not_bound_and_what_is_ours_is_no_line() -> None:
    ours = claim("bv-1", labels={MANAGED_BY_LABEL: MANAGED_BY})
    going = claim("going", deletionTimestamp="T")
    assert cover([claim("waits", phase="Pending"), ours, going], []) == []


def test_f23_the_counts_name_all_states() -> None:
    assert count(cover([claim(), claim("two")], [vault(LINE)])) == {
        "Protected": 1,
        "Excluded": 0,
        "Unprotected": 1,
    }
    assert count([]) == {"Protected": 0, "Excluded": 0, "Unprotected": 0}

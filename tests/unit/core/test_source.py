"""What is remembered of a claim: it fits into the stored backup whatever the claim carries, and stays readable."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from blockvault.core.automatic import origin_facts, origin_in
from blockvault.core.source import describe_source, stored_source
from blockvault.engine.root import MAX_META

from . import world

GOLDEN = json.loads((Path(__file__).parent / "golden_meta.json").read_text())


@pytest.mark.parametrize("filler", ["x", "\n", "\U0001f4be"])
def test_d1_a_claim_with_the_largest_annotations_is_described_within_a_roots_meta(filler: str) -> None:
    """The API server takes 256 KiB of annotations; the biggest are left out, never the backup."""
    claim = json.loads(json.dumps(world.CLAIM))
    big = filler * (200 * 1024 // len(filler.encode()))
    claim["metadata"]["labels"] = {f"team-{n}": "a" * 63 for n in range(20)}
    claim["metadata"]["annotations"] = {
        "example.com/big": big,
        "example.com/note": "kept",
        **{f"example.com/{n}": "b" * 900 for n in range(60)},
    }
    source = describe_source(claim, world.VOLUME)
    assert len(json.dumps(asdict(source))) < MAX_META - 8 * 1024
    assert source.labels == claim["metadata"]["labels"]
    assert source.annotations["example.com/note"] == "kept"
    assert "example.com/big" not in source.annotations
    assert len(source.annotations) > 35
    assert stored_source({"source": asdict(source)}) == source


@pytest.mark.parametrize("meta", GOLDEN, ids=[meta["written by"] for meta in GOLDEN])
def test_d1_what_an_earlier_version_stored_of_a_claim_is_understood(meta: dict[str, object]) -> None:
    """Frozen with the format: entries are added to that file, never changed."""
    source = stored_source(meta)
    assert source is not None
    expected = meta["source"]
    assert isinstance(expected, dict)
    understood = asdict(source)
    assert {key: understood[key] for key in expected if key in understood} == {
        key: value for key, value in expected.items() if key in understood
    }
    assert set(expected) - set(understood) <= {"unknown_yet"}


def test_b8_what_an_earlier_version_stored_of_a_policy_is_understood() -> None:
    """Else an imported Backup would be taken for a manual one and kept for ever."""
    (meta,) = [meta for meta in GOLDEN if "trigger" in meta]
    origin = origin_in(meta)
    assert origin is not None
    facts = origin_facts(origin)
    assert facts == {key: meta[key] for key in facts}

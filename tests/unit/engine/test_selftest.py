"""Known answers, from the specifications' own test vectors where there are some."""

from __future__ import annotations

from pathlib import Path

import pytest
import xxhash
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from blockvault.engine import selftest
from blockvault.engine.selftest import MachineBroken
from tests.unit.engine.support import MemoryStore, backup, opened


def test_published_vectors() -> None:
    """BLAKE3's test_vectors.json (input of 251 counted up, 1 byte and 1023 bytes), SP 800-38D case 16 (AES-256)."""
    key = b"whats the Elvish word for friend"
    assert (
        blake3(b"\x00", key=key)
        .hexdigest()
        .startswith("6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b")
    )
    assert xxhash.xxh3_64_intdigest(b"", 0) == 0x2D06800538D394C2
    gcm = AESGCM(bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2))
    plain = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
        "b16aedf5aa0de657ba637b39"
    )
    sealed = gcm.encrypt(
        bytes.fromhex("cafebabefacedbaddecaf888"),
        plain,
        bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
    )
    assert sealed[-16:].hex() == "76fc6ece0f4e1768cddf8853bb2d551b"


def test_the_self_test_finds_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, store: MemoryStore, tmp_path: Path
) -> None:
    """No backup is made with a codec that gives back other bytes."""
    selftest.run.cache_clear()
    selftest.run()
    selftest.run.cache_clear()
    monkeypatch.setattr(selftest, "_XXH3", 1)
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(MachineBroken, match="XXH3"):
        backup(store, tmp_path / "source")
    monkeypatch.undo()
    assert opened(store).list() == []
    selftest.run()

"""Known answers of everything that stored bytes depend on, checked once in each process before it writes.

A library that computes something else on this machine (a wrong build, a faulty processor) would make backups
that nobody can read; better none is made.
"""

from __future__ import annotations

from functools import lru_cache

import xxhash
from blake3 import blake3

from blockvault.engine import codec
from blockvault.engine.crypt import ObjectCipher
from blockvault.engine.errors import EngineError

_INPUT = bytes(range(251)) * 300
_KEY = bytes(range(32))
_BLAKE3 = "8a3ab4827e63ee28e0e0f2d4b4e2fc3ec6e2cee21bd94e644399fffb594cf27d"
_DERIVED = "8b2143f7fad372b3f06563c55b72e02502a05dbf34e865cc8fbb260fcf8dcb98"
_XXH3 = 0x993219A67AE6D3FB
_SEALED = "9dbea38ca51dbe15af3c3d65cd331e402dfcd77673847bb55c"
# A frame of zstd level 1 as it was once made; other versions may make others, but all must read it.
_FRAME = bytes.fromhex(
    "28b52ffda0242601002d0800b40f000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e"
    "1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b"
    "4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778"
    "797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5"
    "a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2"
    "d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fa01007b9312"
    "7f6ea4"
)


class MachineBroken(EngineError):  # noqa: N818 - named after its reason
    """A library gives other results than it must."""

    reason = "MachineBroken"
    remedy = (
        "Install the locked versions of the dependencies; if that does not help, do not trust this machine."
    )


@lru_cache(maxsize=1)
def run() -> None:
    """Raises MachineBroken, naming what is wrong. Costs about a millisecond, once."""
    answers = {
        "BLAKE3, keyed": blake3(_INPUT, key=_KEY).hexdigest() == _BLAKE3,
        "BLAKE3, key derivation": blake3(_KEY, derive_key_context="blockvault.dev self test").hexdigest()
        == _DERIVED,
        "XXH3": xxhash.xxh3_64_intdigest(_INPUT[:4096], 42) == _XXH3,
        "AES-256-GCM": ObjectCipher(_KEY).seal(7, b"self test", b"bound").hex() == _SEALED,
        "zstd, decoding": codec.decompress(codec.ZSTD, _FRAME, len(_INPUT)) == _INPUT,
        "zstd, both ways": codec.decompress(*codec.compress(_INPUT), len(_INPUT)) == _INPUT,
    }
    wrong = [name for name, right in answers.items() if not right]
    if wrong:
        raise MachineBroken(f"self test failed: {', '.join(wrong)}")

"""A second, minimal reader of the stored format, written from docs/format.md; it shares no code with the engine."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from typing import Any

from backports import zstd
from blake3 import blake3

BLOCK = 262144


def opened(objects: Mapping[str, bytes], key: str, kind: int) -> tuple[bytes, bytes]:
    """(clear section, body) of an object, its header checked."""
    data = objects[key]
    assert data[:8] == b"\x89BVLT\r\n\x1a"
    version, found, codec, clear = struct.unpack_from("<HBBI", data, 8)
    required = struct.unpack_from("<Q", data, 16)[0]
    stored, plain = struct.unpack_from("<QQ", data, 56)
    assert (version, found, required) == (1, kind, 0)
    assert len(data) == 128 + clear + stored
    name = key.encode()
    checked = data[128:] + data[:96] + struct.pack("<H", len(name)) + name
    assert blake3(checked, derive_key_context="blockvault.dev v1 object checksum").digest() == data[96:128]
    body = data[128 + clear :]
    body = zstd.decompress(body) if codec == 1 else body
    assert len(body) == plain
    return data[128 : 128 + clear], body


class Decoder:
    """Reads backups out of a mapping of objects."""

    def __init__(self, objects: Mapping[str, bytes], volume: str) -> None:
        self.objects = objects
        facts = json.loads(opened(objects, "blockvault", 1)[1])
        name_key = self.derived("volume name", bytes.fromhex(facts["nameKey"]))
        folder = "volumes/" + blake3(volume.encode(), key=name_key).digest()[:16].hex() + "/"
        record = json.loads(opened(objects, max(k for k in objects if k.startswith(folder)), 2)[1])
        assert record["volume"] == volume
        self.base = f"lineages/{record['lineage']}/"
        newest = max(k for k in objects if k.startswith(self.base + "commits/"))
        clear, body = opened(objects, newest, 6)
        self.state: dict[str, Any] = json.loads(body)
        self.key = bytes.fromhex(json.loads(clear)["key"])

    @staticmethod
    def derived(use: str, key: bytes) -> bytes:
        return bytes(blake3(key, derive_key_context=f"blockvault.dev v1 {use}").digest())

    def hash(self, use: str, data: bytes) -> bytes:
        return bytes(blake3(data, key=self.derived(use, self.key)).digest())

    def read(self, backup_id: str) -> bytes:
        """The whole volume as of a backup; every hash is checked."""
        entry = next(root for root in self.state["roots"] if root["id"] == backup_id)
        key = f"{self.base}roots/{entry['object']}"
        assert self.objects[key][96:128].hex() == entry["objectChecksum"]
        body = opened(self.objects, key, 5)[1]
        length, records = struct.unpack_from("<II", body)
        facts = json.loads(body[8 : 8 + length])
        assert len(body) == 8 + length + 32 * records
        self.image = bytearray(-(-facts["size"] // BLOCK) * BLOCK)
        top = base64.b64decode(facts["tree"]["top"])
        levels = facts["tree"]["levels"]
        content = self.page(top, levels, 0)
        whole = b"root" + struct.pack("<QB", facts["size"], levels) + content
        assert self.hash("content", whole).hex() == facts["contentHash"] == entry["contentHash"]
        return bytes(self.image[: facts["size"]])

    def item(self, folder: str, name: bytes, offset: int, length: int, codec: int) -> bytes:
        epoch, sequence, nonce = struct.unpack("<IIQ", name)
        data = self.objects[f"{self.base}{folder}/{epoch:08x}-{sequence:08x}-{nonce:016x}"]
        stored = data[offset : offset + length]
        return zstd.decompress(stored) if codec == 1 else stored

    def page(self, ref: bytes, level: int, index: int) -> bytes:
        """Read the page that a reference names; its content hash."""
        offset, length, plain, kind, codec = struct.unpack_from("<IIIBB", ref, 16)
        if kind == 0:
            assert ref == bytes(96)
            return bytes(32)
        assert kind == 1
        page = self.item("pages", ref[:16], offset, length, codec)
        assert len(page) == plain
        assert self.hash("page", page) == ref[32:64]
        head = struct.unpack_from("<BBHIQ", page)
        assert head[:3] == (2 if level else 1, level, 128)
        assert head[4] == index
        if level:
            refs = [page[16 + i * 96 : 112 + i * 96] for i in range(128)]
            hashes = [self.page(child, level - 1, index * 128 + i) for i, child in enumerate(refs)]
        else:
            hashes = [self.block(page, head[3], index * 128 + i, i) for i in range(128)]
        content = self.hash("content", b"".join(hashes))
        assert content == ref[64:96]
        return content

    def block(self, page: bytes, names: int, number: int, slot: int) -> bytes:
        entry = page[16 + names * 16 + slot * 64 :][:64]
        kind, codec, patches, flags, which, offset, length = struct.unpack_from("<BBBBIII", entry)
        if kind == 0:
            assert entry == bytes(64)
            return bytes(32)
        assert (kind, patches, flags) == (1, 0, 0)
        assert which < names
        data = self.item("segments", page[16 + which * 16 : 32 + which * 16], offset, length, codec)
        assert len(data) == BLOCK
        assert self.hash("block", data) == entry[32:64]
        self.image[number * BLOCK : (number + 1) * BLOCK] = data
        return entry[32:64]

"""A second reader of the stored format, written from docs/format.md alone; it shares no code with the engine.

It takes a mapping of keys to bytes, trusts nothing, and checks all that the page promises: hashes, digests,
directories, summaries. `Scale` is there because tests make stores of small blocks.
"""

from __future__ import annotations

import json
import struct
from base64 import b64decode
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from xxhash import xxh3_64_digest

SEGMENT, PAGES, ROOT, COMMIT, KEY, GENERATION = 3, 4, 5, 6, 7, 8
BLOCK, LEAF, INNER, DIGESTS, PAGE_PATCH, BLOCK_PATCH = range(6)


class Scale(NamedTuple):
    """Bytes of a block and of a sector, pages below a page."""

    block: int = 262144
    sector: int = 4096
    fanout: int = 128


class Item(NamedTuple):
    """An item and where it lies; `plain` is its length decoded."""

    folder: str
    name: bytes
    offset: int
    length: int
    codec: int
    number: int
    kind: int
    level: int
    plain: int
    mask: int = 0


def derive(use: str, material: bytes) -> bytes:
    return bytes(blake3(material, derive_key_context=f"blockvault.dev v1 {use}").digest())


def gcm(secret: bytes, object_id: bytes) -> AESGCM:
    return AESGCM(blake3(object_id, key=derive("encryption", secret)).digest())


def inflate(codec: int, data: bytes, length: int) -> bytes:
    assert codec in (0, 1)
    plain = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False) if codec else data
    assert len(plain) == length
    return plain


def text_of(name: bytes) -> str:
    epoch, sequence, nonce = struct.unpack("<IIQ", name)
    return f"{epoch:08x}-{sequence:08x}-{nonce:016x}"


def packed(name: str) -> bytes:
    return struct.pack("<IIQ", *(int(part, 16) for part in name.split("-")))


def sectors(mask: int) -> list[int]:
    return [i for i in range(64) if mask >> i & 1]


class Decoder:
    """Reads the backups of one volume. `key`: the vault's, where the store is encrypted."""

    def __init__(
        self,
        objects: Mapping[str, bytes],
        volume: str,
        key: bytes | None = None,
        scale: Scale = Scale(),  # noqa: B008 - immutable
    ) -> None:
        self.objects, self.scale, self.encrypted = objects, scale, key is not None
        # What was met: kinds of items with their levels, codecs, and how many patches blocks have.
        self.seen: set[tuple[str, int]] = set()
        # Items with a line in a directory that were read: folder, name, offset.
        self.reached: set[tuple[str, bytes, int]] = set()
        name_key = self._name_key(key)
        folder = blake3(volume.encode(), key=derive("volume name", name_key)).digest()[:16].hex()
        records = sorted(k for k in objects if k.startswith(f"volumes/{folder}/"))
        assert [int(k[-8:]) for k in records] == list(range(1, len(records) + 1))
        record = json.loads(self.body(records[-1], 2, name_key))
        assert record["volume"] == volume
        self.base = f"lineages/{record['lineage']}/"
        if key is None:
            self.key = bytes.fromhex(record["key"])
        else:
            assert record["key"] is None
            wrapped = f"{self.base}keys/{derive('vault key fingerprint', key)[:8].hex()}"
            self.key = bytes.fromhex(json.loads(self.body(wrapped, KEY, derive("vault key", key)))["key"])
        newest = max(k for k in objects if k.startswith(self.base + "commits/"))
        self.state: dict[str, Any] = json.loads(self.body(newest, COMMIT, self.key))
        nothing = not self.state["roots"] and not any(each["parent"] for each in self.state["attempts"])
        status = (
            {"status": "Deleted"}
            if self.state["status"] == "Deleted"
            else {"empty": True}
            if nothing
            else None
        )
        assert self.clear(newest) == status
        number, _, random = newest.removeprefix(self.base + "commits/").partition("-")
        assert (self.state["number"], len(number), bool(random)) == (int(number), 16, self.single_writer)

    def _name_key(self, key: bytes | None) -> bytes:
        first = self.clear("blockvault")
        self.single_writer = first["singleWriter"]
        if key is None:
            assert first["fingerprint"] is None
            return bytes.fromhex(json.loads(self.body("blockvault", 1, b""))["nameKey"])
        mine, secret = derive("vault key fingerprint", key)[:8].hex(), derive("vault key", key)
        if first["fingerprint"] == mine:
            return bytes.fromhex(json.loads(self.body("blockvault", 1, secret))["nameKey"])
        (path,) = [k for k in self.objects if k.startswith("keys/") and self.clear(k)["fingerprint"] == mine]
        assert self.clear(path)["generation"] == int(path[-8:])
        facts = json.loads(self.body(path, GENERATION, secret))
        assert facts["record"] == self.objects["blockvault"][96:128].hex()
        return bytes.fromhex(facts["nameKey"])

    def header(self, key: str, kind: int) -> tuple[int, bytes, int, int]:
        """(codec, object id, length of the clear section, length decoded) of an object whose checksum is right."""
        data = self.objects[key]
        magic, version, found, codec, clear, to_read, to_write, optional, object_id, stored, plain = (
            struct.unpack_from("<8sHBBIQQQ16sQQ", data)
        )
        assert (magic, version, found) == (b"\x89BVLT\r\n\x1a", 1, kind)
        assert (to_read, to_write, optional) == (int(self.encrypted), 0, 0)
        assert data[72:96] == bytes(24)
        assert len(data) == 128 + clear + stored
        checked = data[128:] + data[:96] + struct.pack("<H", len(key)) + key.encode()
        assert (
            blake3(checked, derive_key_context="blockvault.dev v1 object checksum").digest() == data[96:128]
        )
        return codec, object_id, clear, plain

    def clear(self, key: str) -> Any:
        _, _, length, _ = self.header(key, self.objects[key][10])
        return json.loads(self.objects[key][128 : 128 + length]) if length else None

    def body(self, key: str, kind: int, secret: bytes) -> bytes:
        codec, object_id, clear, plain = self.header(key, kind)
        data = self.objects[key]
        stored = data[128 + clear :]
        if self.encrypted:
            bound = data[:96] + key.encode() + b"\0" + data[128 : 128 + clear]
            stored = gcm(secret, object_id).decrypt(bytes(12), stored, bound)
        return inflate(codec, stored, plain)

    def hash(self, use: str, data: bytes) -> bytes:
        return bytes(blake3(data, key=derive(use, self.key)).digest())

    def item(self, item: Item) -> bytes:
        """The decoded item. It counts as reached, once more."""
        self.live[item.folder, item.name] += item.length
        if item.kind != DIGESTS:
            self.reached.add((item.folder, item.name, item.offset))
        data = self.objects[f"{self.base}{item.folder}/{text_of(item.name)}"]
        stored = data[item.offset : item.offset + item.length]
        assert len(stored) == item.length
        if self.encrypted:
            bound = struct.pack(
                "<QBBBxIQ", item.number, item.kind, item.level, item.codec, item.plain, item.mask
            )
            nonce = item.offset.to_bytes(12, "little")
            stored = gcm(self.key, item.name).decrypt(nonce, stored, bound)
        self.seen |= {("codec", item.codec), (f"level of kind {item.kind}", item.level)}
        return inflate(item.codec, stored, item.plain)

    def directory(self, key: str) -> list[tuple[Item, bytes]]:
        """The items that a segment or page object names at its end, with their hashes, in order."""
        folder, name = key.split("/")[-2:]
        _, object_id, clear, _ = self.header(key, SEGMENT if folder == "segments" else PAGES)
        assert (clear, object_id) == (0, packed(name))
        data = self.objects[key]
        offset, count, zero, digest = struct.unpack("<QII32s", data[-48:])
        listing, end = data[offset:-48], offset
        if self.encrypted:
            listing = gcm(self.key, object_id).decrypt(offset.to_bytes(12, "little"), listing, b"directory")
        assert (zero, len(listing), self.hash("directory", listing)) == (0, 64 * count, digest)
        found = []
        for line in struct.iter_unpack("<QIIIBBBxQ32s", listing):
            number, at, length, plain, codec, kind, level, mask, hash_ = line
            found.append(
                (Item(folder, object_id, at, length, codec, number, kind, level, plain, mask), hash_)
            )
        places = [128, *(end for item, _ in found for end in (item.offset, item.offset + item.length)), end]
        assert places == sorted(places)
        return found

    def read(self, backup_id: str) -> bytes:
        """The whole volume as of a backup."""
        size, blocks = self.blocks(backup_id)
        image = b"".join(
            blocks.get(number, bytes(self.scale.block)) for number in range(-(-size // self.scale.block))
        )
        return image[:size]

    def blocks(self, backup_id: str) -> tuple[int, dict[int, bytes]]:
        """The volume's size and its blocks that are not zero; all that is known of them is checked."""
        entry = next(root for root in self.state["roots"] if root["id"] == backup_id)
        key = f"{self.base}roots/{entry['object']}"
        assert self.objects[key][96:128].hex() == entry["objectChecksum"]
        facts, _, samples = self._root(entry["object"])
        size, tree, scale = facts["size"], facts["tree"], self.scale
        assert (tree["fanout"], tree["blockSize"], tree["sectorSize"]) == (
            scale.fanout,
            scale.block,
            scale.sector,
        )
        levels = next(n for n in range(9) if scale.fanout ** (n + 1) * scale.block >= size)
        assert tree["levels"] == levels
        assert (facts["id"], facts["revision"], size) == (entry["id"], entry["revision"], entry["size"])
        self.found: dict[int, bytes] = {}
        self.live: Counter[tuple[str, bytes]] = Counter()
        self.hashes: dict[int, bytes] = {}
        content = self.page(b64decode(tree["top"]), levels, 0)
        whole = b"root" + struct.pack("<QB", size, levels) + content
        assert self.hash("content", whole).hex() == facts["contentHash"] == entry["contentHash"]
        assert {name: live for name, (live, _) in self.summary(entry["object"]).items()} == self.live
        assert samples == {block: self.hashes.get(block, bytes(32)) for block in samples}
        assert all(number * scale.block < size for number in self.found)
        return size, self.found

    def _root(self, name: str) -> tuple[dict[str, Any], list[tuple[bytes, int, int, int]], dict[int, bytes]]:
        """Facts, summary records, samples of a root."""
        body = self.body(f"{self.base}roots/{name}", ROOT, self.key)
        length, records, samples = struct.unpack_from("<III", body)
        start, end = 12 + length, 12 + length + 32 * records
        assert len(body) == end + 40 * samples
        listed = list(struct.iter_unpack("<16sIIq", body[start:end]))
        assert listed == sorted(listed, key=lambda r: (r[2], struct.unpack("<IIQ", r[0])))
        return json.loads(body[12:start]), listed, dict(struct.iter_unpack("<Q32s", body[end:]))

    def summary(self, name: str) -> dict[tuple[str, bytes], tuple[int, int]]:
        """Live bytes and size of each object that a root needs; all of them are there."""
        found = self._summary(name)
        for (folder, object_), (live, size) in found.items():
            assert 0 < live < size == len(self.objects[f"{self.base}{folder}/{text_of(object_)}"])
        return found

    def _summary(self, name: str) -> dict[tuple[str, bytes], tuple[int, int]]:
        """The same, also of a root that is there only because others build on it: what it alone needed has gone."""
        facts, records, _ = self._root(name)
        base = facts["summary"]["base"]
        found = {}
        if base is not None:
            assert len(self.objects[f"{self.base}roots/{base['object']}"]) == base["bytes"]
            assert self._root(base["object"])[0]["summary"]["depth"] + 1 == facts["summary"]["depth"]
            found = self._summary(base["object"])
        for object_, size, kind, change in records:
            place = ({SEGMENT: "segments", PAGES: "pages"}[kind], object_)
            live, old = found.get(place, (0, 0))
            found[place] = (live + change, size or old)
        return {place: usage for place, usage in found.items() if usage[0]}

    def used_bytes(self) -> int:
        """What the newest commit's `usedBytes` must be."""
        needed = set()
        for entry in self.state["roots"]:
            needed |= {f"{folder}/{text_of(name)}" for folder, name in self.summary(entry["object"])}
            below: str | None = entry["object"]
            while below is not None:
                needed.add(f"roots/{below}")
                base = self._root(below)[0]["summary"]["base"]
                below = base and base["object"]
        return sum(len(self.objects[self.base + key]) for key in needed)

    def page(self, ref: bytes, level: int, index: int) -> bytes:
        """Read the page that a reference names, and all below it; its content hash."""
        if ref[28] == 0:
            assert ref == bytes(96)
            return bytes(32)
        rows, names, patches = self._rows(ref, level, index)
        children = range(index * self.scale.fanout, (index + 1) * self.scale.fanout)
        if level:
            hashes = [self.page(row, level - 1, child) for row, child in zip(rows, children, strict=True)]
        else:
            parts = zip(rows, names, patches, children, strict=True)
            hashes = [self.block(*part) for part in parts]
        content = self.hash("content", b"".join(hashes)) if any(map(any, hashes)) else bytes(32)
        assert content == ref[64:96]
        return content

    def _rows(self, ref: bytes, level: int, index: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Of each slot of a page: entry or reference, the object names and the patch table it means."""
        name, offset, length, plain, kind, codec, zero, hash_ = struct.unpack_from("<16sIIIBBH32s", ref)
        assert (kind in (1, 2), zero) == (True, 0)
        wanted = PAGE_PATCH if kind == 2 else INNER if level else LEAF
        record = self.item(Item("pages", name, offset, length, codec, index, wanted, level, plain))
        assert self.hash("page", record) == hash_
        found, found_level, count, names, number = struct.unpack_from("<BBHIQ", record)
        assert (found, found_level, number) == (wanted, level, index)
        rest, slots = record[16:], list(range(self.scale.fanout))
        rows = tables = name_lists = [b""] * self.scale.fanout
        if kind == 2:
            base, bitmap, rest = rest[:96], int.from_bytes(rest[96:112], "little"), rest[112:]
            assert base[28] == 1
            rows, name_lists, tables = self._rows(base, level, index)
            slots = [slot for slot in slots if bitmap >> slot & 1]
            assert bitmap == sum(1 << slot for slot in slots)
        assert len(slots) == count
        width, own, rest = 96 if level else 64, rest[: 16 * names], rest[16 * names :]
        table = rest[count * width :]
        assert len(own) == 16 * names
        assert not level or (names, table) == (0, b"")
        rows, name_lists, tables = list(rows), list(name_lists), list(tables)
        for i, slot in enumerate(slots):
            rows[slot] = rest[i * width : (i + 1) * width]
            name_lists[slot], tables[slot] = own, table
            assert len(rows[slot]) == width
        return rows, name_lists, tables

    def block(self, entry: bytes, names: bytes, table: bytes, number: int) -> bytes:
        """Compose one block into the image, checking digests on the way; its hash."""
        kind, codec, patches, flags, which, offset, length, digests, at, first, zero, hash_ = struct.unpack(
            "<BBBBIIIIIII32s", entry
        )
        if kind == 0:
            assert entry == bytes(64)
            return bytes(32)
        assert (kind, flags, zero, patches <= 16) == (1, 0, 0, True)
        scale = self.scale
        block = bytearray(self._piece(names, number, which, offset, length, codec, 0, digests, at))
        for row in range(first, first + patches):
            mask, which, offset, length, codec, digests, at = struct.unpack(
                "<QIIIB3xII", table[32 * row : 32 * row + 32]
            )
            assert mask
            patch = self._piece(names, number, which, offset, length, codec, mask, digests, at)
            for i, sector in enumerate(sectors(mask)):
                part = patch[i * scale.sector : (i + 1) * scale.sector]
                block[sector * scale.sector : (sector + 1) * scale.sector] = part
        assert self.hash("block", bytes(block)) == hash_
        assert any(block)
        self.found[number] = bytes(block)
        self.seen.add(("patches", patches))
        self.hashes[number] = hash_
        return hash_

    def _piece(
        self, names: bytes, number: int, which: int, offset: int, length: int, codec: int,
        mask: int, digests: int, at: int,
    ) -> bytes:  # fmt: skip
        """A base (mask 0) or patch, its sectors checked against their digests."""
        scale, count = self.scale, mask.bit_count() or 64
        kind, plain = (BLOCK_PATCH, count * scale.sector) if mask else (BLOCK, scale.block)
        where = names[16 * which : 16 * which + 16]
        data = self.item(Item("segments", where, offset, length, codec, number, kind, 0, plain, mask))
        if digests:
            size = 8 * count + 16 * self.encrypted
            where = names[16 * digests - 16 : 16 * digests]
            self._digests(Item("pages", where, at, size, 0, number, DIGESTS, 0, 8 * count, mask), data)
        return data

    def _digests(self, item: Item, data: bytes) -> None:
        """The sector digests of a base or patch are those of its bytes."""
        scale = self.scale
        stored = self.item(item)
        seed = int.from_bytes(derive("sector", self.key)[:8], "little")
        parts = (data[i : i + scale.sector] for i in range(0, len(data), scale.sector))
        # XXH3's canonical digest is big-endian.
        assert stored == b"".join(xxh3_64_digest(part, seed)[::-1] for part in parts)

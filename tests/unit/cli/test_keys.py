"""Keys on the command line: made, shown, rotated, and never told."""

from __future__ import annotations

import base64
import os
import random
from pathlib import Path

import pytest

from tests.unit.cli.support import MIB, inside, inside_json, run, words_of


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """An encrypted store with one volume, its key, and another key."""
    (tmp_path / "volume").write_bytes(random.Random(1).randbytes(MIB))
    for name in ("key", "other"):
        inside("key", "generate", str(tmp_path / name))
    inside("init", f"file://{tmp_path}/store", "--key-file", str(tmp_path / "key"))
    inside("backup", str(tmp_path / "volume"), f"file://{tmp_path}/store", "--volume", "v",
           "--key-file", str(tmp_path / "key"))  # fmt: skip
    return tmp_path


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = inside_json("key", "generate", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    raw = path.read_bytes()
    assert len(base64.b64decode(raw)) == 32
    done = inside("key", "generate", str(path), code=64)
    assert "exists already" in words_of(done)[0]
    assert path.read_bytes() == raw
    assert inside_json("key", "generate", str(tmp_path / "other"))["fingerprint"] != made["fingerprint"]
    assert "No such file" in inside("key", "generate", str(tmp_path / "no" / "key"), code=64).stderr


def test_an_encrypted_store_the_whole_way(vault: Path) -> None:
    store, volume = f"file://{vault}/store", vault / "volume"
    # As a process, with the key's file in the environment.
    env = {**os.environ, "BLOCKVAULT_KEY_FILE": str(vault / "key")}
    run("restore", store, str(vault / "target"), "--volume", "v", env=env)
    assert (vault / "target").read_bytes() == volume.read_bytes()
    stored = b"".join(path.read_bytes() for path in (vault / "store").rglob("*") if path.is_file())
    assert volume.read_bytes()[5000:5064] not in stored
    assert b'"volume"' not in stored


@pytest.mark.parametrize(
    ("keys", "code", "words", "remedy"),
    [
        ((), 77, "no key was given", "--key-file"),
        (("--key-file", "{place}/other"), 77, "is encrypted under", "key show"),
        (("--key-file", "{place}/absent"), 64, "absent: No such file", "key generate"),
        (("--key-file", "{place}/volume"), 64, "neither 32 bytes nor their base64", "32 random bytes"),
        (("--previous-key-file", "{place}/key"), 64, "without --key-file", "present key"),
    ],
)
def test_wrong_keys(vault: Path, keys: tuple[str, ...], code: int, words: str, remedy: str) -> None:
    options = [option.format(place=vault) for option in keys]
    for command in (("list", "{s}"), ("backup", "{v}", "{s}", "--volume", "v"), ("usage", "{s}")):
        arguments = [each.format(s=f"file://{vault}/store", v=vault / "volume") for each in command]
        done = inside(*arguments, *options, code=code)
        assert words in words_of(done)[0]
        assert remedy in words_of(done)[1]


def test_a_key_where_none_is_needed(place: Path) -> None:
    inside("key", "generate", str(place / "key"))
    done = inside("list", f"file://{place}/store", "--key-file", str(place / "key"), code=64)
    assert "is not encrypted, but a key was given" in words_of(done)[0]
    assert "Leave the key out" in words_of(done)[1]


def test_a_key_that_others_can_read_is_told(vault: Path) -> None:
    arguments = ("list", f"file://{vault}/store", "--key-file", str(vault / "key"))
    assert inside(*arguments).stderr == ""
    (vault / "key").chmod(0o644)
    assert f"chmod 600 {vault / 'key'}" in inside(*arguments).stderr


def test_a_key_is_never_told(vault: Path) -> None:
    text = (vault / "key").read_text().strip()
    shown = inside("key", "show", f"file://{vault}/store", "--key-file", str(vault / "key"))
    assert text not in shown.stdout + shown.stderr
    # Not even where it was given in the place of its file.
    done = inside("list", f"file://{vault}/store", "--key-file", str(vault / "volume"), code=64)
    assert text not in done.stderr


def test_rotation(vault: Path) -> None:
    store, old, new = f"file://{vault}/store", str(vault / "key"), str(vault / "other")
    assert "takes two keys" in inside("key", "rotate", store, "--key-file", new, code=64).stderr
    result = inside_json("key", "rotate", store, "--key-file", new, "--previous-key-file", old)
    assert {k: result[k] for k in ("generation", "lineages", "rewrapped", "oldKeyRemoved")} == {
        "generation": 2, "lineages": 1, "rewrapped": 1, "oldKeyRemoved": True,
    }  # fmt: skip
    done = inside("list", store, "--key-file", old, code=77)
    assert f"rotated to {result['fingerprint']}" in words_of(done)[0]
    inside("restore", store, str(vault / "target"), "--volume", "v", "--key-file", new)
    assert (vault / "target").read_bytes() == (vault / "volume").read_bytes()
    shown = inside_json("key", "show", store, "--key-file", new)
    assert [each["generation"] for each in shown["generations"]] == [1, 2]
    assert shown["keyFile"] == shown["generations"][1]["fingerprint"] == result["fingerprint"]
    assert [(each["volume"], each["fingerprints"]) for each in shown["lineages"]] == [
        ("v", [result["fingerprint"]])
    ]
    assert "OPENS WITH" in inside("key", "show", store, "--key-file", new).stdout


def test_keys_of_a_store_are_shown_without_one(vault: Path, tmp_path: Path) -> None:
    shown = inside_json("key", "show", f"file://{vault}/store")
    assert shown["encrypted"]
    assert len(shown["generations"]) == 1
    assert shown["lineages"] is None
    inside("init", f"file://{tmp_path}/clear")
    assert "is not encrypted" in inside("key", "show", f"file://{tmp_path}/clear").stdout


def test_an_old_key_that_is_still_needed_ends_with_a_code(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blockvault.engine.rotation import Rotation

    monkeypatch.setattr(
        Rotation, "_older_runs", lambda _: [{"volume": "v", "operationId": "o", "startedAt": "then"}]
    )
    arguments = ("key", "rotate", f"file://{vault}/store", "--key-file", str(vault / "other"),
                 "--previous-key-file", str(vault / "key"))  # fmt: skip
    assert "v (since then)" in words_of(inside(*arguments, code=75))[0]
    assert inside_json(*arguments, code=75)["oldKeyRemoved"] is False

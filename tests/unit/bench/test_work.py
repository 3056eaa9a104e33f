"""Volumes, measurements, and the bare loops that the figures are held against."""

import os
import sys

import pytest

from tests.bench import images, peers
from tests.bench.process import files, measured, run, used
from tests.bench.programs import BareLoop, read_bare
from tests.bench.rows import WorkFailed

MIB = 1 << 20


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume.img"
    images.scattered(path, 64 * MIB, 40)
    with path.open("r+b") as file:  # a block that is there, and zero
        file.seek(8 * MIB)
        file.write(bytes(MIB))
        file.seek(20 * MIB)
        file.write(b"text " * 300_000)
    return path


def test_a_process_is_measured_from_outside():
    took = measured(
        [sys.executable, "-c", "x = b'1' * (64 << 20); open('/dev/null', 'wb').write(x); print('done')"]
    )
    assert took.output == "done\n"
    assert took.peak > 64 * MIB
    assert 0 < took.cpu < 60
    assert took.wall > 0
    assert took.written >= 64 * MIB


def test_a_process_that_fails_fails_the_measurement_with_its_words():
    with pytest.raises(WorkFailed, match="exit 3: so it is"):
        measured([sys.executable, "-c", "import sys; print('so it is', file=sys.stderr); sys.exit(3)"])


def test_proxies_and_settings_of_the_programs_are_not_passed_on(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "x")
    monkeypatch.setenv("GOMAXPROCS", "1")
    words = run([sys.executable, "-c", "import os; print(*os.environ)"], {"MINE": "1"}).split()
    assert "MINE" in words
    assert not {"HTTPS_PROXY", "GOMAXPROCS"} & set(words)


def test_the_bare_loop_gives_back_what_it_stored(tmp_path, volume):
    loop = BareLoop(tmp_path / "loop")
    loop.repository.parent.mkdir()
    loop.prepare()
    run(loop.backup(volume))
    assert used(loop.repository) < 40 * 64 * 1024 + 2 * MIB
    run(loop.restore(tmp_path / "target"))
    images.same(volume, tmp_path / "target")
    with (loop.repository / "data").open("r+b") as file:
        file.seek(MIB)
        file.write(b"damage")
    with pytest.raises(WorkFailed, match="is damaged"):
        run(loop.restore(tmp_path / "other"))


def test_a_bare_read_reads_what_is_no_hole(volume):
    assert 0 < int(run(read_bare(volume))) <= 64 * MIB


def test_volumes_that_differ_in_one_byte_or_in_size_are_not_the_same(tmp_path, volume):
    other = tmp_path / "other.img"
    run(["cp", "--sparse=always", str(volume), str(other)])
    images.same(volume, other)
    with other.open("r+b") as file:
        file.seek(40 * MIB + 5)
        was = file.read(1)
        file.seek(40 * MIB + 5)
        file.write(bytes([was[0] ^ 1]))
    with pytest.raises(WorkFailed, match="differs"):
        images.same(volume, other)
    os.truncate(other, 63 * MIB)
    with pytest.raises(WorkFailed, match="another size"):
        images.same(volume, other)


def test_changes_are_where_they_are_said_to_be_and_nowhere_else(tmp_path, volume):
    other = tmp_path / "other.img"
    run(["cp", "--sparse=always", str(volume), str(other)])
    changed = images.change(other, 0.1)
    assert len(files(tmp_path)) == 2
    before, after = volume.read_bytes(), bytearray(other.read_bytes())
    for offset, length in changed:
        place = slice(offset, offset + length)
        assert before[place] != after[place]
        after[place] = before[place]
    assert before == after


def test_the_peers_are_of_the_versions_that_the_goals_name():
    assert {name: peers.version(name) for name in peers.PACKAGES} == {"restic": "v0.18.1", "kopia": "v0.21.1"}

"""The command: what ends with which exit code, and what is kept."""

import json
import sys

import pytest

from tests.bench import __main__ as command
from tests.bench import render
from tests.bench.rows import Chart, Goal, Outcome, Row, WorkFailed


def slow(bench):
    return Outcome(
        ["x"], [["y"]], [Goal("seconds", 9, 1)], charts=[Chart("Slow", "s", bars={"blockvault": [9.0]})]
    )


def wrong(bench):
    raise WorkFailed("the restore differs")


@pytest.fixture
def bench(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "ROWS", (Row("wrong", "Wrong", wrong), Row("slow", "Slow", slow)))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["bench", "--directory", str(tmp_path), *words])
        return command.main()

    return run


def test_a_missed_goal_is_no_failure(bench, capsys):
    assert bench("--rows", "slow") == 0
    assert "**missed**" in capsys.readouterr().out


def test_work_that_failed_is_one_and_the_other_rows_are_kept(bench, tmp_path, capsys):
    file = tmp_path / "results.json"
    file.write_text('{"rows": {"wrong": {"date": "before"}}}')
    assert bench("--json", str(file)) == 1
    kept = json.loads(file.read_text())["rows"]
    assert kept["wrong"] == {"date": "before"}
    assert kept["slow"]["scale"] == "full"
    error = capsys.readouterr().err
    assert "the restore differs" in error
    assert "failed: wrong" in error


def test_a_record_goes_into_the_document_and_the_folder_of_its_name(bench, tmp_path):
    document = tmp_path / "performance.md"
    document.write_text(f"{render.BEGIN}\n{render.END}\n")
    assert bench("--rows", "slow", "--small", "--record", str(document)) == 0
    assert "### Slow" in document.read_text()
    assert (tmp_path / "performance" / "results.json").exists()


def test_a_row_that_is_none_is_refused(bench, capsys):
    with pytest.raises(SystemExit):
        bench("--rows", "fast")
    assert "no row is named fast; there are wrong, slow" in capsys.readouterr().err


@pytest.mark.parametrize("row", ["random-4k", "requests"])
def test_rows_that_use_the_engine_from_within_still_fit_it(row, monkeypatch, tmp_path, capsys):
    """They write a lineage from metadata and stand in for a volume: what else nobody would notice to have broken."""
    words = ["bench", "--directory", str(tmp_path), "--small", "--rounds", "1", "--rows", row]
    monkeypatch.setattr(sys, "argv", words)
    assert command.main() == 0
    assert "**missed**" not in capsys.readouterr().out

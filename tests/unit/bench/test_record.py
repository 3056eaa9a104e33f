"""The record of results and the document that shows it."""

import json

import pytest

from tests.bench import record, render
from tests.bench.rows import Bench, Chart, Goal, Outcome, Row

ROW = Row("walk", "A walk", lambda bench: Outcome([], [], []))


def found(bench, value=2.0):
    outcome = Outcome(
        ["program", "wall s"],
        [["ours", value], ["theirs", None]],
        [Goal("seconds", value, 3), Goal("times as quick", 0.5, 2, at_least=True)],
        notes=["On foot."],
        samples={"ours: wall s": [value]},
        charts=[Chart("Walk", "s", bars={"ours": [value]})],
    )
    return record.entry(ROW, bench, outcome, 12.3, "abc+")


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, full=True, rounds=3)


def test_rows_that_were_not_run_keep_their_former_results():
    former = {"a": {"date": "old"}, "b": {"date": "old"}, "gone": {"date": "old"}}
    merged = record.merged(former, {"b": {"date": "new"}, "c": {"date": "new"}}, ["c", "b", "a"])
    assert merged == {"c": {"date": "new"}, "b": {"date": "new"}, "a": {"date": "old"}}
    assert list(merged) == ["c", "b", "a"]


def test_a_record_is_read_as_it_was_written_and_a_missing_one_is_empty(tmp_path, bench):
    path = tmp_path / "deep" / "results.json"
    assert record.read(path) == {}
    record.write(path, {"walk": found(bench), "run": found(bench)})
    again = record.read(path)
    assert list(again) == ["walk", "run"]
    assert again["walk"]["samples"] == {"ours: wall s": [2.0]}
    assert json.loads(path.read_text())["rows"] == again


def test_an_entry_says_when_on_what_and_of_which_commit(bench):
    entry = found(bench)
    assert (entry["title"], entry["scale"], entry["rounds"], entry["seconds"]) == ("A walk", "full", 3, 12)
    assert len(entry["date"]) == 10
    assert "cores" in entry["machine"]
    assert entry["commit"] == "abc+"
    assert record.current_commit()


def test_a_section_shows_figures_and_which_goals_are_met(bench):
    text = render.section("walk", found(bench), ["performance/walk.svg"])
    assert "| ours | 2 |" in text
    assert "| theirs |  |" in text
    assert "| seconds | <= 3 | 2 | met |" in text
    assert "| times as quick | >= 2 | 0.50 | **missed** |" in text
    assert "![A walk](performance/walk.svg)" in text
    assert "- On foot." in text
    assert "small run" not in text


def test_a_small_run_is_named_as_one(tmp_path):
    assert "small run" in render.section("walk", found(Bench(tmp_path, full=False, rounds=1)), [])


def test_only_what_is_between_the_marks_is_replaced(tmp_path, bench):
    path = tmp_path / "doc.md"
    path.write_text(f"before\n{render.BEGIN}\nold\n{render.END}\nafter\n")
    for _ in range(2):
        render.document(path, {"walk": found(bench)}, {})
        text = path.read_text()
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
        assert "old" not in text
        assert text.count("### A walk") == 1


def test_a_document_without_marks_is_left_alone(tmp_path, bench):
    path = tmp_path / "doc.md"
    path.write_text("no marks\n")
    with pytest.raises(ValueError, match="lacks the marks"):
        render.document(path, {}, {})
    assert path.read_text() == "no marks\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("x", "x"),
        (0.0, "0"),
        (7, "7"),
        (0.123, "0.12"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (60.0, "60"),
    ],
)
def test_figures_have_the_digits_that_mean_something(value, text):
    assert render.cell(value) == text

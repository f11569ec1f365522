from __future__ import annotations

import json
from pathlib import Path

import pytest

from graft.data.read import Reject, RejectedRows, Table, refuse, write_rejects
from graft.errors import DataError, StorageError

ROWS = [Reject(line=4, reason="an empty label", text="good,"), Reject(line=9, reason="unknown label 'maybe'", text="b")]


def test_a_reject_keeps_the_start_of_its_row():
    assert Reject(line=1, reason="too long", text="x" * 1000).text == "x" * 200
    assert Reject(line=1, reason="short", text="as it is").text == "as it is"


def test_a_table_counts_what_it_read():
    table = Table(path=Path("a.csv"), names=("a",), rows=[{"a": "1"}], lines=[2], rejected=ROWS, format="csv")
    assert (table.read, table.kept) == (3, 1)


def test_refuse_names_the_first_and_the_way_out():
    with pytest.raises(RejectedRows) as caught:
        refuse("tickets.csv", 1234, ROWS, 1)
    assert str(caught.value) == (
        "tickets.csv: 2 of its 1,234 rows not usable. The first: line 4: an empty label. "
        "Mend the file, or allow this with --max-rejects 2"
    )
    assert isinstance(caught.value, DataError)
    assert caught.value.exit_code == 1
    assert [(each.line, each.file) for each in caught.value.rejected] == [(4, "tickets.csv"), (9, "tickets.csv")]


def test_refuse_lets_as_many_pass_as_allowed():
    refuse("tickets.csv", 1234, ROWS, 2)
    refuse("tickets.csv", 0, [], 0)


def test_refuse_wants_a_row_left():
    with pytest.raises(RejectedRows, match=r"none of its 2 rows usable\. The first: line 4: .*\. Mend the file$"):
        refuse("tickets.csv", 2, ROWS, 100)


def test_rejects_are_written_as_json_lines(tmp_path: Path):
    path = tmp_path / "new" / "rejects.jsonl"
    named = Reject(line=1, reason="odd", text='é "\ud800"', file="other.csv")
    write_rejects([*ROWS, named], path, file="tickets.csv")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"file": "tickets.csv", "line": 4, "reason": "an empty label", "text": "good,"}'
    assert json.loads(lines[2]) == {"file": "other.csv", "line": 1, "reason": "odd", "text": 'é "\ud800"'}
    assert "é" in lines[2]
    assert len(lines) == 3


def test_rejects_replace_the_file_before_or_leave_it(tmp_path: Path):
    path = tmp_path / "rejects.jsonl"
    path.write_text("before")

    def failing():
        yield ROWS[0]
        raise KeyError("the caller's own fault")

    with pytest.raises(KeyError):
        write_rejects(failing(), path)
    assert path.read_text() == "before"
    write_rejects([], path)
    assert path.read_text() == ""
    assert list(tmp_path.iterdir()) == [path]


def test_rejects_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_rejects(ROWS, tmp_path / "file" / "rejects.jsonl")

"""SQuAD's JSON: told from JSON lines, every question a row, and what is not laid out so refused by place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graft.data.read import read
from graft.data.squad import begins
from graft.errors import DataError


def squad(*questions: Any, context: Any = "Rome is old.") -> dict[str, Any]:
    return {"version": "1.1", "data": [{"title": "Rome", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


QUESTION = {"id": "q1", "question": "What is old?", "answers": [{"text": "Rome", "answer_start": 0}]}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(content: Any, name: str = "rows.json", **how: Any) -> Path:
        path = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content, **how)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz"])
def test_each_question_is_a_row(write: Callable[..., Path], indent: int | None, name: str):
    second = {**QUESTION, "id": "q2", "is_impossible": True, "answers": [], "plausible_answers": [{"text": "x"}]}
    table = read(write(squad(QUESTION, second), name, indent=indent))
    assert table.format == "SQuAD JSON"
    assert table.names == ("id", "title", "question", "context", "answers", "is_impossible")
    assert [row["id"] for row in table.rows] == ["q1", "q2"]
    assert {row["context"] for row in table.rows} == {"Rome is old."}
    assert "plausible_answers" not in table.rows[1]
    assert table.lines == [1, 2]


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ('{"data": [{"paragraphs": [', True),
        ('\ufeff {"data": [{"title": "a"'.lstrip("\ufeff"), True),
        ('{"version": "v2.0",\n "data": [\n {"title": "a"', True),
        ('{"version": 2.0, "data": []}', True),
        ('{"data": [1, 2]}\n{"data": [3]}', False),
        ('{"data": "text", "label": "x"}', False),
        ('{"text": "{\\"data\\": [{\\"title\\": "}', False),
        ("", False),
    ],
)
def test_it_is_told_from_json_lines_by_its_beginning(start: str, told: bool):
    assert begins(start) is told


def test_json_lines_named_json_are_still_read(write: Callable[..., Path]):
    table = read(write('{"data": [1], "text": "a"}\n{"data": [2], "text": "b"}\n'))
    assert (table.format, [row["text"] for row in table.rows]) == ("jsonl", ["a", "b"])


def test_a_question_that_is_no_object_is_rejected_and_counted(write: Callable[..., Path]):
    path = write(squad(QUESTION, "Who?"))
    with pytest.raises(DataError, match="1 of its 2 rows not usable. The first: line 2: the question is str, expected"):
        read(path)
    table = read(path, max_rejects=1)
    assert (table.read, table.kept, len(table.rejected)) == (2, 1, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": [{"title": "a"}]}, r"article 1: 'paragraphs' is missing. SQuAD's JSON has data, paragraphs and qas"),
        (
            {"data": [{"title": "a", "paragraphs": [{"context": "x"}]}]},
            r"article 1 \('a'\), paragraph 1: 'qas' is miss",
        ),
        ({"data": [{"title": "a", "paragraphs": [[]]}]}, "paragraph 1 is list, expected an object with a list 'qas'"),
        ({"data": [{"title": "a", "paragraphs": {}}]}, "article 1: 'paragraphs' is dict, expected a list"),
        ({"data": [{"paragraphs": []}, 7]}, "article 2 is int, expected an object with a list 'paragraphs'"),
    ],
)
def test_another_layout_is_refused_by_place(write: Callable[..., Path], content: Any, message: str):
    with pytest.raises(DataError, match=message):
        read(write(content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [{"title": "a"', "not valid JSON: .* at character 24; expected one JSON object with articles"),
        ('{"data": [{"title": "a", "title": "b"}]}', "the key 'title' is given twice"),
        ('{"data": []} {"data": []}', "something follows the first value, at character 14; expected one JSON object"),
        ('{"data": [{"title": ' + "[" * 100, "nested more than 64 deep"),
        ('{"data": [{"title": "\\ud800"}]}', "half of a surrogate pair"),
        ('{"data": []}', "has column names but no rows"),
    ],
)
def test_damaged_files_are_refused(write: Callable[..., Path], text: str, message: str):
    with pytest.raises(DataError, match=message):
        read(write(text))


def test_the_real_files_are_read_whole(shared_data: Path):
    for name, questions in (("train.json", 9044), ("test.json", 1190)):
        table = read(shared_data / "squad" / name)
        assert (table.read, table.kept) == (questions, questions)
        assert len({row["id"] for row in table.rows}) == questions

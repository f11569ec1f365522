"""`graft run ask`: a question and a text from the command line, from files and standard input."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
TEXT = "ab cde f gh\nzyx  abé 😀 cd"


@pytest.fixture(scope="session")
def pointer(tiny: Callable[..., Any]) -> Path:
    """A tiny published model that points at answers."""
    folder: Path = tiny("bert-span").folder
    return folder


@pytest.fixture
def ask(graft: Run, pointer: Path) -> Run:
    return lambda *words: graft("run", "ask", *words, "--model", pointer, "--dtype", "float32")


def test_one_question_for_people_shows_the_place(ask: Run):
    done = ask("what", "--context", TEXT, "--threshold", "1")
    first, second = done.out.splitlines()
    found = ask("what", "--context", TEXT, "--threshold", "1", "--json").json
    assert TEXT[found["start"] : found["end"]] == found["text"]
    assert first.startswith(f"{' '.join(found['text'].split())}  {found['score']:.3f}  (line ")
    assert first.endswith(f"characters {found['start']} to {found['end']})")
    assert f"»{' '.join(found['text'].split())}«" in second


def test_several_answers_come_in_order(ask: Run):
    done = ask("what", "--context", TEXT, "-n", "3", "--threshold", "1")
    scores = [float(line.split("  ")[1]) for line in done.out.splitlines()[::2]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    found = ask("what", "--context", TEXT, "n=3", "threshold=1", "--json").json
    assert len(found["alternatives"]) == 2


def test_no_answer_is_said_as_such(ask: Run):
    done = ask("what", "--context", TEXT, "--threshold", "0")
    assert done.out.startswith("[no answer]  ")
    assert done.out.rstrip().endswith("the text does not say")
    found = ask("what", "--context", TEXT, "--threshold", "0", "--json").json
    assert (found["text"], found["start"], found["end"]) == ("", None, None)
    assert found["score"] == found["no_answer"]


@pytest.mark.parametrize("name", ["text.txt", "text.md", "README", "text.txt.gz"])
def test_the_text_may_be_all_of_a_file(ask: Run, tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_bytes(gzip.compress(TEXT.encode()) if name.endswith(".gz") else b"\xef\xbb\xbf" + TEXT.encode())
    assert ask("what", "--context", path, "--json").json == ask("what", "--context", TEXT, "--json").json


def test_a_text_longer_than_the_model_is_read_in_windows(ask: Run):
    found = ask("what", "--context", "ab cd " * 60, "--json").json
    assert found["windows"] > 3
    assert found["truncated_tokens"] == 0
    more = ask("what", "--context", "ab cd " * 60, "--stride", "2", "--json").json
    assert more["windows"] > found["windows"]


def test_questions_of_a_file_about_one_text(ask: Run, tmp_path: Path):
    lines = tmp_path / "questions.txt"
    lines.write_text("who\n\nwhat\n")
    done = ask(lines, "--context", TEXT, "--json")
    assert [(one["line"], one["question"]) for one in done.lines] == [(1, "who"), (3, "what")]
    assert all("context" not in one and "sentence1" not in one for one in done.lines)
    table = tmp_path / "questions.csv"
    table.write_text("id,question\n1,who\n2,what\n")
    same = ask(table, "--context", TEXT, "--json")
    assert [(one["text"], one["start"]) for one in same.lines] == [(one["text"], one["start"]) for one in done.lines]
    people = ask(lines, "--context", TEXT, "--threshold", "1")
    assert [line.rsplit("  ", 1)[1] for line in people.out.splitlines()] == ["who", "what"]


def test_questions_each_with_its_own_text(ask: Run, tmp_path: Path):
    rows = [{"question": "who", "context": "ab cd"}, {"question": "what", "context": "ef gh ij"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = ask(path, "--threshold", "1", "--json").lines
    assert [one["question"] for one in found] == ["who", "what"]
    for one, row in zip(found, rows, strict=True):
        assert row["context"][one["start"] : one["end"]] == one["text"]


def test_answers_in_a_table_have_every_column_also_without_an_answer(ask: Run, tmp_path: Path):
    path, out = tmp_path / "rows.csv", tmp_path / "answers.csv"
    path.write_text("question,context\nwho,ab cd\nwhat,ef gh\n")
    for threshold, empty in (("0", True), ("1", False)):
        done = ask(path, "--out", out, "--threshold", threshold, "-n", "2")
        assert "2 answers written" in done.err
        rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
        assert [row["question"] for row in rows] == ["who", "what"]
        assert {(row["start"] == "") is empty for row in rows} == {True}
        assert "alternatives" not in rows[0]


def test_questions_from_standard_input_and_the_text_too(process: Run, pointer: Path, tmp_path: Path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    model = ("--model", pointer, "--dtype", "float32", "--json")
    questions = process("run", "ask", "-", "--context", "text.txt", *model, given=b"who\nwhat\n")
    assert [one["question"] for one in questions.lines] == ["who", "what"]
    text = process("run", "ask", "what", "--context", "-", *model, given=TEXT.encode())
    assert text.json["start"] == questions.lines[1]["start"]


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (("what",), 2, ("no text to look for answers in", "a question and --context TEXT|FILE")),
        (("what", "--context", " \n"), 1, ("--context: there is no text in it to look for answers in",)),
        (("what", "--context", "missing.txt"), 1, ("missing.txt: no such file",)),
        (("what", "--context", "."), 1, (".: a folder; --context takes a text or one file",)),
        (("-", "--context", "-"), 2, ("standard input cannot give both the questions and the text",)),
        (("what", "--with", "text"), 2, ("give --context TEXT|FILE instead of --with",)),
        (("what", "--context", "ab", "-n", "0"), 2, ("n is 0, expected a whole number from 1",)),
        (("what", "--context", "ab", "--threshold", "7"), 2, ("threshold is 7.0, expected a number from 0 to 1",)),
        (("what", "--context", "ab", "--labels", "a,b"), 2, ("--labels is for classify and pair, not for ask",)),
        (("what", "--context", "\u200b"), 1, ("has nothing that the tokenizer knows",)),
    ],
)
def test_wrong_use_is_one_line(ask: Run, words: tuple[str, ...], code: int, parts: tuple[str, ...]):
    ask(*words).failed(code, *parts)


def test_options_of_ask_are_for_ask(graft: Run, classifier: Path):
    for words in (("--context", "ab"), ("-n", "2"), ("--threshold", "0.5"), ("--stride", "3"), ("--longest", "3")):
        done = graft("run", "classify", "what", *words, "--model", classifier)
        done.failed(2, "is for ask", "not for classify")


def test_ask_needs_a_model_that_points(graft: Run, classifier: Path):
    graft("run", "ask", "what", "--context", "ab").failed(2, "ask needs a model: give --model DIR", "--task ask")
    done = graft("run", "ask", "what", "--context", "ab", "--model", classifier)
    done.failed(2, "this model does not point at answers")


def test_a_binary_file_is_no_text(ask: Run, tmp_path: Path):
    path = tmp_path / "text.bin"
    path.write_bytes(b"ab\0cd")
    ask("what", "--context", path).failed(1, "a NUL byte. This is no text file")


def test_a_text_file_of_questions_needs_a_text(ask: Run, tmp_path: Path):
    path = tmp_path / "questions.txt"
    path.write_text("who\n")
    ask(path).failed(2, "no text to look for answers in")


def test_squad_is_learned_and_measured(graft: Run, base: Path, tmp_path: Path):
    answer = {"text": "zyx", "answer_start": 3}
    questions = [{"id": f"q{n}", "question": f"what {'ab'[n % 2] * n}", "answers": [answer]} for n in range(20)]
    paragraphs = [{"context": "ab zyx cd", "qas": questions}]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    out = tmp_path / "model"
    words = ("--task", "ask", "--model", base, "--eval", path, "--out", out, "--epochs", "1", "--json")
    record = graft("finetune", path, *words).json
    assert record["rows"] == {"read": 20, "kept": 20, "rejected": 0}
    assert set(record["metrics"]) == {"exact_match", "f1"}
    assert "Wrong answers" in (out / "report.html").read_text()
    card = (out / "README.md").read_text()
    assert "answers a question with a passage" in card
    assert "--context" in card
    assert 'graft.run("ask"' in card
    assert "read in windows" in card
    done = graft("evaluate", out, path, "--report", tmp_path / "page.html", "--json").json
    assert (done["task"], done["n"]) == ("ask", 20)
    bad = json.loads(path.read_text())
    bad["data"][0]["paragraphs"][0]["qas"][4]["answers"][0]["answer_start"] = 2
    path.write_text(json.dumps(bad))
    graft("evaluate", out, path).failed(
        1, "line 5: question 'q4': the answer 'zyx' is not at character 2", "it is at 3"
    )

"""`graft run` of tasks that write: as people type them, and as programs read them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def writer(tiny: Callable[..., Any]) -> Path:
    folder: Path = tiny("gpt2-lm", n_positions=60).folder
    return folder


@pytest.fixture
def generate(graft: Run, writer: Path) -> Run:
    def run(*words: str | Path) -> Any:
        return graft("run", "generate", *words, "--model", writer, "--dtype", "float32")

    return run


def test_one_prompt_for_programs_and_for_people(generate: Run):
    words = ("abc", "--max-tokens", "8", "temperature=0.9", "--top-p=0.9", "--seed", "1")
    told = generate(*words, "--json").json
    assert set(told) == {"text", "truncated_tokens", "finish_reason", "usage", "seed"}
    assert told["usage"] == {"prompt_tokens": 3, "completion_tokens": 8}
    shown = generate(*words)
    assert shown.err == ""
    assert shown.out.endswith("\n")
    several = generate(*words, "-n", "3", "--json").json
    assert several["text"] == told["text"]
    assert len(several["alternatives"]) == 2
    numbered = generate(*words, "-n", "3").out
    assert [part in numbered for part in ("1. ", "2. ", "3. ")] == [True] * 3


def test_a_search_is_shown_when_it_is_done(generate: Run):
    words = ("abc", "--beams", "3", "--max-tokens", "6")
    found = generate(*words, "--json").json["text"].strip()
    assert found
    assert generate(*words).out.strip() == found.replace("\x01", "\\x01")


def test_a_search_tells_its_texts_from_python(writer: Path):
    import graft

    told: list[tuple[int, str]] = []
    [answer] = graft.run(
        "generate", ["abc"], model=writer, beams=3, n=2, max_tokens=6, on_text=lambda *one: told.append(one)
    )
    assert told == [(0, answer.text), (1, answer.alternatives[0].text)]


def test_text_appears_as_it_comes(generate: Run, monkeypatch: pytest.MonkeyPatch):
    from graft.cli import writing

    pieces: list[str] = []
    original = writing._print

    def listening() -> Any:
        told = original()

        def hear(index: int, text: str) -> None:
            pieces.append(text)
            told(index, text)

        return hear

    monkeypatch.setattr(writing, "_print", listening)
    done = generate(
        "abc", "--max-tokens", "9", "--seed", "1", "--ignore-end", "--allowed", ",".join(map(str, range(60, 80)))
    )
    assert len(pieces) > 3
    assert done.out.strip() == writing.lines("".join(pieces)).strip()


def test_a_bad_line_is_told_and_the_others_are_done(generate: Run, tmp_path: Path):
    file = tmp_path / "prompts.txt"
    file.write_text("abc\n\n" + "x" * 70 + "\nxyz\n")
    done = generate(file, "--max-tokens", "4", "--seed", "1", "--json")
    assert [(row["line"], row["source"]) for row in done.lines] == [(1, "abc"), (4, "xyz")]
    assert done.code == 1
    assert "line 3: the text: a prompt of 70 tokens and 4 to write are 74, the model holds 60" in done.err
    assert "1 of 3 texts were left out, the others are done" in done.err


def test_cells_hold_every_text_with_the_same_columns(generate: Run, tmp_path: Path):
    table, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    table.write_text("id,prompt\n1,abc\n2,xyz\n")
    done = generate(table, "--column", "prompt", "-n", "2", "--max-tokens", "4", "--seed", "1", "--out", out)
    assert done.code == 0, done.err
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["source"], row["number"]) for row in rows] == [("abc", "1"), ("abc", "2"), ("xyz", "1"), ("xyz", "2")]
    assert {row["seed"] for row in rows} == {"1"}


def test_labelled_texts(generate: Run, tmp_path: Path):
    words = ("--positive", "Liked it", "--negative", "Hated it", "--prefix", "neutral=Saw it", "--max-tokens", "5")
    done = generate("--dataset", "rows.jsonl", *words, "-n", "3", "--seed", "7", "--json")
    assert done.json["texts"] == {"positive": 3, "negative": 3, "neutral": 3}
    assert done.json["seed"] == 7
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["label"] for row in rows[::3]] == ["positive", "negative", "neutral"]
    assert rows[0]["seed"] == 7


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("abc", "--temprature", "1"), ("no such option: --temprature; did you mean --temperature?",)),
        (("abc", "temprature=1"), ("unknown option 'temprature': did you mean 'temperature'?",)),
        (("abc", "--temperature", "hot"), ("temperature is 'hot', expected a number",)),
        (("abc", "--top-k", "2.5"), ("top_k is '2.5', expected a whole number",)),
        (("abc", "--seed", "1", "seed=2"), ("seed is given twice",)),
        (("abc", "--words", "3"), ("--words is for ", "summarize, not for generate")),
        (("abc", "--stride", "3"), ("--stride is for ask", "not for generate")),
        (("abc", "--with", "x"), ("--with is for tasks on two texts",)),
        (("abc", "--logit-bias", "x"), ("a token of logit_bias is 'x', expected a whole number",)),
        (("--dataset", "a.csv"), ("a corpus needs labels",)),
        (("--dataset", "a.csv", "--prefix", "x"), ("expected label=",)),
        (("abc", "--dataset", "a.csv", "--positive", "x"), ("leave 'abc' out",)),
    ],
)
def test_wrong_use_is_one_line(generate: Run, words: tuple[str, ...], parts: tuple[str, ...]):
    generate(*words).failed(2, *parts)


def test_help_lists_every_setting(graft: Run):
    from graft.cli import settings

    page = " ".join(graft("run", "--help").out.split())
    for name, one in settings.table().items():
        assert f"--{name.replace('_', '-')} " in page
        assert one.help.split()[0].lower() in page.lower()


def test_a_folder_of_articles_and_a_file_each_as_one_text(graft: Run, base: Path, tmp_path: Path):
    place = tmp_path / "articles"
    place.mkdir()
    (place / "b.txt").write_text("One is here.\nTwo is there. Three.\n")
    (place / "a.txt").write_text("Alpha came. Beta went.")
    (place / "c.txt").write_text(" \n")
    done = graft("run", "summarize", place, "--model", base, "--sentences", "1", "--json")
    assert [row["file"] for row in done.lines] == ["a.txt", "b.txt"]
    assert "2 text files, each a text, 1 more are empty and left out: c.txt" in done.err
    whole = graft("run", "summarize", place / "b.txt", "--model", base, "--sentences", "1", "--json")
    assert whole.json == {name: value for name, value in done.lines[1].items() if name != "file"}
    lines = graft("run", "summarize", place / "b.txt", "--model", base, "--lines", "--json")
    assert [row["line"] for row in lines.lines] == [1, 2]


def test_what_was_cut_is_told(graft: Run, base: Path):
    done = graft("run", "summarize", "Alpha beta gamma delta.", "--model", base, "--characters", "12")
    assert done.out == "Alpha beta\n"
    assert "note: cut to 12 characters, at the end of a word" in done.err


def test_questions_without_a_text_and_with_one(graft: Run, writer: Path, tmp_path: Path):
    words = ("--model", writer, "--dtype", "float32", "--longest", "4", "--json")
    closed = graft("run", "ask", "who", *words).json
    assert {"text", "score", "finish_reason"} <= set(closed)
    read = graft("run", "ask", "who", "--context", "Ann.", *words).json
    assert read["windows"] == 1
    rows = tmp_path / "rows.csv"
    rows.write_text("question,answer\nwho,Ann\nwhen,now\n")
    table = graft("run", "ask", rows, "--column", "question", *words)
    assert [row["question"] for row in table.lines] == ["who", "when"]
    assert table.lines[0]["text"] == closed["text"]


def test_translate_takes_languages(graft: Run, writer: Path):
    words = ("--model", writer, "--dtype", "float32", "--longest", "4")
    done = graft("run", "translate", "ab", "--from", "en", "--to", "de", *words, "--json")
    assert done.json["finish_reason"] in ("stop", "length")
    graft("run", "translate", "ab", "--from", "en", "--to", "xx", *words).failed(2, "unknown language 'xx'")
    graft("run", "translate", "ab", *words).failed(2, "say --from en --to de")


def test_tables_have_the_columns_of_their_task(graft: Run, base: Path, writer: Path, tmp_path: Path):
    table = tmp_path / "rows.csv"
    table.write_text('article,prompt\n"Alpha came. Beta went.",abc\n')
    picked = graft("run", "summarize", table, "--model", base, "--sentences", "1", "--json")
    assert picked.lines[0]["source"] == "Alpha came. Beta went."
    same = graft("run", "summarize", table, "--column", "article", "--model", base, "--sentences", "1", "--json")
    assert same.lines == picked.lines
    written = graft("run", "generate", table, "--model", writer, "--max-tokens", "3", "--json")
    assert written.lines[0]["source"] == "abc"


def test_a_setting_at_the_end_needs_its_value(graft: Run, writer: Path):
    graft("run", "generate", "abc", "--model", writer, "--stop").failed(2, "--stop needs a value, as in --stop VALUE")


def test_where_nothing_could_be_done_no_others_are_spoken_of(generate: Run, tmp_path: Path):
    file = tmp_path / "prompts.txt"
    file.write_text("x" * 70 + "\n")
    done = generate(file, "--max-tokens", "4")
    assert done.failed(1, "1 of 1 texts were left out: line 1: the text: a prompt of 70 tokens")

"""`graft run score`, `graft run complete` and the benchmarks of `graft evaluate`, as their users meet them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import graft as package
from graft.cli import scored
from graft.heads import Piece

Run = Callable[..., Any]


@pytest.fixture
def decoder(tiny: Callable[..., Any]) -> Path:
    folder: Path = tiny("gpt2-lm").folder
    return folder


def test_one_text_gives_one_object(graft: Run, decoder: Path):
    found = graft("run", "score", "a day", "--model", decoder, "--per", "word", "--dtype", "float32", "--json").json
    assert found["measure"] == "log-likelihood"
    assert found["tokens"] == 5
    assert found["unscored"] == 0
    assert found["bits"] == pytest.approx(-found["log_probability"] / math.log(2))
    assert found["perplexity"] == pytest.approx(math.exp(-found["log_probability"] / 5))
    assert [one["text"] for one in found["pieces"]] == ["a", "day"]
    assert sum(one["log_probability"] for one in found["pieces"]) == pytest.approx(found["log_probability"])
    (same,) = package.run("score", ["a day"], model=decoder, dtype="float32", per="word")
    assert same.as_dict() == found


def test_for_people_a_score_is_a_sentence_and_its_pieces_a_table(graft: Run, decoder: Path):
    done = graft("run", "score", "a day", "--model", decoder, "--per", "token", "--quiet")
    lines = done.out.splitlines()
    assert lines[0].startswith("log-probability -")
    assert lines[1].split() == ["log-probability", "bits"]
    assert len(lines) == 7
    assert "\x1b" not in done.out


def test_texts_are_compared(graft: Run, decoder: Path, tmp_path: Path):
    lines = tmp_path / "lines.txt"
    lines.write_text("abc\n\nqqqqqqq\nd\n")
    every = graft("run", "score", lines, "--model", decoder, "--compare", "--json", "--dtype", "float32").lines
    assert [one["rank"] for one in every] == [1, 2, 3]
    logs = [one["log_probability"] for one in every]
    assert logs == sorted(logs, reverse=True)
    assert [one["behind"] for one in every] == pytest.approx([logs[0] - log for log in logs])
    assert {one["line"] for one in every} == {1, 3, 4}
    two = graft("run", "score", "abc", "--with", "qqqqqqq", "--model", decoder, "--json", "--dtype", "float32").lines
    assert [one["rank"] for one in two] == [1, 2]


def test_a_mask_head_gives_a_pseudo_log_likelihood(graft: Run, tiny: Callable[..., Any]):
    model = tiny("bert-mask").folder
    done = graft("run", "score", "ab c", "--model", model, "--quiet")
    assert done.out.startswith("pseudo-log-probability -")
    within = graft("run", "score", "ab c", "--model", model, "--within-word", "--json").json
    assert within["measure"] == "pseudo-log-likelihood"
    graft("run", "score", "ab", "--model", model, "--within-word", "--threshold", "0.5").failed(
        2, "--threshold is for ask"
    )


def test_what_is_not_scored_is_said(graft: Run, tiny: Callable[..., Any]):
    done = graft("run", "score", "abc", "--model", tiny("llama-lm").folder)
    assert "first token not scored" in done.out
    assert "first token not scored in 1 of 1 texts" in done.err


def test_a_bad_line_is_told_and_the_others_are_done(graft: Run, tiny: Callable[..., Any], tmp_path: Path):
    lines, out = tmp_path / "lines.txt", tmp_path / "out.csv"
    lines.write_text(
        "abc\n\u200b\nde f\nx\n", encoding="utf-8"
    )  # for this model: a token, no token, tokens, a lone one
    done = graft("run", "score", lines, "--model", tiny("llama-lm").folder, "--out", out)
    assert done.code == 1
    assert "line 2: the text" in done.err
    assert done.err.splitlines()[-1].startswith("error: 2 of 4 texts were left out, the others are done: line 2: ")
    with out.open(newline="") as file:
        assert [row["line"] for row in csv.DictReader(file)] == ["1", "3"]


def test_a_column_with_a_bad_row_is_refused_or_allowed(graft: Run, decoder: Path, tmp_path: Path):
    table = tmp_path / "table.jsonl"
    table.write_text('{"note": "abc"}\n{"note": 5}\n')
    graft("run", "score", table, "--column", "note", "--model", decoder).failed(1, "line 2", "is a number")
    done = graft("run", "score", table, "--column", "note", "--model", decoder, "--max-rejects", "1", "--json")
    assert [one["text"] for one in done.lines] == ["abc"]


@pytest.mark.parametrize("task", ["score", "complete"])
def test_bad_use_is_refused(graft: Run, tiny: Callable[..., Any], decoder: Path, task: str):
    graft("run", task, "", "--model", decoder).failed(1, "the text")
    graft("run", task, "a text", "--model", tiny("bert-classify").folder).failed(
        1, "found one for 'classify'", "classify"
    )
    graft("run", task, "a text").failed(2, f"{task} needs a model", "gpt2")
    graft("finetune", "x.csv", "--task", task, "--model", decoder).failed(2, "models as they are")
    graft("run", "classify", "a", "--model", decoder, "--per", "word").failed(2, "--per is for score")


def test_bad_options_are_refused(graft: Run, decoder: Path):
    graft("run", "score", "a", "--per", "letter", "--model", decoder).failed(2, "per is 'letter'")
    graft("run", "score", "a", "--stride", "99", "--model", decoder).failed(2, "expected 1 to 40")
    graft("run", "score", "a", "--overflow", "truncate", "--model", decoder).failed(2, "window")
    graft("run", "complete", "a", "--n", "0", "--model", decoder).failed(2, "from 1 to 100")
    for task in ("score", "complete"):
        with pytest.raises(package.GraftError, match="text 1 .* is int 3"):
            package.run(task, ["a", 3], model=decoder)  # type: ignore[list-item]
        with pytest.raises(package.GraftError, match="found pairs"):
            package.run(task, [("a", "b")], model=decoder)
        with pytest.raises(package.GraftError, match="text 0 .*half a surrogate pair"):
            package.run(task, ["\ud800"], model=decoder)


def test_words_are_completed(graft: Run, process: Run, decoder: Path):
    found = graft("run", "complete", "I would like to th", "--model", decoder, "--n", "3", "--json").json
    words = [found, *found["alternatives"]]
    assert len(words) == 3
    assert all(one["text"] == "th" + one["insert"] for one in words)
    assert [one["probability"] for one in words] == sorted((one["probability"] for one in words), reverse=True)
    shown = graft("run", "complete", "I would like to th", "--model", decoder, "--quiet").out.splitlines()
    assert [line.split()[0] for line in shown] == [one["text"] for one in words]
    many = process("run", "complete", "-", "--model", decoder, "--json", given=b"one\ntwo w\n").lines
    assert [one["line"] for one in many] == [1, 2]


def test_benchmarks_are_named_and_need_their_data(graft: Run, decoder: Path, tmp_path: Path):
    data = tmp_path / "passages.jsonl"
    data.write_text(f"{json.dumps({'context': 'in the end he', 'continuation': 'left'})}\n" * 3)
    found = graft("evaluate", decoder, "lambada", "--data", data, "--json").json
    assert found["task"] == "lambada"
    assert found["n"] == 3
    assert set(found["metrics"]) == {"acc", "perplexity"}
    assert found["rows_per_second"] > 0
    shown = graft("evaluate", decoder, "lambada", "--data", data, "--quiet", "--report", tmp_path / "page.html").out
    assert shown.splitlines()[-1].startswith("lambada on 3 rows in ")
    assert (tmp_path / "page.html").is_file()
    graft("evaluate", decoder, "lambda", "--data", data).failed(2, "did you mean 'lambada'")
    graft("evaluate", decoder, "lambada").failed(2, "--data FILE")


def test_unlikely_pieces_are_in_colour():
    pieces = tuple(
        Piece(text=text, log_probability=-bits, bits=bits, start=start, end=start + len(text))
        for text, bits, start in (("a", 1.0, 0), ("odd", 7.0, 2), ("zyx", 12.0, 6))
    )
    assert scored.marked("a odd zyx\x1b!", pieces) == "a \x1b[33modd\x1b[0m \x1b[31mzyx\x1b[0m\\x1b!"

"""Two texts, and choices, from the command line: adapted, measured, run, with good and bad input."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graft.cli import main

Run = Callable[..., Any]
OPTIONS = ("--epochs", "4", "learning-rate=0.002", "--dtype", "float32", "--quiet")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two words with the same letters entail each other."""
    path, draw = tmp_path_factory.mktemp("data") / "pairs.csv", random.Random(4)
    rows = []
    for number in range(120):
        first = draw.choice("ab")
        second = first if number % 2 else "ba"["ab".index(first)]
        words = ["".join(draw.choice(f"xy{sign * 4}") for _ in range(6)) for sign in (first, second)]
        rows.append(f"{','.join(words)},{'entailment' if number % 2 else 'contradiction'}")
    path.write_text("premise,hypothesis,label\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def related(base: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapted") / "related"
    words = ["finetune", str(pairs), "--task", "pair", "--model", str(base), "--out", str(out), *OPTIONS]
    assert main([*words, "--auxiliary", "0.1"]) == 0
    return out


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "questions.jsonl"
    rows = [
        {
            "question": f"which {'abcd'[n % 4]}",
            "choices": [*"abcd"][: 2 + n % 3 if n % 4 < 2 else 4],
            "answer": "abcd"[n % 4],
        }
        for n in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def chooser(base: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapted") / "chooser"
    words = ["finetune", str(questions), "--task", "choice", "--model", str(base), "--out", str(out), *OPTIONS]
    assert main([*words, "--eval", str(questions)]) == 0
    return out


def test_pairs_from_rows_to_answers(graft: Run, related: Path, pairs: Path):
    record = json.loads((related / "run.json").read_text())
    assert record["task"] == "pair"
    assert record["auxiliary"] == 0.1
    assert record["columns"] == {"sentence1": "premise", "sentence2": "hypothesis", "label": "label"}
    judged = graft("evaluate", related, pairs, "--json")
    assert judged.json["task"] == "pair"
    assert judged.json["n"] == 120
    answer = graft("run", "pair", "axaa", "--with", "aaya", "--model", related, "--json").json
    assert set(answer["probabilities"]) == {"entailment", "contradiction"}
    lines = graft("run", "pair", pairs, "--model", related, "--json").lines
    assert len(lines) == 120
    assert set(lines[0]) == {
        "line",
        "sentence1",
        "sentence2",
        "label",
        "probability",
        "probabilities",
        "truncated_tokens",
    }
    assert 'graft run pair "A text" --with "Another text"' in (related / "README.md").read_text()
    assert 'model(("A text", "Another text"))' in (related / "README.md").read_text()


def test_pairs_that_cannot_be(graft: Run, base: Path, related: Path, pairs: Path, tmp_path: Path):
    graft("run", "pair", "a man", "--model", related).failed(2, "pair compares two texts", "--with")
    graft("run", "pair", "a man", "--with", "a woman").failed(2, "pair needs a model", "--task pair")
    graft("run", "pair", "a man", "--with", "b", "--model", base).failed(2, "no labels")
    graft("run", "pair", "a", "--with", "b", "--choices", "a|b", "--model", related).failed(
        2, "--choices is for choice"
    )
    (tmp_path / "other.csv").write_text("premise,hypothesis,label\nab,ab,entailment\nab,ab,entails\n")
    words = (
        "finetune",
        pairs,
        "--task",
        "pair",
        "--model",
        base,
        "--eval",
        "other.csv",
        "--out",
        "m",
        "epochs=1",
        "-q",
    )
    graft(*words).failed(1, "other.csv: line 3", "no label 'entails'", "did you mean 'entailment'")
    (tmp_path / "gold.csv").write_text("premise,hypothesis,label\nab,ab,-\nab,ab,entailment\n")
    graft("evaluate", related, "gold.csv").failed(1, "gold.csv: 1 of its 2 rows not usable", "line 2", "nobody settled")
    done = graft("evaluate", related, "gold.csv", "--max-rejects", "1", "--json")
    assert done.json["rows"] == {"read": 2, "kept": 1, "rejected": 1}
    (tmp_path / "short.csv").write_text("premise,label\nab,entailment\n")
    graft("evaluate", related, "short.csv").failed(1, "short.csv", "no column 'sentence2'", "--columns")
    graft("finetune", pairs, "--task", "pair", "--model", base, "--auxiliary", "-1", "--out", "m").failed(
        2, "auxiliary is -1"
    )


def test_choices_from_rows_to_answers(graft: Run, chooser: Path, questions: Path, tmp_path: Path):
    record = json.loads((chooser / "run.json").read_text())
    assert list(record["metrics"])[0] == "accuracy"
    assert record["metrics"]["accuracy"]["low"] < record["metrics"]["accuracy"]["high"]
    assert graft("evaluate", chooser, questions, "--json").json["task"] == "choice"
    answer = graft("run", "choice", "which b", "--choices", "a| b|c", "--model", chooser, "--json").json
    assert list(answer["probabilities"]) == ["a", "b", "c"]
    about = graft("run", "choice", "which", "--context", "b", "--choices", "a|b", "--model", chooser, "--json").json
    assert about["label"] in "ab"
    lines = graft("run", "choice", questions, "--model", chooser, "--json").lines
    assert [len(each["probabilities"]) for each in lines[:4]] == [2, 3, 4, 4]
    assert lines[0]["question"] == "which a"
    (tmp_path / "asked.txt").write_text("which a\nwhich b\n")
    both = graft("run", "choice", "asked.txt", "--choices", "a|b", "--model", chooser, "--json").lines
    assert [list(each["probabilities"]) for each in both] == [["a", "b"]] * 2
    assert "<h2" in (chooser / "report.html").read_text()


def test_a_decoder_that_chooses(graft: Run, tiny: Callable[..., Any], questions: Path, tmp_path: Path):
    """Its published class gives one number; graft.json says what the number is for."""
    base = tiny("gpt2", vocab_size=258).folder
    words = ("--task", "choice", "--model", base, "--eval", questions, "--epochs", "1", "--dtype", "float32")
    done = graft("finetune", questions, *words, "--out", "m", "--json")
    assert done.code == 0, done.err
    assert "texts are read as _start_ text _delimiter_ text _classify_; 3 new tokens" in done.err
    again = graft("evaluate", "m", questions, "--dtype", "float32", "--json").json
    assert again["task"] == "choice"
    assert again["metrics"]["accuracy"] == done.json["metrics"]["accuracy"]
    (tmp_path / "new.csv").write_text("question,choice0,choice1\nwhich a,a,b\n")
    [answer] = graft("run", "choice", "new.csv", "--model", "m", "--json").lines
    assert list(answer["probabilities"]) == ["a", "b"]


def test_choices_that_cannot_be(graft: Run, base: Path, chooser: Path, questions: Path, tmp_path: Path):
    graft("run", "choice", "which b", "--model", chooser).failed(2, "0 choices", "--choices 'a|b|c'")
    graft("run", "choice", "which b", "--choices", "a", "--model", chooser).failed(2, "expected at least two")
    graft("run", "choice", "which b", "--choices", "a|b").failed(2, "choice needs a model")
    graft("run", "choice", "which b", "--choices", "a|b", "--model", base).failed(2, "cannot choose")
    graft("run", "choice", questions, "--choices", "a|b", "--model", chooser).failed(
        2, "leave --choices and --context out"
    )
    graft("run", "choice", "which b", "--with", "a", "--choices", "a|b", "--model", chooser).failed(2, "--with")
    (tmp_path / "bad.jsonl").write_text('{"question": "q", "choices": ["a", "b"], "answer": "z"}\n')
    graft("evaluate", chooser, "bad.jsonl").failed(1, "bad.jsonl", "line 1", "'z', not among the 2 choices")
    graft("finetune", questions, "--task", "choice", "--model", base, "--strategy", "probe", "--out", "m").failed(
        2, "probe"
    )


def test_scores_out_of_range(graft: Run, base: Path, tmp_path: Path):
    (tmp_path / "scores.csv").write_text("sentence1,sentence2,score\na,b,-1\nc,d,6\n")
    graft("finetune", "scores.csv", "--task", "embed", "--model", base, "--out", "m").failed(1, "scores from -1 to 6")
    (tmp_path / "scores.csv").write_text("sentence1,sentence2,score\na,b,inf\nc,d,much\ne,f,1\n")
    words = ("finetune", "scores.csv", "--task", "similarity", "--model", base, "--out", "m")
    graft(*words).failed(1, "scores.csv: 2 of its 3 rows not usable", "line 2: 'score' is not a finite number")

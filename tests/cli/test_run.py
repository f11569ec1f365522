"""`graft run`: one text, files, columns, standard input."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
NAMES = ("no", "yes", "maybe")


@pytest.fixture
def regressor(tiny: Callable[..., Any]) -> Path:
    folder: Path = tiny("bert-regress").folder
    return folder


def test_one_text_gives_one_object(graft: Run, classifier: Path):
    answer = graft("run", "classify", "what a day", "--model", classifier, "--json").json
    assert set(answer) == {"label", "probability", "probabilities", "truncated_tokens"}
    assert set(answer["probabilities"]) == set(NAMES)
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert answer["probability"] == answer["probabilities"][answer["label"]]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert answer["truncated_tokens"] == 0


def test_one_text_for_people_ranks_all_labels(graft: Run, classifier: Path):
    done = graft("run", "classify", "what a day", "--model", classifier, "--quiet")
    words = [line.split() for line in done.out.splitlines()]
    assert {name for name, *_ in words} == set(NAMES)
    shares = [float(share) for _, share, *_ in words]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=0.01)
    assert words[0][2].strip("█") == ""
    assert done.err == ""


def test_what_was_not_read_is_told(graft: Run, classifier: Path):
    done = graft("run", "classify", "many letters " * 20, "--model", classifier, "--json")
    cut = done.json["truncated_tokens"]
    assert cut > 0
    assert f"note: {cut:,} tokens of 1 of 1 texts did not fit" in done.err


def test_a_file_of_lines_keeps_order_and_counts_what_it_leaves_out(graft: Run, classifier: Path, tmp_path: Path):
    lines = tmp_path / "lines.txt"
    lines.write_bytes("\ufeffone\r\n\n  \ntwo two\nünf".encode())
    done = graft("run", "classify", lines, "--model", classifier, "--json")
    assert [(each["line"], each["text"]) for each in done.lines] == [(1, "one"), (4, "two two"), (5, "ünf")]
    assert "5 lines, each a text, 2 of them blank and left out" in done.err
    alone = [
        graft("run", "classify", each["text"], "model=" + str(classifier), "json=true").json for each in done.lines
    ]
    for each, other in zip(done.lines, alone, strict=True):
        assert each["label"] == other["label"]
        assert each["probability"] == pytest.approx(other["probability"], abs=0.02)


def test_more_texts_than_a_chunk_come_in_order(graft: Run, base: Path, tmp_path: Path):
    texts = [f"text {number}" for number in range(1100)]
    packed = tmp_path / "lines.txt.gz"
    packed.write_bytes(gzip.compress("\n".join(texts).encode()))
    done = graft("run", "embed", packed, "--model", base, "--json")
    assert [each["text"] for each in done.lines] == texts
    assert [each["line"] for each in done.lines] == list(range(1, 1101))
    assert {len(each["embedding"]) for each in done.lines} == {32}


def test_a_column_of_a_table(graft: Run, classifier: Path, tmp_path: Path):
    table = tmp_path / "table.csv"
    table.write_text('id,note,text\n1,"first, and long",a\n2,second,b\n')
    by_habit = graft("run", "classify", table, "--model", classifier, "--json")
    assert [each["text"] for each in by_habit.lines] == ["a", "b"]
    for option in (("--column", "note"), ("--columns", "text=note"), ("column=note",)):
        named = graft("run", "classify", table, "--model", classifier, "--json", *option)
        assert [(each["line"], each["text"]) for each in named.lines] == [(2, "first, and long"), (3, "second")]
    graft("run", "classify", table, "--model", classifier, "--column", "nots").failed(1, "'nots'", "'note'")


def test_lines_of_json_with_a_row_that_cannot_be_used(graft: Run, classifier: Path, tmp_path: Path):
    table = tmp_path / "table.jsonl"
    table.write_text('{"text": "a"}\n{"text": ""}\n{"text": "c"}\n')
    graft("run", "classify", table, "--model", classifier).failed(1, "line 2", "--max-rejects 1")
    done = graft("run", "classify", table, "--model", classifier, "--json", "max_rejects=1")
    assert [(each["line"], each["text"]) for each in done.lines] == [(1, "a"), (3, "c")]


def test_similarity_of_two_texts_and_of_a_table(graft: Run, base: Path, regressor: Path, tmp_path: Path):
    same = graft("run", "similarity", "a cat", "--with", "a cat", "--model", base, "--json").json
    assert set(same) == {"score", "truncated_tokens"}
    assert same["score"] == pytest.approx(1, abs=0.01)
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("sentence1\tsentence2\na cat\ta cat\na cat\tdogs bark!\n")
    done = graft("run", "similarity", pairs, "--model", base, "--json")
    assert [(each["sentence1"], each["sentence2"]) for each in done.lines] == [
        ("a cat", "a cat"),
        ("a cat", "dogs bark!"),
    ]
    assert done.lines[0]["score"] > done.lines[1]["score"]
    beside = graft("run", "similarity", pairs, "--column", "sentence2", "--with", "a cat", "--model", base, "--json")
    assert [each["score"] for each in beside.lines] == pytest.approx([each["score"] for each in done.lines], abs=0.01)
    plain = graft("run", "similarity", "a cat", "--with", "dogs", "--model", regressor, "--quiet").out
    assert float(plain) == pytest.approx(
        graft("run", "similarity", "a cat", "--with", "dogs", "--model", regressor, "--json").json["score"], abs=1e-3
    )
    graft("run", "similarity", "a cat", "--model", base).failed(2, "--with")


def test_embeddings_are_vectors_of_length_one(graft: Run, base: Path):
    vector = graft("run", "embed", "a cat", "--model", base, "--json").json["embedding"]
    assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-3)
    plain = [float(word) for word in graft("run", "embed", "a cat", "--model", base, "--quiet").out.split()]
    assert plain == pytest.approx(vector, abs=1e-4)


def test_labels_without_training(graft: Run, base: Path, classifier: Path):
    words = ("run", "classify", "soup", "--model", base, "--json")
    assert set(graft(*words, "--labels", "food, service,price").json["probabilities"]) == {"food", "service", "price"}
    one = graft(*words, "--labels", "soup,zzz", "--template", "{}").json
    other = graft(*words, "--labels", "soup,zzz", "--template", "{} 1234567890").json
    assert one["label"] == "soup"
    assert one["probability"] != other["probability"]
    graft(*words[:-1], "--labels", "food").failed(2, "two different label names")
    graft("run", "classify", "soup", "--model", classifier, "--labels", "a,b").failed(2, "no, yes, maybe")
    graft(*words[:-1], "--labels", "a,b", "--template", "none").failed(2, "{}")


def test_a_model_without_labels_says_what_to_do(graft: Run, base: Path):
    graft("run", "classify", "soup", "--model", base).failed(2, "--labels", "graft finetune")


def test_a_multi_label_model_names_every_label_that_holds(graft: Run, tiny: Callable[..., Any]):
    folder = tiny("bert-multi").folder
    answer = graft("run", "classify", "what a day", "--model", folder, "--json").json
    assert answer["labels"] == [name for name in NAMES if answer["probabilities"][name] >= 0.5]
    plain = graft("run", "classify", "what a day", "--model", folder, "--quiet").out.splitlines()
    assert plain[0] == f"labels: {', '.join(answer['labels']) or 'none'}"
    assert len(plain) == 4


def test_out_writes_a_file_when_all_is_answered(graft: Run, classifier: Path, pets: Path, tmp_path: Path):
    for kind, delimiter in ((".csv", ","), (".tsv", "\t")):
        done = graft("run", "classify", pets, "--model", classifier, "--out", f"answers{kind}")
        assert (done.code, done.out) == (0, "")
        assert f"120 answers written to answers{kind}" in done.err
        with (tmp_path / f"answers{kind}").open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter=delimiter))
        assert len(rows) == 120
        assert list(rows[0]) == ["line", "text", "label", "probability", "truncated_tokens"]
        assert {row["label"] for row in rows} <= set(NAMES)
    summary = graft("run", "classify", pets, "--model", classifier, "out=answers.jsonl", "--json").json
    counts = {"texts": 120, "truncated_tokens": 0, "windows": 0, "abstained": 0}
    assert summary == {"out": "answers.jsonl", **counts}
    written = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [each["label"] for each in written] == [row["label"] for row in rows]


def test_a_failure_half_way_leaves_the_old_file(graft: Run, classifier: Path, tmp_path: Path):
    (tmp_path / "answers.jsonl").write_text("old")
    graft("run", "classify", "-", "--model", tmp_path / "none", "--out", "answers.jsonl").failed(1, "none")
    assert (tmp_path / "answers.jsonl").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl"]


def test_a_word_that_can_only_be_a_file_is_not_answered_as_a_text(graft: Run, classifier: Path, tmp_path: Path):
    (tmp_path / "tickets.csv").write_text("text\na\n")
    graft("run", "classify", "ticket.csv", "--model", classifier).failed(
        1, "no such file", "did you mean 'tickets.csv'"
    )
    done = graft("run", "classify", "see the file tickets.csv", "--model", classifier, "--json")
    assert set(done.json) == {"label", "probability", "probabilities", "truncated_tokens"}


@pytest.mark.parametrize("content", [b"", b"\n \n\n"])
def test_a_file_without_text(graft: Run, classifier: Path, tmp_path: Path, content: bytes):
    (tmp_path / "empty.txt").write_bytes(content)
    graft("run", "classify", "empty.txt", "--model", classifier).failed(1, "empty.txt: there is no text in it")


def test_a_text_file_in_another_encoding(graft: Run, classifier: Path, tmp_path: Path):
    (tmp_path / "latin.txt").write_bytes(b"fine\ncaf\xe9\n")
    graft("run", "classify", "latin.txt", "--model", classifier).failed(1, "line 2, byte 8", "--encoding latin-1")
    done = graft("run", "classify", "latin.txt", "--model", classifier, "--json", "encoding=latin-1")
    assert [each["text"] for each in done.lines] == ["fine", "café"]
    graft("run", "classify", "latin.txt", "--model", classifier, "encoding=latn-1").failed(2, "did you mean 'latin-1'")


def test_a_giant_line_is_refused(graft: Run, classifier: Path, tmp_path: Path):
    (tmp_path / "giant.txt").write_bytes(b"short\n" + b"x" * (2**24 + 1))
    graft("run", "classify", "giant.txt", "--model", classifier).failed(1, "line 2", "16,777,216")


def test_signs_that_steer_a_terminal_do_not_reach_it(graft: Run, classifier: Path, tmp_path: Path):
    (tmp_path / "evil.txt").write_text("red \x1b[31m alert\n")
    plain = graft("run", "classify", "evil.txt", "--model", classifier)
    assert "\x1b" not in plain.out + plain.err
    assert "\\x1b[31m alert" in plain.out
    exact = graft("run", "classify", "evil.txt", "--model", classifier, "--json")
    assert exact.lines[0]["text"] == "red \x1b[31m alert"


def test_a_model_that_answers_nothing_finite_is_an_error(graft: Run, damaged: Path):
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(damaged / "model.safetensors")
    weights["classifier.bias"] = torch.full_like(weights["classifier.bias"], float("nan"))
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    graft("run", "classify", "a", "--model", damaged, "dtype=float32").failed(1, "no finite number")

"""A labelled corpus written from prefixes: every row can be written again from its seed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import graft
from graft.errors import DataError, UsageError
from graft.loading import load
from graft.recipes.corpus import corpus

PREFIXES = {"good": ["Liked it", "Loved it"], "bad": ["Hated it"]}


@pytest.fixture(scope="module")
def model(tiny) -> graft.Model:
    return load(tiny("gpt2-lm", n_positions=60).folder, "float32")


def test_rows_are_different_and_can_be_written_again(model: graft.Model, tmp_path: Path):
    made = corpus(tmp_path / "rows.csv", PREFIXES, model=model, n=7, seed=11, max_tokens=6)
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["text", "label", "seed"]
    assert [row["label"] for row in rows] == ["good"] * 7 + ["bad"] * 7
    assert made.texts == {"good": 7, "bad": 7}
    assert len({row["text"] for row in rows[:7]}) == 7
    for row in (rows[0], rows[3], rows[9]):
        seed = int(row["seed"])
        prefix = PREFIXES[row["label"]][seed % len(PREFIXES[row["label"]])]
        [again] = graft.run("generate", [prefix], model=model, seed=seed, max_tokens=6)
        assert again.text == row["text"]


def test_json_lines_and_a_seed_of_its_own(model: graft.Model, tmp_path: Path):
    made = corpus(tmp_path / "rows.jsonl", PREFIXES, model=model, n=2, max_tokens=4)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[0]["seed"] == made.seed
    assert len({row["seed"] for row in rows}) == 4


def test_a_model_that_says_the_same_again_is_told(model: graft.Model, tmp_path: Path):
    with pytest.raises(DataError, match=r"label 'good': \d+ texts were drawn, [12] of them different"):
        corpus(tmp_path / "rows.csv", PREFIXES, model=model, n=3, temperature=0, max_tokens=4)
    assert not (tmp_path / "rows.csv").exists()


@pytest.mark.parametrize(
    ("name", "prefixes", "settings", "message"),
    [
        ("rows.txt", PREFIXES, {}, r"--dataset .*rows.txt: .*Valid: '.csv', '.jsonl', '.tsv'"),
        ("rows.csv", {}, {}, 'a corpus needs labels: --positive "..."'),
        ("rows.csv", {"good": [" "]}, {}, "the prefix of label 'good' is empty"),
        ("rows.csv", PREFIXES, {"n": 0}, "n is 0, expected a whole number above 0"),
        ("rows.csv", PREFIXES, {"tempature": 0}, "generate has no setting 'tempature': did you mean 'temperature'"),
    ],
)
def test_wrong_use(model: graft.Model, tmp_path: Path, name: str, prefixes, settings, message: str):
    with pytest.raises(UsageError, match=message):
        corpus(tmp_path / name, prefixes, model=model, **settings)

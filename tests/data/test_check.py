from __future__ import annotations

import json
import random
from collections import defaultdict

import pytest

from graft.data.check import EXAMPLES, Example, check
from graft.data.split import normal

TRAIN = ["good", "bad", " GOOD ", "good", "fine", "Bad", "good"]
LABELS = ["pos", "neg", "pos", "neg", "pos", "neg", "neg"]


def test_counts_and_examples():
    found = check(TRAIN, LABELS, ["new", "BAD", "fine", "fine"], train_lines=range(2, 9), held_out_lines=[5, 6, 8, 9])
    assert (found.duplicates, found.conflicts, found.leaks) == (3, 1, 3)
    assert found.duplicate_examples == (
        Example(first=2, line=4, text=" GOOD "),
        Example(first=3, line=7, text="Bad"),
        Example(first=5, line=8, text="good"),
    )
    assert found.conflict_examples == (Example(first=2, line=5, text="good", labels=("pos", "neg")),)
    assert found.leak_examples == (
        Example(first=3, line=6, text="BAD"),
        Example(first=6, line=8, text="fine"),
        Example(first=6, line=9, text="fine"),
    )


def test_notices():
    found = check(TRAIN, LABELS, ["BAD"], train_lines=range(2, 9), held_out_lines=[6])
    assert found.lines() == [
        "3 rows to train on repeat an earlier one, text and label: "
        "line 4 repeats line 2; line 7 repeats line 3; line 8 repeats line 5",
        "1 row to train on gives an earlier text another label: line 5 says neg, line 2 pos",
        "1 row held out has a text that is also trained on: line 6 is line 3 of the rows to train on",
    ]
    assert check(["a", "b"], [0, 1], ["c"]).lines() == []


def test_only_the_first_examples_are_kept():
    found = check(["x"] * 100)
    assert (found.duplicates, len(found.duplicate_examples)) == (99, EXAMPLES)
    assert found.lines()[0].endswith("line 6 repeats line 1, and 94 more")
    assert len(check(["x" * 1000] * 2).duplicate_examples[0].text) == 80


def test_without_labels_equal_texts_are_duplicates():
    found = check(["a", "A", "b"])
    assert (found.duplicates, found.conflicts, found.leaks) == (1, 0, 0)


def test_nothing_to_check():
    found = check([], [], [])
    assert (found.duplicates, found.conflicts, found.leaks) == (0, 0, 0)


def test_as_dict_is_json():
    found = check(TRAIN, LABELS, ["BAD"])
    loaded = json.loads(json.dumps(found.as_dict()))
    assert (loaded["duplicates"], loaded["conflicts"], loaded["leaks"]) == (3, 1, 1)
    assert loaded["conflict_examples"][0] == {"first": 1, "line": 4, "text": "good", "labels": ["pos", "neg"]}


@pytest.mark.parametrize(
    "wrong",
    [{"labels": [1]}, {"train_lines": [1]}, {"held_out": ["a"], "held_out_lines": [1, 2]}, {"held_out_lines": [1]}],
)
def test_lengths_must_agree(wrong: dict[str, list[object]]):
    with pytest.raises(ValueError, match="for [0-9] texts"):
        check(["a", "b"], **wrong)


def synthetic(rows: int, seed: int) -> tuple[list[str], list[int], list[str]]:
    rng = random.Random(seed)
    texts = [f"Row {rng.randrange(rows)} of the table" for _ in range(rows)]
    texts = [rng.choice((text, text.upper(), text.replace(" ", "  "))) for text in texts]
    held_out = [f"row {rng.randrange(2 * rows)} of the table" for _ in range(rows // 10)]
    return texts, [rng.randrange(3) for _ in range(rows)], held_out


def assert_exact(rows: int) -> None:
    texts, labels, held_out = synthetic(rows, seed=rows)
    found = check(texts, labels, held_out)
    by_text = defaultdict(set)
    for text, label in zip(texts, labels, strict=True):
        by_text[normal(text)].add(label)
    pairs = sum(len(seen) for seen in by_text.values())
    assert found.duplicates == rows - pairs > 0
    assert found.conflicts == pairs - len(by_text) > 0
    assert found.leaks == sum(normal(text) in by_text for text in held_out) > 0


def test_counts_are_exact():
    assert_exact(20_000)


@pytest.mark.slow
def test_counts_are_exact_on_a_million_rows():
    assert_exact(1_000_000)

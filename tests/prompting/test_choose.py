"""Which examples are shown."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from graft.errors import UsageError
from graft.loading import load
from graft.prompting.choose import Neighbours, balanced


def test_labels_come_in_turn_and_the_seed_decides():
    labels = ["a"] * 40 + ["b"] * 3 + ["c"]
    chosen = balanced(labels, 7, seed=1)
    assert Counter(labels[index] for index in chosen) == {"a": 3, "b": 3, "c": 1}
    assert len(set(chosen)) == 7
    assert balanced(labels, 7, seed=1) == chosen
    assert balanced(labels, 7, seed=2) != chosen
    assert sorted(balanced(labels, 44, seed=0)) == list(range(44))
    with pytest.raises(UsageError, match="shots is 45, and there are 44 rows"):
        balanced(labels, 45, seed=0)


def test_the_nearest_are_those_of_the_largest_cosine(tiny):
    model = load(tiny("bert").folder, "float32")
    rows = ["abc", "bcd", "a", "xyz w", "q", "abd", "abc"]
    found = Neighbours(model, rows).nearest(["abe", "abc"], 3)
    embedded, texts = model.embed(rows), model.embed(["abe", "abc"])
    assert found[0] == np.argsort(embedded @ texts[0], kind="stable")[-3:].tolist()
    others = [index for index in np.argsort(embedded @ texts[1], kind="stable").tolist() if rows[index] != "abc"]
    assert found[1] == others[-3:]

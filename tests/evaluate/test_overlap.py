"""ROUGE and chrF beside rouge_score and sacrebleu."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.errors import DataError
from graft.evaluate.overlap import written

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "7", "Café,", "it's", "…"]), max_size=9)
TEXTS = st.lists(st.tuples(WORDS.map(" ".join), WORDS.map(" ".join)), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_values_are_those_of_the_libraries(rows: list[tuple[str, str]]):
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import CHRF

    targets, texts = [one for one, _ in rows], [other for _, other in rows]
    found = written(targets, texts, resamples=2)
    names = ["rouge1", "rouge2", "rougeL"]
    each = [RougeScorer(names).score(target, text) for target, text in rows]
    for name in names:
        assert found[name].value == pytest.approx(sum(one[name].fmeasure for one in each) / len(rows)), name
    assert found["chrf"].value == pytest.approx(CHRF().corpus_score(texts, [targets]).score, abs=1e-6)
    assert found["exact"].value == sum(a.strip() == b.strip() for a, b in rows) / len(rows)


def test_a_perfect_and_a_foreign_text():
    found = written(["a cat sat", "on the mat"], ["a cat sat", "xyz"])
    assert found["rougeL"].value == 0.5
    assert found["exact"].value == 0.5
    assert 0 <= found["rougeL"].low < 0.5 < found["rougeL"].high <= 1


def test_rows_must_match():
    with pytest.raises(DataError, match="1 texts for 2 targets"):
        written(["a", "b"], ["a"])
    with pytest.raises(DataError, match="no rows"):
        written([], [])

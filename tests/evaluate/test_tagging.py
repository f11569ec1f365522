"""Scores of tagged sentences: seqeval's over generated cases, and intervals over sentences."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval import metrics as theirs
from seqeval import scheme as their_schemes

from graft.errors import DataError
from graft.evaluate.tagging import tagging
from graft.text.tag_schemes import Scheme, of_labels

SCHEMES = {
    "IOB2": ("O", "B-A", "I-A", "B-B", "I-B", "B-C", "I-C"),
    "IOB1": ("O", "B-A", "I-A", "B-B", "I-B", "I-C"),
    "BIOES": ("O", "B-A", "I-A", "E-A", "S-A", "B-B", "I-B", "E-B", "S-B"),
    "BILOU": ("O", "B-A", "I-A", "L-A", "U-A", "B-B", "I-B", "L-B", "U-B"),
}


def sentence(scheme: Scheme, words: int, draw: random.Random) -> list[int]:
    """A random legal sentence."""
    while True:
        found = [draw.choice(range(len(scheme.labels)))]
        while len(found) < words:
            found.append(draw.choice([n for n in range(len(scheme.labels)) if scheme.legal_CC[found[-1], n]]))
        if scheme.fault(found) is None:
            return found


def changed(true: list[int], scheme: Scheme, draw: random.Random) -> list[int]:
    """An answer that is often right."""
    if draw.random() < 0.5:
        return list(true)
    for _ in range(50):
        other = list(true)
        other[draw.randrange(len(other))] = draw.randrange(len(scheme.labels))
        if scheme.fault(other) is None:
            return other
    return sentence(scheme, len(true), draw)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(SCHEMES)), st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_as_seqeval(name: str, seed: int, sentences: int):
    draw, scheme = random.Random(seed), of_labels(SCHEMES[name])
    target = [sentence(scheme, draw.randint(1, 9), draw) for _ in range(sentences)]
    answers = [changed(one, scheme, draw) for one in target]
    ours = tagging(target, answers, scheme, resamples=5)
    true, given_ = ([[scheme.labels[n] for n in one] for one in some] for some in (target, answers))
    strict = {"mode": "strict", "scheme": getattr(their_schemes, name.replace("BIOES", "IOBES")), "zero_division": 0}
    assert ours["accuracy"].value == pytest.approx(theirs.accuracy_score(true, given_))
    if all(tag == "O" for one in (*true, *given_) for tag in one):
        assert set(ours) == {"accuracy"}
        return
    for metric, function in (
        ("precision", theirs.precision_score),
        ("recall", theirs.recall_score),
        ("f1", theirs.f1_score),
    ):
        assert ours[metric].value == pytest.approx(function(true, given_, **strict))
        if name in ("IOB2", "BIOES"):
            assert ours[metric].value == pytest.approx(function(true, given_, zero_division=0))
    report = theirs.classification_report(true, given_, output_dict=True, **strict)
    for label in scheme.types:
        assert (f"f1_{label}" in ours) == (label in report)
        if label in report:
            assert ours[f"f1_{label}"].value == pytest.approx(report[label]["f1-score"])


def by_hand() -> tuple[Scheme, list[list[int]], list[list[int]]]:
    scheme = of_labels(("O", "B-A", "I-A", "B-B", "I-B"))
    target = [[1, 2, 0, 3], [0, 0], [1, 0]]
    return scheme, target, [[1, 2, 0, 1], [0, 3], [0, 0]]


def test_by_hand():
    scores = tagging(*by_hand()[1:], by_hand()[0])
    assert list(scores) == ["f1", "precision", "recall", "accuracy", "f1_A", "f1_B"]
    assert scores["precision"].value == pytest.approx(1 / 3)
    assert scores["recall"].value == pytest.approx(1 / 3)
    assert scores["f1"].value == pytest.approx(1 / 3)
    assert scores["accuracy"].value == pytest.approx(5 / 8)
    assert scores["f1_A"].value == pytest.approx(2 / 4)
    assert scores["f1_B"].value == 0


def test_nothing_answered_and_nothing_labelled():
    scheme = by_hand()[0]
    nothing = tagging([[1, 0]], [[0, 0]], scheme)
    assert (nothing["f1"].value, nothing["precision"].value, nothing["recall"].value) == (0, 0, 0)
    assert "f1_B" not in nothing
    assert set(tagging([[0, 0]], [[0, 0]], scheme)) == {"accuracy"}


def test_plain_tags_are_scored_by_word():
    scores = tagging([[0, 1, 1], [1]], [[0, 1, 0], [1]], of_labels(("DT", "NN")))
    assert set(scores) == {"accuracy"}
    assert scores["accuracy"].value == 0.75


def test_the_interval_is_over_sentences():
    """Words that stand and fall together tell less: the same words in fewer sentences give a wider interval."""
    scheme = of_labels(("O", "B-A", "I-A"))
    target, answers = [[1]] * 200, [[1]] * 150 + [[0]] * 50
    apart = tagging(target, answers, scheme)["f1"]
    together = tagging([[1] * 10] * 20, [[1] * 10] * 15 + [[0] * 10] * 5, scheme)["f1"]
    assert apart.value == together.value
    assert together.high - together.low > 2 * (apart.high - apart.low)
    assert apart.low < apart.value < apart.high
    assert tagging(target, answers, scheme) == tagging(target, answers, scheme)


def test_a_perfect_score_still_has_an_interval():
    scheme = of_labels(("O", "B-A"))
    assert tagging([[1]] * 20, [[1]] * 20, scheme)["f1"].low < 0.9


@pytest.mark.parametrize("answers", [[[0, 0], [0]], [[0, 0]], []])
def test_answers_that_do_not_fit(answers: list[list[int]]):
    with pytest.raises(DataError, match="an answer for each word"):
        tagging([[0, 0], [0, 0]], answers, of_labels(("O", "B-A")))


def test_no_sentences():
    with pytest.raises(DataError, match="no rows"):
        tagging([], [], of_labels(("O", "B-A")))

"""SQuAD's scores: hand-made cases, no-answer rules, intervals, thresholds, and the section of wrong answers."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from graft.errors import DataError
from graft.evaluate import report
from graft.evaluate.questions import (
    Wrong,
    best_threshold,
    exact,
    f1,
    normalized,
    question_scores,
    wrong_answers_section,
)
from graft.evaluate.wording import around


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Cat", "cat"),
        ("  a  dog,\nan ox; the  end ", "dog ox end"),
        ("theatre", "theatre"),
        ("U.S.A.", "usa"),
        ("a-b", "ab"),
        ("the-end", "theend"),
        ("Über «allem»", "über «allem»"),
        ("$1,000.50", "100050"),
        ("the", ""),
        ("", ""),
    ],
)
def test_normalization(text: str, expected: str):
    assert normalized(text) == expected


@pytest.mark.parametrize(
    ("given", "right", "same", "overlap"),
    [
        ("the Panthers", ["Panthers"], True, 1.0),
        ("Carolina Panthers", ["Panthers"], False, 2 / 3),
        ("in 1066 and 1067", ["1066", "1066 and 1067"], False, 6 / 7),
        ("red red fox", ["red fox fox"], False, 2 / 3),
        ("dog", ["cat", "ox"], False, 0.0),
        ("", ["cat"], False, 0.0),
        ("", [], True, 1.0),
        ("cat", [], False, 0.0),
        ("the", [], True, 1.0),
        ("", ["the"], True, 1.0),
        ("cat", ["the", "cat"], True, 1.0),
        ("", ["the", "cat"], False, 0.0),
    ],
)
def test_exact_match_and_f1(given: str, right: list[str], same: bool, overlap: float):
    assert exact(given, right) is same
    assert f1(given, right) == pytest.approx(overlap)


def test_scores_of_answerable_questions():
    scores = question_scores(["the cat", "big dog", "x"], [["cat"], ["dog", "a dog"], ["y"]])
    assert set(scores) == {"exact_match", "f1"}
    assert scores["exact_match"].value == pytest.approx(1 / 3)
    assert scores["f1"].value == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert scores["f1"].low < scores["f1"].value < scores["f1"].high


def test_scores_of_both_kinds():
    scores = question_scores(["cat", "", "", "ox"], [["cat"], ["dog"], [], []])
    assert {name: score.value for name, score in scores.items()} == {
        "exact_match": 0.5,
        "f1": 0.5,
        "has_answer_exact_match": 0.5,
        "has_answer_f1": 0.5,
        "no_answer_accuracy": 0.5,
    }
    assert set(question_scores([""], [[]])) == {"exact_match", "f1", "no_answer_accuracy"}


def test_the_interval_holds_the_true_score():
    draw = np.random.default_rng(5)
    held = 0
    for _ in range(100):
        good = draw.random(80) < 0.6
        given = ["cat" if one else "cat dog" for one in good]
        interval = question_scores(given, [["cat"]] * 80, resamples=200)["f1"]
        held += interval.low <= 0.6 + 0.4 * 2 / 3 <= interval.high
    assert held >= 88


def test_numbers_must_fit():
    with pytest.raises(DataError, match="1 answers to 2 questions; expected one for each"):
        question_scores(["a"], [["a"], ["b"]])
    with pytest.raises(DataError, match="no rows to score"):
        question_scores([], [])


def test_the_best_threshold_is_the_best_of_all():
    draw = random.Random(7)
    for _ in range(50):
        none = [round(draw.random(), 1) for _ in range(12)]
        given = [draw.choice(["cat", "dog", "cat dog"]) for _ in none]
        right = [draw.choice([["cat"], ["dog"], []]) for _ in none]

        def score(threshold: float) -> float:
            said = ["" if p > threshold else one for p, one in zip(none, given, strict=True)]  # noqa: B023
            return sum(itertools.starmap(f1, zip(said, right, strict=True)))  # noqa: B023

        best = max(score(step / 40) for step in range(41))
        assert score(best_threshold(none, given, right)) == pytest.approx(best)


def test_a_threshold_keeps_away_from_the_rows():
    assert best_threshold([0.1, 0.4, 0.8, 0.9], ["x"] * 4, [["x"], ["x"], [], []]) == pytest.approx(0.6)


def test_wrong_answers_are_told_apart_and_shown():
    wrong = [
        Wrong(question="Who?", right=["Ann", "Ann"], given="Bob", probability=0.9, around="said »Bob«"),
        Wrong(question="When?", right=["12 May"], given="May", probability=0.5, around="in »May« <b>"),
        Wrong(question="Why?", right=[], given="rain", probability=0.4, around="»rain«"),
        Wrong(question="Where?", right=["here"], given="", probability=0.99, around="»here«"),
    ]
    section = wrong_answers_section(wrong, total=20)
    page = report.html(report.Page(title="t", summary={}, sections=[section]))
    for part in ("4 of 20 questions", "Another place", "Overlap with a right answer", "Answered where none is"):
        assert part in page
    assert page.index("Where?") < page.index("Who?") < page.index("When?")
    assert "in »May« &lt;b&gt;" in page
    assert "Ann | Ann" not in page
    assert "Every question was answered rightly" in str(wrong_answers_section([], total=3))


def test_what_stands_around_is_cut_at_spaces():
    text = "one two three four five"
    assert around(text, 8, 13, 100) == "one two »three« four five"
    assert around(text, 8, 13, 6) == "…two »three« four…"
    assert around(text, 0, 3, 2) == "»one«…"
    assert around("abcdefgh", 3, 4, 2) == "…bc»d«ef…"


def test_scores_are_those_of_torchmetrics():
    """Questions that all have answers, 400 of them, garbled in the ways models garble."""
    from torchmetrics.functional.text import squad

    draw = random.Random(11)
    words = ["the", "A", "Fox", "fox,", "U.S.", "1,066", "naïve", "l'été", "red-hot", "雨", "«an»", "an"]
    given, right = [], []
    for _ in range(400):
        golds = [" ".join(draw.choices(words, k=draw.randint(1, 4))) for _ in range(draw.randint(1, 3))]
        right.append([gold for gold in golds if normalized(gold)] or ["fox"])
        given.append(draw.choice([*right[-1], " ".join(draw.choices(words, k=3)), right[-1][0].upper() + " fox", ""]))
    theirs = squad(
        [{"prediction_text": text, "id": str(number)} for number, text in enumerate(given)],
        [{"answers": {"text": golds, "answer_start": []}, "id": str(n)} for n, golds in enumerate(right)],
    )
    ours = question_scores(given, right, resamples=10)
    assert 0.3 < ours["f1"].value < 0.95
    for name in ("exact_match", "f1"):
        assert 100 * ours[name].value == pytest.approx(float(theirs[name]), abs=1e-3)

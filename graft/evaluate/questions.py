"""Scores of answers to questions as SQuAD defines them, and a section of the wrong ones.

| name | definition |
|---|---|
| exact_match | share of answers equal to a right one, after normalization; Wilson's interval |
| f1 | mean over the questions of the best token F1 with a right answer, after normalization |
| has_answer_exact_match, has_answer_f1 | the same over the questions that have an answer, where some have none |
| no_answer_accuracy | share of the questions without an answer to which none was given |

Normalization: lower case, without ASCII punctuation, without the words a, an and the, spaces collapsed. For a question
without an answer the right answer is the empty text. These are the rules of SQuAD 2.0 (Rajpurkar et al. 2018), which
give what those of 1.1 give except where normalization leaves nothing of an answer.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graft.errors import DataError
from graft.evaluate.blocks import Block, Facts, Paragraph, Quote, Quotes, Said, Section
from graft.evaluate.intervals import Floats, Interval, bootstrap, wilson
from graft.evaluate.row_statistics import divide

SHOWN = 20
NONE = "no answer"
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalized(text: str) -> str:
    """Bring an answer to the form in which answers are compared.

    >>> normalized("The  U.S.A., an ally")
    'usa ally'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(given: str, right: Sequence[str]) -> bool:
    """Whether an answer is one of the right ones; none right means that "" is."""
    return normalized(given) in {normalized(one) for one in _targets(right)}


def f1(given: str, right: Sequence[str]) -> float:
    """The best token F1 of an answer with a right one.

    >>> f1("the red fox", ["a red fox jumps", "fox"])
    0.8
    """
    return max(_overlap(normalized(given).split(), normalized(one).split()) for one in _targets(right))


def _targets(right: Sequence[str]) -> list[str]:
    return [one for one in right if normalized(one)] or [""]


def _overlap(given: list[str], right: list[str]) -> float:
    if not given or not right:
        return float(given == right)
    return 2 * (Counter(given) & Counter(right)).total() / (len(given) + len(right))


def question_scores(
    given: Sequence[str], right: Sequence[Sequence[str]], *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Score answers.

    Args:
        given: the answer to each question, "" for none.
        right: all right answers to each; none of them where it has no answer.
        resamples: bootstrap samples.
        seed: of the bootstrap.
        level: share of intervals that should hold the true score.

    Raises:
        DataError: no questions, or not as many answers.
    """
    if len(given) != len(right):
        raise DataError(f"{len(given)} answers to {len(right)} questions; expected one for each")
    each = np.array([[exact(one, golds), f1(one, golds)] for one, golds in zip(given, right, strict=True)], np.float64)
    answerable = np.array([bool(golds) for golds in right], dtype=np.float64)

    def measure(counts: Floats) -> dict[str, Floats]:
        has, rest = counts * answerable, counts * (1 - answerable)
        return {
            "f1": divide(counts @ each[:, 1], counts.sum(1)),
            "has_answer_exact_match": divide(has @ each[:, 0], has.sum(1)),
            "has_answer_f1": divide(has @ each[:, 1], has.sum(1)),
            "no_answer_accuracy": divide(rest @ each[:, 0], rest.sum(1)),
        }

    bounds = dict.fromkeys(("f1", "has_answer_exact_match", "has_answer_f1", "no_answer_accuracy"), (0.0, 1.0))
    scores = bootstrap(measure, len(given), bounds=bounds, resamples=resamples, seed=seed, level=level)
    matched = {"exact_match": wilson(int(each[:, 0].sum()), len(given), level=level)}
    if answerable.all():
        return matched | {"f1": scores["f1"]}
    return matched | scores


def best_threshold(none: Sequence[float], given: Sequence[str], right: Sequence[Sequence[str]]) -> float:
    """The probability of "no answer" beyond which saying so makes F1 highest, midway between the two rows it parts.

    Args:
        none: the probability of "no answer" for each question.
        given: the best answer to each, whatever that probability.
        right: all right answers to each.
    """
    order = np.argsort(none, kind="stable")
    chances = np.asarray(none, dtype=np.float64)[order]
    answered = np.array([f1(given[row], right[row]) for row in order])
    silent = np.array([f1("", right[row]) for row in order])
    totals = np.concatenate([[0.0], answered.cumsum()]) + silent.sum() - np.concatenate([[0.0], silent.cumsum()])
    edges = np.concatenate([[0.0], chances, [np.nextafter(1.0, 2.0)]])  # beyond 1 lies: always to answer
    apart = np.diff(edges) > 0  # rows of the same probability cannot be parted
    best = np.flatnonzero(apart & (totals >= totals[apart].max() - 1e-9))
    middles = np.minimum((edges[best] + edges[best + 1]) / 2, 1.0)
    return float(middles[np.abs(middles - 0.5).argmin()])


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A question answered wrongly.

    Attributes:
        question: as it was asked.
        right: its right answers.
        given: the answer, "" for none.
        probability: of the answer given.
        around: the answer in the text around it; for none, the first right answer.
    """

    question: str
    right: Sequence[str]
    given: str
    probability: float
    around: str


def wrong_answers_section(wrong: Sequence[Wrong], *, total: int) -> Section:
    """Show how answers are wrong, and those the model was surest of; ``total`` counts all questions."""
    if not wrong:
        return Section(title="Wrong answers", blocks=[Paragraph(text="Every question was answered rightly.")])
    shown = sorted(wrong, key=lambda one: -one.probability)[:SHOWN]
    blocks: list[Block] = [Facts(values=_kinds(wrong)), Quotes(items=[_quote(one) for one in shown])]
    intro = f"{len(wrong):,} of {total:,} questions; below, {len(shown):,} of them: those the model was surest of."
    return Section(title="Wrong answers", intro=intro, blocks=blocks)


def _kinds(wrong: Sequence[Wrong]) -> dict[str, str]:
    names = ("Overlap with a right answer", "Another place", "Answered where none is", "No answer where one is")
    counts = Counter(
        names[2] if not one.right else names[3] if not one.given else names[f1(one.given, one.right) == 0]
        for one in wrong
    )
    return {name: f"{counts[name]:,}" for name in names if counts[name]}


def _quote(one: Wrong) -> Quote:
    right = " | ".join(dict.fromkeys(one.right)) or NONE
    said = [
        Said(name="answered", value=one.given or NONE, note=f"({one.probability:.0%})", tone="bad"),
        Said(name="right", value=right, tone="good"),
        Said(name="in the text", value=one.around),
    ]
    return Quote(text=one.question, said=said)

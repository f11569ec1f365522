"""How answers are scored: one function for all systems, whoever gave them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

Metric = Callable[[Sequence[Any], Sequence[Any]], dict[str, float]]  # answers, targets; the first score is the main one


def accuracy(answers: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
    return {"accuracy": sum(a == b for a, b in zip(answers, targets, strict=True)) / len(targets)}


def matthews(answers: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
    from sklearn.metrics import matthews_corrcoef

    return {"matthews": float(matthews_corrcoef(targets, answers)), **accuracy(answers, targets)}


def spearman(answers: Sequence[float], targets: Sequence[float]) -> dict[str, float]:
    """Correlations; of answers that are all the same there is none, which counts as 0."""
    from scipy.stats import pearsonr, spearmanr

    if len(set(answers)) < 2:
        return {"spearman": 0.0, "pearson": 0.0}
    found = {"spearman": spearmanr(answers, targets), "pearson": pearsonr(answers, targets)}
    return {name: float(one.statistic) for name, one in found.items()}


def entities(answers: Sequence[list[str]], targets: Sequence[list[str]]) -> dict[str, float]:
    """F1, precision and recall of whole entities, as seqeval (and conlleval) counts them."""
    from seqeval.metrics import f1_score, precision_score, recall_score

    both = {"y_true": list(targets), "y_pred": list(answers), "zero_division": 0}
    named = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
    return {name: float(score(**both)) for name, score in named.items()}


def answers(given: Sequence[str], targets: Sequence[list[dict[str, Any]]]) -> dict[str, float]:
    """SQuAD's F1 of words and exact match, each the best over all right answers (Rajpurkar et al. 2016, 6.1)."""
    f1 = exact = 0.0
    for text, right in zip(given, targets, strict=True):
        words = normalized(text)
        wanted = [normalized(one["text"]) for one in right]
        exact += max(float(words == one) for one in wanted)
        f1 += max(_overlap(words, one) for one in wanted)
    return {"f1": f1 / len(targets), "exact_match": exact / len(targets)}


def normalized(text: str) -> list[str]:
    """Words in lower case, without punctuation and articles."""
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _overlap(given: list[str], right: list[str]) -> float:
    shared = sum((Counter(given) & Counter(right)).values())
    if not given or not right:
        return float(given == right)
    return 2 * shared / (len(given) + len(right))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "matthews": matthews,
    "spearman": spearman,
    "entities": entities,
    "answers": answers,
}

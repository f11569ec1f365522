"""How scores, times and texts are written for people."""

from __future__ import annotations

import re

NAMES = {
    "accuracy": "Accuracy",
    "coverage": "Share of rows answered",
    "answered_precision": "Accuracy of these",
    "macro_f1": "Macro F1",
    "micro_f1": "Micro F1",
    "exact_match": "Exact match",
    "has_answer_exact_match": "Exact match, questions with an answer",
    "has_answer_f1": "F1, questions with an answer",
    "no_answer_accuracy": "Accuracy, questions without an answer",
    "balanced_accuracy": "Balanced accuracy",
    "matthews": "Matthews correlation",
    "nll": "Negative log-likelihood",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
    "f1": "F1",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "mse": "Mean squared error",
    "rmse": "Root mean squared error",
    "mae": "Mean absolute error",
}
LOWER_IS_BETTER = frozenset({"nll", "brier", "ece", "mse", "rmse", "mae", "perplexity"})


def title(metric: str) -> str:
    """Name a metric for people."""
    if metric.startswith("f1_"):
        return f"F1 of {metric[3:]}"
    return NAMES.get(metric, metric.replace("_", " ").capitalize())


def number(value: float) -> str:
    """Three decimals below 10, four digits beyond."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.4g}"


def duration(seconds: float) -> str:
    """Say how long in the unit that suits.

    >>> duration(0.25), duration(75), duration(7300)
    ('0.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, thing: str) -> str:
    """Count a thing whose plural ends in s.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def printable(text: str) -> str:
    """Show what a page or a drawing cannot hold: control characters as their symbols, lone surrogates escaped.

    Line ends of every system become one.

    >>> printable("a" + chr(0) + "b")
    'a␀b'
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    visible = "".join(chr(0x2400 + ord(c)) if ord(c) < 32 and c not in "\t\n" else c for c in lines)
    visible = re.sub("[\x7f-\x9f\ufffe\uffff]", "\ufffd", visible)
    return visible.encode("utf-8", "backslashreplace").decode("utf-8")


def around(text: str, start: int, end: int, width: int = 100, marks: tuple[str, str, str] = ("»", "«", "…")) -> str:
    """Mark a stretch of a text, with so many characters before and after it, cut at spaces.

    >>> around("The season starts in April, they say.", 21, 26, width=12)
    '…starts in »April«, they say.'
    """
    left, right, cut = marks
    before, after = text[max(0, start - width) : start], text[end : end + width]
    if start > width:
        before = cut + (before.partition(" ")[2] if " " in before else before)
    if end + width < len(text):
        after = (after.rpartition(" ")[0] if " " in after else after) + cut
    return f"{before}{left}{text[start:end]}{right}{after}"

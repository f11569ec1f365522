"""Sections about a model's answers, one function each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.errors import DataError
from graft.evaluate import plots
from graft.evaluate.blocks import Block, Cell, Facts, Fold, Paragraph, Plots, Quote, Quotes, Said, Section, Table
from graft.evaluate.inputs import Array, Integers, checked_rows
from graft.evaluate.intervals import Interval
from graft.evaluate.metrics import Bin, LabelScore, calibration, confusion, per_label
from graft.evaluate.wording import LOWER_IS_BETTER, counted, number, title

MATRIX_LABELS = 20
"""Labels up to which confusions are shown as a matrix."""
SMALL_MATRIX = 8
"""Labels up to which the matrix is read at a glance, without a list of mix-ups."""
SHOWN = 20
"""Rows of a long list that are shown before it folds."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A row answered wrongly, and how sure the model was of the wrong answer."""

    text: str
    expected: str
    predicted: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A new row and its answer."""

    text: str
    answer: str
    probability: float | None = None
    truncated_tokens: int = 0


def scores_section(scores: Mapping[str, Interval], *, rows: int, split: str = "test", note: str = "") -> Section:
    """Show the scores of one model.

    Args:
        scores: by metric.
        rows: how many were scored.
        split: which rows they were.
        note: how the intervals were made (``metrics.method()``).
    """
    table = Table(
        columns=["Score", "Value", "95% interval"],
        rows=[
            [
                Cell(text=title(name), note="lower is better" if name in LOWER_IS_BETTER else ""),
                Cell(text=number(score.value)),
                Cell(text=f"{number(score.low)} – {number(score.high)}"),
            ]
            for name, score in scores.items()
        ],
        caption=note,
    )
    return Section(title="Scores", intro=f"On {rows:,} {split} rows.", blocks=[table])


def confusion_section(matrix: Integers, labels: Sequence[str]) -> Section:
    """Show which labels are taken for which: a matrix up to 20 labels, beyond that the most frequent mix-ups."""
    blocks: list[Block] = []
    if len(labels) <= MATRIX_LABELS:
        blocks.append(_matrix(matrix, labels))
    if len(labels) > SMALL_MATRIX:
        blocks.extend(_mixed_up(matrix, labels))
    wrong, total = int(matrix.sum() - np.trace(matrix)), int(matrix.sum())
    return Section(title="Confusions", intro=f"{wrong:,} of {total:,} rows are answered wrongly.", blocks=blocks)


def per_label_section(scores: Sequence[LabelScore]) -> Section:
    """Show precision, recall and F1 by label, the weakest first."""
    ordered = sorted(scores, key=lambda one: (one.f1, one.label))
    rows = [
        [
            Cell(text=one.label),
            Cell(text=number(one.f1), share=one.f1),
            Cell(text=number(one.precision)),
            Cell(text=number(one.recall)),
            Cell(text=f"{one.support:,}"),
            Cell(text=f"{one.predicted:,}"),
        ]
        for one in ordered
    ]
    columns = ["Label", "F1", "Precision", "Recall", "Rows", "Answered"]
    blocks: list[Block] = [Table(columns=columns, rows=rows[:SHOWN])]
    if len(rows) > SHOWN:
        rest = Table(columns=columns, rows=rows[SHOWN:])
        more = f"{counted(len(rows) - SHOWN, 'more label')}, F1 {number(ordered[SHOWN].f1)} and up"
        blocks.append(Fold(title=more, blocks=[rest]))
    return Section(title="Label by label", intro="The weakest first.", blocks=blocks)


def calibration_section(bins: Sequence[Bin], *, ece: Interval | None = None, note: str = "") -> Section:
    """Show whether probabilities can be taken at their word."""
    intro = (
        "On the dashed line the model is right as often as it says; below it is too sure of itself, above too modest."
    )
    caption = "Upright lines: 95% intervals. Below: rows by the probability given to their answer."
    table = Table(
        columns=["Probability", "Rows", "Mean probability", "Share right"],
        rows=[
            [
                Cell(text=f"{one.low:.0%} – {one.high:.0%}"),
                Cell(text=f"{one.count:,}"),
                Cell(text=f"{one.confidence:.1%}"),
                Cell(text=f"{one.accuracy:.1%}"),
            ]
            for one in bins
        ],
    )
    blocks: list[Block] = [
        Plots(drawings=[plots.reliability(bins)], caption=caption),
        Fold(title="The figures", blocks=[table]),
    ]
    error = (
        f"Expected calibration error: {ece.value:.1%} (95% interval {ece.low:.1%} – {ece.high:.1%}). " if ece else ""
    )
    if error or note:
        blocks.insert(0, Paragraph(text=error + note))
    return Section(title="Calibration", intro=intro, blocks=blocks)


def calibrated_section(
    before: Sequence[Bin],
    after: Sequence[Bin],
    errors: Mapping[str, Mapping[str, float]],
    *,
    temperature: float,
    rows: int,
) -> Section:
    """Show what a temperature did to probabilities.

    Args:
        before: reliability without it.
        after: reliability with it.
        errors: "before" and "after": ece, brier and nll (``graft.evaluate.calibrate.trust``).
        temperature: what the logits were divided by.
        rows: development rows it was found on.
    """
    change = "were too sure and are less so now" if temperature > 1 else "were too modest and are bolder now"
    intro = (
        f"On {rows:,} development rows, which the model did not learn from, a temperature of {temperature:.3f} was "
        f"found and written into the last layer: probabilities {change}; no answer changed. The figures are of the "
        "held-out rows. On the dashed line the model is right as often as it says."
    )
    names = ("ece", "brier", "nll")
    table = Table(
        columns=["Score", "Before", "After"],
        rows=[
            [
                Cell(text=title(name), note="lower is better"),
                Cell(text=number(errors["before"][name])),
                Cell(text=number(errors["after"][name])),
            ]
            for name in names
        ],
    )
    drawings = [plots.reliability(before, "Before"), plots.reliability(after, "After")]
    caption = "Upright lines: 95% intervals. Below: rows by the probability given to their answer."
    return Section(
        title="Calibration before and after", intro=intro, blocks=[table, Plots(drawings=drawings, caption=caption)]
    )


def reliance_section(scores: Mapping[str, Interval], *, threshold: float, precision: float, rows: int) -> Section:
    """Show how many rows a model that abstains answers, and how many of these rightly."""
    intro = (
        f"On {rows:,} development rows, answers from probability {threshold:.4f} on were found right in at least "
        f"{precision:.1%} of the cases, with 95 % confidence. Less sure answers are marked as abstained. On the "
        "held-out rows:"
    )
    facts = {title(name): f"{score.value:.1%} ({score.low:.1%} – {score.high:.1%})" for name, score in scores.items()}
    return Section(title="Abstaining", intro=intro, blocks=[Facts(values=facts)])


def worst_mistakes(
    texts: Sequence[str], target: Array, probability: Array, labels: Sequence[str], *, limit: int = SHOWN
) -> list[Mistake]:
    """Pick the wrong answers the model was surest of, surest first.

    Args:
        texts: of n rows.
        target: label ids (n,).
        probability: (n, C).
        labels: names by id.
        limit: mistakes picked at most.
    """
    target, probability = checked_rows(target, probability)
    predicted, confidence = probability.argmax(1), probability.max(1)
    wrong = np.flatnonzero(predicted != target)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:limit]
    return [
        Mistake(
            text=texts[row],
            expected=labels[target[row]],
            predicted=labels[predicted[row]],
            probability=float(confidence[row]),
        )
        for row in order.tolist()
    ]


def mistakes_section(mistakes: Sequence[Mistake], *, total: int | None = None) -> Section:
    """Show the wrong answers the model was surest of; ``total`` counts all wrong answers."""
    if not mistakes:
        return Section(title="Mistakes", blocks=[Paragraph(text="Every row was answered rightly.")])
    of_all = f"{len(mistakes)} of {total:,} wrong answers: those" if total is not None else "The wrong answers"
    quotes = [
        Quote(
            text=one.text,
            said=[
                Said(name="answered", value=one.predicted, note=f"({one.probability:.0%})", tone="bad"),
                Said(name="labelled", value=one.expected, tone="good"),
            ],
        )
        for one in mistakes
    ]
    intro = f"{of_all} the model was surest of. Look here first for labels that are wrong themselves."
    return Section(title="Mistakes", intro=intro, blocks=[Quotes(items=quotes)])


def predictions_section(predictions: Sequence[Prediction], *, total: int | None = None) -> Section:
    """Show new rows with their answers; ``total`` counts all that were answered."""
    count = len(predictions) if total is None else total
    quotes = [Quote(text=one.text, said=_answer(one)) for one in predictions]
    intro = f"{len(predictions):,} of {count:,} rows that came without a label."
    return Section(title="Answers to new rows", intro=intro, blocks=[Quotes(items=quotes)])


def classified_sections(
    texts: Sequence[str],
    target: Any,
    probability: Any,
    labels: Sequence[str],
    scores: Mapping[str, Interval],
) -> list[Section]:
    """Confusions, labels one by one, calibration, and the worst mistakes of a single-label classifier."""
    predicted = probability.argmax(1)
    return [
        confusion_section(confusion(target, predicted, len(labels)), labels),
        per_label_section(per_label(target, predicted, labels)),
        calibration_section(calibration(target, probability), ece=scores.get("ece")),
        mistakes_section(worst_mistakes(texts, target, probability, labels), total=int((predicted != target).sum())),
    ]


def written_section(rows: Sequence[tuple[str, str, str]]) -> Section:
    """Show texts, each beside what it should be: (read, expected, written)."""
    quotes = [
        Quote(
            text=read,
            said=[Said(name="written", value=written), Said(name="expected", value=expected, tone="good")],
        )
        for read, expected, written in rows
    ]
    return Section(title="Texts written", intro="Rows spread over the data.", blocks=[Quotes(items=quotes)])


def regression_section(target: Sequence[float], prediction: Sequence[float]) -> Section:
    """Show predicted against true values."""
    if not len(target):
        raise DataError("no rows to draw: found 0, expected at least 1")
    shown = min(len(target), plots.POINTS)
    caption = f"{shown:,} of {len(target):,} rows. On the dashed line predictions are exact."
    drawing = plots.scatter(target, prediction)
    return Section(title="Predicted against true", blocks=[Plots(drawings=[drawing], caption=caption)])


def _matrix(matrix: Integers, labels: Sequence[str]) -> Table:
    totals = np.maximum(matrix.sum(1), 1)
    rows = [
        [Cell(text=label)]
        + [
            Cell(
                text=str(count) if count else "·",
                share=count / total,
                tone="good" if place == across else "bad",
            )
            for across, count in enumerate(counts)
        ]
        for place, (label, counts, total) in enumerate(zip(labels, matrix.tolist(), totals.tolist(), strict=True))
    ]
    caption = "Down: the true label. Across: the answer. Shade: share of the true label's rows."
    return Table(columns=["", *labels], rows=rows, matrix=True, caption=caption)


def _mixed_up(matrix: Integers, labels: Sequence[str]) -> list[Block]:
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:SHOWN]
    pairs = [divmod(int(place), len(labels)) for place in order if off.flat[place]]
    if not pairs:
        return []
    rows = [
        [
            Cell(text=labels[true]),
            Cell(text=labels[given]),
            Cell(text=f"{matrix[true, given]:,}"),
            Cell(
                text=f"{matrix[true, given] / matrix[true].sum():.0%}", share=matrix[true, given] / matrix[true].sum()
            ),
        ]
        for true, given in pairs
    ]
    columns = ["True label", "Answered", "Rows", "Of its rows"]
    shown = f"The {len(pairs)} most frequent of {np.count_nonzero(off):,} mix-ups."
    return [Table(columns=columns, rows=rows, caption=shown, words=frozenset({1}))]


def _answer(one: Prediction) -> list[Said]:
    sure = "" if one.probability is None else f"({one.probability:.0%})"
    said = [Said(name="answer", value=one.answer, note=sure, tone="good")]
    if one.truncated_tokens:
        said.append(Said(name="not read", value=counted(one.truncated_tokens, "token"), tone="bad"))
    return said

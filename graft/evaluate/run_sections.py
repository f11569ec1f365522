"""Sections about a run: the rows it read, how it trained, and which strategy came out ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graft.errors import DataError
from graft.evaluate import plots
from graft.evaluate.blocks import Block, Cell, Facts, Fold, Paragraph, Plots, Section, Table
from graft.evaluate.intervals import Interval
from graft.evaluate.wording import LOWER_IS_BETTER, counted, duration, number, title


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One strategy, or model and strategy, of a comparison.

    Attributes:
        name: what it is called.
        scores: by metric, the most important first.
        seconds: of training, None where there was none.
        rows_per_second: when answering.
        chosen: whether this is the one recommended.
        note: a few words, such as why it stopped.
    """

    name: str
    scores: Mapping[str, Interval]
    seconds: float | None = None
    rows_per_second: float | None = None
    chosen: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What became of the rows that were read.

    Attributes:
        read: rows in the file; equals kept + rejected.
        kept: rows used.
        rejected: rows set aside.
        columns: role -> the file's column, as inferred or told.
        splits: name -> rows.
        labels: name -> rows kept.
        labelled: what has a label, if not rows.
        duplicates: rows that repeat another.
        conflicts: texts that come with different labels.
        leaks: test rows that also stand in the training rows.
        truncated_rows: rows longer than the model reads.
        truncated_tokens: tokens cut from them.
        rejects_file: where the rejected rows are written.
        notes: anything else the reader should know.
    """

    read: int
    kept: int
    rejected: int
    columns: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    labelled: str = "Rows"
    duplicates: int = 0
    conflicts: int = 0
    leaks: int = 0
    truncated_rows: int = 0
    truncated_tokens: int = 0
    rejects_file: str = ""
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.read != self.kept + self.rejected:
            raise DataError(
                f"{self.read} rows were read, but {self.kept} kept and {self.rejected} rejected are "
                f"{self.kept + self.rejected}: rows were lost or counted twice"
            )


def comparison(rows: Sequence[Candidate], *, reason: str = "", plotted: Sequence[str] = ()) -> Section:
    """Compare strategies: scores with intervals, time to train and speed.

    Args:
        rows: in the order shown.
        reason: why the chosen one is chosen.
        plotted: metrics to draw; the first two of the first row unless told.
    """
    if not rows:
        raise DataError("nothing to compare: found 0 candidates, expected at least 1")
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    drawings = [
        plots.whiskers(
            title(name) + (" (lower is better)" if name in LOWER_IS_BETTER else ""),
            [row.name for row in rows],
            [row.scores.get(name) for row in rows],
            [row.chosen for row in rows],
        )
        for name in plotted or names[:2]
    ]
    table = Table(
        columns=["Strategy", *map(title, names), "Training", "Rows per second"],
        rows=[_candidate(row, names) for row in rows],
        marked=frozenset(place for place, row in enumerate(rows) if row.chosen),
        caption="Small figures: the 95% interval.",
    )
    return Section(title="Strategies compared", intro=reason, blocks=[Plots(drawings=drawings), table])


def data_section(data: DataSummary) -> Section:
    """Show what became of the rows that were read, and what is suspicious about them."""
    facts = {"Rows read": data.read, "Kept": data.kept, "Rejected": data.rejected}
    suspicious = {
        "Duplicates": data.duplicates,
        "Conflicting labels": data.conflicts,
        "Test rows also in training": data.leaks,
        "Rows cut short": data.truncated_rows,
    }
    if data.truncated_tokens and not data.truncated_rows:  # counted by the token alone
        suspicious["Tokens not read"] = data.truncated_tokens
        del suspicious["Rows cut short"]
    shown = {name: f"{count:,}" for name, count in (facts | suspicious).items()}
    blocks: list[Block] = [Facts(values=shown)]
    blocks += [Paragraph(text=text, warning=True) for text in _warnings(data)]
    if data.columns:
        listed = ", ".join(f"{role} = “{column}”" for role, column in data.columns.items())
        blocks.append(Paragraph(text=f"Columns: {listed}."))
    if data.splits:
        listed = ", ".join(f"{rows:,} {name}" for name, rows in data.splits.items())
        blocks.append(Paragraph(text=f"Rows by split: {listed}."))
    blocks += [Paragraph(text=note) for note in data.notes]
    return Section(title="Data", blocks=blocks + _label_counts(data.labels, data.labelled))


def training_section(
    loss: Sequence[tuple[float, float]],
    dev: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    *,
    best_step: int | None = None,
    note: str = "",
) -> Section:
    """Show how the loss fell and the scores on the development rows rose, both as (step, value)."""
    drawings = []
    if loss:
        drawings.append(plots.curves("Training loss", {"loss": loss}))
    if dev:
        named = {title(name): points for name, points in dev.items()}
        drawings.append(plots.curves("Scores on the development rows", named, best=best_step))
    each = plots.steps_per_point(len(loss))
    caption = f"Each point of the loss is the mean of {each} steps." if each > 1 else ""
    blocks: list[Block] = [Plots(drawings=drawings, caption=caption)] if drawings else []
    return Section(title="Training", intro=note, blocks=blocks or [Paragraph(text="No training steps were taken.")])


def _candidate(row: Candidate, names: Sequence[str]) -> list[Cell]:
    cells = [Cell(text=row.name, note=row.note)]
    for name in names:
        score = row.scores.get(name)
        cells.append(_score(score) if score else Cell(text="–"))
    cells.append(Cell(text="–" if row.seconds is None else duration(row.seconds)))
    cells.append(Cell(text="–" if row.rows_per_second is None else f"{row.rows_per_second:,.0f}"))
    return cells


def _score(score: Interval) -> Cell:
    return Cell(text=number(score.value), note=f"{number(score.low)} – {number(score.high)}")


def _warnings(data: DataSummary) -> list[str]:
    found = []
    if data.rejected:
        where = f"; {data.rejects_file} gives each with its line and reason" if data.rejects_file else ""
        found.append(f"Rejected: {counted(data.rejected, 'row')}{where}.")
    if data.leaks:
        found.append(
            f"Leak: {counted(data.leaks, 'test row')} also among the training rows. Scores with them are too good."
        )
    if data.conflicts:
        found.append(
            f"Labels at odds: {counted(data.conflicts, 'text')} with several labels, which no model can get all right."
        )
    if data.truncated_rows:
        cut = f"{counted(data.truncated_tokens, 'token')} of {counted(data.truncated_rows, 'row')}"
        found.append(f"Not read: {cut}, beyond the length the model takes.")
    return found


def _label_counts(labels: Mapping[str, int], labelled: str) -> list[Block]:
    if not labels:
        return []
    most = max(*labels.values(), 1)
    ordered = sorted(labels.items(), key=lambda item: -item[1])
    rows = [[Cell(text=name), Cell(text=f"{count:,}", share=count / most)] for name, count in ordered]
    table = Table(columns=["Label", labelled], rows=rows)
    return [table if len(rows) <= 8 else Fold(title=f"{labelled} of each of {len(rows)} labels", blocks=[table])]

"""Tasks: rows in, answers out. One file each, exporting one TASK; each names its head, columns and metrics."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graft.data.columns import Role
from graft.data.table import Reject, Table
from graft.errors import UsageError, nearest
from graft.grafted import Model
from graft.heads import Answer, Head
from graft.inference import Progress, in_step
from graft.prompting.wording import Wording
from graft.sealed import Text
from graft.train.example import Example

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval
    from graft.evaluate.report import Section


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a task's data.

    Attributes:
        inputs: what the model reads: usually one text or one pair; two texts where each is read for itself.
        target: what it should answer; None where the row has no answer.
        line: where the row starts in its file.
    """

    inputs: tuple[Text, ...]
    target: Any
    line: int

    @property
    def key(self) -> str:
        """All its text, by which rows are split and compared."""
        return "\n".join("\n".join(one) if isinstance(one, tuple) else one for one in self.inputs)


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a model gave for some rows.

    Attributes:
        values: one for each row, in order: a tensor (B, ...) of the head's outputs, or a list of what was made of them.
        truncated_tokens: tokens of the rows that were not read.
        windows: windows that texts longer than the model were read in; those of texts that fit do not count.
        notes: what else was left out, to be said.
    """

    values: Any
    truncated_tokens: int
    windows: int = 0
    notes: tuple[str, ...] = ()


class Task:
    """What a task says of itself; as it stands here, one in which each input is a sequence and the head gives it a row.

    Attributes:
        name: its name in commands: that of its file.
        head: the kind of head it needs.
        also: kinds of head that do as well in a model saved for this task.
        roles: the columns it reads.
        symmetric: the order of a pair's texts does not matter.
        primary: the metric that decides between models.
        options: what `answer` can be told.
        overflows: what may happen to texts longer than the model (`graft.sealed.Settings`).
        answering_only: which of them are for answering: what is learned from is read at once.
        keeps_head: a head of this kind that the model came with goes on learning; else a fresh one takes its place.
        windows: whether longer inputs are read in overlapping windows instead of being cut.
        command: what follows `graft run TASK` in examples, where that is not one text.
        python: the line of Python that asks `model`, likewise.
        wording: how its labels or scores are asked for in words (`graft.recipes.worded`); None: they cannot be.
        learned: whether models are adapted to it; else it is done with models as they are.
        whole_text: a .txt file is one document; else blank lines part its documents.
        measures_before: whether the score before learning says something.
        needs_model: false where it can be done without any model, less well.
    """

    name = ""
    head = ""
    also: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    symmetric = False
    primary = ""
    options: tuple[str, ...] = ()
    overflows: tuple[str, ...] = ("truncate", "error")
    answering_only: tuple[str, ...] = ()
    keeps_head = False
    windows = False
    command = ""
    python = ""
    wording: Wording | None = None
    learned = True
    whole_text = False
    measures_before = False
    needs_model = True

    def fits(self, kind: str | None) -> bool:
        """Whether a head of this kind does the task."""
        return kind == self.head

    def reshape(self, table: Table) -> Table:
        """The table with the columns the roles speak of, where data sets of this task are laid out in another way."""
        return table

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Rows with a usable input and target, and those without."""
        raise NotImplementedError

    def said(self, rows: Sequence[Row]) -> str:
        """What was found out about rows while reading them, to be shown."""
        return ""

    def learn(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What the head must know of the training rows (label names)."""
        return {}

    def settings(
        self, model: Model, rows: Sequence[Row], columns: Mapping[str, str], template: str | None
    ) -> dict[str, Any]:
        """Settings the adapted model is to be used with, by name (`graft.sealed.Settings`).

        Raises:
            UsageError: a template for a task that has no use for one.
        """
        if template is not None:
            raise UsageError(f"{self.name} puts nothing around its texts; leave the template out")
        return {}

    def sequences(self, row: Row) -> tuple[Text, ...]:
        """What the model reads of a row, each for itself."""
        return row.inputs

    def answering(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What is kept with a model that learned from these rows, for its answers to depend on (`Settings.answering`).

        None stands for what `tune` finds on rows that are set aside for it.
        """
        return {}

    def tune(self, model: Model, rows: Sequence[Row]) -> dict[str, Any]:
        """The values left open by `answering`, found on rows the model did not learn from."""
        return {}

    def target(self, row: Row, head: Head) -> Tensor:
        """The target as the head's loss wants it."""
        raise NotImplementedError

    def word(self, row: Row) -> str:
        """The row's label in words, where the task is put in words."""
        return str(row.target)

    def examples(self, model: Model, rows: Sequence[Row]) -> tuple[Sequence[Example], int]:
        """Rows to learn from, as token ids and targets, and how many tokens did not fit."""
        assert model.head is not None
        read = iter(model.windows([one for row in rows for text in self.sequences(row) for one in model.orders(text)]))
        examples, cut = [], 0
        for row in rows:
            orders = [len(model.orders(text)) for text in self.sequences(row)]
            texts, target = [next(read) for _ in range(sum(orders))], self.target(row, model.head)
            count = max(map(len, texts))
            for number in range(count):
                parts = [windows[number * len(windows) // count] for windows in texts]
                cut += sum(part.truncated_tokens for part in parts) * len(orders) // sum(orders)
                ids, types = tuple(part.ids for part in parts), tuple(part.types for part in parts)
                examples.append(Example(ids, types, target, row.line, windows=count))
        return examples, cut

    def outputs(self, model: Model, rows: Sequence[Row], progress: Progress | None = None) -> Outputs:
        """What the model gives for rows; their targets do not matter."""
        texts = [text for row in rows for text in self.sequences(row)]
        outputs, how = model.read(texts, in_step(progress, len(rows), len(texts)))
        windows = [one["windows"] or 0 for one in how]
        return Outputs(
            values=torch.stack(outputs).float(),
            truncated_tokens=sum(one["truncated_tokens"] for one in how),
            windows=sum(count for count in windows if count > 1),
        )

    def measure(self, head: Head, values: Any, rows: Sequence[Row]) -> dict[str, Interval]:
        """Metrics of outputs against the rows' targets."""
        raise NotImplementedError

    def sections(self, head: Head, values: Any, rows: Sequence[Row], scores: Mapping[str, Interval]) -> list[Section]:
        """What there is to see of outputs: where they are right, where wrong, and how sure they are."""
        return []

    def method(self) -> str:
        """How the intervals of the scores are made, in one line."""
        from graft.evaluate.metrics import method  # scipy: only where something is scored

        return method()

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """One answer for each input.

        Raises:
            UsageError: the model cannot do this task, or not on such inputs.
        """
        raise NotImplementedError


def answered(model: Model, inputs: Sequence[Text], progress: Progress | None = None) -> list[Answer]:
    """What the model's head answers."""
    answers = model.answer(list(inputs), progress)
    return answers if isinstance(answers, list) else [answers]


def names() -> list[str]:
    """The tasks this package has, by its own listing."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def of_head(kind: str | None) -> list[str]:
    """The tasks a head of this kind is for."""
    return [name for name in names() if find(name).fits(kind)]


def able(model: Model) -> list[str]:
    """The tasks a model as it is can do."""
    kind = None if model.head is None else model.head.kind
    embeds = [] if model.family.words else ["embed", "similarity", "summarize (sentences picked)"]
    return embeds if kind in (None, "embed") else of_head(kind)


def find(name: str) -> Task:
    """The task of that name.

    Raises:
        UsageError: there is none.
    """
    own = names()
    if name not in own:
        raise UsageError(f"unknown task {name!r}: {nearest(str(name), own)}")
    task: Task = importlib.import_module(f"{__name__}.{own[own.index(name)]}").TASK
    return task

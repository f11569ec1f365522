"""Classify: a text gets one label of several, or any number of labels.

One label: a column `label`. Several: a column `labels` of lists (JSON lines, parquet), or of names joined by ``|``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graft.data.columns import Role, text_fault
from graft.data.table import Reject, Table
from graft.errors import DataError, UsageError, nearest
from graft.grafted import Model
from graft.heads import Answer, Classify, Head
from graft.inference import Progress
from graft.prompting.ask import asked, entailment, route, template_for
from graft.prompting.prompt import Prompt, spoken
from graft.prompting.wording import Wording
from graft.sealed import OVERFLOWS, Text
from graft.tasks import Row, Task, answered

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval
    from graft.evaluate.report import Section

SEPARATOR = "|"


class ClassifyTask(Task):
    """Text classification, single-label and multi-label.

    Attributes:
        reads: the roles of the texts, which the model reads together.
        unlabelled: names in the label column that say the row has no label.
    """

    name = "classify"
    overflows = OVERFLOWS
    head = "classify"
    primary = "accuracy"
    options: tuple[str, ...] = ("labels", "template")
    reads: tuple[str, ...] = ("text",)
    unlabelled: tuple[str, ...] = ()
    wording = Wording(
        prefixed="classify: {}", continued="{}\nLabel:", masked="{} This is {mask}.", named="This text is about {}."
    )
    roles: tuple[Role, ...] = (
        Role(name="text", aliases=("sentence", "body", "message", "content", "review", "document")),
        Role(name="label", aliases=("labels", "category", "class", "intent", "sentiment", "target")),
    )

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Rows with their texts and label; an empty text or label is a reason to reject a row."""
        several, column = _several(table, columns), columns.get("label")
        kept, rejected = [], []
        for line, values in zip(table.lines, table.rows, strict=True):
            reason = text_fault(values, columns, self.reads)
            if column is not None and not reason:
                reason = _label_fault(values.get(column), column, several, self.unlabelled)
            texts = [values.get(columns[name]) for name in self.reads]
            if reason:
                rejected.append(Reject(line=line, reason=reason, text=str(texts[0] or "")))
            else:
                target = None if column is None else _names(values[column]) if several else _name(values[column])
                kept.append(Row((_together(texts),), target, line))
        return kept, rejected

    def learn(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Label names in a fixed order, and whether several may hold at once.

        Raises:
            DataError: fewer than two labels.
        """
        several = any(isinstance(row.target, tuple) for row in rows)
        found = {name for row in rows for name in (row.target if several else (row.target,))}
        least = 1 if several else 2
        if len(found) < least:
            raise DataError(
                f"only {len(found)} label in {len(rows)} rows ({', '.join(sorted(found)) or 'none'}); "
                "a classifier needs rows of at least two"
            )
        return {"labels": tuple(sorted(found, key=_order)), "problem": "multi" if several else "single"}

    def target(self, row: Row, head: Head) -> Tensor:
        """The label's number, or a vector of 0 and 1.

        Raises:
            DataError: a label the model does not have.
        """
        assert isinstance(head, Classify)
        wanted = row.target if isinstance(row.target, tuple) else (row.target,)
        for name in wanted:
            if name not in head.labels:
                raise DataError(f"line {row.line}: the model has no label {name!r}: {nearest(str(name), head.labels)}")
        numbers = [head.labels.index(name) for name in wanted]
        if head.problem == "multi":
            return torch.zeros(len(head.labels)).index_fill_(0, torch.tensor(numbers, dtype=torch.int64), 1.0)
        if len(numbers) != 1:
            raise DataError(f"line {row.line}: {len(numbers)} labels, and the model gives exactly one")
        return torch.tensor(numbers[0])

    def measure(self, head: Head, values: Tensor, rows: Sequence[Row]) -> dict[str, Interval]:
        """Accuracy, macro-F1 and calibration; for several labels micro-F1, macro-F1 and exact match."""
        from graft.evaluate.metrics import classification, multi_label  # scipy: only where something is scored

        assert isinstance(head, Classify)
        targets = torch.stack([self.target(row, head) for row in rows]).numpy()
        probabilities = head.probabilities(values).numpy()
        if head.problem == "multi":
            return multi_label(targets.astype(bool), probabilities)
        return classification(targets, probabilities)

    def sections(
        self, head: Head, values: Tensor, rows: Sequence[Row], scores: Mapping[str, Interval]
    ) -> list[Section]:
        """Confusions, labels one by one, calibration, and the worst mistakes."""
        from graft.evaluate import report

        assert isinstance(head, Classify)
        if head.problem == "multi":
            return []
        targets = torch.stack([self.target(row, head) for row in rows]).numpy()
        texts, probabilities = [row.key for row in rows], head.probabilities(values).numpy()
        return report.classified_sections(texts, targets, probabilities, head.labels, scores)

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """The model's own labels; or, for one without, the best of the names given.

        Args:
            model: the model.
            inputs: texts.
            progress: told how many are done.
            **options: `labels`, names to choose from (zero-shot), and `template`, a sentence to put one into.

        Raises:
            UsageError: labels for a model that has its own, or none for one that has not.
        """
        if labels := options.get("labels"):
            return self._zero_shot(model, inputs, labels, options.get("template"), progress)
        if not isinstance(model.head, Classify):
            raise UsageError(
                f"{model.folder}: this model has no labels of its own; name some to choose from "
                "(--labels billing,delivery,other), or adapt it with `graft finetune`"
            )
        return answered(model, inputs, progress)

    def _zero_shot(
        self,
        model: Model,
        inputs: Sequence[Text],
        labels: Sequence[str],
        template: str | None,
        progress: Progress | None,
    ) -> list[Answer]:
        if isinstance(model.head, Classify) and entailment(model) is None:
            named = ", ".join(model.head.labels)
            raise UsageError(f"{model.folder}: this model has labels of its own ({named}); leave --labels out")
        if len(self.reads) == 1 and not all(isinstance(text, str) for text in inputs):
            raise UsageError("choosing from labels reads single texts, found pairs")
        if len(labels) < 2 or len(set(labels)) != len(labels) or not all(label.strip() for label in labels):
            names = ", ".join(labels) or "none"
            raise UsageError(f"zero-shot needs at least two different label names, found: {names}")
        # A template that the user gives to a T5 is one it was trained with: its probabilities are left as they are.
        own = route(model) == "named" or (route(model) == "prefixed" and template is not None)
        prompt = Prompt(words=spoken(labels), calibrate=not own)
        scored = asked(model, prompt, template_for(model, self.wording, template)).scores(inputs, progress)
        answers = Classify(1, labels=labels).decode(scored.values, scored.truncated_tokens)
        if not scored.windows:
            return answers
        return [replace(answer, windows=count) for answer, count in zip(answers, scored.windows, strict=True)]


def _several(table: Table, columns: Mapping[str, str]) -> bool:
    """Lists, or a column called labels in which some names are joined."""
    column = columns.get("label")
    if column is None:
        return False
    values = [row.get(column) for row in table.rows]
    if any(isinstance(value, list) for value in values):
        return True
    return column.lower() == "labels" and any(SEPARATOR in value for value in values if isinstance(value, str))


def _together(texts: Sequence[Any]) -> Text:
    return str(texts[0]) if len(texts) == 1 else (str(texts[0]), str(texts[1]))


def _label_fault(given: Any, column: str, several: bool, unlabelled: Sequence[str]) -> str:
    if given is None or (isinstance(given, str) and not given.strip() and not several):
        return f"{column!r} is empty"
    allowed = (str, int, bool, list) if several else (str, int, bool)
    if not isinstance(given, allowed):
        return f"{column!r} is a {type(given).__name__}, expected a name"
    if not several and _name(given) in unlabelled:
        return f"{column!r} is {_name(given)!r}: nobody settled on a label for this row"
    return ""


def _name(given: Any) -> str:
    return given.strip() if isinstance(given, str) else str(given)


def _names(given: Any) -> tuple[str, ...]:
    parts = given if isinstance(given, list) else str(given).split(SEPARATOR)
    return tuple(sorted({_name(part) for part in parts if _name(part)}))


def _order(name: str) -> tuple[int, int, str]:
    """Numbers by value, then names."""
    return (0, int(name), name) if name.isascii() and name.isdigit() and len(name) < 10 else (1, 0, name)


TASK = ClassifyTask()

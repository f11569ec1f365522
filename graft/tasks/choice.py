"""Choice: a question and several choices -> the right one. Each choice is read with the question; a row's compete.

Choices are a column `choices` of lists (JSON lines, parquet) or of texts joined by ``|``, or columns choice0, choice1
and so on; rows may have different numbers of them. The answer is a choice's letter, number or text, the same way all
through a file.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graft.data.columns import Role, text_fault
from graft.data.table import Reject, Table
from graft.errors import DataError, UsageError
from graft.grafted import Model
from graft.heads import Answer, Choose, Head, Regress
from graft.heads.head import grouped
from graft.inference import Progress
from graft.sealed import Text
from graft.tasks import Row, Task

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval
    from graft.evaluate.report import Section

SEPARATOR = "|"
NUMBERED = re.compile(r"(?:choice|option|ending)[ _]?([0-9]+)", re.IGNORECASE)
KINDS = {"text": "a choice's text", "letter": "a letter", "number": "a number"}
"""How an answer may be given."""

MISTAKES = 20


class ChoiceTask(Task):
    """Multiple choice. A row's inputs are its question, or question and context, and then its choices."""

    name = "choice"
    head = "choose"
    also = ("regress",)
    primary = "accuracy"
    options = ("choices",)
    command = "'A question?' --choices 'this|that'"
    python = 'graft.run("choice", ["A question?"], model=model, choices=["this", "that"])'
    roles = (
        Role(name="question", aliases=("query", "stem", "prompt")),
        Role(name="context", aliases=("story", "passage", "article", "paragraph", "document"), required=False),
        Role(name="choices", aliases=("options", "endings", "candidates"), required=False),
        Role(name="answer", aliases=("label", "correct", "target", "answerkey", "gold")),
    )

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Rows with a question, at least two different choices, and an answer among them.

        Raises:
            DataError: there are no columns of choices.
        """
        numbered, first = _numbered(table, columns)
        kept, rejected = [], []
        for line, values in zip(table.lines, table.rows, strict=True):
            question = values.get(columns["question"])
            choices, reason = _choices(values, columns.get("choices"), numbered)
            reason = text_fault(values, columns, ["question", *_context(values, columns)]) or reason
            if reason:
                rejected.append(Reject(line=line, reason=reason, text=str(question or "")))
            else:
                asked = (question, *(values[columns[role]] for role in _context(values, columns)))
                given = values.get(columns["answer"]) if "answer" in columns else None
                kept.append(Row((asked if len(asked) == 2 else asked[0], *choices), given, line))
        if "answer" not in columns:
            return kept, rejected
        answered, wrong = _answered(kept, columns["answer"], first)
        return answered, sorted([*rejected, *wrong], key=lambda reject: reject.line)

    def sequences(self, row: Row) -> tuple[Text, ...]:
        """A pair for each choice: context, and question with choice; without a context question and choice."""
        asked, *choices = row.inputs
        if isinstance(asked, tuple):
            return tuple((asked[1], f"{asked[0]} {choice}") for choice in choices)
        return tuple((asked, str(choice)) for choice in choices)

    def target(self, row: Row, head: Head) -> Tensor:
        """The right choice, counted within the row."""
        return torch.tensor(row.target)

    def measure(self, head: Head, values: Tensor, rows: Sequence[Row]) -> dict[str, Interval]:
        """Accuracy and calibration; which place a choice has tells nothing, so nothing is measured by label."""
        from graft.evaluate.metrics import classification  # scipy: only where something is scored

        targets = torch.tensor([row.target for row in rows]).numpy()
        scores = classification(targets, _probabilities(values, rows).numpy())
        return {name: scores[name] for name in ("accuracy", "nll", "ece") if name in scores}

    def sections(
        self, head: Head, values: Tensor, rows: Sequence[Row], scores: Mapping[str, Interval]
    ) -> list[Section]:
        """Calibration, and the worst mistakes."""
        from graft.evaluate import metrics, report

        targets, probability = torch.tensor([row.target for row in rows]), _probabilities(values, rows)
        sure, best = probability.max(1)
        wrong = sorted((best != targets).nonzero()[:, 0].tolist(), key=lambda number: -float(sure[number]))
        mistakes = [
            report.Mistake(
                text=_asked(rows[number]),
                expected=str(rows[number].inputs[1 + rows[number].target]),
                predicted=str(rows[number].inputs[1 + int(best[number])]),
                probability=float(sure[number]),
            )
            for number in wrong[:MISTAKES]
        ]
        bins = metrics.calibration(targets.numpy(), probability.numpy())
        return [
            report.calibration_section(bins, ece=scores.get("ece")),
            report.mistakes_section(mistakes, total=len(wrong)),
        ]

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """The choice that fits each question best, with the probability of each.

        Args:
            model: one adapted to this task.
            inputs: questions; or questions and contexts, as pairs.
            progress: told how many are done.
            **options: `choices`, the same for every question, or a list of them for each.

        Raises:
            UsageError: the model cannot choose, or there are no choices, fewer than two, or two that are the same.
        """
        stored = isinstance(model.head, Regress) and model.settings.task == self.name
        if not (stored or isinstance(model.head, Choose)):
            raise UsageError(
                f"{model.folder}: this model cannot choose; adapt one with `graft finetune DATA --task {self.name}`"
            )
        rows = [
            Row((asked, *choices), None, number)
            for number, (asked, choices) in enumerate(zip(inputs, _each(inputs, options.get("choices")), strict=True))
        ]
        if not rows:
            return []
        outputs, how = model.read([text for row in rows for text in self.sequences(row)], progress)
        parts = iter(one["truncated_tokens"] for one in how)
        answers = []
        for row, probabilities in zip(rows, _probabilities(torch.stack(outputs).float(), rows).tolist(), strict=True):
            choices = [str(choice) for choice in row.inputs[1:]]
            each = dict(zip(choices, probabilities, strict=False))
            best = max(choices, key=each.__getitem__)
            lost = sum(next(parts) for _ in choices)
            answers.append(Answer(label=best, probability=each[best], probabilities=each, truncated_tokens=lost))
        return answers


def _each(inputs: Sequence[Text], given: Any) -> list[list[str]]:
    """The choices of each question."""
    if isinstance(given, str) or not given:
        raise UsageError("choice needs choices to choose from: a list (on the command line: --choices 'a|b|c')")
    every = [given] * len(inputs) if all(isinstance(choice, str) for choice in given) else list(given)
    if len(every) != len(inputs):
        raise UsageError(
            f"{len(every)} lists of choices for {len(inputs)} questions; give one for each, or one for all"
        )
    for number, choices in enumerate(every):
        fault = _fault(choices)
        if fault:
            raise UsageError(f"question {number} (counting from 0): {fault} (on the command line: --choices 'a|b|c')")
    return every


def _asked(row: Row) -> str:
    return row.inputs[0] if isinstance(row.inputs[0], str) else row.inputs[0][0]


def _probabilities(values: Tensor, rows: Sequence[Row]) -> Tensor:
    """Scores of all rows' choices (N,) or (N, 1) -> (B, most choices); a row's sum to one, what fills up is 0."""
    return torch.softmax(grouped(values.flatten(), [len(row.inputs) - 1 for row in rows]), dim=-1)


def _numbered(table: Table, columns: Mapping[str, str]) -> tuple[list[str], int]:
    """The columns choice0, choice1, ... in order, and the first one's number."""
    if "choices" in columns:
        return [], 0
    found = {int(match[1]): name for name in table.names if (match := NUMBERED.fullmatch(name.strip()))}
    numbers = sorted(found)
    if len(numbers) < 2 or numbers[0] > 1 or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        shown = ", ".join(map(repr, table.names[:20]))
        raise DataError(
            f"{table.path}: no column 'choices', nor columns choice0, choice1, ... Found: {shown}. "
            "Say which holds lists, or texts joined by |, as in --columns choices=NAME"
        )
    return [found[number] for number in numbers], numbers[0]


def _context(values: Mapping[str, Any], columns: Mapping[str, str]) -> list[str]:
    """The role of the context, where the row has one."""
    given = values.get(columns["context"]) if "context" in columns else None
    return [] if given is None or given == "" else ["context"]


def _choices(values: Mapping[str, Any], column: str | None, numbered: Sequence[str]) -> tuple[list[str], str]:
    """A row's choices, and what is wrong with them. Columns may be empty after the last choice."""
    if column is None:
        given: Any = [values.get(name) for name in numbered]
        while given and given[-1] in (None, ""):
            given.pop()
    else:
        given = values.get(column)
        given = given.split(SEPARATOR) if isinstance(given, str) else given
    if not isinstance(given, list):
        found = "empty" if given is None else f"a {type(given).__name__}"
        return [], f"{column!r} is {found}, expected a list, or texts joined by {SEPARATOR}"
    choices = ["" if choice is None else str(choice).strip() for choice in given]
    return choices, _fault(choices)


def _fault(choices: Sequence[str]) -> str:
    if len(choices) < 2:
        return f"{len(choices)} choices, expected at least two"
    for number, choice in enumerate(choices):
        if not choice.strip():
            return f"choice {number} (counting from 0) is empty"
        if choice in choices[:number]:
            return f"choices {choices.index(choice)} and {number} (counting from 0) are the same: {choice[:40]!r}"
    return ""


def _answered(rows: Sequence[Row], column: str, first: int) -> tuple[list[Row], list[Reject]]:
    """Rows with their answers as places among the choices, all read the way that fits most rows."""
    readings = [_readings(row, first) for row in rows]
    kind = max(KINDS, key=lambda kind: sum(kind in found for found in readings))
    kept, rejected = [], []
    for row, found in zip(rows, readings, strict=True):
        if kind in found:
            kept.append(Row(row.inputs, found[kind], row.line))
        else:
            reason = _unanswered(row, column, kind, first)
            rejected.append(Reject(line=row.line, reason=reason, text=_asked(row)))
    return kept, rejected


def _readings(row: Row, first: int) -> dict[str, int]:
    """The places an answer may mean, by how it is read."""
    choices, given = row.inputs[1:], row.target
    found: dict[str, int] = {}
    if isinstance(given, bool) or not isinstance(given, str | int):
        return found
    word = str(given).strip()
    if isinstance(given, str) and word in choices:
        found["text"] = choices.index(word)
    if len(word) == 1 and word.upper() in string.ascii_uppercase:
        found["letter"] = string.ascii_uppercase.index(word.upper())
    if word.isascii() and word.isdigit() and len(word) < 6:
        found["number"] = int(word) - first
    return {kind: place for kind, place in found.items() if 0 <= place < len(choices)}


def _unanswered(row: Row, column: str, kind: str, first: int) -> str:
    count = len(row.inputs) - 1
    if row.target is None or row.target == "":
        return f"{column!r} is empty"
    spans = {
        "letter": f" from A to {string.ascii_uppercase[min(count, 26) - 1]}",
        "number": f" from {first} to {first + count - 1}",
    }
    found = f"{column!r} is {str(row.target)[:60]!r}, not among the {count} choices"
    return f"{found}; expected {KINDS[kind]}{spans.get(kind, '')}"


TASK = ChoiceTask()

"""Similarity: how alike two texts are, as a number; both are read together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graft.data.columns import Role, text_fault
from graft.data.table import Reject, Table
from graft.errors import DataError, UsageError
from graft.grafted import Model
from graft.heads import Answer, Head, Regress
from graft.inference import Progress, told
from graft.prompting.ask import asked, route, template_for
from graft.prompting.prompt import Prompt, written_steps
from graft.prompting.wording import Wording
from graft.sealed import OVERFLOWS, Text
from graft.tasks import Row, Task, answered

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval
    from graft.evaluate.report import Section

PAIR = (
    Role(name="sentence1", aliases=("text1", "premise", "question1", "first")),
    Role(name="sentence2", aliases=("text2", "hypothesis", "question2", "second")),
)
"""The columns of two texts, whatever is asked of them."""

COMMAND, PYTHON = '"A text" --with "Another text"', 'model(("A text", "Another text"))'
"""How a model that reads two texts is asked."""

ROLES = (*PAIR, Role(name="score", aliases=("similarity", "label", "target")))


STS_HIGHEST = 5.0
"""The scale of the semantic textual similarity data sets goes from 0 to this."""


class SimilarityTask(Task):
    """Sentence-pair regression."""

    name = "similarity"
    overflows = OVERFLOWS
    head = "regress"
    symmetric = True
    command, python = COMMAND, PYTHON
    primary = "spearman"
    roles = ROLES
    options = ("template",)
    wording = Wording(  # the first as Raffel et al. 2020, appendix D.13
        prefixed="stsb sentence1: {} sentence2: {}",
        continued="First: {}\nSecond: {}\nSimilarity:",
    )

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Rows with two texts and a finite score."""
        return read_pairs(table, columns, together=True)

    def learn(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Nothing, but scores that are all the same teach nothing.

        Raises:
            DataError: every row has the same score.
        """
        if len({row.target for row in rows}) < 2:
            raise DataError(f"all {len(rows)} rows have the same score; there is nothing to learn")
        return {}

    def target(self, row: Row, head: Head) -> Tensor:
        """The score."""
        return torch.tensor(row.target, dtype=torch.float32)

    def measure(self, head: Head, values: Tensor, rows: Sequence[Row]) -> dict[str, Interval]:
        """Pearson's and Spearman's correlation, and errors."""
        from graft.evaluate.metrics import regression  # scipy: only where something is scored

        targets = torch.tensor([row.target for row in rows], dtype=torch.float64).numpy()
        return regression(targets, values.flatten().double().numpy())

    def sections(
        self, head: Head, values: Tensor, rows: Sequence[Row], scores: Mapping[str, Interval]
    ) -> list[Section]:
        """Predicted against true scores."""
        from graft.evaluate import report

        return [report.regression_section([row.target for row in rows], values.flatten().tolist())]

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """The number a model adapted to this gives; a T5 writes one from 0 to 5; others, the cosine of two vectors.

        Args:
            model: the model.
            inputs: pairs of texts.
            progress: told how many are done.
            **options: `template`, the words around the two texts, for models that write.

        Raises:
            UsageError: an input is not a pair, or a template for a model that does not write.
        """
        pairs, template = only_pairs(self.name, inputs), options.get("template")
        writes = model.head is not None and model.head.kind == "next"
        if writes and (template is not None or route(model) == "prefixed"):
            return _numbers(model, pairs, template_for(model, self.wording, template), progress)
        if template is not None:
            raise UsageError(f"{model.folder}: this model compares texts and does not write; leave the template out")
        return answered(model, pairs, progress) if isinstance(model.head, Regress) else _cosines(model, pairs, progress)


def only_pairs(task: str, inputs: Sequence[Text]) -> list[tuple[str, str]]:
    """The inputs of a task on two texts.

    Raises:
        UsageError: an input is not a pair.
    """
    pairs = [text for text in inputs if isinstance(text, tuple)]
    if len(pairs) != len(inputs):
        raise UsageError(f"{task} compares two texts; give pairs (on the command line: a text and --with another)")
    return pairs


def _numbers(model: Model, pairs: Sequence[tuple[str, str]], template: str, progress: Progress | None) -> list[Answer]:
    """The mean of the numbers it may write from 0 to 5, as STS-B has them, weighed by how probable each is."""
    steps = written_steps([0.0, STS_HIGHEST])
    prompt = Prompt(words={step: step for step in steps}, numbers=True)
    found = asked(model, prompt, template).scores(list(pairs), progress)
    scores = found.values.softmax(-1) @ torch.tensor([float(step) for step in steps], dtype=torch.float64)
    rows = zip(scores.tolist(), found.truncated_tokens, strict=True)
    return [Answer(score=score, truncated_tokens=cut) for score, cut in rows]


def _cosines(model: Model, pairs: Sequence[tuple[str, str]], progress: Progress | None) -> list[Answer]:
    flat = [text for pair in pairs for text in pair]
    how = told(model.windows(flat), model.settings)
    rows = model.embed(flat)
    if progress is not None:
        progress(len(pairs))
    return [
        Answer(score=float(rows[2 * n] @ rows[2 * n + 1]), **_together(how[2 * n], how[2 * n + 1]))
        for n in range(len(pairs))
    ]


def _together(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """How two texts were read, in sum."""
    return {name: None if value is None else value + second[name] for name, value in first.items()}


def read_pairs(table: Table, columns: Mapping[str, str], *, together: bool) -> tuple[list[Row], list[Reject]]:
    """Rows of two texts and a score; one input if the texts are read together, else two."""
    kept, rejected = [], []
    names = [role.name for role in PAIR]
    for line, values in zip(table.lines, table.rows, strict=True):
        texts, reason = [values.get(columns[name]) for name in names], text_fault(values, columns, names)
        score = _number(values.get(columns["score"])) if "score" in columns else 0.0
        if reason or score is None:
            reason = reason or f"{columns['score']!r} is not a finite number"
            rejected.append(Reject(line=line, reason=reason, text=str(texts[0] or "")))
        else:
            pair = (str(texts[0]), str(texts[1]))
            kept.append(Row((pair,) if together else pair, score if "score" in columns else None, line))
    return kept, rejected


def _number(given: Any) -> float | None:
    try:
        value = float(given)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


TASK = SimilarityTask()

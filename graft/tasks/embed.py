"""Embed: a vector for each text. Adapted on pairs so that the cosine of two vectors tells how alike the texts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graft.data.columns import Role
from graft.data.table import Reject, Table
from graft.errors import DataError
from graft.grafted import Model
from graft.heads import Answer, Head
from graft.inference import Progress, told
from graft.sealed import OVERFLOWS, Text
from graft.tasks import Row, Task
from graft.tasks.similarity import ROLES, STS_HIGHEST, read_pairs

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval
    from graft.evaluate.report import Section


class EmbedTask(Task):
    """Sentence embeddings, each text read for itself (Reimers & Gurevych 2019)."""

    name = "embed"
    overflows = OVERFLOWS
    head = "embed"
    primary = "spearman"
    roles: tuple[Role, ...] = ROLES

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Rows of two texts and a score from 0 to 1, or from 0 to 5, which is scaled."""
        kept, rejected = read_pairs(table, columns, together=False)
        scores = [row.target for row in kept if row.target is not None]
        if scores and not (min(scores) >= 0 and max(scores) <= STS_HIGHEST):
            raise DataError(
                f"{table.path}: scores from {min(scores):g} to {max(scores):g}; a cosine is learned from scores "
                "from 0 to 1, or from 0 to 5. Scale them, or use --task similarity, which takes any numbers"
            )
        scale = STS_HIGHEST if scores and max(scores) > 1 else 1.0
        scaled = [Row(row.inputs, None if row.target is None else row.target / scale, row.line) for row in kept]
        return scaled, rejected

    def target(self, row: Row, head: Head) -> Tensor:
        """The similarity, 0 to 1."""
        return torch.tensor(row.target, dtype=torch.float32)

    def measure(self, head: Head, values: Tensor, rows: Sequence[Row]) -> dict[str, Interval]:
        """Correlations of the cosine of each row's two vectors, (2B, D), with its score."""
        from graft.evaluate.metrics import regression  # scipy: only where something is scored

        cosine_B = F.cosine_similarity(values[0::2].double(), values[1::2].double())
        targets = torch.tensor([row.target for row in rows], dtype=torch.float64).numpy()
        return regression(targets, cosine_B.numpy())

    def sections(
        self, head: Head, values: Tensor, rows: Sequence[Row], scores: Mapping[str, Interval]
    ) -> list[Section]:
        """Cosines against true scores."""
        from graft.evaluate import report

        cosine_B = F.cosine_similarity(values[0::2], values[1::2])
        return [report.regression_section([row.target for row in rows], cosine_B.tolist())]

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """A vector for each text."""
        how = told(model.windows(inputs), model.settings)
        rows = model.embed(inputs, progress)
        return [Answer(embedding=tuple(row.tolist()), **one) for row, one in zip(rows, how, strict=True)]


TASK = EmbedTask()

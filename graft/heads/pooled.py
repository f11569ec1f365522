"""Heads that look at one vector for each sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.batch import Packed
from graft.errors import ModelError
from graft.heads.answers import Answer
from graft.heads.head import Head, grouped
from graft.model.layers import Dropout

Pool = Literal["first", "last", "mean"]


def pool(hidden_TD: Tensor, batch: Packed, how: Pool) -> Tensor:
    """One vector for each sequence, (B, D): its first token's, its last token's, or the mean over all of them."""
    if how == "first":
        return hidden_TD[batch.first_B]
    if how == "last":
        return hidden_TD[batch.last_B]
    sums_BD = torch.zeros(len(batch.lengths), hidden_TD.shape[1], dtype=torch.float32, device=hidden_TD.device)
    sums_BD.index_add_(0, batch.owner_T, hidden_TD.float())
    return sums_BD / batch.lengths_B[:, None]


class Pooled(Head):
    """One vector a sequence -> (dropout, where `twice`) -> (dense, tanh or relu) -> dropout -> linear."""

    def __init__(
        self,
        size: int,
        outputs: int,
        *,
        pool: Pool = "first",
        dense: Literal["", "tanh", "relu"] = "",
        bias: bool = True,
        dropout: float = 0.0,
        twice: bool = False,
    ) -> None:
        super().__init__()
        self.pool, self.activation, self.twice = pool, torch.relu if dense == "relu" else torch.tanh, twice
        self.dense = nn.Linear(size, size) if dense else None
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(size, outputs, bias=bias)

    def forward(self, hidden_TD: Tensor, batch: Packed) -> Tensor:
        """(T, D) -> (B, C), float32."""
        x_BD = pool(hidden_TD, batch, self.pool).to(self.output.weight.dtype)
        if self.dense is not None:
            x_BD = self.activation(self.dense(self.dropout(x_BD) if self.twice else x_BD))
        return self.output(self.dropout(x_BD)).float()  # type: ignore[no-any-return]


class Classify(Pooled):
    """Labels: exactly one ("single", softmax) or any number of them ("multi", sigmoid)."""

    kind = "classify"

    def __init__(
        self, size: int, *, labels: Sequence[str], problem: Literal["single", "multi"] = "single", **body: Any
    ) -> None:
        super().__init__(size, len(labels), **body)
        self.labels, self.problem = tuple(labels), problem
        self.class_weights: Tensor | None = None

    def loss(self, output: Tensor, target: Tensor, sizes: Sequence[int] = ()) -> Tensor:
        """Cross-entropy against label numbers (B,), or binary cross-entropy against (B, C) of 0 and 1."""
        if self.problem == "multi":
            return F.binary_cross_entropy_with_logits(output, target.to(output.dtype), weight=self.class_weights)
        return F.cross_entropy(output, target, weight=self.class_weights)

    def probabilities(self, output: Tensor) -> Tensor:
        """(B, C) logits -> probabilities."""
        return torch.sigmoid(output) if self.problem == "multi" else torch.softmax(output, dim=-1)

    def decode(self, output: Tensor, truncated: Sequence[int]) -> list[Answer]:
        """One answer with the probabilities of all labels for each sequence."""
        answers = []
        for row, cut in zip(self.probabilities(output).tolist(), truncated, strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            held = tuple(name for name, p in zip(self.labels, row, strict=True) if p >= 0.5)
            answers.append(
                Answer(
                    label=self.labels[best],
                    probability=row[best],
                    probabilities=dict(zip(self.labels, row, strict=True)),
                    labels=held if self.problem == "multi" else None,
                    truncated_tokens=cut,
                )
            )
        return answers

    def options(self) -> dict[str, Any]:
        """Label names and kind of problem."""
        return {"labels": self.labels, "problem": self.problem}


class Regress(Pooled):
    """One number for each sequence."""

    kind = "regress"

    def __init__(self, size: int, *, labels: Sequence[str] = ("score",), **body: Any) -> None:
        if len(labels) != 1:
            raise ModelError(f"a regression gives one number, found {len(labels)} labels for it")
        super().__init__(size, 1, **body)
        self.labels = tuple(labels)

    def loss(self, output: Tensor, target: Tensor, sizes: Sequence[int] = ()) -> Tensor:
        """Mean squared error against (B,) numbers.

        Args:
            output: (N, 1), one number for each sequence.
            target: (B,).
            sizes: how many sequences each row has, where a row is their sum (a pair read in both orders).
        """
        scores = output[:, 0]
        if len(scores) != len(target):
            scores = torch.stack([part.sum() for part in torch.split(scores, list(sizes))])
        return F.mse_loss(scores, target.to(output.dtype))

    def decode(self, output: Tensor, truncated: Sequence[int]) -> list[Answer]:
        """One score for each sequence."""
        scores = output[:, 0].tolist()
        return [Answer(score=score, truncated_tokens=cut) for score, cut in zip(scores, truncated, strict=True)]

    def options(self) -> dict[str, Any]:
        """A regression is published as a classifier with one label."""
        return {"labels": self.labels, "problem": "regression"}


class Choose(Pooled):
    """Multiple choice: every choice is a sequence of its own and gets one number; a row's choices compete."""

    kind = "choose"

    def __init__(self, size: int, **body: Any) -> None:
        super().__init__(size, 1, **body)

    def forward(self, hidden_TD: Tensor, batch: Packed) -> Tensor:
        """(T, D) -> (B,), float32: choice after choice, row after row."""
        return super().forward(hidden_TD, batch)[:, 0]

    def loss(self, output: Tensor, target: Tensor, sizes: Sequence[int] = ()) -> Tensor:
        """Mean cross-entropy over the rows.

        Args:
            output: (B,), one number for each choice.
            target: the right choice of each row, counted within the row.
            sizes: how many choices each row has; unless stated, all rows have equally many.

        Raises:
            UsageError: the choices do not add up to the sequences.
        """
        return F.cross_entropy(grouped(output, sizes or _evenly(output, len(target))), target)

    def probabilities(self, output: Tensor, choices: Sequence[int]) -> list[Tensor]:
        """Numbers of all choices, (B,) -> for each row, the probabilities of its choices."""
        rows = torch.softmax(grouped(output, choices), dim=-1)
        return [row[:count] for row, count in zip(rows, choices, strict=True)]

    def decode(self, output: Tensor, truncated: Sequence[int]) -> list[Answer]:
        """One score for each choice; `probabilities` compares those of a row."""
        return [
            Answer(score=score, truncated_tokens=cut) for score, cut in zip(output.tolist(), truncated, strict=True)
        ]


def _evenly(output: Tensor, rows: int) -> list[int]:
    return [len(output) // max(rows, 1)] * rows


class Embed(Head):
    """A vector for each sequence, of length one where `normalize` says so. Nothing to learn of its own."""

    kind = "embed"

    def __init__(self, *, pool: Pool = "mean", normalize: bool = True) -> None:
        super().__init__()
        self.pool, self.normalize = pool, normalize

    def forward(self, hidden_TD: Tensor, batch: Packed) -> Tensor:
        """(T, D) -> (B, D), float32."""
        x_BD = pool(hidden_TD, batch, self.pool).float()
        return F.normalize(x_BD, dim=-1) if self.normalize else x_BD

    def merge(self, output: Tensor, tokens: Sequence[int]) -> Tensor:
        """The mean of the windows' vectors, each counting by its tokens."""
        share_W = torch.tensor(tokens, dtype=output.dtype, device=output.device)[:, None]
        mean_D = (output * share_W).sum(0) / share_W.sum()
        return F.normalize(mean_D, dim=-1) if self.normalize else mean_D

    def loss(self, output: Tensor, target: Tensor, sizes: Sequence[int] = ()) -> Tensor:
        """Squared error of the cosine of neighbours (2B, D) against similarities (B,) (Reimers & Gurevych 2019)."""
        cosine_B = F.cosine_similarity(output[0::2], output[1::2])
        return F.mse_loss(cosine_B, target.to(output.dtype))

    def decode(self, output: Tensor, truncated: Sequence[int]) -> list[Answer]:
        """One embedding for each sequence."""
        rows = zip(output.tolist(), truncated, strict=True)
        return [Answer(embedding=tuple(row), truncated_tokens=cut) for row, cut in rows]

    def options(self) -> dict[str, Any]:
        """Pooling and normalization."""
        return {"pool": self.pool, "normalize": self.normalize}

"""Heads: what turns hidden states into answers. A head is grafted onto any backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.batch import Packed
from graft.errors import ModelError, UsageError, nearest
from graft.model.layers import Dropout

Pool = Literal["first", "last", "mean"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says about one input. Fields that do not apply are None.

    Attributes:
        label: the most probable label.
        probability: its probability.
        probabilities: probability of every label.
        labels: every label whose probability is at least one half, where several may hold at once.
        score: the predicted number (similarity, regression).
        embedding: the input as a vector of numbers.
        truncated_tokens: tokens of the input that did not fit the model and were not read.
    """

    label: str | None = None
    probability: float | None = None
    probabilities: Mapping[str, float] | None = None
    labels: tuple[str, ...] | None = None
    score: float | None = None
    embedding: tuple[float, ...] | None = None
    truncated_tokens: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The fields that apply, ready for JSON."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in fields.items() if value is not None}


def pool(hidden_TD: Tensor, batch: Packed, how: Pool) -> Tensor:
    """One vector for each sequence, (B, D): its first token's, its last token's, or the mean over all of them."""
    if how == "first":
        return hidden_TD[batch.first_B]
    if how == "last":
        return hidden_TD[batch.last_B]
    sums_BD = torch.zeros(len(batch.lengths), hidden_TD.shape[1], dtype=torch.float32, device=hidden_TD.device)
    sums_BD.index_add_(0, batch.owner_T, hidden_TD.float())
    return sums_BD / batch.lengths_B[:, None]


class Head(nn.Module):
    """What every head offers."""

    kind = ""

    def forward(self, hidden_TD: Tensor, batch: Packed) -> Tensor:
        """Hidden states of a packed batch -> the head's output."""
        raise NotImplementedError

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean loss over the batch, a float32 scalar."""
        raise UsageError(f"a {self.kind!r} head has nothing to learn from targets")

    def decode(self, output: Tensor, truncated: Sequence[int]) -> list[Answer]:
        """The head's output as answers, one for each sequence."""
        raise UsageError(f"a {self.kind!r} head does not answer; ask for logits or hidden states")

    def options(self) -> dict[str, Any]:
        """What must be known to build this head again."""
        return {}


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

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
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

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean squared error against (B,) numbers."""
        return F.mse_loss(output[:, 0], target.to(output.dtype))

    def decode(self, output: Tensor, truncated: Sequence[int]) -> list[Answer]:
        """One score for each sequence."""
        scores = output[:, 0].tolist()
        return [Answer(score=score, truncated_tokens=cut) for score, cut in zip(scores, truncated, strict=True)]

    def options(self) -> dict[str, Any]:
        """A regression is published as a classifier with one label."""
        return {"labels": self.labels, "problem": "regression"}


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

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
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


class PredictNext(Head):
    """The next token's logits at every token. Tied: the output matrix is the token embedding itself.

    T5 multiplies hidden states by `scale` first.
    """

    kind = "next"

    def __init__(self, embedding: nn.Embedding, *, tied: bool = True, scale: float = 1.0) -> None:
        super().__init__()
        self.tied, self.scale = tied, scale
        vocab_size, size = embedding.weight.shape
        self.output = nn.Linear(size, vocab_size, bias=False, device="meta" if tied else None)
        if tied:
            self.output.weight = embedding.weight

    def forward(self, hidden_TD: Tensor, batch: Packed) -> Tensor:
        """(T, D) -> (T, V), float32."""
        return self.output(hidden_TD if self.scale == 1 else hidden_TD * self.scale).float()  # type: ignore[no-any-return]

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy against the next token of every token, (T,)."""
        return F.cross_entropy(output, target)

    def options(self) -> dict[str, Any]:
        """Whether input and output share their matrix, and the scale."""
        return {"tied": self.tied, "scale": self.scale}


HEADS: dict[str, type[Head]] = {head.kind: head for head in (Classify, Regress, Embed, PredictNext)}


def make(kind: str, options: Mapping[str, Any], embedding: nn.Embedding) -> Head:
    """Build a head.

    Args:
        kind: "classify", "regress", "embed" or "next".
        options: what the head takes; a classifier whose problem is "regression" is a Regress head.
        embedding: the backbone's token embedding, for sizes and tied weights.

    Raises:
        ModelError: there is no such head.
    """
    if kind not in HEADS:
        raise ModelError(f"unknown head {kind!r}: {nearest(kind, HEADS)}")
    given = dict(options)
    if kind == "embed":
        return Embed(**given)
    if kind == "next":
        return PredictNext(embedding, **given)
    if given.get("problem") == "regression":
        kind = "regress"
    if kind == "regress":
        return Regress(embedding.embedding_dim, **{k: v for k, v in given.items() if k != "problem"})
    return Classify(embedding.embedding_dim, **given)


def initialize(head: Head, deviation: float) -> None:
    """Fresh linear layers: normal weights of the given standard deviation, biases zero (Devlin et al. 2019)."""
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=deviation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_shapes(
    folder: Path, own: Mapping[str, Tensor], given: Mapping[str, Tensor], faults: Sequence[str] = ()
) -> None:
    """Compare the weights a folder gives with those a head has.

    Raises:
        ModelError: naming at once the faults handed in and every weight of another shape.
    """
    misshaped = [
        f"{name} has shape {list(given[name].shape)}, config.json asks for {list(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if faults or misshaped:
        raise ModelError(
            f"{folder}: the head's weights do not fit the configuration: {'; '.join([*faults, *misshaped])}"
        )

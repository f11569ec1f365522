"""Heads that look at every token by itself.

What they answer is a row for each token of the packed batch. Their losses take the rows that have a target and no
others: ``head.loss(output[rows], targets)``, as many rows as targets. No target stands for "none". Since every row is
computed alone, the rows may as well be picked before the head, ``head(hidden_TD[rows], batch)``, which spares the
logits of a whole vocabulary for tokens nobody asks about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.batch import Packed
from graft.errors import UsageError
from graft.heads.answers import Answer
from graft.heads.head import Head, grouped
from graft.model.layers import Dropout, activation
from graft.model.linear import Linear


class PerToken(Head):
    """Each token's vector -> dropout -> linear."""

    per_token = True

    def __init__(self, output: nn.Linear, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout, self.output = Dropout(dropout), output

    def forward(self, hidden_TD: Tensor, batch: Packed) -> Tensor:
        """(T, D) -> (T, C), float32."""
        x_TD = hidden_TD.to(self.output.weight.dtype)
        return self.output(self.dropout(x_TD)).float()  # type: ignore[no-any-return]

    def loss(self, output: Tensor, target: Tensor, sizes: Sequence[int] = ()) -> Tensor:
        """Cross-entropy of the rows given, (N, C), against the right number of each, (N,)."""
        return F.cross_entropy(output, target)


class Tag(PerToken):
    """One of several labels for every token."""

    kind = "tag"
    by_task = True

    def __init__(self, size: int, *, labels: Sequence[str], dropout: float = 0.0) -> None:
        super().__init__(nn.Linear(size, len(labels)), dropout)
        self.labels = tuple(labels)

    def decode(self, output: Tensor, truncated: Sequence[int]) -> list[Answer]:
        """Only a tokenizer knows which characters a token stands for."""
        raise UsageError(f"a {self.kind!r} head labels tokens, not texts; ask for logits, the labels are head.labels")

    def options(self) -> dict[str, Any]:
        """Label names."""
        return {"labels": self.labels}


class Span(PerToken):
    """Where an answer starts and ends: two numbers for every token, compared with the sequence's other tokens."""

    kind = "span"

    def __init__(self, size: int, *, dropout: float = 0.0) -> None:
        super().__init__(nn.Linear(size, 2), dropout)

    def loss(self, output: Tensor, target: Tensor, sizes: Sequence[int] = ()) -> Tensor:
        """Mean cross-entropy of start and end, each among its sequence's tokens.

        Args:
            output: (T, 2), every token of the sequences.
            target: (B, 2), the first and last token of each answer, counted within its sequence.
            sizes: tokens of each sequence (`Packed.lengths`).

        Raises:
            UsageError: the lengths do not add up to the tokens.
        """
        sides = (grouped(output[:, side], sizes) for side in (0, 1))
        return torch.stack([F.cross_entropy(one, target[:, side]) for side, one in enumerate(sides)]).mean()

    def decode(self, output: Tensor, truncated: Sequence[int]) -> list[Answer]:
        """Only a tokenizer knows which characters a token stands for."""
        raise UsageError(f"a {self.kind!r} head points at tokens, not at text; ask for logits, or graft.run('ask', …)")


class PredictNext(PerToken):
    """The next token's logits at every token. Tied: the output matrix is the token embedding itself.

    T5 multiplies hidden states by `scale` first.
    """

    kind = "next"

    def __init__(self, embedding: nn.Embedding, *, tied: bool = True, bias: bool = False, scale: float = 1.0) -> None:
        vocab_size, size = embedding.weight.shape
        output = Linear(size, vocab_size, bias=bias, device="meta" if tied else None)
        super().__init__(output)
        self.tied, self.scale = tied, scale
        if tied:
            output.weight = embedding.weight
            if bias:
                output.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden_TD: Tensor, batch: Packed) -> Tensor:
        """(T, D) -> (T, V), float32."""
        return super().forward(hidden_TD if self.scale == 1 else hidden_TD * self.scale, batch)

    def aliases(self) -> dict[str, Tensor]:
        """A tied matrix."""
        return {"output.weight": self.output.weight} if self.tied else {}

    def options(self) -> dict[str, Any]:
        """Whether input and output share their matrix, and T5's scale."""
        return {"tied": self.tied} | ({} if self.scale == 1 else {"scale": self.scale})


class FillMask(PredictNext):
    """The logits of the token that stood where a mask is: a transformed vector times the output matrix, and a bias.

    Transformed is dense, activation, layer normalization (Devlin et al. 2019). Where the bias is `apart`, it is a
    tensor beside the output matrix's layer, whose own bias files then may repeat.
    """

    kind = "mask"

    def __init__(
        self,
        embedding: nn.Embedding,
        *,
        tied: bool = True,
        apart: bool = False,
        activation: str = "gelu",
        norm_eps: float = 1e-12,
    ) -> None:
        super().__init__(embedding, tied=tied, bias=not apart)
        vocab_size, size = embedding.weight.shape
        self.transform, self.norm = nn.Linear(size, size), nn.LayerNorm(size, eps=norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if apart else None
        self.activation = _activation(activation)

    def forward(self, hidden_TD: Tensor, batch: Packed) -> Tensor:
        """(T, D) -> (T, V), float32."""
        x_TD = self.transform(hidden_TD.to(self.transform.weight.dtype))
        x_TD = self.norm(self.activation(x_TD))
        bias = self.output.bias if self.bias is None else self.bias
        return F.linear(x_TD, self.output.weight, bias).float()

    def aliases(self) -> dict[str, Tensor]:
        """A tied matrix, and a bias that lies apart."""
        return super().aliases() | ({} if self.bias is None else {"output.bias": self.bias})


class PredictTransformed(FillMask):
    """The next token's logits the same way: BERT and RoBERTa as decoders."""

    kind = "next"


_activation = activation  # the option of that name hides the function

"""Where an answer starts, where it ends given its start, and whether there is one: XLNet's head for SQuAD 2.0.

Ends are looked for behind a few likely starts, and the best pairs of both are kept (the code published beside Yang et
al. 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.batch import Packed
from graft.errors import ModelError, UsageError
from graft.heads.head import Head, grouped

MOST = 1024
"""Starts, and ends of each, that may be looked at."""


@dataclass(frozen=True)
class Spans:
    """What one sequence says about the answer in it.

    Attributes:
        none: probability that there is no answer.
        spans: first and last token of an answer and its probability, that of the start times that of the end given the
            start; the most probable first.
    """

    none: float
    spans: tuple[tuple[int, int, float], ...]


class Beam(Head):
    """A row for each token: start, none, and end given each start that is looked at.

    start = linear. end = linear(norm(tanh(linear[token; start token]))). none, the same in all rows of a sequence, is
    linear(tanh(linear[start; last token])), where start is the mean of all tokens, weighed as starts. Where a sequence
    has fewer tokens than starts are looked at, its columns left over are minus infinity.
    """

    kind = "beam"
    per_token = True

    def __init__(self, size: int, *, starts: int = 5, ends: int = 5, norm_eps: float = 1e-12) -> None:
        super().__init__()
        for name, count in (("start_n_top", starts), ("end_n_top", ends)):
            if type(count) is not int or not 1 <= count <= MOST:
                raise ModelError(f"{name} is {count!r:.60}, expected a whole number from 1 to {MOST}")
        self.starts, self.ends = starts, ends
        self.start, self.end = nn.Linear(size, 1), nn.Linear(size, 1)
        self.end_states, self.none_states = nn.Linear(2 * size, size), nn.Linear(2 * size, size)
        self.norm, self.none = nn.LayerNorm(size, eps=norm_eps), nn.Linear(size, 1, bias=False)

    def forward(self, hidden_TD: Tensor, batch: Packed, start_B: Tensor | None = None) -> Tensor:
        """(T, D) -> (T, 2 + starts), float32.

        Args:
            hidden_TD: hidden states.
            batch: the sequences.
            start_B: in training, the position at which each sequence's answer starts, and the only one that is looked
                at: the output is (T, 3), as `loss` takes it.
        """
        x_TD = hidden_TD.to(self.start.weight.dtype)
        start_T = self.start(x_TD)[:, 0]
        start_BL = grouped(start_T, batch.lengths)
        likely_BN = _likely(start_BL, self.starts) if start_B is None else start_B[:, None]
        looked_BND = x_TD[(batch.first_B[:, None] + likely_BN).clamp(max=len(x_TD) - 1)]
        if start_B is None:
            share_TX = torch.softmax(start_BL, -1)[batch.owner_T, batch.position_T][:, None]
            mean_BD = torch.zeros_like(looked_BND[:, 0]).index_add(0, batch.owner_T, share_TX * x_TD)
        else:
            mean_BD = looked_BND[:, 0]
        none_BX = self.none(torch.tanh(self.none_states(torch.cat([mean_BD, x_TD[batch.last_B]], -1))))
        filling_BN = likely_BN >= batch.lengths_B[:, None]
        ends_TN = self._ends(x_TD, looked_BND, batch).masked_fill(filling_BN[batch.owner_T], float("-inf"))
        if start_B is None:
            ends_TN = F.pad(ends_TN, (0, self.starts - ends_TN.shape[1]), value=float("-inf"))
        return torch.cat([start_T[:, None], none_BX[batch.owner_T], ends_TN], -1).float()

    def _ends(self, x_TD: Tensor, start_BND: Tensor, batch: Packed) -> Tensor:
        """For every token, ends given each of its sequence's starts, (T, N)."""
        of_token, of_start = self.end_states.weight.chunk(2, dim=1)
        given_BND = F.linear(start_BND, of_start, self.end_states.bias)
        states_TND = torch.tanh(F.linear(x_TD, of_token)[:, None] + given_BND[batch.owner_T])
        return self.end(self.norm(states_TND))[..., 0]  # type: ignore[no-any-return]

    def loss(self, output: Tensor, target: Tensor, lengths: Sequence[int] = (), none_B: Tensor | None = None) -> Tensor:
        """Mean cross-entropy of start and end, each among its sequence's tokens, and half of that of there being none.

        Args:
            output: (T, 3), of this head given the right starts, ``head(hidden_TD, batch, target[:, 0])``.
            target: (B, 2), the first and last token of each answer, counted within its sequence.
            lengths: tokens of each sequence (`Packed.lengths`).
            none_B: 1 where there is no answer, else 0; None leaves this part out.

        Raises:
            UsageError: the ends are of other starts, or the lengths do not add up to the tokens.
        """
        if output.shape[-1] != 3:
            raise UsageError("these ends are those of likely starts; give the head the right ones: target[:, 0]")
        start_BL, end_BL = (grouped(output[:, side], lengths) for side in (0, 2))
        loss = (F.cross_entropy(start_BL, target[:, 0]) + F.cross_entropy(end_BL, target[:, 1])) / 2
        if none_B is None:
            return loss
        said_B = grouped(output[:, 1], lengths)[:, 0]
        return loss + F.binary_cross_entropy_with_logits(said_B, none_B.to(output.dtype)) / 2

    def spans(self, output: Tensor, lengths: Sequence[int]) -> list[Spans]:
        """The best spans of each sequence, of those that do not end before they start.

        Args:
            output: (T, 2 + starts), as `forward` gives it.
            lengths: tokens of each sequence (`Packed.lengths`).

        Raises:
            UsageError: the lengths do not add up to the tokens.
        """
        grouped(output[:, 0], lengths)
        return [self._spans(rows) for rows in torch.split(output.detach(), list(lengths))]

    def _spans(self, output: Tensor) -> Spans:
        """Of one sequence, (L, 2 + starts)."""
        starts = _likely(output[None, :, 0], self.starts)[0]
        found, share_L = [], torch.softmax(output[:, 0], -1)
        for column, start in enumerate(starts.tolist(), 2):
            end_L = torch.softmax(output[:, column], -1)
            best = end_L.topk(min(self.ends, len(end_L)))
            pairs = zip(best.indices.tolist(), (best.values * share_L[start]).tolist(), strict=True)
            found += [(start, end, value) for end, value in pairs if end >= start]
        return Spans(float(output[0, 1].sigmoid()), tuple(sorted(found, key=lambda one: -one[2])))

    def options(self) -> dict[str, Any]:
        """How many starts, and ends of each, are looked at."""
        return {"starts": self.starts, "ends": self.ends}


def _likely(start_BL: Tensor, count: int) -> Tensor:
    """Positions of the most likely starts, (B, N), the first of equal ones first."""
    return start_BL.sort(dim=-1, descending=True, stable=True).indices[:, :count]

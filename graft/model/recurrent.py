"""Long short-term memory over packed batches, with the state it may carry from one batch to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.batch import Packed
from graft.model.attention import Flow
from graft.model.layout import Layout
from graft.model.linear import Linear


class State:
    """What recurrent layers remember of earlier batches, for each slot: sequence b of a batch goes on where b ended.

    A batch with fewer sequences leaves the other slots as they are; new slots begin at zero. What is kept carries no
    gradient.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, bool], tuple[Tensor, ...]] = {}

    def reset(self) -> None:
        """Forget everything, in every slot."""
        self._kept.clear()

    def slots(self, place: tuple[int, bool], count: int) -> list[Tensor]:
        """What one layer and direction remembers, for the first slots; nothing where it has not run yet."""
        kept = self._kept.get(place, ())
        return [F.pad(one[:count], (0, 0, 0, max(0, count - len(one)))) for one in kept]

    def keep(self, place: tuple[int, bool], *new: Tensor) -> None:
        """Remember the state after a batch, slots first."""
        kept = self._kept.get(place, new)
        self._kept[place] = tuple(torch.cat([a.detach(), b[len(a) :]]) for a, b in zip(new, kept, strict=True))


@dataclass(frozen=True, kw_only=True)
class Steps(Flow):
    """One packed batch in steps: every sequence's first token, then every second one, longest sequences first.

    Attributes:
        state: what was before the batch, and takes what is after it.
        sorted_B: the sequences, longest first.
        sizes: rows of each step: sequences that are not over yet.
        order_T: rows of the batch, step after step.
        reverse_T: the same with every sequence read from its end.
    """

    state: State | None
    sorted_B: Tensor
    sizes: list[int]
    order_T: Tensor
    reverse_T: Tensor

    @classmethod
    def of(cls, batch: Packed, state: State | None) -> Steps:
        """Plan the steps of a batch."""
        layout, lengths = Layout(batch), np.sort(batch.lengths)
        sorted_B = torch.argsort(batch.lengths_B, descending=True, stable=True)
        place_T, rank_T = layout.step_T, torch.argsort(sorted_B)[batch.owner_T]
        left_T = batch.lengths_B[batch.owner_T] - 1 - place_T
        order_T, reverse_T = (torch.argsort(one_T * len(lengths) + rank_T) for one_T in (place_T, left_T))
        sizes = (len(lengths) - np.searchsorted(lengths, np.arange(batch.longest), side="right")).tolist()
        return cls(layout=layout, state=state, sorted_B=sorted_B, sizes=sizes, order_T=order_T, reverse_T=reverse_T)


class LSTM(nn.Module):
    """One direction of one layer (Hochreiter & Schmidhuber 1997), its output projected (Sak et al. 2014).

    c = clip(sigmoid(f + 1) c + sigmoid(i) tanh(j));   h = clip(projection(sigmoid(o) tanh(c)))
    with the gates i, j, f, o from x and the output before.
    """

    def __init__(
        self,
        size: int,
        cells: int,
        *,
        place: tuple[int, bool],
        cell_clip: float | None = None,
        output_clip: float | None = None,
    ) -> None:
        """Make one direction.

        Args:
            size: of its input and output, P.
            cells: F; with as many as the output has, there is no projection.
            place: number of the layer, and whether it reads from the end.
            cell_clip: cells stay within so much of zero.
            output_clip: projected outputs stay within so much of zero.
        """
        super().__init__()
        self.place, self.cell_clip, self.output_clip = place, cell_clip, output_clip
        self.input, self.recurrent = Linear(size, 4 * cells), Linear(size, 4 * cells, bias=False)
        self.projection = None if cells == size else Linear(cells, size, bias=False)

    def forward(self, x_TP: Tensor, steps: Steps) -> Tensor:
        """(T, P) -> (T, P)."""
        order_T = steps.reverse_T if self.place[1] else steps.order_T
        gates_TG = self.input(x_TP)[order_T]
        h_BP, c_BF = self._begin(x_TP, steps)
        outputs, over = [], []
        for gates_BG in torch.split(gates_TG, steps.sizes):
            running = len(gates_BG)
            over.append((h_BP[running:], c_BF[running:]))
            h_BP, c_BF = self.step(gates_BG, h_BP[:running], c_BF[:running])
            outputs.append(h_BP)
        if steps.state is not None:
            slots_B = torch.argsort(steps.sorted_B)
            ends = zip(*reversed([*over, (h_BP, c_BF)]), strict=True)
            steps.state.keep(self.place, *(torch.cat(parts)[slots_B] for parts in ends))
        return torch.cat(outputs)[torch.argsort(order_T)]

    def _begin(self, x_TP: Tensor, steps: Steps) -> tuple[Tensor, Tensor]:
        """Output and cells before the first step, longest sequence first."""
        count = len(steps.sorted_B)
        kept = [] if steps.state is None else steps.state.slots(self.place, count)
        if not kept:
            return x_TP.new_zeros(count, x_TP.shape[1]), x_TP.new_zeros(count, self.recurrent.out_features // 4)
        h_BP, c_BF = (one.to(x_TP)[steps.sorted_B] for one in kept)
        return h_BP, c_BF

    def step(self, gates_BG: Tensor, h_BP: Tensor, c_BF: Tensor) -> tuple[Tensor, Tensor]:
        """One token of each sequence: what its input gives the gates, output and cells so far -> output, cells."""
        i_BF, j_BF, f_BF, o_BF = (gates_BG + self.recurrent(h_BP)).chunk(4, dim=-1)
        c_BF = torch.sigmoid(f_BF + 1) * c_BF + torch.sigmoid(i_BF) * torch.tanh(j_BF)
        c_BF = c_BF if self.cell_clip is None else c_BF.clamp(-self.cell_clip, self.cell_clip)
        h_BP = torch.sigmoid(o_BF) * torch.tanh(c_BF)
        if self.projection is not None:
            h_BP = self.projection(h_BP)
            h_BP = h_BP if self.output_clip is None else h_BP.clamp(-self.output_clip, self.output_clip)
        return h_BP, c_BF

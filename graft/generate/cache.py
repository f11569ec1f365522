"""A static cache: fixed slots for keys and values, written in place, never concatenated."""

from __future__ import annotations

import torch
from torch import Tensor

from graft.errors import DataError
from graft.model.config import Config
from graft.model.layout import Layout


class StaticCache:
    """Keys and values of earlier tokens, one slot of fixed length for each sequence of the batch.

    Sequence b of a batch uses slot b; the batch's ``start_B`` says how many tokens the slot already holds.
    """

    def __init__(
        self, config: Config, slots: int, length: int, *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        """Allocate the cache.

        Args:
            config: sizes of the backbone.
            slots: sequences, B.
            length: tokens a slot holds, M; at most the model's positions.
            dtype: what the model computes in.
            device: where the model computes.

        Raises:
            DataError: a length the model's positions do not allow.
        """
        if not 1 <= length <= config.positions:
            raise DataError(f"a cache of {length} tokens a sequence; this model allows 1 to {config.positions}")
        shape = (config.layers, slots, length, config.key_heads, config.head_size)
        self.keys, self.values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        self.slots, self.length = slots, length

    def update(self, layer: int, k_THK: Tensor, v_THK: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Write the new tokens of one layer into their slots and return all slots, (B, M, H, K) each.

        Raises:
            DataError: more sequences than slots, or a sequence that outgrows its slot.
        """
        batch = layout.batch
        sequences = len(batch.lengths)
        if layer == 0:
            self._check(layout)
        place_T = batch.owner_T * self.length + batch.position_T
        for cache, new in ((self.keys, k_THK), (self.values, v_THK)):
            cache[layer].flatten(0, 1).index_copy_(0, place_T, new)
        return self.keys[layer, :sequences], self.values[layer, :sequences]

    def _check(self, layout: Layout) -> None:
        batch = layout.batch
        if len(batch.lengths) > self.slots:
            raise DataError(f"{len(batch.lengths)} sequences for a cache of {self.slots} slots")
        longest = int(batch.position_T.max()) + 1
        if longest > self.length:
            raise DataError(f"a sequence has grown to {longest} tokens; a slot of this cache holds {self.length}")

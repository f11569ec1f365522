"""A static cache: fixed slots for keys and values, written in place, never concatenated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graft.batch import Packed
from graft.errors import DataError
from graft.model.config import Config
from graft.model.layout import Layout


class StaticCache:
    """Keys and values of earlier tokens: a sequence lies in a slot, its token p at place p of it.

    Attributes:
        keys: (layers, slots, G heads of keys, M tokens, K).
        values: the same.
        slots: how many there are.
        length: tokens a slot holds, M.
    """

    def __init__(
        self, config: Config, slots: int, length: int, *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        """Allocate the cache; on a processor memory is taken only as places are filled.

        Args:
            config: sizes of the backbone.
            slots: sequences that fit side by side.
            length: tokens a slot holds, M; at most the model's positions.
            dtype: what keys and values are kept in; see `kept_dtype`.
            device: where the model computes.

        Raises:
            DataError: a length the model's positions do not allow.
        """
        if not 1 <= length <= config.positions:
            raise DataError(f"a cache of {length} tokens a sequence; this model allows 1 to {config.positions}")
        shape = (config.layers, slots, config.key_heads, length, config.head_size)
        self.keys, self.values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        self.slots, self.length = slots, length
        self._placed: tuple[Layout, Tensor] | None = None

    def update(self, layer: int, k_TGK: Tensor, v_TGK: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Write the new tokens of one layer into their slots and return all slots, (slots, G, M, K) each.

        Raises:
            DataError: a sequence has no slot, or outgrows it; nothing is written then.
        """
        place_P = self._places(layout)
        tokens = len(layout.batch.ids_T)
        for cache, new in ((self.keys, k_TGK), (self.values, v_TGK)):
            cache[layer].flatten(0, 2).index_copy_(0, place_P, new[:tokens].flatten(0, 1).to(cache.dtype))
        return self.keys[layer], self.values[layer]

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Give a slot the first tokens of another."""
        for cache in (self.keys, self.values):
            cache[:, target, :, :tokens] = cache[:, source, :, :tokens]

    def swap(self, one: int, other: int, tokens: int) -> None:
        """Let two slots change places, as far as their first tokens go."""
        for cache in (self.keys, self.values):
            held = cache[:, one, :, :tokens].clone()
            cache[:, one, :, :tokens] = cache[:, other, :, :tokens]
            cache[:, other, :, :tokens] = held

    def move(self, moves: Sequence[tuple[int, int]], first: int, end: int) -> None:
        """Give slots the places from `first` up to `end` of others, all at once: pairs of target and source."""
        sources = torch.tensor([source for _, source in moves], device=self.keys.device)
        for cache in (self.keys, self.values):
            part = cache[:, :, :, first:end]
            held = part.index_select(1, sources)
            for place, (target, _) in enumerate(moves):
                part[:, target] = held[:, place]

    def wipe(self, slot: int, tokens: int) -> None:
        """Empty the first places of a slot."""
        for cache in (self.keys, self.values):
            cache[:, slot, :, :tokens] = 0

    def _places(self, layout: Layout) -> Tensor:
        """Where each head of each new token goes, in one layer laid flat; the same in all layers."""
        if self._placed is None or self._placed[0] is not layout:
            batch = layout.batch
            self._check(batch)
            slots_B = torch.tensor(list(batch.slots or range(len(batch.lengths))), device=batch.ids_T.device)
            heads_G = torch.arange(self.keys.shape[2], device=batch.ids_T.device)
            row_TG = slots_B[batch.owner_T][:, None] * len(heads_G) + heads_G
            self._placed = layout, (row_TG * self.length + batch.position_T[:, None]).flatten()
        return self._placed[1]

    def _check(self, batch: Packed) -> None:
        slots = batch.slots or range(len(batch.lengths))
        if len(set(slots)) != len(batch.lengths) or not 0 <= min(slots) <= max(slots) < self.slots:
            raise DataError(f"{len(batch.lengths)} sequences for a cache of {self.slots} slots")
        longest = max(start + length for start, length in zip(batch.starts, batch.lengths, strict=True))
        if longest > self.length:
            raise DataError(f"a sequence has grown to {longest} tokens; a slot of this cache holds {self.length}")


def kept_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """What keys and values are best kept in for torch's kernels: on a processor float32, twice as fast for one token.

    A decoding step of our own (`graft.generate.fast`) takes the model's dtype, which is half as much to read.
    """
    return torch.float32 if device.type == "cpu" else dtype

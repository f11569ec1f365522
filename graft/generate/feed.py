"""One packed step of the model for every live text: tokens in, logits out, keys and values kept in slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, compress
from typing import Any

import torch
from torch import Tensor

from graft.batch import Packed, pack
from graft.generate.cache import StaticCache, kept_dtype
from graft.generate.request import Row
from graft.generate.slots import Lane, Slots
from graft.grafted import Model
from graft.model.attention import Memory
from graft.model.layout import Layout

FastDecoder = Callable[..., Tensor]
"""ids_B, position_B, slot_B -> logits_BV: one new token of each of some texts, its place, and the text's slot; where an
encoder reads, source_B, length_B besides: the memory's slot, and how many tokens it holds. It writes keys and values
into the cache; what it gives for a text depends on that text alone."""

MakeFast = Callable[[Model, StaticCache, StaticCache | None], FastDecoder | None]


class Feed:
    """A model with its slots.

    Attributes:
        stack: what writes: the backbone, or its decoder.
        slots: where texts lie.
        tokens: how many tokens have been run, the encoder's included.
    """

    def __init__(self, model: Model, slots: int, length: int, fast: MakeFast | None = None) -> None:
        """Make the caches.

        Args:
            model: with a head that predicts the next token.
            slots: texts side by side.
            length: tokens a slot holds, both of what is written and of what an encoder reads.
            fast: makes what gives texts one token each, or None where it cannot.
        """
        backbone: Any = model.backbone
        self.model, self.tokens = model, 0
        self.stack = backbone if backbone.decoder is None else backbone.decoder
        self._make_caches(slots, length, model.dtype)
        self.fast = None if fast is None else fast(model, self.slots.cache, self.slots.memory)
        dtype = kept_dtype(model.dtype, model.device)
        if self.fast is None and dtype != model.dtype:
            self._make_caches(slots, length, dtype)

    def _make_caches(self, slots: int, length: int, dtype: torch.dtype) -> None:
        def cache() -> StaticCache:
            return StaticCache(self.stack.config, slots, length, dtype=dtype, device=self.model.device)

        two = self.model.backbone.decoder is not None
        self.slots = Slots(cache(), cache() if two else None)

    def remember(self, lanes: Sequence[Lane], sources: Sequence[tuple[int, ...]]) -> None:
        """Let the encoder read what texts answer: each source once, its keys and values kept in the text's slot."""
        first: dict[tuple[int, ...], Lane] = {}
        for lane, source in zip(lanes, sources, strict=True):
            first.setdefault(source, lane)
        memory = self.slots.memory
        assert memory is not None
        batch = pack(list(first)).to(self.model.device)
        remember(self.model, batch, memory, [lane.slot for lane in first.values()])
        self.tokens += len(batch.ids_T)
        for lane, source in zip(lanes, sources, strict=True):
            giver = first[source]
            self.slots.give(giver, source, None if giver is lane else lane)

    def run(self, rows: Sequence[Row]) -> Tensor:
        """The logits each row wants, one row after the other, (R, V), float32 where the head gives that.

        Written tokens, one of each text, go to the fast decoder, where none depends on what runs beside it. Prompts,
        and tokens with guesses behind them, go through the model's own forward pass, whose kernels may round otherwise
        (in bfloat16, by a unit in the last place) when a prompt is read beside others, in pieces, or after a beginning
        that another text left.
        """
        self.tokens += sum(len(row.ids) for row in rows)
        for row, lane in zip(rows, _lanes(rows), strict=True):
            lane.written = lane.held + len(row.ids)
        single = [self.fast is not None and _written(row) for row in rows]
        if all(single) or not any(single):
            return self._step(rows) if single[0] else self._pass(rows)
        longer = [not one for one in single]
        parts = [self._step(list(compress(rows, single))), self._pass(list(compress(rows, longer)))]
        kinds = [one for one, row in zip(longer, rows, strict=True) for _ in range(row.wanted)]
        logits_RV = torch.empty(len(kinds), parts[0].shape[1], device=parts[0].device)
        logits_RV[sorted(range(len(kinds)), key=kinds.__getitem__)] = torch.cat([part.float() for part in parts])
        return logits_RV

    def _step(self, rows: Sequence[Row]) -> Tensor:
        """The logits of rows of one written token, by the fast decoder."""
        assert self.fast is not None
        lanes = _lanes(rows)
        numbers = [[row.ids[0] for row in rows], [lane.held for lane in lanes], [lane.slot for lane in lanes]]
        if self.slots.memory is not None:
            numbers += [numbers[2], [len(lane.source) for lane in lanes]]
        return self.fast(*torch.tensor(numbers, device=self.model.device))

    def _pass(self, rows: Sequence[Row]) -> Tensor:
        """The logits of any rows, by the model's own forward pass."""
        lanes = _lanes(rows)
        slots, starts = zip(*((lane.slot, lane.held) for lane in lanes), strict=True)
        batch = pack([row.ids for row in rows], start=starts, slots=slots).to(self.model.device)
        hidden_TD = self.stack(batch, memory=self._memory(lanes), cache=self.slots.cache)
        assert self.model.head is not None
        return self.model.head(hidden_TD[_wanted(rows, hidden_TD.device)], batch)  # type: ignore[no-any-return]

    def _memory(self, lanes: Sequence[Lane]) -> Memory | None:
        """What the encoder made of the sources of some texts, as it lies in their slots."""
        memory = self.slots.memory
        if memory is None:
            return None
        lengths = torch.tensor([len(lane.source) for lane in lanes])
        kept = {layer: (memory.keys[layer], memory.values[layer]) for layer in range(len(memory.keys))}
        return Memory(Packed(lengths.new_empty(0), lengths), memory.keys.new_empty(0), kept)


def remember(model: Model, batch: Packed, memory: StaticCache, slots: Sequence[int] | None = None) -> None:
    """Let the encoder read a batch, and keep what the decoder's layers look at, in these slots or the first ones."""
    backbone: Any = model.backbone
    hidden_TD, there = backbone.remember(batch).hidden_TD, Layout(Packed(batch.ids_T, batch.lengths_B, slots=slots))
    for layer, block in enumerate(backbone.decoder.blocks):
        keys, values = block.memory.remembered(hidden_TD)
        memory.update(layer, keys, values, there)


def _lanes(rows: Sequence[Row]) -> list[Lane]:
    return [row.sample.lane for row in rows if row.sample.lane is not None]


def _written(row: Row) -> bool:
    """Whether it is one token behind the prompt, or all of one: not what was left of a prompt cut into steps."""
    sample = row.sample
    return len(row.ids) == 1 and (len(sample.ids) > sample.given or sample.given == 1)


def _wanted(rows: Sequence[Row], device: torch.device) -> Tensor | slice:
    """Rows of the batch whose logits are wanted."""
    if all(len(row.ids) == row.wanted for row in rows):
        return slice(None)
    ends = accumulate(len(row.ids) for row in rows)
    places = [place for end, row in zip(ends, rows, strict=True) for place in range(end - row.wanted, end)]
    return torch.tensor(places, dtype=torch.int64, device=device)

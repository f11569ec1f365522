"""The backbone every family shares."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.batch import Packed
from graft.errors import DataError
from graft.model.attention import Flow, Memory
from graft.model.block import Block
from graft.model.config import Config
from graft.model.layers import Dropout, norm
from graft.model.layout import Layout, round_up

ROWS = 64
"""On a processor, batches are run with a multiple of this many rows (the last ones zero), so that the matrix kernels,
which are compiled for every new shape, can be reused: for a shape not met before, compiling takes several times as long
as running (docs/log.md)."""


class Transformer(nn.Module):
    """Embeddings, then blocks: ids_T -> hidden_TD.

    token (+ position) (+ type) embedding ─ norm? ─ dropout ─ block × layers ─ norm (pre only) ─ dropout?

    Attributes:
        block: its blocks' class.
        drops_last: whether there is dropout after the last norm.
        mix: what is made of all layers, instead of the last, for a head to read.
    """

    block: type[nn.Module] = Block
    drops_last = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        size, rows = config.hidden_size, config.positions + config.position_offset
        self.token_embedding = nn.Embedding(config.vocab_size, size)
        self.position_embedding = nn.Embedding(rows, size) if config.position_kind == "learned" else None
        self.type_embedding = nn.Embedding(config.token_types, size) if config.token_types else None
        self.embedding_norm = norm(config) if config.embedding_norm else None
        self.dropout = Dropout(config.embedding_dropout)
        self.blocks = nn.ModuleList(self.block(config, layer) for layer in range(config.layers))
        self.final_norm = norm(config) if config.norm == "pre" else None
        self.decoder: Transformer | None = None
        self.mix: nn.Module | None = None

    def forward(
        self,
        batch: Packed,
        *,
        memory: Memory | None = None,
        cache: Any = None,
        layers: list[Tensor] | None = None,
    ) -> Tensor:
        """Run the backbone over one packed batch.

        Args:
            batch: the sequences.
            memory: the encoder's sequences with their hidden states, one for each of the batch's, for a decoder.
            cache: a Cache: keys and values of earlier tokens; the batch's start_B says how many each sequence has.
                For recurrent families, the State that earlier batches left.
            layers: a list to fill with the hidden states before the first block and after each one, (T, D) each,
                before any final normalization.

        Returns:
            The last hidden states, (T, D).

        Raises:
            DataError: a sequence is longer than the model's positions, or the memory has another number of them.
        """
        self.check(batch)
        layers = [] if layers is None and self.mix is not None else layers
        x_TD = self.embed(batch)
        tokens = len(x_TD)
        few = cache is not None and tokens < ROWS  # decoding: filling would cost more than a new shape
        rows = tokens if few or x_TD.device.type != "cpu" else self._rows(tokens)
        x_TD = F.pad(x_TD, (0, 0, 0, rows - tokens)) if rows > tokens else x_TD
        flow = self.flow(batch, rows, memory, cache)
        for block in self.blocks:
            if layers is not None:
                layers.append(x_TD[:tokens])
            x_TD = block(x_TD, flow)
        if layers is not None:
            layers.append(x_TD[:tokens])
        x_TD = x_TD if self.final_norm is None else self.final_norm(x_TD)
        x_TD = (self.dropout(x_TD) if self.drops_last else x_TD)[:tokens]
        return x_TD if self.mix is None or layers is None else self.mix([*layers[:-1], x_TD], batch)

    def read(self, batch: Packed, kind: str = "", decoder: Packed | None = None) -> Tensor:
        """The hidden states that a head of this kind reads, (T, D).

        Args:
            batch: the sequences.
            kind: of the head; "" where there is none.
            decoder: what a decoder, where the model has one, is to read of each sequence's answer.

        Raises:
            DataError: there is something for a decoder to read and no decoder, or the reverse.
        """
        if decoder is not None:
            raise DataError("sequences for a decoder were given, this model has none; leave them out")
        return self(batch)  # type: ignore[no-any-return]

    def _rows(self, tokens: int) -> int:
        """Rows to run with; a router would send the added ones to experts as well."""
        return tokens if self.config.experts else round_up(tokens, ROWS)

    def flow(self, batch: Packed, rows: int, memory: Memory | None, cache: Any) -> Flow:
        """What all blocks share."""
        layout = Layout(batch, rows, rotary=self.config.rotary)
        if memory is None:
            return Flow(layout=layout, cache=cache)
        beside = Layout(memory.beside(batch), rows, memory=memory.batch)
        if len(memory.batch.lengths) != len(beside.batch.lengths):
            raise DataError(f"{len(batch.lengths)} sequences to decode beside {len(memory.batch.lengths)} encoded ones")
        return Flow(layout=layout, cache=cache, memory=memory, memory_layout=beside)

    def embed(self, batch: Packed) -> Tensor:
        """Sum of the embeddings of token, position and type, normalized where the family does, (T, D)."""
        x_TD = self.token_embedding(batch.ids_T)
        if self.position_embedding is not None:
            x_TD = x_TD + self.position_embedding(batch.position_T + self.config.position_offset)
        if self.type_embedding is not None:
            types_T = torch.zeros_like(batch.ids_T) if batch.types_T is None else batch.types_T
            x_TD = x_TD + self.type_embedding(types_T)
        if self.embedding_norm is not None:
            x_TD = self.embedding_norm(x_TD)
        return self.dropout(x_TD)  # type: ignore[no-any-return]

    def check(self, batch: Packed) -> None:
        """Refuse sequences the position table cannot hold."""
        if batch.ids_T.dim() != 1:
            raise DataError(f"ids of shape {list(batch.ids_T.shape)}, expected one number for each token")
        if batch.start_B is None and batch.longest > self.config.positions:
            where = batch.lengths.index(batch.longest)
            raise DataError(
                f"sequence {where} has {batch.longest} tokens, the model holds at most {self.config.positions}; "
                "shorten it, cut it into windows, or let it be truncated"
            )

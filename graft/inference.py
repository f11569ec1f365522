"""Running many sequences through a model: planned into packed batches, spread over the processor's cores."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from graft.batch import Packed, by_length, pack

TOKENS = 1024
"""Tokens in a batch: enough rows for full-speed matrix products, few enough that everything stays in cache."""

Progress = Callable[[int], None]
"""Called with the number of sequences just done."""


def run_all(
    sequences: Sequence[Sequence[int]],
    types: Sequence[Sequence[int] | None] | None,
    keep: Callable[[list[int], Packed], None],
    device: torch.device,
    progress: Progress | None = None,
) -> None:
    """Run every sequence once, in batches of similar length.

    Args:
        sequences: token ids.
        types: token types, where the tokenizer gives them.
        keep: runs one packed batch and keeps what it wants; gets the numbers of its sequences.
        device: where the batches go.
        progress: told how many sequences were just done.
    """
    with torch.inference_mode():
        for indices in by_length([len(sequence) for sequence in sequences], TOKENS):
            chosen = None if types is None else [types[index] for index in indices]
            keep(indices, pack([sequences[index] for index in indices], chosen).to(device))
            if progress is not None:
                progress(len(indices))


@contextlib.contextmanager
def computing(model: nn.Module, dtype: torch.dtype) -> Iterator[dict[nn.Parameter, Tensor]]:
    """Let a model compute in another dtype for a while.

    Gives, for each parameter that was of another dtype, its original values. Whoever trains updates those; they take
    their places again at the end.
    """
    masters = {p: p.data for p in model.parameters() if p.dtype != dtype}
    for parameter, values in masters.items():
        parameter.data = values.to(dtype)
    try:
        yield masters
    finally:
        for parameter, values in masters.items():
            parameter.data = values

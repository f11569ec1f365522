"""Running many sequences through a model: planned into packed batches, spread over the processor's cores."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graft.batch import Packed, by_length, pack
from graft.errors import DataError, ModelError, UsageError
from graft.heads import Answer, Head
from graft.model.config import Config
from graft.model.linear import laid_out
from graft.model.transformer import Transformer
from graft.sealed import Settings
from graft.text import Encoding

TOKENS = 1024
"""Tokens in a batch: enough rows for full-speed matrix products, few enough that everything stays in cache."""

LONG_JOB = 2048
"""From so many tokens on, laying out the weights is repaid."""

Progress = Callable[[int], None]
"""Called with the number of sequences just done."""


def run_all(
    sequences: Sequence[Sequence[int]],
    types: Sequence[Sequence[int] | None] | None,
    keep: Callable[[list[int], Packed], None],
    backbone: Transformer,
    progress: Progress | None = None,
    beside: Sequence[Sequence[int]] | None = None,
) -> None:
    """Run every sequence once, in batches of similar length.

    Args:
        sequences: token ids.
        types: token types, where the tokenizer gives them.
        keep: runs one packed batch and keeps what it wants; gets the numbers of its sequences.
        backbone: what `keep` runs; the batches go where it is.
        progress: told how many sequences were just done.
        beside: what `keep` runs with each sequence; its length counts as well.
    """
    more = beside or [()] * len(sequences)
    lengths = [len(sequence) + len(other) for sequence, other in zip(sequences, more, strict=True)]
    plan, device = by_length(lengths, TOKENS), backbone.token_embedding.weight.device

    def run(indices: list[int]) -> int:
        chosen = None if types is None else [types[index] for index in indices]
        with torch.inference_mode():
            keep(indices, pack([sequences[index] for index in indices], chosen).to(device))
        return len(indices)

    threads = min(torch.get_num_threads(), len(plan)) if device.type == "cpu" else 1
    with laid_out(backbone) if sum(lengths) >= LONG_JOB else contextlib.nullcontext():
        for count in map(run, plan) if threads < 2 else _spread(run, plan, threads):
            if progress is not None:
                progress(count)


def in_step(progress: Progress | None, wholes: int, parts: int) -> Progress | None:
    """Progress in wholes (rows, texts), to be told in their parts (a pair's orders, a text's windows)."""
    if progress is None or wholes == parts:
        return progress
    done = told = 0

    def advance(count: int) -> None:
        nonlocal done, told
        done += count
        progress(done * wholes // parts - told)
        told = done * wholes // parts

    return advance


def _spread(run: Callable[[list[int]], int], plan: list[list[int]], threads: int) -> Iterator[int]:
    """Run batches side by side, each on one core: no core ever waits for another within a batch."""
    whole = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(run, plan)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(whole)


@contextlib.contextmanager
def computing(model: nn.Module, dtype: torch.dtype) -> Iterator[dict[nn.Parameter, Tensor]]:
    """Let a model compute in another dtype for a while.

    Gives, for each parameter that was of another dtype, its original values. Whoever trains updates those; they take
    their places again at the end.
    """
    masters = {p: p.data.contiguous() for p in model.parameters() if p.dtype != dtype}
    for parameter, values in masters.items():
        parameter.data = values.to(dtype)
    try:
        yield masters
    finally:
        for parameter, values in masters.items():
            parameter.data = values


def merged(head: Head | None, outputs: Sequence[Tensor], texts: Sequence[Sequence[Encoding]]) -> list[Tensor]:
    """Outputs of all windows, text after text -> one output for each text. Several windows need a head."""
    rest: Iterator[Tensor] = iter(outputs)
    found: list[Tensor] = []
    for windows in texts:
        own = [next(rest) for _ in windows]
        if len(own) > 1:
            assert head is not None
            own = [head.merge(torch.stack(own), [len(one.ids) for one in windows])]
        found += own
    return found


def told(texts: Sequence[Sequence[Encoding]], settings: Settings) -> list[dict[str, Any]]:
    """What answers say of how each text was read."""
    return [
        {
            "truncated_tokens": sum(one.truncated_tokens for one in windows),
            "windows": len(windows) if settings.overflow == "window" else None,
        }
        for windows in texts
    ]


def marked(answers: Sequence[Answer], how: Sequence[dict[str, Any]], settings: Settings) -> list[Answer]:
    """Answers with how their texts were read, and whether they are to be relied on."""
    rule, found = settings.abstention, []
    for answer, one in zip(answers, how, strict=True):
        unsure = None if rule is None or answer.probability is None else answer.probability < rule.threshold
        found.append(dataclasses.replace(answer, windows=one["windows"], abstained=unsure))
    return found


def check_encodings(encodings: Sequence[Encoding], config: Config, folder: Path) -> None:
    """Refuse what the embeddings have no row for.

    Raises:
        DataError: an empty text.
        ModelError: the tokenizer belongs to another model.
    """
    for number, encoding in enumerate(encodings):
        if not encoding.ids:
            raise DataError(f"text {number} (counting from 0) is empty, expected at least one token")
        if max(encoding.ids) >= config.vocab_size:
            raise ModelError(
                f"{folder}: the tokenizer gives token {max(encoding.ids)}, the model knows {config.vocab_size} tokens; "
                "one of the two belongs to another model"
            )
        if encoding.types and max(encoding.types) >= max(1, config.token_types):
            raise ModelError(f"{folder}: this model tells no second text from the first (type_vocab_size)")


def choose_device(name: str) -> torch.device:
    """The device a name stands for; "auto" is a GPU where there is one.

    Raises:
        UsageError: there is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        found = str(error).partition("\n")[0]
        raise UsageError(f"device {name!r} cannot be used here: {found}. Choose auto, cpu, cuda or cuda:N") from error

"""How probable given texts are: continuations of prompts, answers of a decoder, words at a mask."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from graft.batch import Packed, by_length, pack
from graft.errors import DataError, ModelError
from graft.generate.cache import StaticCache
from graft.grafted import Model
from graft.inference import Progress, run_all

TOKENS = 2048
"""Tokens of prompts and continuations scored at once."""

Ids = Sequence[int]


def score(
    model: Model,
    prompts: Sequence[Ids],
    continuations: Sequence[Sequence[Ids]],
    progress: Progress | None = None,
) -> list[list[float]]:
    """Log-probability of each continuation after its prompt, the sum over its tokens.

    A prompt is run once, whatever the number of its continuations: a decoder keeps its keys and values, an
    encoder-decoder what the encoder made of it.

    Args:
        model: with a head that predicts the next token.
        prompts: token ids of each.
        continuations: for each prompt any number of them, as token ids.
        progress: told how many prompts are done.

    Raises:
        ModelError: the model's head does not predict the next token.
        DataError: a continuation is empty, or it does not fit behind its prompt.
    """
    if model.head is None or model.head.kind != "next":
        raise ModelError(f"{model.folder}: scoring text needs a head that predicts the next token")
    if len(prompts) != len(continuations) or not all(len(one) for many in continuations for one in many):
        raise DataError("scoring takes continuations of at least one token, a list of them for each prompt")
    found: list[list[float]] = [[] for _ in prompts]
    longest = [len(ids) + max(map(len, many), default=0) for ids, many in zip(prompts, continuations, strict=True)]
    run = _after if model.backbone.decoder is None else _beside
    for indices in by_length(longest, TOKENS):
        chosen = [continuations[index] for index in indices]
        with torch.inference_mode():
            columns = run(model, [prompts[index] for index in indices], chosen)
        for place, index in enumerate(indices):
            found[index] = [column[place] for column in columns[: len(chosen[place])]]
        if progress is not None:
            progress(len(indices))
    return found


def fill(
    model: Model,
    sequences: Sequence[Ids],
    types: Sequence[Ids | None],
    words: Sequence[Ids],
    progress: Progress | None = None,
) -> Tensor:
    """Log-probability of each word at the masks of each sequence, the sum over its tokens, float32 (n, W).

    All masks are filled at once: a token of a word is not told what stands at the others.

    Args:
        model: with a head that fills masks.
        sequences: token ids, each with as many masks as the words have tokens.
        types: their token types.
        words: token ids, all of the same number k.
        progress: told how many sequences are done.

    Raises:
        ModelError: the model's head does not fill masks.
        DataError: a sequence has another number of masks.
    """
    head = model.head
    if head is None or head.kind != "mask":
        raise ModelError(f"{model.folder}: filling a mask needs a head that does (such as that of BertForMaskedLM)")
    mask, masks = model.tokenizer.token_id("mask_token"), len(words[0])
    for number, ids in enumerate(sequences):
        if list(ids).count(mask) != masks:
            raise DataError(f"sequence {number} has {list(ids).count(mask)} masks, expected {masks}")
    words_WK, found_NW = torch.tensor([list(word) for word in words]), torch.zeros(len(sequences), len(words))

    def keep(indices: list[int], batch: Packed) -> None:
        rows_M = (batch.ids_T == mask).nonzero()[:, 0]
        logits_MV = head(model.backbone.read(batch, "mask")[rows_M], batch)
        logs_BKV = logits_MV.log_softmax(-1).reshape(len(indices), masks, -1)
        chosen_BWK = logs_BKV[:, torch.arange(masks), words_WK.to(logs_BKV.device)]
        found_NW[indices] = chosen_BWK.sum(-1).cpu()

    run_all(sequences, types, keep, model.backbone, progress)
    return found_NW


def _after(model: Model, prompts: list[Ids], continuations: list[Sequence[Ids]]) -> list[list[float]]:
    """A decoder: prompts into the cache, then each one's first continuation, each one's second, and so on."""
    config, held = model.backbone.config, [len(prompt) for prompt in prompts]
    more = max((len(one) for many in continuations for one in many), default=1) - 1
    if max(held) + more > config.positions:
        raise DataError(
            f"a prompt of {max(held)} tokens and {more + 1} more to score are beyond the {config.positions} the model "
            "holds; shorten the prompt"
        )
    cache = (
        StaticCache(config, len(prompts), max(held) + max(more, 1), dtype=model.dtype, device=model.device)
        if more
        else None
    )
    batch = pack(prompts, start=[0] * len(prompts) if more else None).to(model.device)
    logs_BV = _logs(model, model.backbone(batch, cache=cache)[batch.last_B], batch)
    columns = []
    for column in zip_longest(*continuations):
        # A continuation that is missing, or over with its first token, is stood in for: slots belong to places.
        given = [list(one[:-1] or one) if one else [0] for one in column]
        if all(one is None or len(one) == 1 for one in column):
            columns.append([float(logs_BV[b, one[0]]) if one else 0.0 for b, one in enumerate(column)])
            continue
        batch = pack(given, start=held).to(model.device)
        logs_TV = _logs(model, model.backbone(batch, cache=cache), batch)
        later = [
            _sum(logs_TV, int(start), one[1:] if one else ()) for start, one in zip(batch.first_B, column, strict=True)
        ]
        columns.append([float(logs_BV[b, one[0]]) + later[b] if one else 0.0 for b, one in enumerate(column)])
    return columns


def _beside(model: Model, prompts: list[Ids], continuations: list[Sequence[Ids]]) -> list[list[float]]:
    """An encoder-decoder: the prompts encoded once, the continuations written by the decoder."""
    backbone = model.backbone
    memory, start = backbone.remember(pack(prompts).to(model.device)), backbone.config.start_token  # type: ignore[operator, attr-defined]
    columns = []
    for column in zip_longest(*continuations):
        batch = pack([[start, *(one[:-1] if one else ())] for one in column]).to(model.device)
        assert backbone.decoder is not None
        logs_TV = _logs(model, backbone.decoder(batch, memory=memory), batch)
        firsts = batch.first_B.tolist()
        columns.append([_sum(logs_TV, at, one or ()) for at, one in zip(firsts, column, strict=True)])
    return columns


def _logs(model: Model, hidden_TD: Tensor, batch: Packed) -> Tensor:
    assert model.head is not None
    logs_TV: Tensor = model.head(hidden_TD, batch).log_softmax(-1)
    return logs_TV


def _sum(logs_TV: Tensor, start: int, ids: Ids) -> float:
    """Of so many tokens, the first predicted at one row and the others at those after it."""
    rows = torch.arange(start, start + len(ids), device=logs_TV.device)
    return float(logs_TV[rows, torch.tensor(list(ids), dtype=torch.int64, device=logs_TV.device)].sum())

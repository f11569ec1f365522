"""Prompts as token ids, and the tokens that end a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from graft.errors import DataError, ModelError, UsageError
from graft.generate.choose import logprobs
from graft.generate.request import Request, Scored
from graft.generate.sampling import Sampling
from graft.grafted import Model


def prompt_ids(model: Model, prompt: str | Sequence[int]) -> list[int]:
    """A prompt as token ids. What a decoder is to continue stays open at the end: no end token is put there.

    Raises:
        DataError: neither text nor whole numbers, or text the tokenizer does not take.
        ModelError: text, and the model has no tokenizer.
    """
    if isinstance(prompt, str):
        if not model.has_tokenizer:
            raise ModelError(f"{model.folder}: this model has no tokenizer; give token ids")
        tokenizer = model.tokenizer
        [encoding] = tokenizer.encode([prompt])
        spare = 0 if model.backbone.decoder is not None else len(tokenizer.frame.end)
        return encoding.ids[: len(encoding.ids) - spare]
    try:
        numbers = np.array(list(prompt))
    except (TypeError, ValueError) as error:
        raise DataError(f"a prompt is text or a list of token ids, found {prompt!r:.60}") from error
    if len(numbers) and (numbers.ndim != 1 or not np.can_cast(numbers.dtype, np.int64)):
        raise DataError(f"a prompt is text or a list of token ids, found {numbers.dtype} of shape {numbers.shape}")
    return [int(number) for number in numbers]


def at_least_one(**numbers: Any) -> None:
    """Refuse what is no number of things.

    Raises:
        UsageError: naming it.
    """
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise UsageError(f"{name} is {number!r:.60}, expected a whole number of at least 1")


def check(model: Model, ids: Sequence[int], sampling: Sampling, length: int) -> None:
    """Refuse a prompt that cannot be continued.

    Raises:
        DataError: it is empty, too long, or has token ids outside the vocabulary; or its tokens are to be scored and an
            encoder reads it.
    """
    size = model.backbone.config.vocab_size
    if not ids:
        raise DataError("the prompt is empty, expected at least one token")
    if not 0 <= min(ids) <= max(ids) < size:
        raise DataError(f"the prompt has ids from {min(ids)} to {max(ids)}, expected token ids from 0 to {size - 1}")
    if len(ids) > length:
        positions = model.backbone.config.positions
        remedy = "shorten it" if length >= positions else f"shorten it, or make room for more (up to {positions})"
        raise DataError(f"the prompt has {len(ids)} tokens, at most {length} fit; {remedy}")
    if sampling.prompt_logprobs is not None and model.backbone.decoder is not None:
        raise DataError("prompt_logprobs: an encoder reads this model's prompts, and predicts none of their tokens")


def scored(request: Request, held: int, logits_LV: Tensor, vocabulary: int) -> None:
    """Note how probable the tokens of a prompt are.

    Args:
        request: whose prompt it is.
        held: how many of its tokens were read before.
        logits_LV: what the next ones predict, (L, V), on the host.
        vocabulary: the most probable are told of tokens below this number.
    """
    most = request.sampling.prompt_logprobs or 0
    if not request.prompt_logprobs:
        request.prompt_logprobs.append(None)
    for logits_V, token in zip(logits_LV.numpy(), request.prompt[held + 1 :], strict=False):
        logprob, top = logprobs(logits_V, token, most, vocabulary)
        request.prompt_logprobs.append(Scored(id=token, logprob=logprob, top=top))


def ends(model: Model) -> set[int]:
    """The tokens that end a text: the tokenizer's, and those config.json and generation_config.json name."""
    found: set[int] = set()
    if model.has_tokenizer and "eos_token" in model.tokenizer.special_tokens:
        found.add(model.tokenizer.token_id("eos_token"))
    for published in (model.published, _generation_config(model)):
        named = published.get("eos_token_id")
        found.update(one for one in (named if isinstance(named, list) else [named]) if type(one) is int)
    return {one for one in found if 0 <= one < model.backbone.config.vocab_size}


def _generation_config(model: Model) -> dict[str, Any]:
    path = model.base.folder / "generation_config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

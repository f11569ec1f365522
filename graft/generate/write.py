"""Texts written in one go: an engine as large as they need, run until all are done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from graft.errors import DataError
from graft.generate.engine import Engine
from graft.generate.fast import decoder
from graft.generate.prompts import at_least_one, prompt_ids
from graft.generate.request import Completion, Request, Token
from graft.generate.sampling import Sampling
from graft.grafted import Model
from graft.inference import Progress
from graft.model.linear import laid_out

SIDE_BY_SIDE = 16
"""Texts written at once."""

LONG_JOB = 64
"""From so many steps on, laying out the weights is repaid."""

MANY = 8
"""The same in prompts, where only these go through the model's own forward pass."""


def generate(model: Model, prompt: str | Sequence[int], n: int = 1, **settings: Any) -> list[Completion]:
    """Continue a prompt, or let a decoder answer it, n times.

    Args:
        model: with a head that predicts the next token.
        prompt: text, or token ids.
        n: how many continuations.
        **settings: as of `Sampling`.

    Raises:
        UsageError: a setting that does not exist or makes no sense.
        ModelError: the model's head does not predict the next token.
        DataError: a prompt that cannot be continued.
    """
    [request] = write(model, [prompt_ids(model, prompt)], Sampling.of(settings), n=n)
    return request.completions


def write(
    model: Model,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling | Sequence[Sampling],
    *,
    n: int = 1,
    end: Collection[int] | None = None,
    progress: Progress | None = None,
    on_token: Callable[[Token], None] | None = None,
) -> list[Request]:
    """Continue prompts, or answer them, side by side.

    Args:
        model: with a head that predicts the next token.
        prompts: token ids of each.
        sampling: how; one for all, or one for each.
        n: how many continuations of each.
        end: tokens that end a text; None asks the model's folder.
        progress: told how many prompts are done.
        on_token: told of every token as it comes.

    Returns:
        A request for each prompt, done.

    Raises:
        ModelError: the model's head does not predict the next token.
        DataError: a prompt cannot be continued; the message counts from 0.
    """
    at_least_one(n=n)
    if not prompts:
        return []
    how = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
    most = max(one.max_tokens for one in how)
    longest = max(map(len, prompts)) + most
    length = min(model.backbone.config.positions, longest)
    fast = decoder if most > 1 else None
    engine = Engine(model, slots=min(SIDE_BY_SIDE, n * len(prompts)), length=length, end=end, fast=fast)
    requests = [engine.submit(prompt, one, n=n) for prompt, one in zip(prompts, how, strict=True)]
    steps = most * -(-n * len(prompts) // SIDE_BY_SIDE)
    pays = steps >= LONG_JOB if engine.feed.fast is None else len(prompts) >= MANY
    with laid_out(model.backbone) if pays else contextlib.nullcontext():
        _run(engine, progress, on_token)
    for number, request in enumerate(requests):
        message = next((one.message for one in request.completions if one.finish_reason == "error"), None)
        if message is not None:
            raise DataError(f"prompt {number} (counting from 0): {message}")
    return requests


def _run(engine: Engine, progress: Progress | None, on_token: Callable[[Token], None] | None) -> None:
    """Step until all is done, and tell of it."""
    told: set[int] = set()
    while engine.busy:
        tokens = engine.step()
        if on_token is not None:
            for token in tokens:
                on_token(token)
        ended = {id(token.request) for token in tokens if token.request.done} - told
        told |= ended
        if ended and progress is not None:
            progress(len(ended))

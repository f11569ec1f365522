"""Text in, text out: rows for encoder-decoders, and for decoders that continue a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from graft.errors import ModelError, UsageError
from graft.grafted import Model
from graft.text import Encoding
from graft.train.example import Example

ANSWER_SHARE = 0.5
"""Of a decoder's positions, the share a target may take before it is cut."""


def examples(
    model: Model, sources: Sequence[str], targets: Sequence[str], lines: Sequence[int]
) -> tuple[list[Example], int]:
    """Rows to learn from, and how many tokens of sources and targets did not fit.

    An encoder-decoder reads the source and learns to write the target. A decoder reads the source, then learns to write
    the target after it: no token of the source has a target (places).
    """
    if not targets:
        return [], 0
    answers, cut = _answers(model, targets)
    questions = prompts(model, sources, room=max(map(len, answers)))
    make = _beside if _two_stacks(model) else _behind
    rows = zip(questions, answers, lines, strict=True)
    more = sum(question.truncated_tokens for question in questions)
    return [make(model, question.ids, answer, line) for question, answer, line in rows], cut + more


def prompts(model: Model, sources: Sequence[str], room: int) -> list[Encoding]:
    """Sources as token ids; where one stack reads both, open at the end, with room for so many tokens there.

    Raises:
        UsageError: that much room leaves none for a source.
    """
    if _two_stacks(model):
        return model.encode(sources)
    tokenizer, limit = model.tokenizer, model.limit
    if limit is not None and room >= limit:
        raise UsageError(f"{room} tokens to be written leave no room for a text: the model holds {limit}")
    end = len(tokenizer.frame.end)
    left = None if limit is None else limit - room + end
    encodings = tokenizer.encode(sources, limit=left, overflow=model.settings.overflow)
    for one in encodings if end else ():
        one.ids = one.ids[:-end]
    return encodings


def end_token(model: Model) -> int:
    """The token that ends a text.

    Raises:
        ModelError: the vocabulary has none.
    """
    if "eos_token" not in model.tokenizer.special_tokens:
        raise ModelError(f"{model.folder}: the vocabulary has no token that ends a text (eos_token)")
    return model.tokenizer.token_id("eos_token")


def _two_stacks(model: Model) -> bool:
    return model.backbone.decoder is not None


def _answers(model: Model, targets: Sequence[str]) -> tuple[list[list[int]], int]:
    """Targets as token ids, each with the token that ends it."""
    tokenizer, end, limit = model.tokenizer, end_token(model), model.limit
    most = None if limit is None else (limit if _two_stacks(model) else int(limit * ANSWER_SHARE)) - 1
    frame = tokenizer.frame
    bare = [
        one.ids[len(frame.start) : len(one.ids) - len(frame.end)]
        for one in tokenizer.encode([target if _two_stacks(model) else f" {target}" for target in targets])
    ]
    cut = 0 if most is None else sum(max(0, len(ids) - most) for ids in bare)
    return [[*ids[:most], end] for ids in bare], cut


def _beside(model: Model, question: list[int], answer: list[int], line: int) -> Example:
    read = [model.backbone.config.start_token, *answer[:-1]]  # type: ignore[attr-defined]
    places = tuple(range(len(answer)))
    return Example((question,), (None,), torch.tensor(answer), line, places, (read,))


def _behind(model: Model, question: list[int], answer: list[int], line: int) -> Example:
    places = tuple(range(len(question) - 1, len(question) + len(answer) - 1))
    return Example(([*question, *answer[:-1]],), (None,), torch.tensor(answer), line, places)

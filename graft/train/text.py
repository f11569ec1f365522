"""Text in, text out: rows for encoder-decoders, and for decoders that continue a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from graft.grafted import Model
from graft.prompting.laying import answers, end_token, prompts, two_stacks
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
    wanted, cut = _answers(model, targets)
    questions = prompts(model, sources, room=max(map(len, wanted)))
    make = _beside if two_stacks(model) else _behind
    rows = zip(questions, wanted, lines, strict=True)
    more = sum(question.truncated_tokens for question in questions)
    return [make(model, question.ids, answer, line) for question, answer, line in rows], cut + more


def room(model: Model, targets: Sequence[str]) -> int:
    """Tokens that the longest target takes behind a source."""
    return max(map(len, _answers(model, targets)[0]), default=1)


def _answers(model: Model, targets: Sequence[str]) -> tuple[list[list[int]], int]:
    """Targets as token ids, each with the token that ends it."""
    end, limit = end_token(model), model.limit
    most = None if limit is None else (limit if two_stacks(model) else int(limit * ANSWER_SHARE)) - 1
    bare = answers(model, targets)
    cut = 0 if most is None else sum(max(0, len(ids) - most) for ids in bare)
    return [[*ids[:most], end] for ids in bare], cut


def _beside(model: Model, question: list[int], answer: list[int], line: int) -> Example:
    read = [model.backbone.config.start_token, *answer[:-1]]  # type: ignore[attr-defined]
    places = tuple(range(len(answer)))
    return Example((question,), (None,), torch.tensor(answer), line, places, (read,))


def _behind(model: Model, question: list[int], answer: list[int], line: int) -> Example:
    places = tuple(range(len(question) - 1, len(question) + len(answer) - 1))
    return Example(([*question, *answer[:-1]],), (None,), torch.tensor(answer), line, places)

"""The most probable token, again and again: for decoders, and for encoder-decoders, from one static cache."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from graft.batch import by_length, pack
from graft.errors import DataError, ModelError
from graft.generate.cache import StaticCache
from graft.grafted import Model
from graft.inference import Progress

TOKENS = 2048
"""Tokens of prompts and continuations decoded at once."""


def greedy(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    longest: int,
    stop: Collection[int],
    vocabulary: int | None = None,
    progress: Progress | None = None,
) -> list[list[int]]:
    """Continue prompts, or answer what an encoder reads, with the most probable token at each step.

    Args:
        model: with a head that predicts the next token.
        prompts: token ids of each.
        longest: most tokens of a continuation.
        stop: tokens that end one; they are not part of it.
        vocabulary: only tokens below this number are written; a model's output may be wider than its tokenizer.
        progress: told how many prompts are done.

    Raises:
        ModelError: the model's head does not predict the next token.
        DataError: a prompt leaves no room for so many tokens.
    """
    if model.head is None or model.head.kind != "next":
        raise ModelError(f"{model.folder}: writing text needs a head that predicts the next token")
    found: list[list[int]] = [[] for _ in prompts]
    for indices in by_length([len(prompt) + longest for prompt in prompts], TOKENS):
        texts = _Texts(model, [prompts[index] for index in indices], longest, vocabulary)
        for index, text in zip(indices, texts.run(longest, frozenset(stop)), strict=True):
            found[index] = text
        if progress is not None:
            progress(len(indices))
    return found


class _Texts:
    """Texts that grow side by side, each in a slot of the cache."""

    def __init__(
        self, model: Model, prompts: Sequence[Sequence[int]], longest: int, vocabulary: int | None = None
    ) -> None:
        backbone, self.vocabulary = model.backbone, vocabulary
        self.model, self.memory, self.stack = model, None, backbone
        self.given = [list(prompt) for prompt in prompts]
        if backbone.decoder is not None:
            with torch.inference_mode():
                self.memory = backbone.remember(pack(prompts).to(model.device))  # type: ignore[operator]
            self.stack, self.given = backbone.decoder, [[backbone.config.start_token] for _ in prompts]  # type: ignore[attr-defined]
        length = max(map(len, self.given)) + longest
        if length > self.stack.config.positions:
            raise DataError(
                f"a prompt of {length - longest} tokens and {longest} more are {length}, the model holds "
                f"{self.stack.config.positions}; shorten the prompt or ask for fewer"
            )
        self.cache = StaticCache(self.stack.config, len(prompts), length, dtype=model.dtype, device=model.device)
        self.held = [0] * len(prompts)

    def run(self, longest: int, stop: frozenset[int]) -> list[list[int]]:
        """Decode until every text has ended or is long enough."""
        texts: list[list[int]] = [[] for _ in self.given]
        open_texts = set(range(len(texts)))
        for _ in range(longest):
            for number, token in enumerate(self._step()):
                if number in open_texts:
                    if token in stop:
                        open_texts.discard(number)
                    else:
                        texts[number].append(token)
            if not open_texts:
                break
        return texts

    @torch.inference_mode()
    def _step(self) -> list[int]:
        batch = pack(self.given, start=self.held).to(self.model.device)
        hidden_TD = self.stack(batch, memory=self.memory, cache=self.cache)
        assert self.model.head is not None
        logits_BV = self.model.head(hidden_TD[batch.last_B], batch)
        tokens: list[int] = logits_BV[:, : self.vocabulary].argmax(-1).tolist()
        self.held = [held + len(new) for held, new in zip(self.held, self.given, strict=True)]
        self.given = [[token] for token in tokens]
        return tokens

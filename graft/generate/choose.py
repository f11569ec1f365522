"""Choosing the next token of every live sequence, all at once."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from graft.generate.sampling import Sampling
from graft.text import Tokenizer


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for one sequence.

    Attributes:
        token: its id; -1 where there is a reason.
        logprob: of the token, where the request asks for log-probabilities.
        top: the most probable tokens with their log-probabilities, as many as the request asks for.
        reason: "no_allowed_token" where the settings leave no token, "error" where the logits are not numbers.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    reason: str | None = None


@dataclass(slots=True, eq=False)
class State:
    """One live sequence, as far as choosing its next token goes; `Chooser.states` makes them.

    Attributes:
        sampling: the request's settings.
        prompt: token ids it began with (what the decoder read first, where there is an encoder).
        output: token ids chosen so far; `Chooser.choose` adds to them.
        random: its own source of numbers, seeded from the seed and the number of the sample.
    """

    sampling: Sampling
    prompt: tuple[int, ...]
    output: list[int] = field(default_factory=list)
    random: random.Random = field(default_factory=random.Random)


class Chooser:
    """Chooses tokens for one model and its tokenizer."""

    def __init__(self, vocabulary: int, tokenizer: Tokenizer | None = None, end: Collection[int] = ()) -> None:
        """Prepare.

        Args:
            vocabulary: only tokens below this number are chosen; a model's output may be wider than its tokenizer.
            tokenizer: spells `Sampling.bad_words`.
            end: tokens that end a text.
        """
        self.vocabulary, self.tokenizer, self.end = vocabulary, tokenizer, tuple(sorted(set(end)))

    def states(self, sampling: Sampling, prompt: Sequence[int], n: int = 1) -> list[State]:
        """The states of a request's n samples.

        Raises:
            UsageError: a setting names a token the vocabulary does not have, or a bad word no token can spell.
        """
        raise NotImplementedError

    def choose(self, logits_BV: Tensor, states: Sequence[State]) -> list[Choice]:
        """Choose each sequence's next token, and add it to its state's output."""
        raise NotImplementedError

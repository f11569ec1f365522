"""Choosing the next token of every live sequence.

A row's result depends on its own logits, settings and source of random numbers alone, whatever runs beside it. Rows are
looked at with numpy one by one: on a processor that is faster than torch on all at once, whose argmax, top-k and
logsumexp take five to twenty-five times as long (docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft.generate.penalties import Ids, Row, Rules, as_history
from graft.generate.sampling import Sampling
from graft.text import Tokenizer

Weights = np.ndarray[Any, np.dtype[np.floating[Any]]]
Top = tuple[tuple[int, float], ...]

BLOCK = 256
"""Probabilities are summed up in blocks of this many, so that finding the drawn token needs few sums in a row."""

HEAVY = (1e-3,)
"""Tokens this heavy beside the heaviest are tried as the nucleus, before all that may belong to it."""

COLDEST = 1e-30
"""A temperature below this is taken for it: single precision has nothing so small, and all weights but one are 0."""

COLUMN = 64
"""The most logits one maximum stands for, where the highest of all are looked for."""


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
    top: Top = ()
    reason: str | None = None


@dataclass(slots=True, eq=False)
class State:
    """One live sequence, as far as choosing its next token goes; `Chooser.states` makes them.

    Attributes:
        sampling: the request's settings.
        rules: what they do to logits.
        prompt: token ids it began with (what the decoder read first, where there is an encoder).
        random: its own source of numbers, seeded from the seed and the number of the sample.
        output: token ids chosen so far; `Chooser.choose` adds to them.
        plain: nothing but the most probable token is asked for.
    """

    sampling: Sampling
    rules: Rules
    prompt: tuple[int, ...]
    random: Random
    output: list[int] = field(default_factory=list)
    plain: bool = field(init=False)
    _held: Ids = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.plain = self.sampling.greedy and self.rules.idle and self.sampling.logprobs is None
        self._held = as_history(() if self.rules.idle else self.prompt, 0 if self.rules.idle else 64)

    @property
    def history(self) -> Ids:
        """Ids of prompt and output; empty where no rule asks for them."""
        return self._held[: len(self.prompt) + len(self.output)]

    def add(self, token: int) -> None:
        """Write a token behind the output."""
        if not self.rules.idle:
            place = len(self.prompt) + len(self.output)
            if place == len(self._held):
                self._held = as_history(self._held, place)  # type: ignore[arg-type]
            self._held[place] = token
        self.output.append(token)


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
            UsageError: a setting names a token there is none of, or bad words are given and there is no tokenizer.
        """
        rules, ids = Rules(sampling, self.vocabulary, self.end, self.tokenizer), tuple(prompt)
        seeds = [None if sampling.seed is None else f"{sampling.seed} {number}" for number in range(n)]
        return [State(sampling, rules, ids, Random(seed)) for seed in seeds]

    def choose(self, logits_BV: Tensor, states: Sequence[State]) -> list[Choice]:
        """Choose each sequence's next token, and add it to its state's output.

        Log-probabilities are those of the model itself, before penalties, masks and temperature.

        Args:
            logits_BV: the head's output, one row for each state.
            states: of the sequences.
        """
        if all(state.plain for state in states):
            choices = self._plain(logits_BV)
        else:
            rows = zip(logits_BV.float().cpu().numpy(), states, strict=True)
            choices = [self._choose(row, state) for row, state in rows]
        for choice, state in zip(choices, states, strict=True):
            if choice.reason is None:
                state.add(choice.token)
        return choices

    def _plain(self, logits_BV: Tensor) -> list[Choice]:
        """The most probable token of each row and nothing else."""
        known_BV = logits_BV[:, : self.vocabulary]
        if logits_BV.device.type == "cpu" and logits_BV.dtype == torch.float32:
            known = known_BV.numpy()
            best = known.argmax(-1)
            peaks, tokens = known[np.arange(len(known)), best].tolist(), best.tolist()
        else:
            peaks, tokens = (found.tolist() for found in known_BV.max(-1))
        return [_choice(token, peak) for token, peak in zip(tokens, peaks, strict=True)]

    def _choose(self, row: Row, state: State) -> Choice:
        sampling, known_V = state.sampling, row[: self.vocabulary]
        if not state.rules.idle:
            known_V = known_V.copy()
            state.rules.apply(known_V, state.history, len(state.prompt))
        best = int(known_V.argmax())  # a number that is none counts as the highest
        choice = _choice(best, float(known_V[best]))
        if choice.reason is not None:
            return choice
        token = best if sampling.greedy else draw(known_V, sampling, state.random.random())
        if sampling.logprobs is None:
            return Choice(token)
        return Choice(token, *logprobs(row, token, sampling.logprobs, self.vocabulary))


def _choice(token: int, peak: float) -> Choice:
    """A token by its logit, the highest."""
    if math.isfinite(peak):
        return Choice(token)
    return Choice(-1, reason="no_allowed_token" if peak == -math.inf else "error")


def logprobs(row: Row, token: int, most: int, vocabulary: int | None = None) -> tuple[float, Top]:
    """The log-probability of a token, and the most probable tokens with theirs, from a row of logits.

    Args:
        row: logits of the head's whole width.
        token: the one to tell about.
        most: how many of the most probable to tell about.
        vocabulary: those are below this number.
    """
    peak = row.max()
    total = float(peak) + math.log(float(np.exp(row - peak).sum()))
    best = highest(row[:vocabulary], most)[:most] if most else ()
    return float(row[token]) - total, tuple((int(one), float(row[one]) - total) for one in best)


def draw(row_V: Row, sampling: Sampling, chance: float) -> int:
    """Draw a token: temperature, then top-k, top-p and min-p, each among what the one before has left.

    Args:
        row_V: logits, at least one of them finite.
        sampling: the settings.
        chance: a random number from 0 up to 1.
    """
    ids, weights = kept(row_V, sampling)
    if ids is not None:
        return int(ids[_place(weights, chance * float(weights.sum()))])
    sums = _sums(weights)
    ends = np.cumsum(sums)
    at = chance * float(ends[-1])
    block = _place(sums, at)
    start = block * BLOCK
    return start + _place(weights[start : start + BLOCK], at - float(ends[block] - sums[block]))


def _sums(weights: Weights) -> Weights:
    """What blocks of weights add up to; a matrix product is the fastest way to many sums."""
    whole = len(weights) // BLOCK * BLOCK
    sums = weights[:whole].reshape(-1, BLOCK) @ np.ones(BLOCK, dtype=weights.dtype)
    return np.append(sums, weights[whole:].sum()).astype(np.float64)


def _place(weights: Weights, at: float) -> int:
    """Where a running sum of weights passes a number; never at a weight of zero, whatever rounding does."""
    found = int(np.cumsum(weights, dtype=np.float64).searchsorted(at, side="right"))
    return found if found < len(weights) and weights[found] > 0 else int(np.flatnonzero(weights)[-1])


def kept(row_V: Row, sampling: Sampling) -> tuple[Ids | None, Weights]:
    """The tokens that may be drawn and their weights, the heaviest 1; None for all tokens in their own order."""
    peak = row_V.max()
    ids: Ids | None = None
    if sampling.top_k:
        ids = highest(row_V, sampling.top_k)
    elif sampling.min_p and sampling.top_p == 1:
        ids = np.flatnonzero(row_V >= peak + sampling.temperature * math.log(sampling.min_p) - 1e-3)
    weights = _weights(row_V if ids is None else row_V[ids], peak, sampling.temperature)
    if sampling.top_p < 1:
        chosen = np.flatnonzero(weights >= _lightest(weights, sampling.top_p))
        ids, weights = chosen if ids is None else ids[chosen], weights[chosen]
    if sampling.min_p:
        assert ids is not None
        chosen = np.flatnonzero(weights >= sampling.min_p)
        ids, weights = ids[chosen], weights[chosen]
    return ids, weights


def _lightest(weights: Weights, share: float) -> float:
    """The least weight among the heaviest that together have a share of the whole, at least."""
    total = float(_sums(weights).sum())
    # What is lighter than the last bound adds up to less than what may be left out. Few have to be sorted.
    for bound in (*HEAVY, (1 - share) * total / len(weights)):
        heavy = weights[weights >= bound]
        if float(heavy.sum()) >= share * total:
            break
    heavy = np.sort(heavy)[::-1]
    before = np.cumsum(heavy, dtype=np.float64) - heavy
    return float(heavy[max(int(before.searchsorted(share * total)) - 1, 0)])


def _weights(logits: Weights, peak: Any, temperature: float) -> Weights:
    found = logits - peak
    if temperature != 1:
        with np.errstate(over="ignore"):
            found /= max(temperature, COLDEST)
    return np.exp(found, out=found)  # type: ignore[no-any-return]


def highest(row_V: Row, most: int) -> Ids:
    """Tokens of the highest logits, the highest first, equal ones by their ids; more than asked for where the last tie.

    The tokens are dealt into columns first. The highest logits of `most` columns are as many logits, so that no logit
    below all of them is wanted, and few others are left to sort.
    """
    size, most = len(row_V), min(most, len(row_V))
    deep = min(COLUMN, size // (4 * most))
    ids: Ids
    if deep > 1:
        columns = size // deep
        peaks = row_V[: deep * columns].reshape(deep, columns).max(0)
        peaks.partition(columns - most)
        ids = np.flatnonzero(row_V >= peaks[columns - most])
    else:
        ids = np.arange(size)
    found = row_V[ids]
    if most < len(ids):
        chosen = found >= np.partition(found, len(ids) - most)[len(ids) - most]
        ids, found = ids[chosen], found[chosen]
    return ids[np.argsort(-found, kind="stable")]

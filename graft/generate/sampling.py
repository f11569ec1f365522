"""How a text is to be continued: every setting of a request, checked when it is made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from graft.errors import UsageError, nearest

MOST = 2**31 - 1

WHOLE: dict[str, tuple[int, int]] = {
    "max_tokens": (0, MOST),
    "top_k": (0, MOST),
    "no_repeat_ngram": (0, MOST),
    "min_tokens": (0, MOST),
    "lookup": (0, 64),
    "seed": (-(2**63), 2**64 - 1),
    "logprobs": (0, 100),
    "prompt_logprobs": (0, 100),
}
"""Settings that are whole numbers, with the least and the most allowed."""

REAL: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
"""Settings that are numbers, with the least and the most allowed."""

POSITIVE = {"top_p": 1.0, "repetition_penalty": 100.0}
"""Settings that are numbers above 0, with the most allowed."""

UNSET = ("seed", "logprobs", "prompt_logprobs", "allowed")
"""Settings for which None means something."""

BIAS = 100.0
"""The most that may be added to a token's logit or taken from it: enough to force or to forbid it."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose the tokens of a continuation, and when to stop.

    What changes the logits is applied in this order: logit_bias, repetition_penalty, presence and frequency penalties,
    no_repeat_ngram, bad_words, min_tokens, allowed; then, where a token is drawn, temperature, top_k, top_p, min_p.

    Attributes:
        max_tokens: most tokens to write; the end token counts.
        temperature: logits are divided by it; 0 takes the most probable token.
        top_k: only so many most probable tokens may be drawn; 0 means all.
        top_p: only the most probable tokens that together have this probability may be drawn (Holtzman et al. 2020).
        min_p: only tokens at least this share as probable as the most probable may be drawn (Nguyen et al. 2024).
        repetition_penalty: logits of tokens of prompt and output are divided by it where positive, multiplied where
            negative (Keskar et al. 2019).
        presence_penalty: taken from the logit of every token that the output has.
        frequency_penalty: taken from it as often as the output has it.
        no_repeat_ngram: no run of so many tokens comes twice in prompt and output; 0 allows it.
        bad_words: never written, in the tokens they are encoded to with and without a space before.
        logit_bias: added to the logits of these tokens.
        allowed: only these tokens, and those that end a text; None allows all.
        seed: same seed, same text. None draws another each time.
        stop: strings that end a text; neither they nor what follows is part of it.
        ignore_end: the end token does not end a text.
        min_tokens: no end token before so many.
        logprobs: log-probabilities of the chosen tokens and so many of the most probable ones; None gives none.
        prompt_logprobs: the same for the prompt.
        lookup: most tokens to draft at a step by looking the last ones up in prompt and output; the text is the same.

    Raises:
        UsageError: a setting is of the wrong kind or out of its bounds.

    >>> Sampling(temperature=0.7, top_p=0.9).greedy
    False
    """

    max_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram: int = 0
    bad_words: tuple[str, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed: Collection[int] | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_end: bool = False
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    lookup: int = 0

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            if value is None and one.name in UNSET:
                continue
            object.__setattr__(self, one.name, _read(one.name, value))
        if self.min_tokens > self.max_tokens:
            raise UsageError(
                f"min_tokens is {self.min_tokens}, expected at most max_tokens ({self.max_tokens}); raise max_tokens"
            )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Sampling:
        """Settings by name, as JSON has them; null leaves a setting at its default.

        Raises:
            UsageError: an unknown setting, one of the wrong kind, or out of its bounds.

        >>> Sampling.of({"stop": "END", "logit_bias": {"50256": -100}}).logit_bias
        {50256: -100.0}
        """
        known = [one.name for one in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                raise UsageError(f"unknown setting {name!r:.60}: {nearest(str(name), known)}")
        return cls(**{name: value for name, value in options.items() if value is not None})

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is taken instead of one drawn."""
        return self.temperature == 0


def _read(name: str, value: Any) -> Any:
    """A setting as the dataclass keeps it."""
    if name in WHOLE:
        return _whole(name, value, *WHOLE[name])
    if name in REAL:
        least, most = REAL[name]
        return _number(name, value, lambda number: least <= number <= most, f"from {least:g} to {most:g}")
    if name in POSITIVE:
        most = POSITIVE[name]
        return _number(name, value, lambda number: 0 < number <= most, f"above 0, at most {most:g}")
    return OTHERS[name](name, value)


def _wrong(name: str, found: Any, expected: str) -> UsageError:
    return UsageError(f"{name} is {found!r:.60}, expected {expected}")


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        bounds = f"of at least {least}" if most == MOST else f"from {least} to {most}"
        raise _wrong(name, value, f"a whole number {bounds}")
    return value


def _number(name: str, value: Any, fits: Callable[[float], bool], expected: str) -> float:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not fits(value):
        raise _wrong(name, value, f"a number {expected}")
    return float(value)


def _strings(name: str, value: Any) -> tuple[str, ...]:
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, Collection) or isinstance(given, Mapping | bytes):
        raise _wrong(name, value, "a list of texts")
    for one in given:
        if not isinstance(one, str) or not one:
            raise _wrong(f"an entry of {name}", one, "a text of at least one character")
    return tuple(given)


def _ids(name: str, value: Any) -> frozenset[int]:
    if not isinstance(value, Collection) or isinstance(value, str | bytes | Mapping):
        raise _wrong(name, value, "a list of token ids")
    return frozenset(_whole(f"an entry of {name}", one, 0, MOST) for one in value)


def _bias(name: str, value: Any) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise _wrong(name, value, "token ids with a number for each")
    found = {}
    for key, number in value.items():
        token = int(key) if isinstance(key, str) and key.isascii() and key.isdigit() else key
        place = f"{name} of token {_whole(f'a token of {name}', token, 0, MOST)}"
        found[token] = _number(place, number, lambda number: abs(number) <= BIAS, f"from {-BIAS:g} to {BIAS:g}")
    return found


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


OTHERS: dict[str, Callable[[str, Any], Any]] = {
    "bad_words": _strings,
    "stop": _strings,
    "logit_bias": _bias,
    "allowed": _ids,
    "ignore_end": _flag,
}
"""How the settings that are no numbers are read."""

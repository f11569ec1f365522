"""A prompt: everything that makes a classifier of a model that was not trained as one, as graft.json keeps it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.errors import ModelError, UsageError, nearest
from graft.sealed import Text

SELECTIONS = ("balanced", "nearest")
STEPS = 25
"""About so many steps a scale is written in: 0.2 each from 0 to 5."""

CONTENT_FREE = "N/A"
"""The input without content that contextual calibration asks about (Zhao et al. 2021)."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """How labels are asked for in words.

    Attributes:
        words: label -> what the model is to answer for it, in the order of the labels.
        numbers: whether the labels are numbers; then the answer is their mean, weighed by probability.
        learned: whether the weights were trained to answer so; then the end of the answer counts as well.
        shots: worked examples put before a text.
        selection: "balanced": the same ones for every text, the labels in turn; "nearest": for each text those of the
            examples whose embeddings lie nearest to its own.
        encoder: what embeds for that: "model", this model itself, or the name of another.
        calibrate: whether scores are divided by those of a text without content (Zhao et al. 2021).
        examples: texts with their labels, to show or to choose from.
        content_free: the scores of the text without content, where the examples are the same for every text.
    """

    words: Mapping[str, str]
    numbers: bool = False
    learned: bool = False
    shots: int = 0
    selection: str = "balanced"
    encoder: str = "model"
    calibrate: bool = False
    examples: tuple[tuple[Text, str], ...] = ()
    content_free: tuple[float, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in order."""
        return tuple(self.words)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)


def from_settings(content: Mapping[str, Any] | None) -> Prompt:
    """The prompt that settings hold.

    Raises:
        ModelError: it is damaged, or there is none.
    """
    try:
        assert content is not None
        examples = tuple((_text(text), str(label)) for text, label in content.get("examples", ()))
        kept = {**content, "examples": examples, "content_free": tuple(map(float, content.get("content_free", ())))}
        prompt = Prompt(**{**kept, "words": {str(label): str(word) for label, word in dict(content["words"]).items()}})
        _check(prompt)
    except (AssertionError, LookupError, TypeError, ValueError) as error:
        raise ModelError(f"graft.json: the prompt is damaged: {type(error).__name__}: {error}") from error
    return prompt


def _check(prompt: Prompt) -> None:
    if len(prompt.words) < 2 or prompt.selection not in SELECTIONS or not isinstance(prompt.encoder, str):
        raise ValueError(f"{len(prompt.words)} labels, selection {prompt.selection!r}, encoder {prompt.encoder!r:.60}")
    if not isinstance(prompt.shots, int) or prompt.shots < 0:
        raise ValueError(f"shots is {prompt.shots!r:.60}")
    unknown = {label for _, label in prompt.examples} - set(prompt.words)
    if unknown or len(prompt.content_free) not in (0, len(prompt.words)):
        raise ValueError(f"examples of unknown labels {sorted(unknown)[:3]}, or {len(prompt.content_free)} scores")
    if prompt.numbers:
        _ = [float(label) for label in prompt.words]


def spoken(labels: Sequence[str], given: Sequence[str] = ()) -> dict[str, str]:
    """What stands for each label: its own name, underscores and hyphens as spaces, unless given as "label=word".

    Raises:
        UsageError: a label that there is not, a word that is missing, or one word for two labels.

    >>> spoken(["not_good", "good"], ["good=great"])
    {'not_good': 'not good', 'good': 'great'}
    """
    words = {label: label.replace("_", " ").replace("-", " ").strip() or label for label in labels}
    for pair in given:
        label, _, word = pair.partition("=")
        if label.strip() not in words or not word.strip():
            raise UsageError(
                f"words: {pair!r}: expected label=word of a label there is: {nearest(label.strip(), list(words))}"
            )
        words[label.strip()] = word.strip()
    if len(set(words.values())) < len(words):
        raise UsageError(f"words: two labels are answered alike: {', '.join(f'{a}={b}' for a, b in words.items())}")
    return words


def written_steps(scores: Sequence[float]) -> list[str]:
    """Numbers from the least to the greatest score, about 25 even steps of 1, 2 or 5 times a power of ten.

    >>> written_steps([0.0, 5.0])[:3], written_steps([0.0, 5.0])[-1], len(written_steps([0.0, 5.0]))
    (['0.0', '0.2', '0.4'], '5.0', 26)
    """
    low, high = min(scores), max(scores)
    power = math.floor(math.log10((high - low) / STEPS))
    sizes = [float(f"{size}e{power}") for size in (1, 2, 5, 10)]
    step = min(sizes, key=lambda size: abs(size * STEPS - (high - low)))
    places = max(0, -math.floor(math.log10(step)))
    first, last = round(low / step), round(high / step)
    return [f"{number * step:.{places}f}" for number in range(first, last + 1)]


def _text(given: Any) -> Text:
    if isinstance(given, str):
        return given
    first, second = given
    return str(first), str(second)

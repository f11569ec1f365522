"""What a request's settings do to the logits of its next token, before one is chosen.

Everything works on the logits of one sequence as a numpy row and on its ids so far, and keeps nothing from step to
step: a beam that goes on from another needs nothing copied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from graft.errors import UsageError
from graft.generate.sampling import Sampling
from graft.text import Frame, Tokenizer

Row = np.ndarray[Any, np.dtype[np.float32]]
Ids = np.ndarray[Any, np.dtype[np.int64]]
Step = Callable[[Row, Ids, int], None]

ANCHORS = ("(", "-", '"', "/", "\n", "1")
"""What a word is put behind to see how it is spelled where no space comes before; the first that stays apart serves."""


class Rules:
    """What the settings do to the logits, in the order `Sampling` gives; made once for all samples of a request.

    Attributes:
        idle: nothing is done.
    """

    def __init__(
        self, sampling: Sampling, vocabulary: int, end: Collection[int] = (), tokenizer: Tokenizer | None = None
    ) -> None:
        """Make ready for one vocabulary.

        Args:
            sampling: the settings.
            vocabulary: how many tokens there are.
            end: tokens that end a text.
            tokenizer: spells bad words.

        Raises:
            UsageError: a setting names a token there is none of, or bad words are given without a tokenizer.
        """
        self.sampling, self.end = sampling, np.array(sorted(end), dtype=np.int64)
        for name, ids in (("allowed", sampling.allowed or ()), ("logit_bias", sampling.logit_bias)):
            if (most := max(ids, default=0)) >= vocabulary:
                raise UsageError(f"{name} names token {most}, expected token ids from 0 to {vocabulary - 1}")
        self.biased = np.array(list(sampling.logit_bias), dtype=np.int64)
        self.bias = np.array(list(sampling.logit_bias.values()), dtype=np.float32)
        spelled = [
            ids
            for word in sampling.bad_words
            for ids in spellings(word, tokenizer)
            if ids not in {(one,) for one in end}
        ]
        self.never = np.array(sorted({ids[0] for ids in spelled if len(ids) == 1}), dtype=np.int64)
        self.after = [(np.array(ids[:-1], dtype=np.int64), ids[-1]) for ids in spelled if len(ids) > 1]
        self.refused: np.ndarray[Any, np.dtype[np.bool_]] | None = None
        if sampling.allowed is not None:
            self.refused = np.ones(vocabulary, dtype=np.bool_)
            self.refused[np.array([*sampling.allowed, *end], dtype=np.int64)] = False
        self.steps = self._steps()
        self.idle = not self.steps

    def _steps(self) -> tuple[Step, ...]:
        """Those that have something to do, in their order."""
        sampling = self.sampling
        table: list[tuple[bool, Step]] = [
            (len(self.biased) > 0, self._bias),
            (sampling.repetition_penalty != 1, self._repetition),
            (sampling.presence_penalty != 0, self._presence),
            (sampling.frequency_penalty != 0, self._frequency),
            (sampling.no_repeat_ngram > 0, self._ngrams),
            (len(self.never) > 0, self._never),
            (len(self.after) > 0, self._bad_words),
            (sampling.min_tokens > 0 and len(self.end) > 0, self._too_early),
            (self.refused is not None, self._refuse),
        ]
        return tuple(step for does, step in table if does)

    def apply(self, row_V: Row, history: Ids, prompt: int) -> None:
        """Change a row of logits in place.

        Args:
            row_V: the logits, as many as the vocabulary has tokens.
            history: ids of prompt and output.
            prompt: how many of them are the prompt.
        """
        for step in self.steps:
            step(row_V, history, prompt)

    def _bias(self, row_V: Row, history: Ids, prompt: int) -> None:
        row_V[self.biased] += self.bias

    def _repetition(self, row_V: Row, history: Ids, prompt: int) -> None:
        penalty, found = np.float32(self.sampling.repetition_penalty), row_V[history]
        row_V[history] = np.where(found < 0, found * penalty, found / penalty)  # a token met twice is written twice

    def _presence(self, row_V: Row, history: Ids, prompt: int) -> None:
        output = history[prompt:]
        row_V[output] = row_V[output] - np.float32(self.sampling.presence_penalty)

    def _frequency(self, row_V: Row, history: Ids, prompt: int) -> None:
        np.subtract.at(row_V, history[prompt:], np.float32(self.sampling.frequency_penalty))

    def _ngrams(self, row_V: Row, history: Ids, prompt: int) -> None:
        size = self.sampling.no_repeat_ngram
        starts = len(history) - size + 1
        if starts < 1:
            return
        again = np.ones(starts, dtype=np.bool_)
        for place in range(size - 1):
            again &= history[place : place + starts] == history[place - size + 1]
        row_V[history[size - 1 :][again]] = -np.inf

    def _never(self, row_V: Row, history: Ids, prompt: int) -> None:
        row_V[self.never] = -np.inf

    def _bad_words(self, row_V: Row, history: Ids, prompt: int) -> None:
        for before, last in self.after:
            if np.array_equal(history[-len(before) :], before):
                row_V[last] = -np.inf

    def _too_early(self, row_V: Row, history: Ids, prompt: int) -> None:
        if len(history) - prompt < self.sampling.min_tokens:
            row_V[self.end] = -np.inf

    def _refuse(self, row_V: Row, history: Ids, prompt: int) -> None:
        row_V[self.refused] = -np.inf


def spellings(word: str, tokenizer: Tokenizer | None) -> set[tuple[int, ...]]:
    """The tokens a word is encoded to with a space before and without; none that stand for anything else as well.

    A word that the vocabulary cannot spell cannot be written either.

    Raises:
        UsageError: there is no tokenizer.
    """
    if tokenizer is None:
        raise UsageError(f"bad_words holds {word!r:.60}, and this model has no tokenizer to spell it; leave it out")
    bare = tokenizer.with_frame(Frame())
    unknown = bare.token_id("unk_token") if "unk_token" in bare.special_tokens else None
    found = {tuple(one.ids) for one in bare.encode([word, f" {word.lstrip()}"])}
    for anchor in ANCHORS:
        alone, both = (one.ids for one in bare.encode([anchor, anchor + word]))
        if unknown not in alone and both[: len(alone)] == alone:
            found.add(tuple(both[len(alone) :]))
            break
    return {ids for ids in found if ids and unknown not in ids}


def as_history(prompt: Sequence[int], room: int) -> Ids:
    """Ids in an array with room for more."""
    held = np.zeros(len(prompt) + room, dtype=np.int64)
    held[: len(prompt)] = prompt
    return held

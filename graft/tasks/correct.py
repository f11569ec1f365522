"""Correct: mistyped words are put right, by what slips are likely (a channel) and what sentences are (a model).

A noisy channel (Shannon 1948; Mays, Damerau & Mercer 1991 for words of the list): of all that may have been meant, the
most probable is P(sentence) x P(what is typed | what was meant), where most words are right.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from graft.data.table import Reject, Table
from graft.errors import UsageError
from graft.grafted import Model
from graft.heads import Answer, Correction
from graft.inference import Progress
from graft.sealed import Text
from graft.tasks import Row, Task
from graft.text.spelling import Channel
from graft.text.suspects import Suspect, changed
from graft.text.suspects import find as suspects_of
from graft.text.word_list import ENGLISH
from graft.text.word_list import find as words_of

CHOICES = 8
"""What may have been meant, at most, beside the word as it stands."""

NOT_LEARNED = (
    "correct learns nothing of its own: let a language model go on learning from your text (--task language), and give "
    "it to `graft run correct --model`; a --words FILE has words of your own"
)


class CorrectTask(Task):
    """Spelling correction with a list of words and, where one is given, a language model of either kind."""

    name = "correct"
    head = "next"
    options = ("words", "real_words")
    needs_model = False

    def fits(self, kind: str | None) -> bool:
        """No model is made for this task: those of the task language are used for it."""
        return False

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Refuse rows to learn from or to measure on.

        Raises:
            UsageError: always, saying what learns instead.
        """
        raise UsageError(NOT_LEARNED)

    def answer(
        self, model: Model | None, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """Each text with its words put right, and what was changed.

        Args:
            model: says how probable sentences are; None leaves it to how frequent words are.
            inputs: texts.
            progress: told how many are done.
            **options: `words`, what `graft.text.word_list.find` takes; `real_words`, whether words of the list may be
                mistyped, too.

        Raises:
            UsageError: an input is a pair, or words of the list are to be corrected without a model.
            ModelError: the model is of no use for it.
        """
        from graft.generate import correct

        plain = [one for one in inputs if isinstance(one, str)]
        if len(plain) != len(inputs):
            raise UsageError(f"{self.name} reads single texts, found pairs")
        real_words = bool(options.get("real_words"))
        if model is not None:
            correct.check(model)
        elif real_words:
            raise UsageError(
                "real words, mistyped as one another, are told apart by the sentence: --real-words needs a language "
                "model, give --model"
            )
        words = str(options.get("words") or ENGLISH)
        channel = _channel(words, _state(words))
        found = [suspects_of(text, channel, most=CHOICES, real_words=real_words) for text in plain]
        if model is not None:
            return list(map(_answer, plain, found, correct.chosen(model, plain, found, progress)))
        if progress is not None:
            progress(len(plain))
        return [_answer(text, each, correct.listed(each)) for text, each in zip(plain, found, strict=True)]


@lru_cache(4)
def _channel(words: str, state: tuple[tuple[int, int], ...]) -> Channel:
    """The channel of a list, made once as long as its files stay as they are."""
    return Channel(words_of(words))


def _state(words: str) -> tuple[tuple[int, int], ...]:
    """Time of change and size of the files that a list is named by."""
    found = [os.stat(part.strip()) for part in (words, *words.split(",")) if os.path.isfile(part.strip())]
    return tuple((one.st_mtime_ns, one.st_size) for one in found)


def _answer(text: str, suspects: Sequence[Suspect], shares: Sequence[Sequence[float]]) -> Answer:
    """The text as it should be; words of the list that stay are not spoken of."""
    chosen = [max(range(len(each)), key=each.__getitem__) for each in shares]
    corrections = [
        Correction(
            start=one.start,
            end=one.end,
            text=one.choices[0],
            replacement=one.choices[choice],
            probability=each[choice],
            candidates=dict(sorted(zip(one.choices, each, strict=True), key=lambda pair: -pair[1])),
        )
        for one, each, choice in zip(suspects, shares, chosen, strict=True)
        if choice or not one.listed
    ]
    return Answer(text=changed(text, suspects, chosen), corrections=tuple(corrections))


TASK = CorrectTask()

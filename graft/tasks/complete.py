"""Complete: the words that may come next where a text ends, also where one is half typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graft.errors import DataError, UsageError
from graft.generate.complete import complete
from graft.grafted import Model
from graft.heads import Answer
from graft.inference import Progress
from graft.sealed import Text
from graft.tasks.score import ScoreTask, told_by

WORDS = 3
"""Suggestions where the user does not say."""

MOST = 100


class CompleteTask(ScoreTask):
    """Whole words with their probabilities (`graft.generate.complete`)."""

    name = "complete"
    options: tuple[str, ...] = ("n",)
    overflows = ("truncate",)

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """The most probable word of each text; the next best ones are its alternatives.

        Args:
            model: one that tells tokens.
            inputs: texts; the words are wanted where they end.
            progress: told how many are done.
            **options: `n`, words for each text.

        Raises:
            UsageError: an input is a pair, or n is no number of words.
            ModelError: the model cannot tell what comes next.
            DataError: a text is empty, or not text.
        """
        n = options.get("n", WORDS)
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MOST:
            raise UsageError(f"n is {n!r}, expected a number of words from 1 to {MOST}")
        told_by(model)
        answers = []
        for number, text in enumerate(inputs):
            if isinstance(text, tuple):
                raise UsageError(f"{self.name} reads single texts, found pairs")
            if not isinstance(text, str):
                raise DataError(
                    f"text {number} (counting from 0) is {type(text).__name__} {text!r:.40}: expected a str"
                )
            answers.append(_answer(model, text, number, n))
            if progress is not None:
                progress(1)
        return answers


def _answer(model: Model, text: str, number: int, n: int) -> Answer:
    try:
        words, cut = complete(model, text, n)
    except DataError as error:
        said = str(error).removeprefix("text 0 (counting from 0) ")
        raise DataError(f"text {number} (counting from 0): {said}") from error
    if not words:
        raise DataError(f"text {number} (counting from 0): nothing the vocabulary has goes on from {text[-40:]!r}")
    found = [Answer(text=one.word, probability=one.probability, insert=one.insert) for one in words]
    first = found[0]
    return Answer(
        text=first.text,
        probability=first.probability,
        insert=first.insert,
        alternatives=tuple(found[1:]),
        truncated_tokens=cut,
    )


TASK = CompleteTask()

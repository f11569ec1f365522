"""Score: how probable a text is, and which of its words are the unlikely ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from graft import tasks
from graft.data.columns import Role
from graft.errors import DataError, ModelError, UsageError, listed, nearest
from graft.generate.likelihood import Likelihood, likelihoods, measure, words_of
from graft.grafted import Model
from graft.heads import Answer, Piece
from graft.inference import Progress
from graft.sealed import Text
from graft.tasks import Task

PER = ("token", "word")


class ScoreTask(Task):
    """Log-probability, surprisal and perplexity of texts, by whatever tells tokens (`graft.generate.likelihood`)."""

    name = "score"
    head = "next"
    learned = False
    options: tuple[str, ...] = ("context", "per", "compare", "stride", "within_word")
    overflows: tuple[str, ...] = ("window",)
    roles = (Role(name="text", aliases=("sentence", "content", "body", "document")),)

    def fits(self, kind: str | None) -> bool:
        """Done with models as they are: no model is adapted to it."""
        return False

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """The log-probability of each text.

        Args:
            model: with a head that tells tokens.
            inputs: texts.
            progress: told how many are done.
            **options: `context`, what stands before each text (or what an encoder reads) and is not scored; `per`,
                "token" or "word", to give the parts as well; `compare` ranks the texts; `stride`, tokens from one
                window of a long text to the next; `within_word` hides the rest of a word with each piece (mask heads).

        Raises:
            UsageError: an input is a pair, or an option makes no sense.
            ModelError: the model does not tell tokens.
            DataError: a text has no token that could be told.
        """
        per, compare = options.pop("per", None), options.pop("compare", False)
        if per is not None and per not in PER:
            raise UsageError(f"per is {per!r}: {nearest(str(per), PER)}")
        texts: list[Any] = list(inputs)
        if any(isinstance(one, tuple) for one in texts):
            raise UsageError(f"{self.name} reads single texts, found pairs; compare=True ranks texts given as a list")
        kind = told_by(model)
        found = likelihoods(model, texts, progress=progress, **options)
        told = enumerate(zip(texts, found, strict=True))
        answers = [_answer(text, number, one, kind, per) for number, (text, one) in told]
        return _ranked(answers) if compare else answers


def told_by(model: Model) -> str:
    """`graft.generate.likelihood.measure`; a model that cannot is told what it can.

    Raises:
        ModelError: the model does not tell tokens.
    """
    try:
        return measure(model)
    except ModelError as error:
        able = tasks.of_head(model.head.kind if model.head else None)
        able = able or ([] if model.family.words else ["embed", "similarity"])
        raise ModelError(f"{error}{f'; it can do {listed(able)}' if able else ''}") from error


def _answer(text: str, number: int, found: Likelihood, kind: str, per: str | None) -> Answer:
    if not found.told:
        raise DataError(
            f"text {number} (counting from 0), {text[:40]!r}, is a single token, and this model has none that begins a "
            "text: there is nothing to tell it from; give a context"
        )
    return Answer(
        measure=kind,
        log_probability=found.total,
        bits=-found.total / math.log(2),
        perplexity=found.perplexity,
        tokens=found.told,
        unscored=len(found.ids) - found.told,
        pieces=pieces(text, found, per) if per else None,
        windows=found.windows,
    )


def pieces(text: str, found: Likelihood, per: str) -> tuple[Piece, ...]:
    """The tokens of a text, or its words with the log-probabilities of their tokens summed."""
    groups = words_of(text, found.offsets) if per == "word" else range(len(found.ids))
    made = []
    for _, members in groupby(range(len(found.ids)), key=groups.__getitem__):
        places = list(members)
        start, end = found.offsets[places[0]][0], found.offsets[places[-1]][1]
        if per == "word":
            end -= len(text[start:end]) - len(text[start:end].rstrip())
            start += len(text[start:end]) - len(text[start:end].lstrip())
        log = math.fsum(found.logs[place] for place in places)
        known = None if math.isnan(log) else log
        bits = None if known is None else -known / math.log(2)
        made.append(Piece(text=text[start:end], log_probability=known, bits=bits, start=start, end=end))
    return tuple(made)


def _ranked(answers: list[Answer]) -> list[Answer]:
    best = max((float(one.log_probability or 0) for one in answers), default=0.0)
    order = sorted(range(len(answers)), key=lambda place: -float(answers[place].log_probability or 0))
    ranks = {place: rank for rank, place in enumerate(order, 1)}
    return [
        dataclasses.replace(one, rank=ranks[place], behind=best - float(one.log_probability or 0))
        for place, one in enumerate(answers)
    ]


TASK = ScoreTask()

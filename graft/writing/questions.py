"""Questions answered by writing: from a text, window after window, or from what the model knows (closed book).

T5 reads "question: ... context: ..." (Raffel et al. 2020, appendix D.15); decoders go on from "Question: ... Answer:"
(Brown et al. 2020, figure G.34). An answer's score is the geometric mean of the probabilities of its tokens, so that
answers of different lengths can be compared.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graft.errors import UsageError
from graft.generate.beam import Beams
from graft.generate.prompts import ends
from graft.generate.sampling import Sampling
from graft.generate.score import score
from graft.grafted import Model
from graft.heads import Answer
from graft.inference import Progress
from graft.prompting import laying
from graft.prompting.wording import PLACE
from graft.sealed import Text
from graft.writing import write
from graft.writing.parts import parts

QUESTION, CONTEXT = "{question}", "{context}"
"""Where they go in a template."""

TEMPLATES: Mapping[tuple[bool, bool], str] = {
    (True, True): "question: {question} context: {context}",
    (True, False): "question: {question}",
    (False, True): "{context}\n\nQuestion: {question}\nAnswer:",
    (False, False): "Question: {question}\nAnswer:",
}
"""By whether an encoder reads them, and whether there is a text."""

LONGEST = 30
"""Tokens of an answer where nothing is said."""

STOP = ("\n",)
"""What ends a decoder's answer."""

NONE = frozenset({"", "unanswerable", "not answerable", "no answer", "n/a", "none", "unknown"})
"""Answers that say that there is none."""

AT_ONCE = 64
"""Questions in work at once."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How questions are put.

    Attributes:
        sampling: how tokens are chosen.
        n: answers given, the alternatives included.
        beams: how to search for several.
        threshold: no answer is given where the score of the best is below 1 less this; None always gives one.
        template: the words around question and text; None: those the kind of model knows.
    """

    sampling: Sampling
    n: int = 1
    beams: Beams | None = None
    threshold: float | None = None
    template: str | None = None


def check_template(template: str, context: bool) -> str:
    """The template with named places: {} is the question, a second {} the text.

    Raises:
        UsageError: it has no place for the question, or none for a text that there is.

    >>> check_template("Q: {} Text: {}", True)
    'Q: {question} Text: {context}'
    """
    named = template.replace(PLACE, QUESTION, 1).replace(PLACE, CONTEXT, 1) if QUESTION not in template else template
    places = [named.count(place) for place in (QUESTION, CONTEXT)]
    if places != [1, int(context)] or PLACE in named:
        wanted = f"{QUESTION} and {CONTEXT}" if context else f"{QUESTION}, and no {CONTEXT}: there is no text"
        raise UsageError(f"the template {template!r:.80} needs each once: {wanted}")
    return named


def answers(model: Model, inputs: Sequence[Text], asking: Asking, progress: Progress | None = None) -> list[Answer]:
    """An answer for each question, or pair of a question and a text.

    Raises:
        UsageError: a template that does not fit, or leaves no room.
        DataError: a question that does not fit.
    """
    made: list[Answer] = []
    for start in range(0, len(inputs), AT_ONCE):
        chunk = inputs[start : start + AT_ONCE]
        laid = [_laid(model, one, asking) for one in chunk]
        flat = [ids for one in laid for ids in one.ids]
        found = iter(_written(model, flat, asking))
        for text, one in zip(chunk, laid, strict=True):
            made.append(_chosen(text, one, [next(found) for _ in one.ids], asking))
        if progress is not None:
            progress(len(chunk))
    return made


@dataclass(frozen=True, kw_only=True)
class _Laid:
    """A question as token ids, once for each window of its text."""

    ids: list[list[int]]
    truncated_tokens: int


def _laid(model: Model, given: Text, asking: Asking) -> _Laid:
    question, context = (given, None) if isinstance(given, str) else given
    two, room = laying.two_stacks(model), asking.sampling.max_tokens
    usual = TEMPLATES[two, context is not None]
    template = usual if asking.template is None else check_template(asking.template, context is not None)
    if context is None:
        around = template.replace(QUESTION, PLACE)
        sources, cut = laying.fitted(model, around, [question], room)
    else:
        asked = question.replace(PLACE, "{ }")  # a place is for the text alone
        around = template.replace(QUESTION, asked).replace(CONTEXT, PLACE)
        spans = parts(model, around, context, room, overlap=True)
        sources, cut = laying.fitted(model, around, [context[start:end] for start, end in spans], room)
    return _Laid(ids=[one.ids for one in laying.prompts(model, sources, room)], truncated_tokens=sum(cut))


Found = Mapping[str, tuple[float, str]]
"""Answers with their scores, and why they end where they do."""


def _written(model: Model, prompts: Sequence[Sequence[int]], asking: Asking) -> Iterator[Found]:
    """For each prompt its different answers."""
    found = write.several(model, prompts, asking.sampling, asking.n, asking.beams)
    reasons = [{one.text.strip(): str(one.finish_reason) for one in every} for every in found]
    texts = [list(every) for every in reasons]
    end = sorted(ends(model))[:1] if laying.two_stacks(model) else []
    ids = [[[*own, *end] for own in laying.answers(model, every)] for every in texts]
    told = [[place for place, own in enumerate(every) if own] for every in ids]
    scored = score(model, prompts, [[every[place] for place in own] for every, own in zip(ids, told, strict=True)])
    for every, tokens, own, logs in zip(reasons, ids, told, scored, strict=True):
        words = list(every)
        known = {words[place]: math.exp(log / len(tokens[place])) for place, log in zip(own, logs, strict=True)}
        yield {text: (known.get(text, 0.0), reason) for text, reason in every.items()}


def _chosen(given: Text, laid: _Laid, found: Sequence[Found], asking: Asking) -> Answer:
    """The best answers of all windows; "no answer" only where no window has one, or none is sure enough."""
    pooled: dict[str, tuple[float, str, str]] = {}
    for every in found:
        for text, (value, reason) in every.items():
            key = text.casefold().rstrip(".")
            if key not in pooled or pooled[key][0] < value:
                pooled[key] = (value, text, reason)
    ranked = sorted((one for key, one in pooled.items() if key not in NONE), key=lambda one: -one[0])
    context = None if isinstance(given, str) else given[1]
    best = [_answer(text, value, reason, context) for value, text, reason in ranked[: asking.n]]
    sure = asking.threshold is None or (best and 1 - float(best[0].score or 0) <= asking.threshold)
    none = max((value for key, (value, _, _) in pooled.items() if key in NONE), default=0.0)
    if not best or not sure:
        best.insert(0, Answer(text="", score=1 - float(best[0].score or 0) if best else none, finish_reason="stop"))
    return dataclasses.replace(
        best[0],
        alternatives=tuple(best[1 : asking.n]) or None,
        windows=None if context is None else len(laid.ids),
        truncated_tokens=laid.truncated_tokens,
    )


def _answer(text: str, value: float, reason: str, context: str | None) -> Answer:
    """An answer, and where it stands in the text, if it does."""
    start = -1 if context is None else context.casefold().find(text.casefold())
    place = (None, None) if start < 0 else (start, start + len(text))
    return Answer(text=text, score=value, start=place[0], end=place[1], finish_reason=reason)

"""Which of several words a text means, by a language model: P(sentence) x P(what is typed | what was meant).

A decoder scores the sentence with each choice in turn, its beginning read once; a model that fills masks scores the
choice alone, hidden in its sentence. Suspects of one sentence depend on one another: each is first taken for what the
word list says, then all are chosen again, with the others as chosen last, until nothing changes.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from graft.errors import DataError, ModelError
from graft.generate.score import fill, score
from graft.grafted import Model
from graft.inference import Progress
from graft.text.suspects import Suspect, changed

ROUNDS = 3
"""Times that suspects are chosen, at most."""

BEFORE, AFTER = 400, 160
"""Characters read before the sentence's word, and, to the sentence's end at most, after it."""

AT_ONCE = 32
"""Choices scored at once by a model that fills masks."""

_END = re.compile(r"[.!?]+[\"”’')]*\s|\n")


def listed(suspects: Sequence[Suspect]) -> list[list[float]]:
    """For each suspect the probability of its choices, by the word list alone."""
    return [_normal(one.channel, one.language) for one in suspects]


def check(model: Model) -> None:
    """Refuse a model that cannot say how probable a sentence is.

    Raises:
        ModelError: naming the models that can.
    """
    kind, backbone = None if model.head is None else model.head.kind, model.backbone
    if not (kind == "mask" or (kind == "next" and backbone.decoder is None and backbone.config.causal)):
        raise ModelError(
            f"{model.folder}: correcting takes a model that reads from left to right and tells the next word (GPT-2, "
            "Llama) or one that fills masks (BERT), with the head it was pretrained with; this one has "
            f"{'no head' if kind is None else f'a {kind!r} head'}. Without --model the word list alone decides"
        )


def chosen(
    model: Model, texts: Sequence[str], suspects: Sequence[Sequence[Suspect]], progress: Progress | None = None
) -> list[list[list[float]]]:
    """For each suspect of each text the probability of its choices, by the language model.

    Raises:
        ModelError: the model cannot say how probable a sentence is.
        DataError: a word alone is beyond what the model can hold.
    """
    check(model)
    found = [listed(each) for each in suspects]
    waiting = [(text, place) for text, each in enumerate(suspects) for place in range(len(each))]
    for _ in range(ROUNDS):
        before = [list(map(_best, each)) for each in found]
        cases = [_Case(model, texts[text], suspects[text], before[text], place) for text, place in waiting]
        logs = (_filled if _masks(model) else _continued)(model, cases)
        for (text, place), values in zip(waiting, logs, strict=True):
            found[text][place] = _normal(suspects[text][place].channel, values)
        moved = {text for text, place in waiting if _best(found[text][place]) != before[text][place]}
        waiting = [(text, place) for text, place in waiting if text in moved and len(suspects[text]) > 1]
        if not waiting:
            break
    if progress is not None:
        progress(len(texts))
    return found


def _masks(model: Model) -> bool:
    return model.head is not None and model.head.kind == "mask"


def _best(shares: Sequence[float]) -> int:
    return max(range(len(shares)), key=shares.__getitem__)


def _normal(*logs: Sequence[float]) -> list[float]:
    """Sums of logarithms as shares of one."""
    sums = [sum(values) for values in zip(*logs, strict=True)]
    most = max(sums)
    shares = [math.exp(one - most) for one in sums]
    return [one / sum(shares) for one in shares]


class _Case:
    """One suspect in its sentence: the text before, the choices, the text after, and the tokens of each whole."""

    def __init__(self, model: Model, text: str, suspects: Sequence[Suspect], others: Sequence[int], place: int) -> None:
        one = suspects[place]
        before = changed(text[: one.start], suspects[:place], others[:place])
        shifted = [_shift(later, one.end) for later in suspects[place + 1 :]]
        after = changed(text[one.end :], shifted, others[place + 1 :])
        end = _END.search(after)
        self.choices = one.choices
        self.before, self.after = before[-BEFORE:], after[: min(AFTER, end.end() if end else AFTER)].rstrip()
        if len(before) > BEFORE:
            self.before = self.before.partition(" ")[2]
        self.ids = _fitted(model, self)

    def wholes(self) -> list[str]:
        return [f"{self.before}{choice}{self.after}" for choice in self.choices]


def _shift(one: Suspect, by: int) -> Suspect:
    return replace(one, start=one.start - by, end=one.end - by)


def _fitted(model: Model, case: _Case) -> list[list[int]]:
    """The tokens of the sentence with each choice; what is furthest from the word goes where it is too long.

    Raises:
        DataError: the word alone is too long.
    """
    limit = model.limit or math.inf
    while True:
        ids = [_opened(model, one.ids) for one in model.tokenizer.encode(case.wholes())]
        if max(map(len, ids)) < limit:
            return ids
        if not case.before and not case.after:
            raise DataError(f"{case.choices[0][:40]!r} has more tokens than the {limit} the model holds; shorten it")
        case.before = case.before[len(case.before) // 2 + 1 :]
        case.after = case.after[: len(case.after) // 2]


def _opened(model: Model, ids: list[int]) -> list[int]:
    """For decoders, a text's own tokens behind what a text begins after."""
    tokenizer, frame = model.tokenizer, model.tokenizer.frame
    if _masks(model):
        return ids
    ids = ids[: len(ids) - len(frame.end)]
    if frame.start:
        return ids
    role = next((role for role in ("bos_token", "eos_token") if role in tokenizer.special_tokens), None)
    return [*([] if role is None else [tokenizer.token_id(role)]), *ids]


def _continued(model: Model, cases: Sequence[_Case]) -> list[list[float]]:
    """Log P of the sentence with each choice, but for what all choices share at its beginning."""
    prompts, continuations = [], []
    for case in cases:
        shared = min(_shared(case.ids), min(map(len, case.ids)) - 1)
        if shared < 1:
            raise ModelError(
                f"{model.folder}: its vocabulary has no token that begins a text, so that {case.choices[0][:40]!r} "
                "at the beginning cannot be scored; use another model"
            )
        prompts.append(case.ids[0][:shared])
        continuations.append([ids[shared:] for ids in case.ids])
    return score(model, prompts, continuations)


def _shared(sequences: Sequence[Sequence[int]]) -> int:
    """How many first tokens are the same in all."""
    count = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        count += 1
    return count


@dataclass(frozen=True, slots=True)
class _Hidden:
    """A sentence whose choice is hidden, and the choice's own tokens."""

    case: int
    choice: int
    ids: tuple[int, ...]
    types: list[int] | None
    word: list[int]


def _filled(model: Model, cases: Sequence[_Case]) -> list[list[float]]:
    """Log P of each choice's own tokens, all of them hidden in the sentence."""
    found = [[0.0] * len(case.choices) for case in cases]
    every: dict[int, list[_Hidden]] = defaultdict(list)
    for number, case in enumerate(cases):
        for one in _hidden(model, number, case):
            every[len(one.word)].append(one)
    for entries in every.values():
        for start in range(0, len(entries), AT_ONCE):
            part = entries[start : start + AT_ONCE]
            unlike = {one.ids: one.types for one in part}
            rows = {ids: row for row, ids in enumerate(unlike)}
            logs_NW = fill(model, list(unlike), list(unlike.values()), [one.word for one in part])
            for column, one in enumerate(part):
                found[one.case][one.choice] = float(logs_NW[rows[one.ids], column])
    return found


def _hidden(model: Model, number: int, case: _Case) -> Iterator[_Hidden]:
    mask = model.tokenizer.token_id("mask_token")
    for choice, encoding in enumerate(model.tokenizer.encode(case.wholes(), offsets=True)):
        first, end = len(case.before), len(case.before) + len(case.choices[choice])
        places = zip(encoding.offsets or (), encoding.segments or (), strict=True)
        own = [n for n, ((start, last), text) in enumerate(places) if text >= 0 and start < end and last > first]
        if not own:
            raise DataError(f"{case.choices[choice][:40]!r} has no token in the vocabulary of {model.folder}")
        ids = tuple(mask if n in own else token for n, token in enumerate(encoding.ids))
        yield _Hidden(number, choice, ids, encoding.types, [encoding.ids[n] for n in own])

"""Texts turned into texts: summaries, translations. Long ones in parts, several different ones, within a length."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.errors import DataError, UsageError
from graft.generate.beam import Beams
from graft.generate.request import Completion
from graft.generate.sampling import Sampling
from graft.grafted import Model
from graft.heads import Answer
from graft.inference import Progress
from graft.prompting import laying
from graft.text.sentences import sentences
from graft.writing import write
from graft.writing.length import Length, check_number
from graft.writing.parts import parts
from graft.writing.vocabulary import Vocabulary

LONGEST = 128
"""Tokens of an answer where nothing says how long it is to be."""

ROUNDS = 4
"""Times that what was written of a text's parts is gone over again, where it is still too long to be read at once."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is asked for.

    Attributes:
        template: the words around a text, {} in its place.
        sampling: how tokens are chosen; max_tokens is the most of an answer.
        n: different texts for each.
        beams: how to search for them; None chooses tokens one by one.
        length: the most words and characters.
        sentences: the most sentences; None sets no limit.
        vocabulary: words to keep to.
        windows: texts longer than the model are read in parts.
        combine: what is written of the parts is gone over again as one text; else it is laid end to end.
        notes: of every answer.
    """

    template: str
    sampling: Sampling
    n: int = 1
    beams: Beams | None = None
    length: Length = dataclasses.field(default_factory=Length)
    sentences: int | None = None
    vocabulary: Vocabulary | None = None
    windows: bool = False
    combine: bool = False
    notes: tuple[str, ...] = ()


def sampling_of(
    model: Model, options: Mapping[str, Any], *, usual: int | None = None, length: Length | None = None, **more: Any
) -> Sampling:
    """How tokens are chosen: the most probable, unless something is said of drawing them.

    Args:
        model: that writes.
        options: a task's; `longest` is another name for max_tokens.
        usual: tokens of an answer where the options do not say.
        length: the most that may be written; more tokens than it takes are not.
        **more: settings where the options do not say.

    Raises:
        UsageError: a setting that makes no sense, or two lengths.
    """
    given = {name: options[name] for name in write.SETTINGS if options.get(name) is not None}
    longest = options.get("longest")
    check_number("longest", longest)
    if longest is not None and given.setdefault("max_tokens", longest) != longest:
        raise UsageError(f"longest is {longest}, max_tokens {given['max_tokens']}: they are the same; give one of them")
    if not any(name in given for name in write.DRAWN):
        given["temperature"] = 0.0
    if "max_tokens" not in given:
        room = LONGEST if model.limit is None or laying.two_stacks(model) else max(1, min(LONGEST, model.limit // 2))
        given["max_tokens"] = (length or Length()).tokens(usual or model.settings.longest or room)
    return write.drawn(Sampling.of({**more, **given}))


def answers(model: Model, texts: Sequence[str], wishes: Wishes, progress: Progress | None = None) -> list[Answer]:
    """What the model writes for each text.

    Raises:
        DataError: a text is empty, or does not fit where the overflow rule is "error".
        UsageError: the template, and what is to be written, leave no room for a text.
    """
    for number, text in enumerate(texts):
        if not text.strip():
            raise DataError(f"text {number} (counting from 0) is empty, expected some words")
    read = [[text] for text in texts]
    windows: list[int | None] = [None] * len(texts)
    with _cutting(model, wishes.windows):
        if wishes.windows:
            cut = [_parts(model, wishes, text) for text in texts]
            windows = [len(one) for one in cut]
            read = _mapped(model, wishes, cut) if wishes.combine else cut
        sources, truncated, found = _written(model, wishes, read, progress)
    made = []
    for every, left, count, size in zip(found, truncated, windows, sources, strict=True):
        usage = {"prompt_tokens": size, "completion_tokens": sum(one.tokens for one in every)}
        first, *others = (_answer(model, one, wishes) for one in every)
        fewer = () if len(every) == wishes.n else (f"only {len(every)} different texts were found",)
        made.append(
            dataclasses.replace(
                first,
                alternatives=tuple(others) or None,
                truncated_tokens=left,
                windows=count,
                usage=usage,
                seed=None if wishes.sampling.greedy else wishes.sampling.seed,
                notes=(*(first.notes or ()), *fewer, *wishes.notes) or None,
            )
        )
    return made


def _written(
    model: Model, wishes: Wishes, read: Sequence[Sequence[str]], progress: Progress | None
) -> tuple[list[int], list[int], list[list[Completion]]]:
    """Of each text's parts: the tokens read, the tokens left out, and what was written, parts end to end."""
    flat = [part for one in read for part in one]
    ids, cut = _laid(model, wishes, flat)
    found = write.several(model, ids, wishes.sampling, wishes.n, wishes.beams, progress)
    sizes, left, made, place = [], [], [], 0
    for one in read:
        own = slice(place, place + len(one))
        place += len(one)
        sizes.append(sum(map(len, ids[own])))
        left.append(sum(cut[own]))
        most = max(map(len, found[own]))
        ranks = ([every[min(rank, len(every) - 1)] for every in found[own]] for rank in range(most))
        made.append(found[own][0] if len(one) == 1 else [_end_to_end(parts) for parts in ranks])
    return sizes, left, made


def _laid(model: Model, wishes: Wishes, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
    room = wishes.sampling.max_tokens
    sources, cut = laying.fitted(model, wishes.template, texts, room)
    return [one.ids for one in laying.prompts(model, sources, room)], cut


def _end_to_end(completions: Sequence[Completion]) -> Completion:
    """The parts of one text, as one."""
    reasons = [one.finish_reason for one in completions if one.finish_reason != "stop"]
    return Completion(
        0,
        text=" ".join(one.text.strip() for one in completions),
        tokens=sum(one.tokens for one in completions),
        logprobs=[row for one in completions for row in one.logprobs],
        finish_reason=reasons[0] if reasons else "stop",
    )


def _mapped(model: Model, wishes: Wishes, cut: list[list[str]]) -> list[list[str]]:
    """Each text as one that the model can read: of longer ones, what is written of their parts, again and again."""
    for _ in range(ROUNDS):
        long = [number for number, one in enumerate(cut) if len(one) > 1]
        if not long:
            break
        flat = [part for number in long for part in cut[number]]
        ids, _ = _laid(model, wishes, flat)
        short = iter([every[0].text.strip() for every in write.several(model, ids, wishes.sampling, 1)])
        for number in long:
            cut[number] = _parts(model, wishes, " ".join(next(short) for _ in cut[number]) or cut[number][0])
    return [[" ".join(one)] for one in cut]


def _parts(model: Model, wishes: Wishes, text: str) -> list[str]:
    spans = parts(model, wishes.template, text, wishes.sampling.max_tokens)
    return [text] if len(spans) == 1 else [text[start:end] for start, end in spans]


def _answer(model: Model, completion: Completion, wishes: Wishes) -> Answer:
    """What was written, within the limits, and what was cut to keep to them."""
    answer = write.told(model, completion, logprobs=wishes.sampling.logprobs is not None)
    text, notes = answer.text or "", []
    ends = [end for _, end in sentences(text)]
    if wishes.sentences is not None and len(ends) > wishes.sentences:
        text = text[: ends[wishes.sentences - 1]]
        notes.append(f"cut to {wishes.sentences} sentences")
    text, told = wishes.length.fitted(text)
    notes += [told] if told else []
    unlisted = None if wishes.vocabulary is None else wishes.vocabulary.outside(text)
    return dataclasses.replace(answer, text=text, notes=tuple(notes) or None, unlisted=unlisted)


@contextlib.contextmanager
def _cutting(model: Model, windows: bool) -> Iterator[None]:
    """Parts of texts are cut to fit where they must; a model knows no rule of reading a prompt in windows."""
    own = model.settings
    if windows:
        model.settings = dataclasses.replace(own, overflow="truncate")
    try:
        yield
    finally:
        model.settings = own

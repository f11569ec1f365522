"""A text longer than the model, as parts that fit its template: whole sentences wherever they do."""

from __future__ import annotations

from collections.abc import Sequence

from graft.errors import UsageError
from graft.grafted import Model
from graft.prompting.laying import room_for
from graft.prompting.wording import PLACE
from graft.text.sentences import sentences

WINDOW = 512
"""Tokens of a part where the model sets no limit: what T5 was trained with."""

SPARE = 4
"""Tokens that a text may have more of in its place than alone."""


def parts(model: Model, template: str, text: str, room: int, *, overlap: bool = False) -> list[tuple[int, int]]:
    """First character and the one after the last of each part; one for a text that fits.

    Args:
        model: whose tokenizer counts.
        template: the words around a text, {} in its place.
        text: to be cut.
        room: tokens that one stack is to write after it.
        overlap: a part begins with the sentence that the one before ends with, where that leaves room for another.

    Raises:
        UsageError: the template leaves no room for a text.
    """
    limit = room_for(model, room) or WINDOW
    around = len(model.tokenizer.encode([template.replace(PLACE, "")])[0].ids)
    capacity = limit - around - SPARE
    if capacity < 1:
        raise UsageError(f"the template {template!r:.60} leaves no room for a text: the model holds {limit} tokens")
    units = _units(model, text, capacity)
    return _packed(units, capacity, overlap) or [(0, len(text))]


def _units(model: Model, text: str, capacity: int) -> list[tuple[int, int, int]]:
    """Sentences, or pieces of those that do not fit by themselves: first character, last + 1, tokens."""
    tokenizer, found = model.tokenizer, []
    spans = sentences(text)
    encodings = tokenizer.encode([text[start:end] for start, end in spans], offsets=True)
    for (start, end), encoding in zip(spans, encodings, strict=True):
        assert encoding.offsets is not None
        assert encoding.segments is not None
        own = [span for span, segment in zip(encoding.offsets, encoding.segments, strict=True) if segment == 0]
        cuts = list(range(0, len(own), capacity)) or [0]
        for place in cuts:
            first = start if place == 0 else start + own[place][0]
            last = end if place == cuts[-1] else start + own[place + capacity][0]
            found.append((first, last, min(capacity, len(own) - place)))
    return found


def _packed(units: Sequence[tuple[int, int, int]], capacity: int, overlap: bool) -> list[tuple[int, int]]:
    """Neighbours together, as many as fit."""
    found: list[tuple[int, int]] = []
    waiting: list[tuple[int, int, int]] = []
    for unit in units:
        if waiting and sum(one[2] + 1 for one in waiting) + unit[2] > capacity:
            found.append((waiting[0][0], waiting[-1][1]))
            last = waiting[-1]
            waiting = [last] if overlap and len(waiting) > 1 and last[2] + 1 + unit[2] <= capacity else []
        waiting.append(unit)
    return [*found, *([(waiting[0][0], waiting[-1][1])] if waiting else [])]

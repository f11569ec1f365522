"""A question with a text longer than the model reads: overlapping windows, and the way between tokens and characters.

Every window holds the whole question and a part of the context, framed as the family frames a pair. Windows begin a
step apart (Devlin et al. 2019 call it document stride), the last one where it ends with the context; each token of the
context is in at least one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from graft.errors import UsageError
from graft.text import Encoding

STEP = 128
"""Tokens from the start of one window to the next, or half a window where that is less."""

_JOINER = "\u200d"
_SKIN = range(0x1F3FB, 0x1F400)
_FLAG = range(0x1F1E6, 0x1F200)
"""Characters that belong to the one before: a zero-width joiner, skin tones, the second letter of a flag."""


@dataclass(frozen=True, slots=True)
class Window:
    """A question with a part of its context.

    Attributes:
        ids: token ids, framed.
        types: their token types, where the family has them.
        first: the place of the first context token among the ids.
        start: which of the context's tokens that is.
        end: the context token after its last.
        none: the place that stands for "no answer here": the classification token, or the first token of all.
    """

    ids: list[int]
    types: list[int] | None
    first: int
    start: int
    end: int
    none: int


@dataclass(frozen=True, slots=True)
class Windows:
    """All windows of one question and context.

    Attributes:
        parts: the windows, in order.
        offsets: characters (first, last + 1) of each of the context's tokens.
        truncated_tokens: tokens of the question that did not fit.
    """

    parts: list[Window]
    offsets: list[tuple[int, int]]
    truncated_tokens: int


def windows(encoding: Encoding, limit: int, *, step: int | None = None, none: int | None = None) -> Windows:
    """Cut a pair of question and context into windows.

    Args:
        encoding: the pair, whole, with offsets.
        limit: most tokens of a window, special tokens included. A question that would take more than half of it, and
            with its context does not fit, loses its end.
        step: tokens from the start of one window to the next.
        none: id of the classification token, where the family's frame has one.

    Raises:
        UsageError: a limit that leaves no room, or a step that would pass over tokens.
    """
    segments, offsets = encoding.segments or [], encoding.offsets or []
    places = [place for place, segment in enumerate(segments) if segment == 1]
    if not places:
        return Windows([], [], 0)
    first, last = places[0], places[-1] + 1
    count, asked = last - first, segments.count(0)
    spare = limit - segments.count(-1)
    if spare < 2:
        raise UsageError(f"a limit of {limit} tokens leaves no room for a question and a text; raise it")
    cut = max(0, asked - (spare - min(count, (spare + 1) // 2)))
    before = [place for place in range(first) if segments[place] != 0 or place < segments.index(0) + asked - cut]
    after, room = list(range(last, len(segments))), spare - (asked - cut)
    parts = []
    for start in starts(count, room, step):
        end = min(start + room, count)
        chosen = [*before, *range(first + start, first + end), *after]
        ids = [encoding.ids[place] for place in chosen]
        types = None if encoding.types is None else [encoding.types[place] for place in chosen]
        marks = (at for at, place in enumerate(chosen) if segments[place] == -1 and encoding.ids[place] == none)
        parts.append(Window(ids, types, len(before), start, end, next(marks, 0)))
    return Windows(parts, offsets[first:last], cut)


def starts(count: int, room: int, step: int | None = None) -> list[int]:
    """Where windows of so much room begin, so that each of so many tokens is in one.

    Raises:
        UsageError: the step is larger than the room.

    >>> starts(10, 4, 3)
    [0, 3, 6]
    >>> starts(11, 4, 3)
    [0, 3, 6, 7]
    """
    if step is not None and not 1 <= step <= room:
        raise UsageError(f"stride is {step} tokens, and a window has room for {room}; expected 1 to {room}")
    if count <= room:
        return [0]
    every = step or min(STEP, (room + 1) // 2)
    return [*range(0, count - room, every), count - room]


def tokens_of(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """The first and last token that hold any of the characters from start to end; None where no token does."""
    held = [place for place, (first, last) in enumerate(offsets) if first < end and last > start and first < last]
    return (held[0], held[-1]) if held else None


def characters_of(text: str, offsets: Sequence[tuple[int, int]], first: int, last: int) -> tuple[int, int]:
    """The characters of tokens first to last: without spaces around, and no character torn from its accents.

    What a tokenizer passes over (an accent it strips, a variation sign, the rest of a joined emoji) belongs to the
    character before it. Where the tokens hold spaces alone, start and end are the same.
    """
    start, end = offsets[first][0], offsets[last][1]
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start >= end:
        return start, start
    while end < len(text) and _belongs(text, end):
        end += 1
    while start > 0 and _belongs(text, start):
        start -= 1
    return start, end


def _belongs(text: str, place: int) -> bool:
    """Whether a character is a part of the one before it."""
    sign, before = text[place], text[place - 1]
    if sign.isspace() or before.isspace():
        return False
    if sign == _JOINER or before == _JOINER or unicodedata.category(sign).startswith("M") or ord(sign) in _SKIN:
        return True
    if ord(sign) not in _FLAG:
        return False
    letters = place
    while letters > 0 and ord(text[letters - 1]) in _FLAG:
        letters -= 1
    return (place - letters) % 2 == 1

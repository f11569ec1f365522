"""Texts longer than a model: which of their tokens it reads, at once or in several windows.

A *reading* says for each text of an input (one, or the two of a pair) which ranges of its tokens are read together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from graft.errors import UsageError

Span = tuple[int, int]
Reading = tuple[tuple[Span, ...], ...]
Piece = TypeVar("Piece")

HEAD = 128
"""Tokens that `head_tail` keeps of the beginning; Sun et al. 2019 found 128 and the last 382 of 510 best..."""

HEAD_SHARE = 4
"""... which is a quarter, and a quarter is what shorter models keep as well."""

OVERLAP = 4
"""Neighbouring windows share at least one token of so many: what one cuts apart, another holds whole."""


def truncate(lengths: Sequence[int], room: int) -> Reading:
    """The beginning of each text; of a pair, the longer is shortened first."""
    return tuple(((0, kept),) for kept in shortened(lengths, room))


def head_tail(lengths: Sequence[int], room: int) -> Reading:
    """The beginning and the end of what does not fit (Sun et al. 2019); of a pair, the longer is shortened first."""
    return tuple(_ends(length, kept) for length, kept in zip(lengths, shortened(lengths, room), strict=True))


def windows(lengths: Sequence[int], room: int) -> list[Reading]:
    """Windows that together hold every token of every text, evenly spread, neighbours sharing a quarter or more.

    Of a pair, a text that takes at most half the room is in every window as a whole; where both are longer, each has
    half the room, and the windows of one go through its text while those of the other go through theirs.
    """
    if sum(lengths) <= room:
        return [tuple(((0, length),) for length in lengths)]
    _check_room(lengths, room)
    rooms = _shares(lengths, room)
    spans = [_spread(length, size) for length, size in zip(lengths, rooms, strict=True)]
    count = max(map(len, spans))
    return [tuple((own[number * len(own) // count],) for own in spans) for number in range(count)]


def shortened(lengths: Sequence[int], room: int) -> list[int]:
    """How much of each text is kept: the longer gives way until both are as long (transformers' "longest_first").

    Raises:
        UsageError: there is no room for a token of each.
    """
    if sum(lengths) <= room:
        return list(lengths)
    _check_room(lengths, room)
    if len(lengths) == 1:
        return [room]
    short = min(*lengths, room // 2)
    first = short if lengths[0] <= lengths[1] else room - short
    return [first, room - first]


def pick(tokens: Sequence[Piece], spans: Sequence[Span]) -> list[Piece]:
    """What a reading takes of a text's tokens, or of anything else that is one for each of them."""
    return [one for first, last in spans for one in tokens[first:last]]


def _check_room(lengths: Sequence[int], room: int) -> None:
    if room < len(lengths):
        raise UsageError(
            f"the limit leaves room for {max(room, 0)} tokens beside the special tokens, and there must be at least "
            f"{len(lengths)}: raise the limit"
        )


def _ends(length: int, kept: int) -> tuple[Span, ...]:
    if length <= kept:
        return ((0, length),)
    head = min(HEAD, -(-kept // HEAD_SHARE))
    return ((0, head), (length - (kept - head), length))


def _shares(lengths: Sequence[int], room: int) -> list[int]:
    """Room for each text in every window."""
    if len(lengths) == 1:
        return [room]
    half, short = room // 2, min(lengths)
    if short > half:
        return [half, room - half]
    return [short, room - short] if lengths[0] <= lengths[1] else [room - short, short]


def _spread(length: int, size: int) -> list[Span]:
    """Ranges of a size that cover a length: first at the beginning, last at the end, the others evenly between."""
    if length <= size:
        return [(0, length)]
    step = size - size // OVERLAP
    count = -(-(length - size) // step) + 1
    starts = [number * (length - size) // (count - 1) for number in range(count)]
    return [(start, start + size) for start in starts]

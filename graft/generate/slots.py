"""Which text lies in which slot of a cache, and what slots still hold of texts that are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graft.generate.cache import StaticCache

CHUNK = 64
"""Tokens compared at once."""


@dataclass(slots=True, eq=False)
class Lane:
    """What one slot holds.

    Attributes:
        slot: its number.
        ids: tokens of the text in it; a live one's grow.
        held: how many of the first have their keys and values there.
        written: places that hold something, guesses and what is just being read included.
        source: what the encoder read, where the slot holds keys and values of it.
        used: when it was last used.
    """

    slot: int
    ids: list[int] = field(default_factory=list)
    held: int = 0
    written: int = 0
    source: tuple[int, ...] = ()
    used: int = 0


class Slots:
    """Live texts lie in the first slots, side by side; the slots behind them keep what done texts left.

    A text whose beginning some slot holds takes it from there instead of computing it.
    """

    def __init__(self, cache: StaticCache, memory: StaticCache | None = None) -> None:
        """Begin with empty slots.

        Args:
            cache: keys and values of what is written.
            memory: of what an encoder read, where there is one; as many slots.
        """
        self.cache, self.memory = cache, memory
        self.lanes = [Lane(slot) for slot in range(cache.slots)]
        self.live, self._clock = 0, 0

    @property
    def free(self) -> int:
        """Slots no live text lies in."""
        return len(self.lanes) - self.live

    def shared(self, ids: Sequence[int]) -> tuple[Lane | None, int]:
        """The slot that holds the longest beginning of a text, and how many tokens; the last is never counted."""
        best, most = None, 0
        for lane in self.lanes:
            found = common(lane.ids, ids, min(lane.held, len(ids) - 1))
            if found > most:
                best, most = lane, found
        return best, most

    def coming(self, ids: Sequence[int]) -> int:
        """The longest beginning of a text that a live text has and that is about to be computed; 0 where none is."""
        found = [0]
        for lane in self.lanes[: self.live]:
            tokens = common(lane.ids, ids, len(ids) - 1)
            found.append(tokens if tokens > lane.held else 0)
        return max(found)

    def take(self, ids: list[int], source: tuple[int, ...] = (), *, fresh: bool = False) -> Lane:
        """A slot for a live text, with as much of its beginning as some slot holds, and what was made of its source.

        Args:
            ids: the text, which may grow afterwards.
            source: what the encoder read; the lane's `source` stays empty where no slot holds it.
            fresh: nothing of the text is to be taken from elsewhere.
        """
        tokens = 0
        if self.memory is not None:
            giver = next((lane for lane in self.lanes if lane.source == source), None)
        else:
            giver, tokens = (None, 0) if fresh else self.shared(ids)
        lane = self._victim(giver, tokens)
        if giver is not None and giver is not lane:
            self._copy(giver, lane, tokens)
        kept = source if giver is not None else ()
        self._exchange(lane.slot, self.live)
        self.live += 1
        lane.ids, lane.held, lane.written, lane.source = ids, tokens, tokens, kept
        self._touch(lane)
        return lane

    def give(self, lane: Lane, source: tuple[int, ...], other: Lane | None = None) -> None:
        """Say that a slot holds what was made of a source; another slot may be given a copy."""
        lane.source = source
        if other is not None:
            self._copy(lane, other, 0)
            other.source = source

    def drop(self, lane: Lane, *, keep: bool) -> None:
        """Free the slot of a live text.

        Args:
            lane: the text's.
            keep: its keys and values may serve others; if not they are wiped, since what is no number spreads.
        """
        self._exchange(lane.slot, self.live - 1)
        self.live -= 1
        lane.held = lane.held if keep else 0
        lane.ids = lane.ids[: lane.held]
        if not keep:
            self.cache.wipe(lane.slot, lane.written)
            if self.memory is not None:
                self.memory.wipe(lane.slot, len(lane.source))
            lane.source = ()
        lane.written = lane.held
        self._touch(lane)

    def _victim(self, giver: Lane | None, tokens: int) -> Lane:
        """The idle slot to use: the giver's own where little else of it would be lost, else the least recently used."""
        if giver is not None and giver.slot >= self.live and (self.memory or 4 * tokens >= 3 * giver.held):
            return giver
        return min(self.lanes[self.live :], key=lambda lane: (lane.used, lane.slot))

    def _copy(self, source: Lane, target: Lane, tokens: int) -> None:
        if tokens:
            self.cache.copy(source.slot, target.slot, tokens)
        if self.memory is not None:
            self.memory.copy(source.slot, target.slot, len(source.source))
        target.ids, target.held, target.source = source.ids[:tokens], tokens, source.source
        target.written = tokens

    def _exchange(self, one: int, other: int) -> None:
        if one == other:
            return
        first, second = self.lanes[one], self.lanes[other]
        self.cache.swap(one, other, max(first.written, second.written))
        if self.memory is not None:
            self.memory.swap(one, other, max(len(first.source), len(second.source)))
        self.lanes[one], self.lanes[other] = second, first
        first.slot, second.slot = other, one

    def _touch(self, lane: Lane) -> None:
        self._clock += 1
        lane.used = self._clock


def common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """How many first tokens two texts share, at most so many."""
    most, at = min(most, len(one), len(other)), 0
    while at < most and one[at : at + CHUNK] == other[at : at + CHUNK]:
        at += CHUNK
    while at < most and one[at] == other[at]:
        at += 1
    return max(0, min(at, most))

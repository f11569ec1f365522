"""Drafts of what comes next, looked up in what a text already holds (Saxena 2023, "prompt lookup decoding").

Texts repeat themselves and their prompts. Where the last tokens have come before, what followed them then is a good
guess at what follows now; the model checks a whole guess in one step.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 3, 2
"""Tokens that must have come before, tried from the longest run down."""


class Lookup:
    """Where the runs of tokens of one growing text lie."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, ...], int] = {}
        self._read = 0

    def draft(self, ids: Sequence[int], most: int) -> list[int]:
        """What followed the last tokens the last time, at most so many; nothing where they are new.

        Args:
            ids: the whole text; only ever longer than at the last call.
            most: tokens wanted.
        """
        for end in range(max(self._read, SHORTEST), len(ids)):
            for size in range(SHORTEST, min(LONGEST, end) + 1):
                self._places[tuple(ids[end - size : end])] = end
        self._read = max(self._read, len(ids))
        for size in range(min(LONGEST, len(ids)), SHORTEST - 1, -1):
            place = self._places.get(tuple(ids[-size:]))
            if place is not None:
                period = list(ids[place:])  # where that run is the end of the text, it goes on repeating itself
                return [period[step % len(period)] for step in range(most)]
        return []

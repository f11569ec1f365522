"""How long a written text may be: in words, in characters, in sentences; what is too long ends where it reads well."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graft.errors import UsageError
from graft.text.sentences import sentences

LEAST = 0.5
"""A text is cut at the end of a sentence where that keeps this share of what it may have; else at the end of a word."""

_WORD = re.compile(r"\S+")
_OPEN = " \t\n,;:-–—([{\"'“‘«/"
"""What a text that breaks off does not end with."""


@dataclass(frozen=True, kw_only=True)
class Length:
    """The most a text may have; None sets no limit.

    Attributes:
        words: words, told apart by spaces.
        characters: characters, spaces and marks included.

    Raises:
        UsageError: no whole number above 0.

    >>> Length(characters=26).fitted("It rains. The sun comes out later.")
    ('It rains. The sun comes', 'cut to 26 characters, at the end of a word')
    >>> Length(words=3).fitted("It rains. The sun comes out.")
    ('It rains.', 'cut to 3 words, at the end of a sentence')
    """

    words: int | None = None
    characters: int | None = None

    def __post_init__(self) -> None:
        for name in ("words", "characters"):
            check_number(name, getattr(self, name))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Length:
        """The limits among a task's options."""
        return cls(words=options.get("words"), characters=options.get("characters"))

    def fits(self, text: str) -> bool:
        """Whether a text keeps to the limits."""
        long = self.characters is not None and len(text) > self.characters
        return not long and (self.words is None or len(text.split()) <= self.words)

    def tokens(self, usual: int) -> int:
        """Tokens that are certainly enough, at most the usual number: a token stands for a character at least."""
        most = [usual, *([] if self.characters is None else [self.characters + 8])]
        return min([*most, *([] if self.words is None else [8 * self.words + 16])])

    def fitted(self, text: str) -> tuple[str, str]:
        """A text no longer than may be, and where it was cut; "" where it was not."""
        if self.fits(text):
            return text, ""
        room = self._room(text)
        ends = [end for _, end in sentences(text) if end <= room]
        limit = f"{self.words} words" if self._by_words(text) else f"{self.characters} characters"
        if ends and ends[-1] >= LEAST * room:
            return text[: ends[-1]], f"cut to {limit}, at the end of a sentence"
        word = text[:room] if text[room : room + 1].isspace() else text[: _last_space(text, room)]
        kept = word.rstrip(_OPEN)
        return (kept, f"cut to {limit}, at the end of a word") if kept else (text[:room], f"cut to {limit}")

    def _room(self, text: str) -> int:
        """Characters of the text that both limits allow."""
        room = len(text) if self.characters is None else self.characters
        if self.words is None:
            return room
        words = list(_WORD.finditer(text))
        return min(room, words[self.words - 1].end() if len(words) >= self.words else len(text))

    def _by_words(self, text: str) -> bool:
        return self.words is not None and self._room(text) != self.characters


def check_number(name: str, value: Any) -> None:
    """Refuse what is no whole number above 0; None is none asked for.

    Raises:
        UsageError: naming it.
    """
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise UsageError(f"{name} is {value!r:.40}, expected a whole number above 0")


def _last_space(text: str, room: int) -> int:
    """Where the last whole word within so many characters ends; 0 where the first is longer."""
    ends = [match.end() for match in _WORD.finditer(text) if match.end() <= room]
    return ends[-1] if ends else 0

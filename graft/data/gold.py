"""The right answers to a question about a text, each checked to stand where it is said to stand.

Offsets count characters (Unicode code points) from 0. Files made elsewhere may count bytes or UTF-16 units: such an
offset is refused, and the message says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

PLACES_SHOWN = 3
TEXT_SHOWN = 60
_YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of a context: its text, and its first character."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The character after its last."""
        return self.start + len(self.text)

    def __str__(self) -> str:
        return f"{self.text!r} at {self.start}"


@dataclass(frozen=True, slots=True)
class Gold:
    """All right answers to one question; none where the context does not answer it.

    Attributes:
        answers: the first is the one to learn.
        id: the question's name in its file.
    """

    answers: tuple[Place, ...]
    id: str = field(default="", compare=False)

    def __str__(self) -> str:
        return " | ".join(map(str, self.answers)) or "no answer"


def gold(context: str, given: Any, start: Any = None, impossible: Any = None, id: str = "") -> Gold:
    """Read the answers of one row.

    Args:
        context: the text they stand in.
        given: a text; an object of text and answer_start, each one value or a list; or a list of texts or objects.
        start: the answer's first character, where `given` is a text. Without it, the first place counts at which the
            answer stands as whole words, else the first place.
        impossible: whether the context holds no answer: true or false, also as text. An object of two empty lists says
            so, too.
        id: the question's name.

    Raises:
        ValueError: saying what is wrong.
    """
    none = _flag(impossible)
    pairs = list(_pairs(given, start))
    if none is None and isinstance(given, dict) and given.get("text") == []:
        none = True
    if none:
        if pairs:
            raise ValueError(f"is_impossible is true, yet there is an answer: {_short(pairs[0][0])}")
        return Gold((), id)
    if not pairs:
        raise ValueError("it has no answer; a question that its context does not answer says is_impossible: true")
    return Gold(tuple(_placed(context, text, _offset(place)) for text, place in pairs), id)


def _flag(given: Any) -> bool | None:
    if given is None or given == "":
        return None
    found = _YES_NO.get(str(given).strip().lower())
    if found is None:
        raise ValueError(f"is_impossible is {_short(given)}, expected true or false")
    return found


def _pairs(given: Any, start: Any) -> Iterator[tuple[Any, Any]]:
    """Text and offset of each answer as the file has them."""
    if isinstance(given, dict):
        texts, starts = given.get("text"), given.get("answer_start")
        if isinstance(texts, list):
            starts = starts if isinstance(starts, list) else [None] * len(texts)
            if len(starts) != len(texts):
                raise ValueError(f"{len(texts)} answers with {len(starts)} answer_start; expected one for each")
            yield from zip(texts, starts, strict=True)
        else:
            yield texts, starts
    elif isinstance(given, list):
        for one in given:
            yield (one.get("text"), one.get("answer_start")) if isinstance(one, dict) else (one, None)
    elif given is not None and given != "":
        yield given, start


def _offset(given: Any) -> int | None:
    if given is None or given == "":
        return None
    try:
        number = float(given)
    except (TypeError, ValueError):
        number = -1
    if isinstance(given, bool) or number < 0 or not number.is_integer():
        raise ValueError(f"answer_start is {_short(given)}, expected a whole number from 0, counted in characters")
    return int(number)


def _placed(context: str, text: Any, start: int | None) -> Place:
    if not isinstance(text, str):
        found = "missing" if text is None else f"a {type(text).__name__}"
        raise ValueError(f"the text of an answer is {found}; write it as text")
    if not text.strip():
        raise ValueError("an answer is empty; a question that its context does not answer says is_impossible: true")
    if start is None:
        found_at = _first(context, text)
        if found_at is None:
            raise ValueError(f"the answer {_short(text)} is nowhere in its context{_alike(context, text)}")
        return Place(text, found_at)
    if context.startswith(text, start):
        return Place(text, start)
    stands = context[start : start + len(text)]
    there = f"where {_short(stands)} stands" if stands else f"which has {len(context)} characters"
    raise ValueError(
        f"the answer {_short(text)} is not at character {start} of its context, {there}; "
        f"{_elsewhere(context, text)}{_units(context, text, start)}"
    )


def _first(context: str, text: str) -> int | None:
    """The first place as whole words, else the first of all."""
    words = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", context)
    place = words.start() if words else context.find(text)
    return None if place < 0 else place


def _elsewhere(context: str, text: str) -> str:
    places = [match.start() for match in re.finditer(re.escape(text), context)]
    if not places:
        return f"it is nowhere in it{_alike(context, text)}"
    more = f" and {len(places) - PLACES_SHOWN} more places" if len(places) > PLACES_SHOWN else ""
    return f"it is at {', '.join(map(str, places[:PLACES_SHOWN]))}{more}"


def _alike(context: str, text: str) -> str:
    """Where the answer stands in other case or with other spaces."""
    match = re.search(r"\s+".join(map(re.escape, text.split())), context, re.IGNORECASE)
    return f" (written otherwise at {match.start()}: {_short(match[0])})" if match else ""


def _units(context: str, text: str, start: int) -> str:
    """Whether the offset would be right in bytes or in UTF-16."""
    for codec, size, name in (("utf-8", 1, "bytes of UTF-8"), ("utf-16-le", 2, "units of UTF-16")):
        encoded = context.encode(codec, "surrogatepass")
        if encoded.startswith(text.encode(codec, "surrogatepass"), size * start):
            return f". The offset seems to count {name}, expected characters"
    return ""


def _short(value: Any) -> str:
    text = str(value)
    shown = text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]}…"
    return repr(shown)

"""Rows of words with tags: each usable or not, and all of one scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graft.data.table import Reject
from graft.text import tag_schemes
from graft.text.tag_schemes import Name, Scheme, Span

Tagged = tuple[int, list[str], list[str]]
"""The line of a sentence, its words, its tags."""


class Tags(tuple[str, ...]):
    """The tags of a sentence, and the scheme of the file they come from.

    IOB1 is kept as IOB2, which says the same, and a letter that stands alone is given a type.
    """

    scheme: Name

    def __str__(self) -> str:
        return " ".join(self)

    def spans(self) -> list[Span]:
        """The entities the tags spell."""
        labels = tuple(sorted(set(self)))
        kept = Scheme("IOB2" if self.scheme == "IOB1" else self.scheme, labels, tuple(map(tag_schemes.part, labels)))
        return kept.spans([labels.index(tag) for tag in self])


def fault(tokens: Any, tags: Any, columns: Mapping[str, str]) -> str:
    """What is wrong with one row's words and tags; the tags do not matter where ``columns`` has none."""
    if not isinstance(tokens, list) or not tokens:
        found = f"a {type(tokens).__name__}" if tokens else "empty or missing"
        return f"{columns['tokens']!r} is {found}, expected a list of words"
    for place, word in enumerate(tokens, 1):
        if not isinstance(word, str) or not word.strip():
            return f"word {place} is {'empty' if isinstance(word, str) else repr(word)}, expected text"
    return _tag_fault(tokens, tags, columns["ner_tags"]) if "ner_tags" in columns else ""


def _tag_fault(tokens: list[str], tags: Any, column: str) -> str:
    if not isinstance(tags, list):
        return f"{column!r} is {'missing' if tags is None else f'a {type(tags).__name__}'}, expected a list of tags"
    if len(tags) != len(tokens):
        return f"{len(tokens)} words and {len(tags)} tags; expected one for each word"
    for place, tag in enumerate(tags, 1):
        if isinstance(tag, int | float):
            return (
                f"{column!r} holds numbers ({tag!r}), which mean nothing without the list of names they count in; "
                "write the names, such as B-PER, in their place"
            )
        if not isinstance(tag, str) or not tag.strip():
            return f"the tag of word {place} ({tokens[place - 1]!r:.40}) is empty or no name"
    return ""


def of_one_scheme(rows: Sequence[Tagged], *, apart: bool) -> tuple[list[tuple[int, list[str], Tags]], list[Reject]]:
    """Keep the rows whose tags follow the scheme that most follow; ``apart`` where every word has a line of its own."""
    scheme = tag_schemes.detect(tags for _, _, tags in rows)
    kept_as = Scheme("IOB2" if scheme.name == "IOB1" else scheme.name, (), ())
    numbers = {label: number for number, label in enumerate(scheme.labels)}
    kept, rejected = [], []
    for line, tokens, tags in rows:
        coded = [numbers[tag] for tag in tags]
        place, reason = _against(scheme, coded) or (0, "")
        if reason:
            told = f"word {place + 1} ({tokens[place]!r:.40}): {reason}"
            rejected.append(Reject(line=line + place * apart, reason=told, text=" ".join(tokens)))
        else:
            lettered = scheme.name not in ("IO", "plain")
            own = Tags(kept_as.spell(scheme.spans(coded), len(tags)) if lettered else tags)
            own.scheme = scheme.name
            kept.append((line, tokens, own))
    return kept, rejected


def _against(scheme: Scheme, coded: Sequence[int]) -> tuple[int, str] | None:
    """The first word whose tag breaks a scheme, and how."""
    if scheme.name not in ("IO", "plain"):
        for place, number in enumerate(coded):
            if scheme.parts[number].letter == "W":
                return place, f"{scheme.labels[number]!r} is no tag of {scheme.name}, which other tags follow"
    found = scheme.fault(coded)
    if found is None:
        return None
    place = found
    legal = scheme.legal_CC[coded[place - 1], coded[place]] if place else scheme.start_C[coded[place]]
    after = f"follow {scheme.labels[coded[place - 1]]!r}" if place else "begin a sentence"
    what = "end a sentence" if legal else after
    return place, f"{scheme.labels[coded[place]]!r} cannot {what} in {scheme.name}, which most sentences follow"

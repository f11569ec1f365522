"""How tags on words spell entities: IOB2, IOB1, BIOES, BILOU, bare types (IO), or no entities at all (plain tags).

    words   Alex  goes  to  Los    Angeles  Paris      (both places side by side)
    IOB2    B-PER O     O   B-LOC  I-LOC    B-LOC      every entity begins with B
    IOB1    I-PER O     O   I-LOC  I-LOC    B-LOC      B only where it must be told from the entity before
    BIOES   S-PER O     O   B-LOC  E-LOC    S-LOC      single words S, last words E; BILOU says U and L
    IO      PER   O     O   LOC    LOC      LOC        bare types: neighbours of one type are one entity (here two are)
    plain   NNP   VBZ   TO  NNP    NNP      NNP        no tag O: every word has a tag of its own

A Scheme is learned from label names alone, so that a published model says how its own tags are to be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Name: TypeAlias = Literal["IOB2", "IOB1", "BIOES", "BILOU", "IO", "plain"]
Flags: TypeAlias = npt.NDArray[np.bool_]

OUTSIDE = "O"
UNNAMED = "entity"
"""The type of entities whose tags are the letters alone: B, I, O."""

_TAG = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
_LETTERS = {"B": "B", "I": "I", "E": "E", "L": "E", "S": "S", "U": "S"}
_PARTS: dict[str, tuple[str, ...]] = {"IOB1": ("B", "I"), "BIOES": ("B", "I", "E", "S"), "BILOU": ("B", "I", "L", "U")}
_OPENING = {"IOB2": "OB", "IOB1": "OI", "BIOES": "OBS", "BILOU": "OBS"}


@dataclass(frozen=True, slots=True)
class Span:
    """An entity: its type, its first word, and the word after its last."""

    label: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one tag says: B, I, E or S of an entity of a type, O outside; W a bare type or a plain tag."""

    letter: str
    label: str


def part(tag: str, bare: bool = False) -> Part:
    """Take a tag apart; ``bare`` where the letters stand alone.

    >>> part("L-LOC"), part("O"), part("NNP")
    (Part(letter='E', label='LOC'), Part(letter='O', label=''), Part(letter='W', label='NNP'))
    """
    found = _TAG.fullmatch(tag)
    if found:
        return Part(_LETTERS[found[1]], found[2])
    if tag == OUTSIDE:
        return Part("O", "")
    return Part(_LETTERS[tag], UNNAMED) if bare and tag in _LETTERS else Part("W", tag)


def is_bare(labels: Iterable[str]) -> bool:
    """Whether the labels are the letters of a scheme alone."""
    names = set(labels)
    return names <= {*_LETTERS, OUTSIDE} and "B" in names and bool(names & {"I", "E", "L"})


@dataclass(frozen=True)
class Scheme:
    """What sequences of some labels are legal, and which entities they spell.

    Attributes:
        name: the scheme.
        labels: all labels.
        parts: what each says.
    """

    name: Name
    labels: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def entities(self) -> bool:
        """Whether the tags spell entities, or stand for themselves."""
        return self.name != "plain"

    @property
    def types(self) -> list[str]:
        """The types of entities, or the plain tags, sorted."""
        return sorted({one.label for one in self.parts if self._marks(one)})

    def _marks(self, one: Part) -> bool:
        """Whether a part is of an entity; among lettered tags, others (``X``, ``[PAD]``) lie outside."""
        return one.letter in "BIES" or (one.letter == "W" and self.name in ("IO", "plain"))

    @cached_property
    def outside_C(self) -> Flags:
        """Labels of no entity."""
        return np.array([not self._marks(one) for one in self.parts], dtype=np.bool_)

    @cached_property
    def continues_CC(self) -> Flags:
        """Whether a label (across) carries on the entity of the label before it (down)."""
        return self._table(self._continues)

    @cached_property
    def legal_CC(self) -> Flags:
        """Whether a label (across) may follow a label (down)."""
        return self._table(self._legal)

    @cached_property
    def start_C(self) -> Flags:
        """Labels the first word may have."""
        return np.array([self._opens(one) for one in self.parts], dtype=np.bool_)

    @cached_property
    def end_C(self) -> Flags:
        """Labels the last word may have."""
        unfinished = self.name in ("BIOES", "BILOU")
        return np.array([not (unfinished and one.letter in "BI") for one in self.parts], dtype=np.bool_)

    def _table(self, rule: Callable[[Part, Part], bool]) -> Flags:
        size = len(self.parts)
        return np.array([rule(a, b) for a in self.parts for b in self.parts], dtype=np.bool_).reshape(size, size)

    def _opens(self, one: Part) -> bool:
        return not self._marks(one) or self.name not in _OPENING or one.letter in _OPENING[self.name]

    def _continues(self, before: Part, after: Part) -> bool:
        if self.name == "IO":
            return before == after and self._marks(after)
        return before.letter in "BI" and after.letter in "IE" and before.label == after.label

    def _legal(self, before: Part, after: Part) -> bool:
        if self._continues(before, after):
            return True
        if self.name == "IOB1" and after.letter == "B":
            return before.letter in "BI" and before.label == after.label
        return self._opens(after) and not (self.name in ("BIOES", "BILOU") and before.letter in "BI")

    def spans(self, numbers: Sequence[int]) -> list[Span]:
        """The entities that label numbers spell; every word is one where the tags are plain."""
        found: list[Span] = []
        for place, number in enumerate(numbers):
            if self.outside_C[number]:
                continue
            if place and self.continues_CC[numbers[place - 1], number]:
                found[-1] = Span(found[-1].label, found[-1].first, place + 1)
            else:
                found.append(Span(self.parts[number].label, place, place + 1))
        return found

    def fault(self, numbers: Sequence[int]) -> int | None:
        """The first word whose label may not stand there; None where all may."""
        for place, number in enumerate(numbers):
            if not (self.legal_CC[numbers[place - 1], number] if place else self.start_C[number]):
                return place
        return None if not numbers or self.end_C[numbers[-1]] else len(numbers) - 1

    def spell(self, spans: Iterable[Span], words: int) -> list[str]:
        """The tags of some entities, which must not overlap. A tag may be none of the labels."""
        tags = [OUTSIDE] * words
        before: Span | None = None
        for span in sorted(spans, key=lambda one: one.first):
            beside = before is not None and before.end == span.first and before.label == span.label
            for place in range(span.first, span.end):
                tags[place] = self._tag(span, place, beside)
            before = span
        return tags

    def _tag(self, span: Span, place: int, beside: bool) -> str:
        if self.name in ("IO", "plain"):
            return span.label
        first, last = place == span.first, place == span.end - 1
        letter = "B" if first and (beside or self.name != "IOB1") else "I"
        if last and self.name in ("BIOES", "BILOU"):
            single, end = "SE" if self.name == "BIOES" else "UL"
            letter = single if first else end
        return letter if span.label == UNNAMED and is_bare(self.labels) else f"{letter}-{span.label}"


def of_labels(labels: Sequence[str]) -> Scheme:
    """The scheme that label names follow.

    IOB1 and IOB2 have the same names; IOB1 is meant where some type has an I but no B, which never begins an entity
    there by itself. Names with which no single word can be tagged by the rules are taken as plain tags.
    """
    bare = is_bare(labels)
    parts = tuple(part(name, bare) for name in labels)
    scheme = Scheme(_name(labels, parts, bare), tuple(labels), parts)
    ever = scheme.start_C & scheme.end_C & np.diagonal(scheme.legal_CC)
    return scheme if ever.any() else Scheme("plain", tuple(labels), tuple(Part("W", name) for name in labels))


def _name(labels: Sequence[str], parts: Sequence[Part], bare: bool) -> Name:
    if any(one.letter in "ES" for one in parts):
        letters = {label if bare else label[:1] for label, one in zip(labels, parts, strict=True) if one.letter in "ES"}
        return "BILOU" if letters <= {"L", "U"} else "BIOES"
    begun = {one.label for one in parts if one.letter == "B"}
    inner = {one.label for one in parts if one.letter == "I"}
    if begun or inner:
        return "IOB2" if inner <= begun else "IOB1"
    return "IO" if OUTSIDE in labels else "plain"


def complete(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels a model needs to learn a scheme: O, and every part of every type that occurs; plain tags as they are.

    >>> complete(["B-PER", "O", "I-LOC", "B-LOC"])
    ('O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER')
    """
    names = sorted(set(labels))
    scheme = of_labels(names)
    if scheme.name == "plain":
        return tuple(names)
    if scheme.name == "IO" or is_bare(names):
        return (OUTSIDE, *(name for name in names if name != OUTSIDE))
    letters = _PARTS.get(scheme.name, _PARTS["IOB1"])
    return (OUTSIDE, *(f"{letter}-{label}" for label in scheme.types for letter in letters))


def detect(rows: Iterable[Sequence[str]]) -> Scheme:
    """The scheme of tagged sentences. Between IOB1 and IOB2 the one decides that fewer sentences break."""
    every = [list(tags) for tags in rows]
    labels = sorted({tag for tags in every for tag in tags})
    scheme = of_labels(labels)
    if scheme.name not in ("IOB1", "IOB2"):
        return scheme
    both = [Scheme(name, scheme.labels, scheme.parts) for name in ("IOB2", "IOB1")]
    numbers = {label: number for number, label in enumerate(labels)}
    coded = [[numbers[tag] for tag in tags] for tags in every]
    return min(both, key=lambda one: sum(one.fault(row) is not None for row in coded))

"""Duplicates, conflicting labels and leaks between the rows trained on and those held out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from graft.data.split import digest

EXAMPLES = 5
TEXT_SHOWN = 80


@dataclass(frozen=True, kw_only=True)
class Example:
    """Two rows with the same text.

    Attributes:
        first: line of the row met first; for a leak, of the row trained on.
        line: line of the other row; for a leak, of the row held out.
        text: how the other row's text starts.
        labels: the two labels, where they differ.
    """

    first: int
    line: int
    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is wrong between rows. Texts count as the same if they differ in case, white space or Unicode form only.

    Attributes:
        duplicates: rows to train on that repeat an earlier one, text and label.
        conflicts: rows to train on that give an earlier text another label, each further label counted once.
        leaks: rows held out whose text is also trained on.
        duplicate_examples: the first few of the duplicates.
        conflict_examples: the first few of the conflicts.
        leak_examples: the first few of the leaks.
    """

    duplicates: int
    conflicts: int
    leaks: int
    duplicate_examples: tuple[Example, ...] = ()
    conflict_examples: tuple[Example, ...] = ()
    leak_examples: tuple[Example, ...] = ()

    def lines(self) -> list[str]:
        """Say what was found, one notice per kind; nothing where all is well."""
        notices = []
        if self.duplicates:
            shown = [f"line {each.line} repeats line {each.first}" for each in self.duplicate_examples]
            notices.append(_notice(self.duplicates, "to train on repeat(s) an earlier one, text and label", shown))
        if self.conflicts:
            shown = [
                f"line {each.line} says {each.labels[1]}, line {each.first} {each.labels[0]}"
                for each in self.conflict_examples
            ]
            notices.append(_notice(self.conflicts, "to train on give(s) an earlier text another label", shown))
        if self.leaks:
            shown = [f"line {each.line} is line {each.first} of the rows to train on" for each in self.leak_examples]
            notices.append(_notice(self.leaks, "held out has/have a text that is also trained on", shown))
        return notices

    def as_dict(self) -> dict[str, Any]:
        """Give the findings as plain values, to be written as JSON."""
        return asdict(self)


def check(
    train: Sequence[str],
    labels: Sequence[Hashable] | None = None,
    held_out: Sequence[str] | None = None,
    *,
    train_lines: Sequence[int] | None = None,
    held_out_lines: Sequence[int] | None = None,
) -> Findings:
    """Look for duplicates, conflicting labels and leaks, in time linear in the number of rows.

    Args:
        train: the texts to train on; for rows of several texts, all of them joined.
        labels: their labels; without, equal texts are duplicates.
        held_out: the texts to measure on.
        train_lines: the line of each row to train on; by default its number, from 1.
        held_out_lines: the line of each row held out; by default its number, from 1.

    Raises:
        ValueError: labels or lines are not as many as the texts.
    """
    for name, other, texts in (
        ("labels", labels, train),
        ("train_lines", train_lines, train),
        ("held_out_lines", held_out_lines, held_out or ()),
    ):
        if other is not None and len(other) != len(texts):
            raise ValueError(f"{name}: {len(other)} for {len(texts)} texts")
    finder = _Finder(train, labels, train_lines or range(1, len(train) + 1))
    for index, text in enumerate(train):
        finder.add(index, digest(text))
    if held_out is not None:
        for line, text in zip(held_out_lines or range(1, len(held_out) + 1), held_out, strict=True):
            finder.match(line, text)
    return finder.findings()


class _Finder:
    """The texts trained on by their digest, and what has been found among them."""

    def __init__(self, train: Sequence[str], labels: Sequence[Hashable] | None, lines: Sequence[int]) -> None:
        self.train, self.labels, self.lines = train, labels, lines
        self.first: dict[bytes, int] = {}
        self.by_label: dict[bytes, dict[Hashable, int]] = {}  # only of texts met more than once
        self.counts = {"duplicate": 0, "conflict": 0, "leak": 0}
        self.examples: dict[str, list[Example]] = {kind: [] for kind in self.counts}

    def add(self, index: int, key: bytes) -> None:
        first = self.first.setdefault(key, index)
        if first == index:
            return
        seen = self.by_label.setdefault(key, {self._label(first): first})
        same = seen.setdefault(self._label(index), index)
        if same != index:
            self._found("duplicate", same, self.lines[index], self.train[index])
        else:
            labels = (str(self._label(first)), str(self._label(index)))
            self._found("conflict", first, self.lines[index], self.train[index], labels)

    def match(self, line: int, text: str) -> None:
        first = self.first.get(digest(text))
        if first is not None:
            self._found("leak", first, line, text)

    def _label(self, index: int) -> Hashable:
        return None if self.labels is None else self.labels[index]

    def _found(self, kind: str, first: int, line: int, text: str, labels: tuple[str, ...] = ()) -> None:
        self.counts[kind] += 1
        if len(self.examples[kind]) < EXAMPLES:
            example = Example(first=self.lines[first], line=line, text=text[:TEXT_SHOWN], labels=labels)
            self.examples[kind].append(example)

    def findings(self) -> Findings:
        return Findings(
            duplicates=self.counts["duplicate"],
            conflicts=self.counts["conflict"],
            leaks=self.counts["leak"],
            duplicate_examples=tuple(self.examples["duplicate"]),
            conflict_examples=tuple(self.examples["conflict"]),
            leak_examples=tuple(self.examples["leak"]),
        )


def _notice(count: int, what: str, shown: Sequence[str]) -> str:
    """Put count, finding and examples into a sentence.

    >>> _notice(7, "repeat(s) an earlier one", ["line 9 repeats line 2"])
    '7 rows repeat an earlier one: line 9 repeats line 2, and 6 more'
    """
    one = count == 1
    verbs = what.replace("(s)", "s" if one else "").replace("has/have", "has" if one else "have")
    more = f", and {count - len(shown):,} more" if count > len(shown) else ""
    return f"{count:,} row{'' if one else 's'} {verbs}: {'; '.join(shown)}{more}"

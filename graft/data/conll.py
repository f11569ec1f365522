"""CoNLL files: a word and its tags on each line, a blank line between sentences.

The word comes first and the tag last. Columns are parted by tabs, or else by spaces. A last column that says the same
on every line (and not ``O``) is filling and no tag. Lines that begin with ``-DOCSTART-`` part documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graft.data.lines import split
from graft.data.table import COLUMNS, Reject, Table
from graft.errors import DataError

TOKENS, TAGS = "tokens", "ner_tags"
DOCUMENT = "-DOCSTART-"
_EXPECTED = "expected a word and its tag on each line, and a blank line after each sentence"
_SPACES = re.compile(" +")


def parse(path: Path, texts: Iterator[str]) -> Table:
    """Read a CoNLL file: a row for each sentence, its columns ``tokens``, ``ner_tags`` and the others by number.

    Args:
        path: the file, for messages.
        texts: its text, in blocks.

    Raises:
        DataError: an empty file, a line beyond the limit.
    """
    sentences = _Sentences(path)
    for number, line in enumerate(split(path, texts), start=1):
        shown = line.strip(" \t\r")
        if not shown or shown.split(maxsplit=1)[0] == DOCUMENT:
            sentences.end()
            sentences.documents += bool(shown)
        else:
            sentences.add(number, line.strip(" \r"))
    sentences.end()
    return sentences.table()


class _Sentences:
    """The sentences so far; the first line of the file settles how many columns there are."""

    def __init__(self, path: Path) -> None:
        self.path, self.width, self.documents = path, 0, 0
        self.columns: list[list[list[str]]] = []  # by sentence, then column, then word
        self.lines: list[int] = []
        self.rejected: list[Reject] = []
        self.open: list[list[str]] = []
        self.first, self.fault = 0, (0, "", "")

    def add(self, number: int, line: str) -> None:
        """Take the next word of a sentence."""
        cells = [cell.strip(" ") for cell in line.split("\t")] if "\t" in line else _SPACES.split(line)
        self.width = self.width or len(cells)
        self.first = self.first or number
        if not self.fault[0] and (reason := self._fault(cells)):
            self.fault = number, reason, line
        self.open.append(cells)

    def _fault(self, cells: list[str]) -> str:
        if self.width > COLUMNS:
            return f"{self.width:,} columns, at most {COLUMNS:,} are read"
        if len(cells) != self.width:
            return f"{len(cells)} columns, where the first line has {self.width}; {_EXPECTED}"
        if not cells[0].strip():
            return f"an empty word; {_EXPECTED}"
        return "" if all(cells) else f"an empty tag; {_EXPECTED}"

    def end(self) -> None:
        """A sentence is over."""
        if self.fault[0]:
            line, reason, text = self.fault
            self.rejected.append(Reject(line=line, reason=reason, text=text, file=str(self.path)))
        elif self.open:
            self.columns.append([list(column) for column in zip(*self.open, strict=True)])
            self.lines.append(self.first)
        self.open, self.first, self.fault = [], 0, (0, "", "")

    def table(self) -> Table:
        """The rows, once the file is over."""
        if not self.columns and not self.rejected:
            raise DataError(f"{self.path}: an empty file; {_EXPECTED}")
        tags = self._tag_column()
        names = [TOKENS, *(TAGS if place == tags else f"column{place + 1}" for place in range(1, self.width))]
        rows: list[dict[str, Any]] = [dict(zip(names, columns, strict=True)) for columns in self.columns]
        left_out = f", {self.documents:,} {DOCUMENT} lines left out" if self.documents else ""
        where = f", tags in column {tags + 1} of {self.width}" if tags else ", words without tags"
        return Table(
            path=self.path,
            names=tuple(names) if self.columns else (TOKENS, TAGS),
            rows=rows,
            lines=self.lines,
            rejected=self.rejected,
            format=f"conll{where}{left_out}",
        )

    def _tag_column(self) -> int:
        """The last column that says more than one thing, or ``O``; the last where none does; 0 where there is none."""
        for place in range(self.width - 1, 0, -1):
            found = {value for columns in self.columns for value in columns[place]}
            if len(found) != 1 or found == {"O"}:
                return place
        return self.width - 1

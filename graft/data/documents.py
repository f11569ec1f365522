"""Plain text: documents with blank lines between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from graft.data.lines import split
from graft.data.table import Table


def parse(path: Path, texts: Iterator[str]) -> Table:
    """Read a text file as a table of one column, ``text``; every line that is not blank belongs to a document."""
    rows, lines = [], []
    open_lines: list[str] = []
    for number, line in enumerate((*split(path, texts), ""), 1):
        if line.strip():
            open_lines.append(line.rstrip("\r"))
        elif open_lines:
            rows.append({"text": "\n".join(open_lines)})
            lines.append(number - len(open_lines))
            open_lines = []
    return Table(path=path, names=("text",), rows=rows, lines=lines, rejected=[], format="txt, documents")


def whole(path: Path, texts: Iterator[str]) -> Table:
    """Read a text file as a table of one row: its text as it stands."""
    text = "".join(texts)
    rows = [{"text": text}] if text.strip() else []
    return Table(path=path, names=("text",), rows=rows, lines=[1] * len(rows), rejected=[], format="txt, one document")

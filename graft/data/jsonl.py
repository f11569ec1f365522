"""JSON lines, read strictly: one object per line, nothing that JSON does not know, nothing that readers disagree on."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from graft.data.lines import split
from graft.data.table import COLUMNS, Reject, Table, reject_blank
from graft.errors import DataError

DEPTH = 64
INTEGER = 2**63
"""Whole numbers must fit in 64 bits, signed."""

_KIND = {str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "an object"}
_MARK = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]')
_EXPECTED = "expected one JSON object per line"


def parse(path: Path, texts: Iterator[str]) -> Table:
    """Read JSON lines.

    Args:
        path: the file, for messages.
        texts: its text, in blocks.

    Raises:
        DataError: an empty file, a line beyond the limit.
    """
    table = Table(path=path, names=(), rows=[], lines=[], rejected=[], format="jsonl")
    columns = _Columns()
    blank: list[int] = []
    for number, line in enumerate(split(path, texts), start=1):
        if not line.strip(" \t\r"):
            blank.append(number)
            continue
        if blank:
            reject_blank(table, blank)
        if not table.read and line.strip() in ("[", "{"):
            raise DataError(
                f"{path}: JSON spread over many lines; {_EXPECTED}. To convert a list: jq -c '.[]' {path.name}"
            )
        try:
            row = strict(line)
            columns.accept(row, number)
        except ValueError as error:
            table.rejected.append(Reject(line=number, reason=str(error), text=line.rstrip("\r"), file=str(path)))
        else:
            table.rows.append(row)
            table.lines.append(number)
    if not table.read:
        raise DataError(f"{path}: an empty file; {_EXPECTED}")
    return replace(table, names=tuple(columns.names))


class _Columns:
    """The columns seen so far, and what each holds."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.kinds: dict[str, tuple[str, int]] = {}  # with the line that settled it
        self.shapes: set[tuple[object, ...]] = set()

    def accept(self, row: dict[str, Any], number: int) -> None:
        """Note the row's columns and what they hold.

        Raises:
            ValueError: a column held something else in an earlier row, or there are too many columns.
        """
        shape = (*row, *map(type, row.values()))
        if shape in self.shapes:
            return
        found = {name: _KIND[type(value)] for name, value in row.items() if value is not None}
        for name, kind in found.items():
            before, line = self.kinds.get(name, (kind, number))
            if kind != before:
                raise ValueError(f"{name[:60]!r} is {kind} here and {before} in line {line}")
        new = [name for name in row if name not in self.names]
        if len(self.names) + len(new) > COLUMNS:
            raise ValueError(f"this row brings the columns to more than {COLUMNS:,}, the most that are read")
        self.names.update(dict.fromkeys(new))
        self.kinds.update((name, (kind, number)) for name, kind in found.items() if name not in self.kinds)
        self.shapes.add(shape)


def strict(line: str, expected: str = _EXPECTED) -> dict[str, Any]:
    """One JSON object from text that holds nothing else.

    Raises:
        ValueError: saying what is wrong, and what was expected.
    """
    _check_depth(line)
    try:
        row = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise ValueError(f"something follows the first value, at character {error.pos + 1}; {expected}") from error
        raise ValueError(f"not valid JSON: {error.msg}, at character {error.pos + 1}; {expected}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{_KIND.get(type(row), 'null')}; {expected}")
    if len(row) > COLUMNS:
        raise ValueError(f"{len(row):,} keys; at most {COLUMNS:,} columns are read")
    if "\\u" in line:
        _check_text(row)
    return row


def _check_depth(line: str) -> None:
    if line.count("[") + line.count("{") <= DEPTH:
        return
    depth = 0
    for mark in _MARK.finditer(line):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark[0], 0)
        if depth > DEPTH:
            raise ValueError(f"nested more than {DEPTH} deep")


def _check_text(row: dict[str, Any]) -> None:
    """Refuse the two escapes that make text no program can pass on: NUL and half of a surrogate pair."""
    waiting: list[Any] = [row]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and (fault := _fault(value)):
            raise ValueError(fault)


def _fault(text: str) -> str:
    if "\0" in text:
        return "a NUL character (\\u0000) in a text"
    half = re.search("[\ud800-\udfff]", text)
    return f"half of a surrogate pair (\\u{ord(half[0]):x}) in a text" if half else ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) == len(pairs):
        return built
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise ValueError(f"the key {name[:60]!r} is given twice")
        seen.add(name)
    return built


def _integer(digits: str) -> int:
    # Measured before it is converted: that takes quadratic time.
    if len(digits) > 20 or not -INTEGER <= int(digits) < INTEGER:
        raise ValueError(f"the whole number {digits[:24]} does not fit in 64 bits")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:24]} is too large")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON; write null, or leave the row out")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_constant, strict=True
)

"""Comma-, semicolon- and tab-separated rows, read strictly (RFC 4180).

The standard csv module is not used here because it lets a stray quote inside a field pass, does not say where a quote
that never closes was opened, takes all that follows it with it, and caps fields by a setting of the whole process.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from graft.data.lines import LINE, split
from graft.data.table import COLUMNS, Reject, Table, reject_blank
from graft.errors import DataError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_QUOTED = re.compile(r'"(?:[^"]*+(?:""[^"]*+)*+)"')


class _MalformedError(ValueError):
    """A row that breaks the rules; its text is the reason."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a file writes its rows.

    Attributes:
        delimiter: what stands between fields.
        newline: what ends a line: a line feed (a carriage return before it goes too), or a carriage return alone.
        quotes: whether fields may be quoted; otherwise a quote is a character like any other.
    """

    delimiter: str
    newline: str = "\n"
    quotes: bool = True

    @property
    def stray(self) -> str:
        """The line end that is none here: outside quotes it is a fault."""
        return "\r" if self.newline == "\n" else "\n"

    @property
    def plain_quotes(self) -> bool:
        """In tab-separated files, which RFC 4180 does not rule, a quote that does not start a field is plain text."""
        return self.delimiter == "\t"


def sniff(path: Path, start: str, *, usual: str, quotes: bool = True) -> Dialect:
    """Find delimiter and line end from the header line alone.

    Args:
        path: the file, for the message.
        start: how its text starts.
        usual: the delimiter its name promises, taken where the header has none.
        quotes: as in Dialect.

    Raises:
        DataError: two delimiters occur equally often.
    """
    bare = _QUOTED.sub('""', start) if quotes else start
    end = re.search(r"\r?\n|\r(?!\Z)", bare)
    header = bare[: end.start()] if end else bare
    counts = {delimiter: header.count(delimiter) for delimiter in DELIMITERS}
    most = max(counts.values())
    found = [delimiter for delimiter, count in counts.items() if count == most]
    if not most or (usual == "\t" and counts[usual]):  # commas are common inside names, tabs are not
        found = [usual]
    if len(found) > 1:
        names = " and ".join(DELIMITERS[delimiter] for delimiter in found)
        raise DataError(f"{path}: line 1: {names} occur equally often; put column names that contain one in quotes")
    return Dialect(delimiter=found[0], newline="\r" if end and end[0] == "\r" else "\n", quotes=quotes)


def parse(path: Path, texts: Iterator[str], *, usual: str, quotes: bool = True) -> Table:
    """Read delimited text; its first line names the columns.

    Args:
        path: the file, for messages.
        texts: its text, in blocks.
        usual: the delimiter that its name promises.
        quotes: whether fields may be quoted.

    Raises:
        DataError: an empty file, an unusable header, a line beyond the limit.
    """
    start = next(texts, "")
    dialect = sniff(path, start, usual=usual, quotes=quotes)
    rows = _Rows(split(path, chain([start], texts), dialect.newline), dialect)
    names = _header(path, rows)
    table = Table(path=path, names=tuple(names), rows=[], lines=[], rejected=[], format=_format(dialect, usual))
    rows.width = len(names)
    blank: list[int] = []
    while (line := rows.take()) is not None:
        number = rows.number
        if line in ("", "\r"):
            blank.append(number)
            continue
        if blank:
            reject_blank(table, blank)
        try:
            fields = rows.fields(line)
        except _MalformedError as error:
            table.rejected.append(Reject(line=number, reason=str(error), text=line, file=str(path)))
        else:
            table.rows.append(dict(zip(names, fields, strict=True)))
            table.lines.append(number)
    return table


def _format(dialect: Dialect, usual: str) -> str:
    kind = "tsv" if usual == "\t" else "csv"
    found = [kind]
    if dialect.delimiter != usual:
        found.append(f"delimiter {DELIMITERS[dialect.delimiter]}")
    if dialect.newline == "\r":
        found.append("lines end in carriage returns")
    if not dialect.quotes:
        found.append("quotes are plain characters")
    return ", ".join(found)


def _header(path: Path, rows: _Rows) -> list[str]:
    line = rows.take()
    if line is None or not line.strip():
        what = "an empty file" if line is None else "the first line is empty"
        raise DataError(f"{path}: {what}; expected a line of column names, then one row per line")
    try:
        names = rows.fields(line)
    except _MalformedError as error:
        raise DataError(f"{path}: line 1, the column names: {error}") from error
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{path}: line 1 names the column {twice[0][:60]!r} more than once; give every column its own name"
        )
    return names


class _Rows:
    """The lines of a file, numbered, and the fields of the rows they make up."""

    def __init__(self, lines: Iterator[str], dialect: Dialect) -> None:
        self.lines, self.dialect = lines, dialect
        self.again: deque[str] = deque()
        self.number = 0
        self.width = 0  # 0 until the header has been read
        delimiter = re.escape(dialect.delimiter)
        plain = f'[^"{delimiter}\r\n]*+'
        if dialect.plain_quotes:
            plain = f'(?:[^"{delimiter}\r\n][^{delimiter}\r\n]*+)?+'
        quoted = '"([^"]*+(?:""[^"]*+)*+)"'
        self.field = re.compile(f"(?:{quoted}|({plain}))({delimiter}|\r?\\Z)")

    def take(self) -> str | None:
        """Give the next line, without its line feed; None at the end."""
        line = self.again.popleft() if self.again else next(self.lines, None)
        if line is not None:
            self.number += 1
        return line

    def give_back(self, lines: list[str]) -> None:
        self.again.extendleft(reversed(lines))
        self.number -= len(lines)

    def fields(self, line: str) -> list[str]:
        """Give the fields of the row that starts with this line, taking the lines that its quotes span.

        Raises:
            _MalformedError: the row is at fault; only this line has then been used up, unless the row is well-formed
                apart from its number of fields.
        """
        if '"' not in line or not self.dialect.quotes:
            return self._split(line)
        try:
            return self._scan(line)
        except _OpenQuoteError:
            if line.count('"') % 2 == 0:
                raise
            return self._scan_on(line)

    def _split(self, line: str) -> list[str]:
        line = line.removesuffix("\r")
        if self.dialect.stray in line:
            raise _MalformedError(f"{_LINE_END[self.dialect.stray]} in a field that is not quoted")
        self._check_width(1 + line.count(self.dialect.delimiter))
        return line.split(self.dialect.delimiter)

    def _scan_on(self, line: str) -> list[str]:
        # Inside quotes every quote is doubled. A line with an odd number of them therefore opens or closes a field,
        # and the next such line is where a field left open here must close: no line is looked at more than twice.
        opened, parts, size = self.number, [line], len(line)
        while (more := self.take()) is not None and size <= LINE:
            parts.append(more)
            size += len(more) + 1
            if more.count('"') % 2:
                break
        else:
            self.give_back(parts[1:] if more is None else [*parts[1:], more])
            within = "" if more is None else f" within {LINE:,} characters"
            raise _MalformedError(f"the quote opened in line {opened} is never closed{within}")
        try:
            return self._scan(self.dialect.newline.join(parts))
        except _WidthError as error:
            raise _MalformedError(f"lines {opened}-{self.number}: {error}") from error
        except _MalformedError as error:
            closed = self.number
            self.give_back(parts[1:])
            raise _MalformedError(
                f"the quote opened in line {opened} is not closed by the next that could, in line {closed}"
            ) from error

    def _scan(self, row: str) -> list[str]:
        fields: list[str] = []
        at, more = 0, True
        while more:
            match = self.field.match(row, at)
            if match is None:
                raise self._fault(row, at)
            fields.append(match[2] if match[1] is None else match[1].replace('""', '"'))
            at, more = match.end(), match[3] == self.dialect.delimiter
            if len(fields) > COLUMNS:
                raise _MalformedError(f"more than {COLUMNS:,} fields, the most that are read")
        self._check_width(len(fields))
        return fields

    def _check_width(self, found: int) -> None:
        if self.width and found > self.width:
            advice = f"put quotes around a field that contains a {DELIMITERS[self.dialect.delimiter]}"
            raise _WidthError(f"{_fields(found)}, the header has {self.width:,}; {advice}")
        if found < self.width:
            raise _WidthError(f"{_fields(found)}, the header has {self.width:,}")
        if found > COLUMNS:
            raise _MalformedError(f"{_fields(found)}; at most {COLUMNS:,} are read")

    def _fault(self, row: str, at: int) -> _MalformedError:
        if row.startswith('"', at):
            closed = _QUOTED.match(row, at)
            if closed is None:
                return _OpenQuoteError(f"the quote at character {at + 1} is never closed")
            return _MalformedError(f"text follows the quote that closes at character {closed.end()}; {_DOUBLE}")
        stray = re.compile(f'["{self.dialect.stray}]').search(row, at)
        if stray is None or stray[0] != '"':
            return _MalformedError(f"{_LINE_END[self.dialect.stray]} in a field that is not quoted")
        return _MalformedError(
            f"the quote at character {stray.start() + 1} is in a field that is not quoted; {_DOUBLE}"
        )


class _WidthError(_MalformedError):
    """Well-formed, but not as many fields as the header has."""


class _OpenQuoteError(_MalformedError):
    """The row ends inside quotes."""


_DOUBLE = (
    "put quotes around the field and double those inside it; or, where quotes are plain characters throughout the "
    "file, read it with --no-quotes (quotes=False)"
)
_LINE_END = {"\r": "a carriage return", "\n": "a line feed"}


def _fields(count: int) -> str:
    return f"{count:,} field" + ("" if count == 1 else "s")

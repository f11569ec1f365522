"""What reading a file of rows gives: the rows kept, the rows rejected, and the error when too many were."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from graft.errors import DataError
from graft.files import replacing

TEXT_SHOWN = 200
"""Characters of a rejected row that are kept to recognise it by."""

COLUMNS = 10_000
"""A table with more columns is refused: it is far more likely a damaged or hostile file than data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """A row that cannot be used, and why.

    Attributes:
        line: 1-based line of the (decompressed) file on which the row starts; the row's number for parquet and
            SQuAD's JSON.
        reason: what is wrong with it.
        text: how the row starts, at most 200 characters.
        file: the file it came from; the readers fill it in.
    """

    line: int
    reason: str
    text: str = ""
    file: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.text[:TEXT_SHOWN])


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file of rows, read.

    Attributes:
        path: the file.
        names: its columns in file order; for JSON lines in order of first appearance.
        rows: the rows kept. Values of csv and tsv are text exactly as written; JSON lines and parquet keep their types.
            A key absent from a row of JSON lines is absent here.
        lines: for each row kept, the line it starts on.
        rejected: the rows not kept.
        format: what was found, to be shown: ``"csv"``, ``"tsv"``, ``"jsonl"``, ``"parquet"``, and what is unusual:
            ``"csv, delimiter semicolon"``.
    """

    path: Path
    names: tuple[str, ...]
    rows: list[dict[str, Any]]
    lines: list[int]
    rejected: list[Reject]
    format: str

    @property
    def kept(self) -> int:
        """Number of rows kept."""
        return len(self.rows)

    @property
    def read(self) -> int:
        """Number of rows read: those kept and those rejected."""
        return len(self.rows) + len(self.rejected)


class RejectedRows(DataError):
    """More rows had to be rejected than allowed; ``rejected`` holds them all, so that they can be written to a file."""

    def __init__(self, message: str, rejected: list[Reject]) -> None:
        super().__init__(message)
        self.rejected = rejected


def refuse(path: str | Path, read: int, rejected: list[Reject], max_rejects: int) -> None:
    """Raise if more rows were rejected than allowed, or if none is left.

    Args:
        path: the file the rows came from.
        read: how many rows it has, kept and rejected.
        rejected: the rows that cannot be used.
        max_rejects: how many may be rejected.

    Raises:
        RejectedRows: naming the first of them, and the option that allows them.
    """
    count = len(rejected)
    if not rejected or (count <= max_rejects and count < read):
        return
    first = rejected[0]
    found = f"none of its {read:,} rows" if count >= read else f"{count:,} of its {read:,} rows not"
    advice = "" if count >= read else f", or allow this with --max-rejects {count}"
    raise RejectedRows(
        f"{path}: {found} usable. The first: line {first.line}: {first.reason}. Mend the file{advice}",
        [each if each.file else replace(each, file=str(path)) for each in rejected],
    )


def reject_blank(table: Table, blank: list[int]) -> None:
    """Reject the empty lines met before a row, and forget them; those at the end of a file are no rows."""
    table.rejected.extend(Reject(line=line, reason="an empty line", file=str(table.path)) for line in blank)
    blank.clear()


def write_rejects(rejects: Iterable[Reject], path: Path, *, file: str | Path = "") -> None:
    """Write rejected rows as JSON lines with the keys file, line, reason and text; all of them or none.

    Args:
        rejects: the rows.
        path: where to write them; replaced if it exists.
        file: the data file, for those rejects that do not name theirs.

    Raises:
        StorageError: the file cannot be written.
    """
    # A lone surrogate cannot be encoded; as a backslash escape it is the JSON notation of itself.
    with replacing(Path(path)) as new, new.open("w", encoding="utf-8", errors="backslashreplace") as handle:
        for reject in rejects:
            row = asdict(reject)
            ordered = {"file": row.pop("file") or str(file), **row}
            handle.write(json.dumps(ordered, ensure_ascii=False) + "\n")

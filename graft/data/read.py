"""Reading a file of rows so that each is either kept or rejected with its line and a reason, and nothing is lost."""

from __future__ import annotations

import difflib
import stat
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from graft.data import conll, delimited, documents, jsonl, squad
from graft.data.lines import PACKINGS, decoded, unchanged
from graft.data.table import Reject, RejectedRows, Table, refuse, write_rejects
from graft.errors import DataError, UsageError

__all__ = ["Reject", "RejectedRows", "Table", "read", "refuse", "write_rejects"]

DELIMITED = {".csv": ",", ".tsv": "\t"}
DOCUMENTS = ".txt"
JSON_LINES = (".jsonl", ".ndjson", ".json")
CONLL = ".conll"
WHOLE = "whole"
_FORMATS = (
    ".csv, .tsv, .jsonl, .ndjson or .json (one object per line, or SQuAD's), .txt (documents between "
    "blank lines), .conll (a word and its tag on each line), each also with .gz or .xz added, and .parquet"
)


def read(
    path: str | Path,
    *,
    encoding: str | None = None,
    max_rejects: int = 0,
    quotes: bool = True,
    tagged: bool = False,
    whole: bool = False,
) -> Table:
    """Read a file of rows: csv, tsv, JSON lines, SQuAD's JSON, CoNLL (plain, gzip, xz) or parquet, told by its name.

    The delimiter of csv and tsv is found from the header line. Text is UTF-8 unless a byte order mark or ``encoding``
    says otherwise. "NA", "null" and empty text stay text.

    Args:
        path: the file.
        encoding: the file's encoding.
        max_rejects: how many rows may be unusable.
        quotes: whether fields of csv and tsv may be quoted; otherwise quotes are characters like any other.
        tagged: a .txt file has a word and its tag on each line.
        whole: a .txt file is one document.

    Raises:
        DataError: no such file, not a format that is read, damaged, undecodable, no rows, or changed while it was read.
        RejectedRows: more unusable rows than allowed; its ``rejected`` lists them.
        UsageError: no such encoding, or an option that this format does not have.
    """
    path = Path(path)
    if max_rejects < 0:
        raise UsageError(f"max_rejects is {max_rejects}; expected 0 or more")
    _check_there(path)
    kind, packing = _kind(path)
    kind = CONLL if tagged and kind == DOCUMENTS else kind
    kind = WHOLE if whole and kind == DOCUMENTS else kind
    with unchanged(path):
        table = _parse(path, kind, packing, encoding, quotes)
    if not table.read:
        raise DataError(f"{path}: has column names but no rows")
    refuse(path, table.read, table.rejected, max_rejects)
    return table


def _parse(path: Path, kind: str, packing: str, encoding: str | None, quotes: bool) -> Table:
    if not quotes and kind not in DELIMITED:
        raise UsageError(f"{path}: reading without quotes (--no-quotes, quotes=False) is for csv and tsv files")
    if kind == ".parquet":
        if encoding is not None:
            raise UsageError(f"{path}: parquet files have no encoding; leave out --encoding")
        from graft.data import parquet  # pyarrow is not loaded for the other formats

        return parquet.parse(path)
    _, texts = decoded(path, packing, encoding)
    if kind in DELIMITED:
        return delimited.parse(path, texts, usual=DELIMITED[kind], quotes=quotes)
    parse = {CONLL: conll.parse, DOCUMENTS: documents.parse, WHOLE: documents.whole, ".json": _json}.get(
        kind, jsonl.parse
    )
    return parse(path, texts)


def _json(path: Path, texts: Iterator[str]) -> Table:
    """SQuAD's, or an object on each line."""
    first = next(texts, "")
    parse = squad.parse if squad.begins(first) else jsonl.parse
    return parse(path, chain([first], texts))


def _check_there(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file{_instead(path)}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(mode):
        files = sorted(each.name for each in islice(path.iterdir(), 10_000) if _is_readable(each))[:5]
        inside = f", for example {', '.join(files)}" if files else ""
        raise DataError(f"{path}: a folder; give a file in it{inside}")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: not a regular file; write the rows to a file first")


def _instead(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist"
    try:
        names = [each.name for each in islice(path.parent.iterdir(), 10_000)]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else f" in the folder {path.parent.absolute()}"


def _is_readable(path: Path) -> bool:
    try:
        return path.is_file() and bool(_kind(path))
    except DataError:
        return False


def _kind(path: Path) -> tuple[str, str]:
    """Tell format and packing from the name."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packing = suffixes.pop() if suffixes and suffixes[-1] in PACKINGS else ""
    kind = suffixes[-1] if suffixes else ""
    if kind in (*DELIMITED, *JSON_LINES, CONLL, DOCUMENTS) or (kind == ".parquet" and not packing):
        return kind, packing
    found = f"files named {kind + packing}" if kind + packing else "files without an extension"
    raise DataError(f"{path}: {found} cannot be read; expected {_FORMATS}")

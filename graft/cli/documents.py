"""Whole files as texts: one file, standard input, or the text files of a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from graft.data.lines import PACKINGS, decoded, unchanged
from graft.errors import DataError, UsageError

if TYPE_CHECKING:
    from graft.cli.texts import Item, Reading


def whole(given: str | None, reading: Reading) -> Item:
    """All of a text file, or of standard input, as one text.

    Raises:
        UsageError: options for tables.
        DataError: no text in it, or none that can be read.
    """
    from graft.cli.texts import Item

    _refuse_columns(reading)
    if given in (None, "-"):
        text, where = standard_input(reading.encoding), "standard input"
    else:
        text, where = read(Path(str(given)), reading.encoding), str(given)
    if not text.strip():
        raise DataError(f"{where}: there is no text in it")
    reading.watch.note(f"{where}: one text of {len(text):,} characters (--lines: each line is one)")
    return Item(text)


def folder(place: Path, reading: Reading) -> list[Item]:
    """The text files of a folder, each one text, by name; those with nothing in them are told and left out.

    Raises:
        UsageError: options for tables.
        DataError: there is no text file, or none with text.
    """
    from graft.cli.texts import Item

    _refuse_columns(reading)
    files = sorted(one for one in place.iterdir() if _kind(one) == ".txt" and one.is_file())
    texts = [(file, read(file, reading.encoding)) for file in files]
    items = [Item(text, file=file.name) for file, text in texts if text.strip()]
    if not items:
        raise DataError(f"{place}: there is no .txt file with text in it")
    empty = [file.name for file, text in texts if not text.strip()]
    left = f", {len(empty):,} more are empty and left out: {', '.join(empty[:3])}" if empty else ""
    reading.watch.note(f"{place}: {len(items):,} text files, each a text{left}")
    return items


def _kind(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes[-2:]]
    if suffixes and suffixes[-1] in PACKINGS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read(path: Path, encoding: str | None) -> str:
    """All of a file.

    Raises:
        DataError: it cannot be read, or is not text.
    """
    packing = path.suffix.lower() if path.suffix.lower() in PACKINGS else ""
    with unchanged(path):
        return "".join(decoded(path, packing, encoding)[1])


def standard_input(encoding: str | None) -> str:
    """All of standard input.

    Raises:
        UsageError: no such encoding.
        DataError: it is not text in it.
    """
    try:
        return sys.stdin.buffer.read().decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"standard input: byte {error.start} is not {error.encoding} text; send UTF-8, or name the --encoding"
        ) from error
    except LookupError as error:
        raise UsageError(f"no encoding {encoding!r}; try utf-8, latin-1 or cp1252") from error


def _refuse_columns(reading: Reading) -> None:
    if reading.columns or reading.max_rejects or not reading.quotes:
        raise UsageError("a text file has no columns; leave out --column, --columns, --max-rejects and --no-quotes")

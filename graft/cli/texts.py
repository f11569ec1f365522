"""What ``graft run`` reads: one text, a file of lines, a column of a table, or standard input as it arrives."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from graft.cli import documents
from graft.data.lines import LINE, PACKINGS, decoded, split, unchanged
from graft.data.read import DELIMITED, JSON_LINES
from graft.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    from graft.recipes.watch import Watch

Text: TypeAlias = str | tuple[str, str] | list[str]
"""A text, a pair of texts, or a text as its words."""

DOCUMENTS = ("summarize",)
"""Tasks that read a text file, or standard input, as one text."""

SOURCES = {"summarize": "document", "translate": "source", "generate": "text"}
"""Tasks whose tables have a column of their own name for texts; they also read a folder of text files."""

CHUNK = 512
"""Texts of a file answered at a time: enough to be fast, few enough to show the first answers soon."""

WRITTEN = 32
"""The same where answers are written, which takes longer."""

PAIR = ("sentence1", "sentence2")
BLOCK = 2**16
TABLES = (*DELIMITED, *JSON_LINES, ".parquet", ".conll")


@dataclass(frozen=True, slots=True)
class Item:
    """One text to answer, and the line it came from, where it came from a file.

    `names` says what the texts of a pair are called in answers; "" leaves one out. `choices` are what a question gives
    to choose from. `file` is where the text is all there is in a file of a folder.
    """

    text: Text
    line: int | None = None
    names: tuple[str, str] = PAIR
    choices: tuple[str, ...] = ()
    file: str = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the texts are to be found.

    Attributes:
        task: what is done with the texts.
        other: a second text to put beside each.
        choices: what each text, a question, gives to choose from.
        columns: role -> column of a table, where the names do not say.
        encoding: of files and of standard input, if not UTF-8.
        max_rejects: rows of a table that may be unusable.
        quotes: whether fields of csv and tsv may be quoted.
        lines: each line of a text file is a text, also where the task reads documents.
        own: the user named a model: it may answer questions without a text.
        watch: told what was found.
    """

    watch: Watch
    task: str = ""
    other: str | None = None
    choices: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    max_rejects: int = 0
    quotes: bool = True
    lines: bool = False
    own: bool = False


@dataclass(frozen=True)
class Found:
    """Texts in chunks. ``single`` means the user gave one text; ``total`` is unknown where texts still arrive."""

    chunks: Iterable[list[Item]]
    total: int | None
    single: bool = False


def find(given: str | None, reading: Reading) -> Found:
    """Tell what the user meant by a word: a file to read, ``-`` for standard input, or the text itself.

    Raises:
        UsageError: no word, and standard input is a terminal; or options that fit no file.
        DataError: the file cannot be read.
    """
    if sys.stdin is None or given is None and sys.stdin.isatty():
        raise UsageError("nothing to read: give a text, a file, or - for standard input")
    whole = reading.task in DOCUMENTS and not reading.lines
    if whole and (given in (None, "-") or file_kind(given) == ".txt"):
        return Found([[documents.whole(given, reading)]], 1, single=True)
    if given in (None, "-"):
        _needs_context("standard input", reading)
        return Found(_standard_input(reading), None)
    assert given is not None
    if reading.task in SOURCES and os.path.isdir(given) and (reading.task in DOCUMENTS or os.sep in given):
        return _chunks(documents.folder(Path(given), reading), reading)
    kind = file_kind(given)
    if kind is None:
        _refuse_options_of_files(reading)
        _needs_context("ask", reading)
        return Found([[_item(given, reading)]], 1, single=True)
    items = _lines(Path(given), reading) if kind == ".txt" else _rows(Path(given), reading)
    if not items:
        raise DataError(f"{given}: there is no text in it")
    return _chunks(items, reading)


def _chunks(items: list[Item], reading: Reading) -> Found:
    size = WRITTEN if reading.task in (*SOURCES, "ask") else CHUNK
    return Found((items[start : start + size] for start in range(0, len(items), size)), len(items))


def together(found: Found, other: str | None) -> Found:
    """All texts as one chunk, to be compared, with one more text where it is given."""
    items = [item for chunk in found.chunks for item in chunk]
    return Found([[*items, *([] if other is None else [Item(other)])]], len(items) + (other is not None))


def file_kind(given: str) -> str | None:
    """The format of the file that a word names; None where the word is a text.

    Raises:
        DataError: it can only be meant as a file, and there is none.
    """
    suffixes = [suffix.lower() for suffix in Path(given[-80:]).suffixes[-2:]]
    if suffixes and suffixes[-1] in PACKINGS:
        suffixes.pop()
    kind = suffixes[-1] if suffixes and suffixes[-1] in (".txt", *TABLES) else None
    if kind is None or os.path.isfile(given):
        return kind
    if any(map(str.isspace, given)):
        return None
    folder = Path(given).parent
    beside = [str(folder / name) for name in os.listdir(folder)] if folder.is_dir() else []
    meant = nearest(str(Path(given)), beside).partition("Valid:")[0].strip()
    raise DataError(
        f"{given}: no such file{'; ' + meant if meant else ''} (if it is a text, send it by standard input)"
    )


def _refuse_options_of_files(reading: Reading) -> None:
    if reading.columns or reading.encoding or reading.max_rejects or not reading.quotes:
        options = "--column, --columns, --encoding, --max-rejects and --no-quotes"
        raise UsageError(f"{options} are for files; this is a single text")


def _item(text: Text, reading: Reading, line: int | None = None) -> Item:
    """A text as it is answered: with the other one, where one is given for all."""
    given = (text, reading.other) if isinstance(text, str) and reading.other is not None else text
    names = ("question", "") if reading.task == "ask" else PAIR
    return Item(given, line, names, reading.choices)


def _rows(path: Path, reading: Reading) -> list[Item]:
    """The rows of a table that have what the task reads.

    Raises:
        UsageError: the table has choices, and so has the user.
    """
    from graft import tasks
    from graft.recipes.rows import load_rows

    if reading.task == "choice" and (reading.choices or reading.other is not None):
        raise UsageError(f"{path}: choices and contexts of a table are columns; leave --choices and --context out")
    closed = reading.task == "ask" and reading.own and "text" in reading.columns  # --column: questions alone
    questions = {"text": "question"} if reading.task == "ask" and reading.other is not None else {}
    words = reading.task == "tag" and (".conll" in path.suffixes or "tokens" in reading.columns)
    pairs = ("similarity", "pair", "choice", "ask")
    alone = closed or reading.task not in pairs or (reading.task != "choice" and reading.other is not None)
    columns = {**questions, **reading.columns}
    if reading.task in SOURCES:
        columns = {SOURCES[reading.task] if role == "text" else role: name for role, name in columns.items()}
    loaded = load_rows(
        tasks.find("tag" if words else "classify" if alone and reading.task not in SOURCES else reading.task),
        path,
        columns=columns,
        encoding=reading.encoding,
        max_rejects=reading.max_rejects,
        quotes=reading.quotes,
        labelled=False,
        watch=reading.watch,
    )
    if words:
        return [Item([str(word) for word in row.inputs], row.line) for row in loaded.rows]
    if reading.task == "choice":
        return [Item(row.inputs[0], row.line, choices=tuple(map(str, row.inputs[1:]))) for row in loaded.rows]
    return [_item(text, reading, row.line) for row in loaded.rows for text in row.inputs]


def _lines(path: Path, reading: Reading) -> list[Item]:
    """The lines of a text file that are not blank."""
    if reading.columns or reading.max_rejects or not reading.quotes:
        options = "--column, --columns, --max-rejects and --no-quotes"
        raise UsageError(f"{path}: a text file has no columns; leave out {options}")
    _needs_context(str(path), reading)
    packing = path.suffix.lower() if path.suffix.lower() in PACKINGS else ""
    with unchanged(path):
        _, texts = decoded(path, packing, reading.encoding)
        lines = list(split(path, texts))
    numbered = ((number, line.rstrip("\r")) for number, line in enumerate(lines, 1) if line.strip())
    items = [_item(line, reading, number) for number, line in numbered]
    reading.watch.note(f"{path}: {len(lines):,} lines, each a text{_blank(len(lines) - len(items))}")
    return items


def _needs_context(what: str, reading: Reading) -> None:
    if reading.task == "ask" and reading.other is None and not reading.own:
        raise UsageError(
            f"{what}: no text to look for answers in; give --context TEXT|FILE, or a table of questions and contexts"
        )


def _blank(count: int) -> str:
    return f", {count:,} of them blank and left out" if count else ""


def _standard_input(reading: Reading) -> Iterator[list[Item]]:
    """Lines as they arrive: whatever has come is answered before more is awaited."""
    number = blank = 0
    for lines in _arriving(reading.encoding or "utf-8-sig"):
        numbered = ((place, line.rstrip("\r")) for place, line in enumerate(lines, number + 1) if line.strip())
        items = [_item(line, reading, place) for place, line in numbered]
        number, blank = number + len(lines), blank + len(lines) - len(items)
        if items:
            yield items
    if number == blank:
        raise DataError("standard input: there is no text in it")
    if blank:
        reading.watch.note(f"standard input: {number:,} lines, each a text{_blank(blank)}")


def _arriving(encoding: str) -> Iterator[list[str]]:
    try:
        decoder = codecs.getincrementaldecoder(encoding)("strict")
    except LookupError as error:
        raise UsageError(f"no encoding {encoding!r}; try utf-8, latin-1 or cp1252") from error
    rest, read = "", 0
    pipe = cast(BufferedReader, sys.stdin.buffer)
    while block := pipe.read1(BLOCK):
        *lines, rest = (rest + _decode(decoder, block, read)).split("\n")
        read += len(lines)
        if len(rest) > LINE:
            raise DataError(
                f"standard input: line {read + 1} is longer than {LINE:,} characters, the most that is read"
            )
        yield lines
    rest += _decode(decoder, b"", read)
    yield [rest] if rest else []


def _decode(decoder: codecs.IncrementalDecoder, block: bytes, lines: int) -> str:
    try:
        return decoder.decode(block, final=not block)
    except UnicodeError as error:
        before = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
        line = lines + before.count(b"\n") + 1
        raise DataError(
            f"standard input: line {line}: {error}. Send UTF-8, or name the encoding, as in --encoding latin-1"
        ) from error

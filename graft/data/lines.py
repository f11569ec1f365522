"""From a file's bytes to lines of text: unpacked, decoded strictly, within limits, a block at a time."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Iterator
from io import BufferedReader
from itertools import chain
from pathlib import Path

from graft.errors import DataError, UsageError, nearest

BLOCK = 2**20
LINE = 16 * 2**20
"""Characters in a line or a quoted row; a longer one is refused."""

UNPACKED_FREE = 4 * 2**20
UNPACKED_RATIO = 256
"""A compressed file may unpack to this many times its size (text seldom passes 20), or to UNPACKED_FREE bytes."""

PACKINGS = (".gz", ".xz")

_MAGIC = {
    b"\x1f\x8b": "gzip data: add .gz to its name",
    b"\xfd7zXZ\x00": "xz data: add .xz to its name",
    b"PAR1": "parquet: name it .parquet",
    b"PK\x03\x04": "a zip archive or a spreadsheet: save its rows as CSV in UTF-8",
    b"\x28\xb5\x2f\xfd": "zstandard data: unpack it first",
    b"BZh": "bzip2 data: unpack it first",
}
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it starts with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_UNMARKED = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
"""What these mean for a file that has no byte order mark."""

_NOT_FOR_FILES = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7"}
_OFFERED = (
    "utf-8",
    "utf-16",
    "latin-1",
    "cp1252",
    "iso8859-15",
    "cp1251",
    "shift_jis",
    "euc_jp",
    "gb18030",
    "big5",
    "euc_kr",
)


@contextlib.contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Watch a file while it is read.

    Raises:
        DataError: at the end, if another file stands there, or size or time of change differ from the start.
    """
    before = _state(path)
    yield
    if _state(path) != before:
        raise DataError(f"{path}: the file changed while it was read. Wait until it is written, then start again")


def _state(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def unpacked(path: Path, packing: str = "") -> Iterator[bytes]:
    """Read a file in blocks, unpacking it on the way.

    Args:
        path: the file.
        packing: ``""``, ``".gz"`` or ``".xz"``.

    Raises:
        DataError: unreadable, damaged, cut off, packed otherwise than named, or unpacking beyond all proportion.
    """
    total = 0
    try:
        with path.open("rb") as packed, _unpacking(packed, packing) as handle:
            while block := handle.read(BLOCK):
                total += len(block)
                # Measured against what has been unpacked so far, so that a bomb is met before it has grown.
                if packing and total > max(UNPACKED_FREE, UNPACKED_RATIO * packed.tell()):
                    raise DataError(
                        f"{path}: unpacks to more than {UNPACKED_RATIO} times its size, as a decompression bomb does. "
                        "If its rows really repeat that much, unpack it first"
                    )
                yield block
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, MemoryError) as error:
        raise DataError(f"{path}: damaged or cut off {packing} file: {error}. Fetch or pack it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _unpacking(packed: BufferedReader, packing: str) -> gzip.GzipFile | lzma.LZMAFile | BufferedReader:
    if packing == ".gz":
        return gzip.GzipFile(fileobj=packed, mode="rb")
    return lzma.LZMAFile(packed, "rb") if packing == ".xz" else packed


def decoded(path: Path, packing: str = "", encoding: str | None = None) -> tuple[str, Iterator[str]]:
    """Read a file as text, strictly.

    Args:
        path: the file.
        packing: ``""``, ``".gz"`` or ``".xz"``.
        encoding: its encoding; by default what its byte order mark says, UTF-8 without one.

    Returns:
        The encoding found (``"utf-8"``, ``"utf-16-le"``, ...) and the text in blocks, without a byte order mark.

    Raises:
        UsageError: no such encoding.
        DataError: while iterating too: bytes that are not text in this encoding, naming line and byte; a NUL.
    """
    blocks = unpacked(path, packing)
    head = next(blocks, b"")
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"{path}: this is {what}")
    mark, codec = _codec(path, head, encoding)
    place = _Place(path, codec, len(mark))
    return codec, _texts(place, chain([head[len(mark) :]], blocks))


def _codec(path: Path, head: bytes, encoding: str | None) -> tuple[bytes, str]:
    asked = None if encoding is None else _known(encoding)
    for mark, codec in _MARKS.items():
        if head.startswith(mark):
            if asked is not None and not codec.startswith(asked.removesuffix("-sig")):
                raise DataError(
                    f"{path}: starts with the byte order mark of {codec}, yet the encoding {encoding} is asked for. "
                    "Leave out --encoding"
                )
            return mark, codec
    return b"", _UNMARKED.get(asked or "utf-8", asked or "utf-8")


def _known(encoding: str) -> str:
    try:
        codec = codecs.lookup(encoding)
    except (LookupError, ValueError):
        codec = None
    if codec is None or codec.name.replace("_", "-") in _NOT_FOR_FILES or not getattr(codec, "_is_text_encoding", True):
        raise UsageError(
            f"no text encoding {encoding!r}; {nearest(encoding, _OFFERED)} Others that Python knows work too"
        )
    return codec.name


def _texts(place: _Place, blocks: Iterator[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(place.codec)("strict")
    for block in chain(blocks, [b""]):
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeError as error:
            raise place.undecodable(error, held) from error
        if "\0" in text:
            raise place.nul(text, held)
        place.pass_over(text, len(block))
        if text:
            yield text


class _Place:
    """How far a file has been read, to name the line and byte of what is wrong."""

    def __init__(self, path: Path, codec: str, start: int) -> None:
        self.path, self.codec, self.bytes = path, codec, start
        self.line_feeds = self.returns = 0

    def pass_over(self, text: str, size: int) -> None:
        self.bytes += size
        self.line_feeds += text.count("\n")
        # Only a file without a single line feed is counted by its carriage returns.
        self.returns += 0 if self.line_feeds else text.count("\r")

    def line(self, text: str) -> int:
        line_feeds = self.line_feeds + text.count("\n")
        return 1 + (line_feeds or self.returns + text.count("\r"))

    def undecodable(self, error: UnicodeError, held: int) -> DataError:
        where, what = "", str(error)
        if isinstance(error, UnicodeDecodeError):
            before = error.object[: error.start].decode(error.encoding, "replace")
            where = f"line {self.line(before)}, byte {self.bytes - held + error.start}: "
            what = f"0x{error.object[error.start : error.end].hex()} is not {self.codec} text ({error.reason})"
        return DataError(
            f"{self.path}: {where}{what}. Save the file as UTF-8, or name its encoding, as in --encoding latin-1"
        )

    def nul(self, text: str, held: int) -> DataError:
        before = text[: text.index("\0")]
        byte = self.bytes - held + len(before.encode(self.codec, "replace"))  # some codecs read what they cannot write
        return DataError(
            f"{self.path}: line {self.line(before)}, byte {byte}: a NUL byte. This is no text file, "
            "or UTF-16 without its byte order mark (then try --encoding utf-16-le)"
        )


def split(path: Path, texts: Iterator[str], newline: str = "\n") -> Iterator[str]:
    """Cut text into lines, at ``newline`` only; the line ends are taken off.

    Raises:
        DataError: a line is longer than LINE.
    """
    rest, done = "", 0
    for text in texts:
        parts = (rest + text).split(newline)
        rest = parts.pop()
        for number, part in ((done + 1, parts[0] if parts else rest), (done + len(parts) + 1, rest)):
            if len(part) > LINE:
                raise DataError(f"{path}: line {number} is longer than {LINE:,} characters, the most that is read")
        done += len(parts)
        yield from parts
    if rest:
        yield rest

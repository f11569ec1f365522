"""Tables written in any dialect read back equal, damaged ones lose no line, random bytes raise GraftError at most."""

from __future__ import annotations

import codecs
import gzip
import json
import lzma
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from graft.data.read import Table, read
from graft.errors import DataError, GraftError

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
nightly = settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SPECIAL = [
    ",",
    ";",
    "\t",
    '"',
    '""',
    "\n",
    "\r",
    "\r\n",
    "NA",
    "null",
    "None",
    "nan",
    "",
    " ",
    "\ufeff",
    "\u2028",
    "\x85",
    "é",
]
pieces = st.sampled_from(SPECIAL) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4
)
texts = st.lists(pieces, max_size=5).map("".join)
names = texts.filter(lambda name: not name.startswith("\ufeff"))
PACK = {
    "": bytes,
    ".gz": lambda content: gzip.compress(content, 1),
    ".xz": lambda content: lzma.compress(content, preset=0),
}


@dataclass(frozen=True)
class Written:
    """A table, and a file that holds it."""

    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    text: str
    name: str
    mark: bytes
    encoding: str

    def content(self, text: str | None = None) -> bytes:
        packed = self.mark + (self.text if text is None else text).encode(self.encoding)
        return PACK["." + self.name.rsplit(".", 1)[1] if self.name.endswith(("gz", "xz")) else ""](packed)


def quoted(value: str, forced: bool) -> str:
    if forced or re.search('[,;\t"\r\n]', value) or not value.strip():
        return '"' + value.replace('"', '""') + '"'
    return value


@st.composite
def written(draw: st.DrawFn, delimiters: str = ",;\t") -> Written:
    header = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    rows = draw(st.lists(st.lists(texts, min_size=len(header), max_size=len(header)), min_size=1, max_size=6))
    kind = draw(st.sampled_from([".csv", ".tsv"] if "\t" in delimiters else [".csv"]))
    # Without a delimiter in the header, the one that the file's name promises is taken.
    delimiter = draw(st.sampled_from(delimiters)) if len(header) > 1 else {".csv": ",", ".tsv": "\t"}[kind]
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    forced = draw(st.lists(st.booleans(), min_size=1, max_size=7))
    text, lines = "", []
    for index, row in enumerate([header, *rows]):
        lines.append(1 + text.count("\r" if newline == "\r" else "\n"))
        fields = [quoted(value, forced[(index + place) % len(forced)]) for place, value in enumerate(row)]
        text += delimiter.join(fields) + newline
    if draw(st.booleans()):
        text = text.removesuffix(newline)
    mark, encoding = draw(
        st.sampled_from(
            [
                (b"", "utf-8"),
                (codecs.BOM_UTF8, "utf-8"),
                (codecs.BOM_UTF16_LE, "utf-16-le"),
                (codecs.BOM_UTF16_BE, "utf-16-be"),
            ]
        )
    )
    name = "rows" + kind + draw(st.sampled_from(sorted(PACK)))
    return Written(header, rows, lines[1:], text, name, mark, encoding)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def read_back(folder: Path, case: Written) -> None:
    path = folder / case.name
    path.write_bytes(case.content())
    table = read(path)
    assert list(table.names) == case.header
    assert [list(row.values()) for row in table.rows] == case.rows
    assert table.lines == case.lines
    assert table.rejected == []


@quick
@given(case=written())
def test_reads_back_equal(folder: Path, case: Written):
    read_back(folder, case)


@pytest.mark.slow
@nightly
@given(case=written())
def test_reads_back_equal_nightly(folder: Path, case: Written):
    read_back(folder, case)


def damaged(text: str, draw: st.DataObject) -> str:
    for _ in range(draw.draw(st.integers(1, 3))):
        place = draw.draw(st.integers(0, len(text)))
        length = draw.draw(st.integers(0, 3))
        text = text[:place] + draw.draw(pieces) + text[place + length :]
    return text


def account(table: Table, text: str) -> None:
    """Check that each line of the file belongs to the header, to one row kept or to one rejected, and to no two."""
    newline = "\r" if "carriage returns" in table.format else "\n"
    lines = text.split(newline)
    spans = [(1, 1 + sum(name.count(newline) for name in table.names))]
    for start, row in zip(table.lines, table.rows, strict=True):
        spans.append((start, start + sum(value.count(newline) for value in row.values())))
    for reject in table.rejected:
        several = re.match(r"lines (\d+)-(\d+): ", reject.reason)
        spans.append((reject.line, int(several[2]) if several else reject.line))
    covered = [line for first, last in sorted(spans) for line in range(first, last + 1)]
    assert covered == list(range(1, len(covered) + 1))
    assert all(line in ("", "\r") for line in lines[len(covered) :])
    assert table.read == table.kept + len(table.rejected)


def lose_no_line(folder: Path, case: Written, draw: st.DataObject) -> None:
    path = folder / case.name
    text = damaged(case.text, draw)
    assume("\0" not in text and not (case.mark == b"" and text.startswith("\ufeff")))
    path.write_bytes(case.content(text))
    try:
        table = read(path, max_rejects=10**6)
    except DataError:
        return  # refused as a whole, which loses nothing in silence
    account(table, text)


@quick
@given(case=written(), draw=st.data())
def test_damaged_files_lose_no_line(folder: Path, case: Written, draw: st.DataObject):
    lose_no_line(folder, case, draw)


@pytest.mark.slow
@nightly
@given(case=written(), draw=st.data())
def test_damaged_files_lose_no_line_nightly(folder: Path, case: Written, draw: st.DataObject):
    lose_no_line(folder, case, draw)


@quick
@given(case=written(delimiters=",;"), draw=st.data())
def test_one_quote_too_many_or_too_few_is_never_accepted(folder: Path, case: Written, draw: st.DataObject):
    quotes = [place for place, letter in enumerate(case.text) if letter == '"']
    if quotes and draw.draw(st.booleans()):
        place = draw.draw(st.sampled_from(quotes))
        text = case.text[:place] + case.text[place + 1 :]
    else:
        place = draw.draw(st.integers(0, len(case.text)))
        text = case.text[:place] + '"' + case.text[place:]
    path = folder / case.name
    path.write_bytes(case.content(text))
    with pytest.raises(DataError):
        read(path)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
kinds: dict[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "number": st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    "flag": st.booleans(),
    "list": st.lists(scalars, max_size=3),
    "object": st.dictionaries(texts, scalars, max_size=3),
}
some_columns = st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in kinds.items()})


@quick
@given(
    rows=st.lists(some_columns, min_size=1, max_size=5),
    escaped=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
    packing=st.sampled_from(sorted(PACK)),
)
def test_json_lines_read_back_equal(
    folder: Path, rows: list[dict[str, Any]], escaped: bool, newline: str, packing: str
):
    path = folder / f"rows.jsonl{packing}"
    content = newline.join(json.dumps(row, ensure_ascii=escaped) for row in rows).encode()
    path.write_bytes(PACK[packing](content))
    table = read(path)
    assert table.rows == rows
    assert [[type(value) for value in row.values()] for row in table.rows] == [
        [type(value) for value in row.values()] for row in rows
    ]
    assert list(table.names) == list(dict.fromkeys(name for row in rows for name in row))


tokens = st.sampled_from([b'{"a":', b"1", b"}", b"[", b'"', b",", b"\n", b"\r", b"\xff", b"\0", b"e9", b"\\u", b"d800"])
bytes_of_files = st.binary(max_size=200) | st.lists(tokens | st.binary(max_size=3), max_size=20).map(b"".join)


@quick
@given(
    content=bytes_of_files,
    start=st.sampled_from([b"", b"a,b\n", b"PAR1", b"\x1f\x8b\x08", codecs.BOM_UTF16_LE, codecs.BOM_UTF8]),
    kind=st.sampled_from([".csv", ".tsv", ".jsonl", ".json", ".parquet", ".csv.gz", ".jsonl.xz"]),
    packed=st.booleans(),
    encoding=st.sampled_from([None, None, "latin-1", "utf-16", "cp1252", "gb18030", "iso2022_jp", "utf-32", "hz", "x"]),
)
def test_random_bytes(folder: Path, content: bytes, start: bytes, kind: str, packed: bool, encoding: str | None):
    path = folder / f"rows{kind}"
    packing = kind[-3:] if packed and kind[-3:] in PACK else ""
    path.write_bytes(PACK[packing](start + content))
    try:
        table = read(path, max_rejects=10**6, encoding=encoding)
    except GraftError as error:
        said = str(error)
    else:
        assert table.kept == len(table.lines) > 0
        said = f"{path}: {table.read} rows"
    assert "\n" not in said
    assert said.startswith(str(path)) or encoding in ("x", *([encoding] if kind == ".parquet" else []))

"""Bad and odd data files, each with what must come of it: the rows kept, the lines rejected and why, or the error."""

from __future__ import annotations

import codecs
import gzip
import json
import lzma
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from graft.data.read import RejectedRows, read
from graft.errors import DataError

MANY = 10**6
GOOD = b"text,label\ngood,pos\nbad,neg\n"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file; either ``error``, part of the message that refuses it, or the values kept and the lines rejected."""

    name: str
    content: bytes
    error: str = ""
    kept: list[list[Any]] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
    lines: list[int] | None = None
    found: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    file: str = "rows.csv"


def values(text: str) -> list[list[str]]:
    """``"a,b c,d"`` -> [["a", "b"], ["c", "d"]]."""
    return [row.split(",") for row in text.split(" ")]


PLAIN = values("good,pos bad,neg")

QUOTING = [
    Case(name="plain", content=GOOD, kept=PLAIN, lines=[2, 3], found="csv"),
    Case(name="crlf", content=GOOD.replace(b"\n", b"\r\n"), kept=PLAIN, lines=[2, 3]),
    Case(name="cr", content=GOOD.replace(b"\n", b"\r"), kept=PLAIN, lines=[2, 3], found="carriage returns"),
    Case(name="mixed line ends", content=b"text,label\r\ngood,pos\nbad,neg", kept=PLAIN, lines=[2, 3]),
    Case(name="no last line end", content=GOOD[:-1], kept=PLAIN),
    Case(name="semicolon", content=GOOD.replace(b",", b";"), kept=PLAIN, found="csv, delimiter semicolon"),
    Case(name="tab in csv", content=GOOD.replace(b",", b"\t"), kept=PLAIN, found="csv, delimiter tab"),
    Case(name="tsv", content=GOOD.replace(b",", b"\t"), kept=PLAIN, found="tsv", file="rows.tsv"),
    Case(name="comma in tsv", content=GOOD, kept=PLAIN, found="tsv, delimiter comma", file="rows.tsv"),
    Case(name="tab beats commas", content=b"a, b, c\tlabel\n1,2\tx\n", kept=[["1,2", "x"]], file="rows.tsv"),
    Case(name="two delimiters", content=b"a;b,c\n1;2,3\n", error="line 1: comma and semicolon occur equally often"),
    Case(name="quoted delimiter in a name", content=b'"a;b;c",d\n1,2\n', kept=[["1", "2"]], found="csv"),
    Case(
        name="line ends in quotes",
        content=b'text,label\n"one\ntwo\r\nthree\rfour",pos\nbad,neg\n',
        kept=[["one\ntwo\r\nthree\rfour", "pos"], ["bad", "neg"]],
        lines=[2, 5],
    ),
    Case(name="only a return in quotes", content=b'text,label\n"a\rb",pos\n', kept=[["a\rb", "pos"]]),
    Case(name="line feed in a cr file", content=b'text,label\r"a\nb",pos\rc,d\r', kept=[["a\nb", "pos"], ["c", "d"]]),
    Case(name="doubled quotes", content=b'text,label\n"""a"" b""""",pos\n', kept=[['"a" b""', "pos"]]),
    Case(name="delimiter and spaces kept", content=b'text,label\n" a, b ", pos\n', kept=[[" a, b ", " pos"]]),
    Case(
        name="line separators are text",
        content="text,label\na\u2028b\x0bc\x85d,pos\n".encode(),
        kept=[["a\u2028b\x0bc\x85d", "pos"]],
    ),
    Case(
        name="never closed",
        content=b'text,label\na,pos\n"b,neg\nc,pos\nd,neg\n',
        kept=values("a,pos c,pos d,neg"),
        rejected={3: "the quote opened in line 3 is never closed"},
        lines=[2, 4, 5],
    ),
    Case(
        name="never closed in the last line",
        content=b'text,label\na,pos\nb,"neg\n',
        kept=values("a,pos"),
        rejected={3: "never closed"},
    ),
    Case(
        name="opened twice",
        content=b'text,label\n"a,pos\nb,neg\n"c",pos\n"d,neg\ne,pos\n',
        kept=values("b,neg c,pos e,pos"),
        rejected={2: "opened in line 2 is not closed by the next that could, in line 5", 5: "never closed"},
    ),
    Case(
        name="closed too early",
        content=b'text,label\n"a" b,pos\nc,neg\n',
        kept=values("c,neg"),
        rejected={2: "text follows the quote that closes at character 3"},
    ),
    Case(
        name="quote inside a field",
        content=b'text,label\na,pos\nthe 5" disk,neg\nc,pos\n',
        kept=values("a,pos c,pos"),
        rejected={3: "the quote at character 6 is in a field that is not quoted"},
    ),
    Case(
        name="quote inside a tsv field",
        content=b'text\tlabel\na 5" disk\tneg\n',
        kept=[['a 5" disk', "neg"]],
        file="rows.tsv",
    ),
    Case(
        name="quoted start of a tsv field",
        content=b'text\tlabel\n"Hello," she said\tpos\n"a\tb"\tneg\n',
        kept=[["a\tb", "neg"]],
        rejected={2: "text follows the quote that closes at character 8"},
        file="rows.tsv",
    ),
    Case(
        name="quotes as characters",
        content=b'text\tlabel\n"Hello," she said\tpos\n"\tneg\n',
        kept=[['"Hello," she said', "pos"], ['"', "neg"]],
        options={"quotes": False},
        file="rows.tsv",
        found="tsv, quotes are plain characters",
    ),
    Case(
        name="return outside quotes",
        content=b"text,label\na\rb,pos\nc,neg\n",
        kept=values("c,neg"),
        rejected={2: "a carriage return in a field that is not quoted"},
    ),
    Case(
        name="return outside quotes in a quoted row",
        content=b'text,label\n"a",p\ros\nc,neg\n',
        kept=values("c,neg"),
        rejected={2: "a carriage return in a field that is not quoted"},
    ),
    Case(
        name="too many and too few",
        content=b'text,label\na,pos,x\nb\nc,neg\n"d,1",2,3\n"e"\n',
        kept=values("c,neg"),
        rejected={
            2: "3 fields, the header has 2; put quotes around a field that contains a comma",
            3: "1 field, the header has 2",
            5: "3 fields",
            6: "1 field, ",
        },
    ),
    Case(
        name="too few over three lines",
        content=b'text,label\n"a\nb\nc"\nd,neg\n',
        kept=values("d,neg"),
        rejected={2: "lines 2-4: 1 field, the header has 2"},
        lines=[5],
    ),
    Case(
        name="empty lines",
        content=b"text,label\n\na,pos\n\n\nb,neg\n\n\n",
        kept=values("a,pos b,neg"),
        rejected={2: "an empty line", 4: "an empty line", 5: "an empty line"},
        lines=[3, 6],
    ),
    Case(
        name="fault in a multi-line row",
        content=b'text,label\n"a\nb" c,pos\nd,neg\n',
        kept=values("d,neg"),
        rejected={2: "not closed", 3: "the quote at character 2"},
    ),
]

MISSING = [
    Case(name="na stays text", content=b"text,label\nNA,null\nNone,nan\n,\n", kept=values("NA,null None,nan ,")),
    Case(name="empty text of one column", content=b'text\n""\nNA\n', kept=[[""], ["NA"]]),
    Case(name="one row", content=b"text,label\na,b\n", kept=values("a,b")),
    Case(name="one column", content=b"text\na\n b \n", kept=[["a"], [" b "]]),
    Case(name="index column", content=b",text\n0,a\n", kept=values("0,a")),
    Case(name="empty", content=b"", error="an empty file; expected a line of column names"),
    Case(name="empty gz", content=gzip.compress(b""), error="an empty file", file="rows.csv.gz"),
    Case(name="only a mark", content=codecs.BOM_UTF8, error="an empty file"),
    Case(name="header only", content=b"text,label\n", error="has column names but no rows"),
    Case(name="header and empty lines", content=b"text,label\n\n\n", error="has column names but no rows"),
    Case(name="empty first line", content=b"\ntext,label\na,b\n", error="the first line is empty"),
    Case(
        name="nothing usable",
        content=b"text,label\na\nb\n",
        error="none of its 2 rows usable. The first: line 2: 1 field",
    ),
    Case(
        name="column twice", content=b"text,label,text\n1,2,3\n", error="line 1 names the column 'text' more than once"
    ),
    Case(
        name="unclosed header",
        content=b'"text,label\na,b\n',
        error="line 1, the column names: the quote opened in line 1",
    ),
    Case(
        name="empty jsonl",
        content=b"\n \n",
        error="an empty file; expected one JSON object per line",
        file="rows.jsonl",
    ),
]


def encoded(name: str, text: str, codec: str, *, mark: bytes = b"", **expected: Any) -> Case:
    asked = expected.pop("asked", None)
    return Case(name=name, content=mark + text.encode(codec, "surrogatepass"), options={"encoding": asked}, **expected)


LE, BE = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
ENCODING = [
    encoded("utf-8 mark", "text,label\né,pos\n", "utf-8-sig", kept=values("é,pos")),
    encoded("utf-8 mark before a quote", '"text",label\na,b\n', "utf-8-sig", kept=values("a,b")),
    encoded("utf-16-le", "text,label\né😀,pos\n", "utf-16-le", mark=LE, kept=values("é😀,pos")),
    encoded("utf-16-be", "text,label\n中,pos\n", "utf-16-be", mark=BE, kept=values("中,pos")),
    encoded("utf-32", "text,label\n中,pos\n", "utf-32-le", mark=codecs.BOM_UTF32_LE, kept=values("中,pos")),
    encoded("utf-16 unmarked", "text,label\na,b\n", "utf-16-le", error="line 1, byte 1: a NUL byte"),
    encoded("utf-16 named", "text,label\na,b\n", "utf-16-le", asked="utf-16", kept=values("a,b")),
    encoded("latin-1", "text,label\na,b\nc\né,pos\n", "latin-1", error="line 4, byte 17: 0xe9 is not utf-8 text"),
    encoded("latin-1 named", "text,label\né,ÿ\n", "latin-1", asked="latin-1", kept=values("é,ÿ")),
    encoded("shift-jis", "text,label\n表,b\n", "shift_jis", asked="shift_jis", kept=values("表,b")),
    encoded("two encodings", "text,label\n", "utf-8-sig", asked="latin-1", error="byte order mark of utf-8, yet"),
    encoded("mark and its encoding", "text,label\na,b\n", "utf-8-sig", asked="UTF8", kept=values("a,b")),
    encoded("utf-16 broken", "a,b\n\ud800x,c\n", "utf-16-le", mark=LE, error="line 2, byte 10"),
    encoded("nul", "text,label\na,b\nc\0d,e\n", "utf-8", error="line 3, byte 16: a NUL byte"),
    encoded("nul in utf-16", "a,b\n\0,c\n", "utf-16-le", mark=LE, error="line 2, byte 10: a NUL byte"),
    encoded("surrogate", "text,label\na,\ud800\n", "utf-8", error="line 2, byte 13"),
    Case(name="after a mark", content=codecs.BOM_UTF8 + b"text,label\n\xff,b\n", error="line 2, byte 14: 0xff"),
    Case(
        name="cut off", content=b"text,label\na,\xe4\xb8", error="line 2, byte 13: 0xe4b8 is not utf-8 text (unexpected"
    ),
    Case(name="overlong", content=b"text,label\n\xc0\xaf,b\n", error="line 2, byte 11"),
]

PACKING = [
    Case(name="gz", content=gzip.compress(GOOD), kept=PLAIN, file="rows.csv.gz"),
    Case(
        name="two gz members", content=gzip.compress(GOOD[:15]) + gzip.compress(GOOD[15:]), kept=PLAIN, file="a.CSV.GZ"
    ),
    Case(name="xz", content=lzma.compress(GOOD), kept=PLAIN, file="rows.csv.xz"),
    Case(name="gz cut off", content=gzip.compress(GOOD)[:-9], error="damaged or cut off .gz file", file="rows.csv.gz"),
    Case(
        name="gz checksum", content=gzip.compress(GOOD)[:-8] + bytes(8), error="damaged or cut off", file="rows.csv.gz"
    ),
    Case(name="xz cut off", content=lzma.compress(GOOD)[:-20], error="damaged or cut off .xz file", file="rows.csv.xz"),
    Case(name="no gz", content=GOOD, error="damaged or cut off .gz file", file="rows.csv.gz"),
    Case(name="no xz", content=GOOD, error="damaged or cut off .xz file", file="rows.csv.xz"),
    Case(name="gz unnamed", content=gzip.compress(GOOD), error="this is gzip data: add .gz"),
    Case(name="spreadsheet", content=b"PK\x03\x04" + bytes(50), error="a zip archive or a spreadsheet"),
    Case(name="parquet unnamed", content=b"PAR1" + bytes(50), error="this is parquet: name it .parquet"),
]


def json_lines(name: str, content: str, **expected: Any) -> Case:
    return Case(name=name, content=content.encode("utf-8", "surrogatepass"), file="rows.jsonl", **expected)


def bad_line(name: str, line: str, reason: str) -> Case:
    """The line, between two good ones."""
    content = f'{{"text": "a"}}\n{line}\n{{"text": "b"}}\n'
    return json_lines(name, content, kept=[["a"], ["b"]], rejected={2: reason}, lines=[1, 3])


JSON = [
    json_lines("types", '{"a": "NA", "b": 1, "c": 1.5, "d": true, "e": null}', kept=[["NA", 1, 1.5, True, None]]),
    json_lines("nested", '{"f": ["x", {"y": []}]}', kept=[[["x", {"y": []}]]], found="jsonl"),
    json_lines("crlf and mark", '\ufeff{"a": 1}\r\n{"a": 2}\r\n\r\n', kept=[[1], [2]], lines=[1, 2]),
    json_lines("keys come and go", '{"a": 1}\n{"b": "x", "a": 2}\n{"b": null}', kept=[[1], ["x", 2], [None]]),
    json_lines("numbers", '{"a": 1}\n{"a": 1.5}\n{"a": -9223372036854775808}', kept=[[1], [1.5], [-(2**63)]]),
    json_lines("pretty-printed", '[\n{"a": 1},\n{"a": 2}\n]', error="JSON spread over many lines"),
    bad_line("trailing comma", '{"text": "x",}', "not valid JSON: "),
    bad_line("NaN", '{"text": NaN}', "NaN is no JSON"),
    bad_line("Infinity", '{"text": -Infinity}', "-Infinity is no JSON"),
    bad_line("duplicate key", '{"text": "x", "text": "y"}', "the key 'text' is given twice"),
    bad_line("duplicate key below", '{"text": "x", "more": {"a": 1, "a": 1}}', "the key 'a' is given twice"),
    bad_line("two objects", '{"text": "x"} {"text": "y"}', "something follows the first value, at character 15"),
    bad_line("a list", '["x"]', "a list; expected one JSON object per line"),
    bad_line("a text", '"x"', "text; expected one JSON object"),
    bad_line("null", "null", "null; expected one JSON object"),
    bad_line("single quotes", "{'text': 'x'}", "not valid JSON"),
    bad_line("cut off", '{"text": "x', "not valid JSON: Unterminated string"),
    bad_line("raw control character", '{"text": "a\tb"}', "not valid JSON: Invalid control character"),
    bad_line("mixed types", '{"text": 5}', "'text' is a number here and text in line 1"),
    bad_line("too large", '{"text": "x", "n": 1e400}', "the number 1e400 is too large"),
    bad_line("negative too large", '{"text": "x", "n": -1e999}', "the number -1e999 is too large"),
    bad_line("64 bits", '{"text": "x", "n": 9223372036854775808}', "9223372036854775808 does not fit in 64 bits"),
    bad_line("huge integer", '{"text": "x", "n": ' + "9" * 10_000 + "}", "does not fit in 64 bits"),
    bad_line("comma as point", '{"text": "x", "n": 1,5}', "not valid JSON"),
    bad_line("leading zero", '{"text": "x", "n": 01}', "not valid JSON"),
    bad_line("half a surrogate", '{"text": "x\\ud83d"}', "half of a surrogate pair (\\ud83d)"),
    bad_line("half a surrogate in a key", '{"text": "x", "\\ude00": 1}', "half of a surrogate pair"),
    bad_line("escaped nul", '{"text": "x", "l": ["\\u0000"]}', "a NUL character"),
    bad_line("65 deep", '{"text": "x", "l": ' + "[" * 64 + "]" * 64 + "}", "nested more than 64 deep"),
    bad_line("100,000 deep", "[" * 100_000 + "]" * 100_000, "nested more than 64 deep"),
    bad_line("empty line", "", "an empty line"),
    json_lines("64 deep", '{"a": ' + "[" * 63 + "]" * 63 + "}", kept=[[json.loads("[" * 63 + "]" * 63)]]),
    json_lines("brackets in text", json.dumps({"a": "[{" * 90 + '"\\'}), kept=[["[{" * 90 + '"\\']]),
    json_lines("whole pair escaped", '{"a": "\\ud83d\\ude00"}', kept=[["😀"]]),
]

CASES = [*QUOTING, *MISSING, *ENCODING, *PACKING, *JSON]


def write(folder: Path, case: Case) -> Path:
    path = folder / case.file
    path.write_bytes(case.content)
    return path


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_names_are_distinct():
    assert len({case.name for case in QUOTING + MISSING + ENCODING + PACKING}) >= 60
    assert len({(case.file, case.name) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", [case for case in CASES if case.error], ids=lambda case: f"{case.file}: {case.name}")
def test_refused_with_reason(case: Case, tmp_path: Path):
    path = write(tmp_path, case)
    with pytest.raises(DataError) as caught:
        read(path, max_rejects=MANY, **case.options)
    assert case.error in one_line(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.error], ids=lambda case: f"{case.file}: {case.name}"
)
def test_every_row_is_kept_or_rejected(case: Case, tmp_path: Path):
    path = write(tmp_path, case)
    table = read(path, max_rejects=len(case.rejected), **case.options)
    assert [list(row.values()) for row in table.rows] == case.kept
    assert [reject.line for reject in table.rejected] == list(case.rejected)
    for reject in table.rejected:
        assert case.rejected[reject.line] in reject.reason
        assert reject.file == str(path)
    assert (table.kept, table.read) == (len(case.kept), len(case.kept) + len(case.rejected))
    assert case.found in table.format
    assert len(table.lines) == table.kept
    if case.lines is not None:
        assert table.lines == case.lines


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.rejected], ids=lambda case: f"{case.file}: {case.name}"
)
def test_rejects_need_leave(case: Case, tmp_path: Path):
    path = write(tmp_path, case)
    count = len(case.rejected)
    with pytest.raises(RejectedRows) as caught:
        read(path, max_rejects=count - 1, **case.options)
    line, reason = next(iter(case.rejected.items()))
    message = one_line(caught.value)
    assert f"{count} of its {count + len(case.kept)} rows not usable. The first: line {line}: " in message
    assert reason in message
    assert message.endswith(f"--max-rejects {count}")
    assert [reject.line for reject in caught.value.rejected] == list(case.rejected)

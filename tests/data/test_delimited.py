from __future__ import annotations

import time
from pathlib import Path

import pytest

from graft.data.delimited import parse, sniff
from graft.errors import DataError

PATH = Path("rows.csv")


@pytest.mark.parametrize(
    ("start", "usual", "delimiter", "newline"),
    [
        ("a,b\n1,2\n", ",", ",", "\n"),
        ("a;b\r\n1;2\r\n", ",", ";", "\n"),
        ("a\tb\r1\t2\r", ",", "\t", "\r"),
        ("a", ",", ",", "\n"),
        ("a\n1;2;3\n", ",", ",", "\n"),
        ("a\n1;2;3\n", "\t", "\t", "\n"),
        ('"a;b;c",d\n', ",", ",", "\n"),
        ('"a\r\nb",c\n', ",", ",", "\n"),
        ('"a\nb",c\r1,2\r', ",", ",", "\r"),
        ("a (x, y);b;c\n", ",", ";", "\n"),
        ("", ",", ",", "\n"),
        ("a,b\r", ",", ",", "\n"),
        ('""\r""', ",", ",", "\r"),
    ],
)
def test_sniffed_from_the_header(start: str, usual: str, delimiter: str, newline: str):
    dialect = sniff(PATH, start, usual=usual)
    assert (dialect.delimiter, dialect.newline) == (delimiter, newline)


def test_sniffing_does_not_guess():
    with pytest.raises(DataError, match=r"rows.csv: line 1: comma and tab occur equally often"):
        sniff(PATH, "a,b\tc\n", usual=",")


def test_a_quoted_row_across_blocks():
    table = parse(PATH, iter(["text,lab", 'el\n"one\n', "two", '"', '"three"', ",po", "s\nb,neg"]), usual=",")
    assert table.rows == [{"text": 'one\ntwo"three', "label": "pos"}, {"text": "b", "label": "neg"}]
    assert table.lines == [2, 4]


def test_too_many_columns():
    with pytest.raises(DataError, match=r"line 1, the column names: 10,001 fields; at most 10,000 are read"):
        parse(PATH, iter([",".join(map(str, range(10_001))) + "\n"]), usual=",")
    assert len(parse(PATH, iter([",".join(map(str, range(10_000))) + "\n"]), usual=",").names) == 10_000
    with pytest.raises(DataError, match=r"more than 10,000 fields"):
        parse(PATH, iter([",".join(f'"{i}"' for i in range(10_001)) + "\n"]), usual=",")


@pytest.mark.parametrize(
    ("line", "usual", "kept"),
    [
        ('"a\n', ",", 0),
        ('"""\n', ",", 0),
        ('a"b"c\n', ",", 0),
        ('x,"a\n', ",", 0),
        ('x"y\t"abc\n', "\t", 0),
        ('x"\t"abc"z"\n', "\t", 0),
        ('"a\nx,""\nb,c\n', ",", 2),
    ],
)
def test_stray_quotes_cost_linear_time(line: str, usual: str, kept: int):
    def cost(times: int) -> float:
        start = time.process_time()
        table = parse(PATH, iter([f"a{usual}b\n", line * times]), usual=usual)
        assert table.kept == kept * times
        assert table.rejected
        return time.process_time() - start

    cost(100)
    # Read again from every stray quote to the end of the file, this would take 64 times as long, not 8.
    assert min(cost(40_000) for _ in range(3)) < 32 * max(cost(5_000), 0.01)


def test_the_quoted_row_has_a_limit():
    long = ("x" * 1_000_000 + "\n") * 16
    table = parse(PATH, iter(['a,b\n"' + long + 'c",d\n"e",f\n']), usual=",")
    assert [len(row["a"]) for row in table.rows] == [16_000_017, 1]
    table = parse(PATH, iter(['a,b\n"' + long + long + 'c",d\n"e",f\n']), usual=",")
    assert table.rows == [{"a": "e", "b": "f"}]
    assert table.rejected[0].line == 2
    assert table.rejected[0].reason == "the quote opened in line 2 is never closed within 16,777,216 characters"
    assert (table.lines, table.read) == ([35], 34)

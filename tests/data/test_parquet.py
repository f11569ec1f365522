from __future__ import annotations

import base64
import datetime
import decimal
import math
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graft.data.read import RejectedRows, read
from graft.errors import DataError, UsageError


def written(folder: Path, table: pa.Table, **options: object) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(table, path, **options)
    return path


def test_types_are_kept(tmp_path: Path):
    columns = {
        "text": pa.array(["NA", "", None, "é\n\r"]),
        "large": pa.array(["a", "b", None, "a"], pa.large_string()),
        "category": pa.array(["x", None, "x", "y"]).dictionary_encode(),
        "number": pa.array([1, -(2**63), None, 2**63 - 1]),
        "small": pa.array([1, 2, 3, 255], pa.uint8()),
        "real": pa.array([0.5, 1.0, None, -1e300]),
        "single": pa.array([0.5, 1.0, None, 2.0], pa.float32()),
        "flag": pa.array([True, False, None, True]),
        "nothing": pa.nulls(4),
    }
    table = read(written(tmp_path, pa.table(columns)))
    assert table.rows == [
        {name: column[index].as_py() for name, column in columns.items()} for index in range(len(columns["text"]))
    ]
    assert table.names == tuple(columns)
    assert (table.lines, table.read, table.format) == ([1, 2, 3, 4], 4, "parquet")
    assert type(table.rows[0]["flag"]) is bool
    assert type(table.rows[0]["number"]) is int


def test_dates_times_and_decimals_become_text(tmp_path: Path):
    columns = {
        "day": pa.array([datetime.date(2026, 11, 20)]),
        "moment": pa.array([1], pa.timestamp("ns")),
        "time": pa.array([datetime.time(1, 2, 3)]),
        "price": pa.array([decimal.Decimal("1.50")]),
    }
    row = read(written(tmp_path, pa.table(columns))).rows[0]
    assert row == {
        "day": "2026-11-20",
        "moment": "1970-01-01 00:00:00.000000001",
        "time": "01:02:03.000000",
        "price": "1.50",
    }


@pytest.mark.parametrize("options", [{"use_dictionary": False}, {"row_group_size": 1000}, {"compression": "gzip"}])
def test_many_batches_and_row_groups(tmp_path: Path, options: dict[str, object]):
    rows = [{"text": f"text {index % 5000}", "label": index % 3} for index in range(20_000)]
    table = read(written(tmp_path, pa.Table.from_pylist(rows), **options))
    assert table.rows == rows
    assert table.lines == list(range(1, 20_001))


def test_a_text_that_repeats_is_kept_once(tmp_path: Path):
    path = written(tmp_path, pa.table({"text": ["a long text"] * 10_000, "other": ["a long text"] * 10_000}))
    assert len({id(value) for row in read(path).rows for value in row.values()}) == 1


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([[["a"]], [["b"]]]), "'bad' is list<"),
        (pa.array([[{"x": 1}], []]), "'bad' is list<"),
        (pa.array([[b"a"], [b"b"]]), "'bad' is list<"),
        (pa.array([{"x": 1}, {"x": 2}]), "'bad' is struct<x: int64>"),
        (pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())), "'bad' is map<"),
        (pa.array([b"a", b"b"]), "'bad' is binary"),
        (pa.array([b"a", b"b"], pa.binary(1)), "'bad' is fixed_size_binary"),
        (pa.array([b"a", b"b"]).dictionary_encode(), "'bad' is dictionary<values=binary"),
        (pa.array([1, 2], pa.duration("s")), "'bad' is duration[s]"),
    ],
)
def test_columns_that_are_not_flat(tmp_path: Path, column: pa.Array, reason: str):
    with pytest.raises(DataError) as caught:
        read(written(tmp_path, pa.table({"text": ["a", "b"], "bad": column})))
    assert f"column {reason}" in str(caught.value)
    assert "write JSON lines (.jsonl), which may hold objects" in str(caught.value)


LISTS = [["a", "b"], [], None, ["a", None, "é 👍"], ["a"]]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(LISTS), LISTS),
        (pa.array(LISTS, pa.large_list(pa.large_string())), LISTS),
        (pa.array(LISTS, pa.list_(pa.dictionary(pa.int32(), pa.string()))), LISTS),
        (pa.array([[1, 2], [], None, [3], [4]]), [[1, 2], [], None, [3], [4]]),
        (pa.array([[0.5], [], None, [None], [True + 1.0]]), [[0.5], [], None, [None], [2.0]]),
        (pa.array([[], [], None, [], []], pa.list_(pa.string())), [[], [], None, [], []]),
    ],
)
def test_lists(tmp_path: Path, column: pa.Array, expected: list[object]):
    path = written(tmp_path, pa.table({"number": [1, 2, 3, 4, 5], "list": column, "text": ["v", "w", "x", "y", "z"]}))
    table = read(path)
    assert [row["list"] for row in table.rows] == expected
    assert [row["text"] for row in table.rows] == ["v", "w", "x", "y", "z"]


@pytest.mark.parametrize("options", [{"use_dictionary": False}, {"row_group_size": 700}, {}])
def test_many_lists(tmp_path: Path, options: dict[str, object]):
    rows = [{"list": [f"w{index % 4999 + n}" for n in range(index % 4)], "n": index} for index in range(10_000)]
    assert read(written(tmp_path, pa.Table.from_pylist(rows), **options)).rows == rows


def test_a_text_that_repeats_in_lists_is_kept_once(tmp_path: Path):
    table = read(written(tmp_path, pa.table({"list": [["a long text"] * 50] * 5_000})))
    assert len({id(value) for row in table.rows for value in row["list"]}) == 1


def test_lists_of_more_values_than_the_file_can_hold(tmp_path: Path):
    path = written(tmp_path, pa.table({"list": [["x"] * 1_000_000] * 3}))
    assert path.stat().st_size < 2**17
    with pytest.raises(DataError, match=r"3,000,000 values of one column in [\d,]+ bytes, as a decompression bomb has"):
        read(path)


def test_what_is_wrong_in_a_list_is_told_of_its_row(tmp_path: Path):
    path = written(tmp_path, pa.table({"list": [["a"], [], ["b", "c\0"], ["d"]]}))
    with pytest.raises(RejectedRows, match=r"The first: line 3: column 'list': a NUL character"):
        read(path)
    assert [row["list"] for row in read(path, max_rejects=1).rows] == [["a"], [], ["d"]]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([0.5, math.nan, 1.0]), "column 'value': nan is not a number to learn from"),
        (pa.array([0.5, math.inf, 1.0]), "column 'value': inf is not a number"),
        (pa.array([0.5, -math.inf, 1.0], pa.float32()), "column 'value': -inf is not a number"),
        (pa.array([1, 2**63, 2], pa.uint64()), "column 'value': the whole number 9223372036854775808 does not fit"),
        (pa.array(["a", "b\0", "c"]), "column 'value': a NUL character"),
        (pa.array(["a", "b\0", "a"]).dictionary_encode(), "column 'value': a NUL character"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path: Path, column: pa.Array, reason: str):
    path = written(tmp_path, pa.table({"text": ["x", "y", "z"], "value": column}))
    with pytest.raises(RejectedRows, match=r"1 of its 3 rows not usable\. The first: line 2: " + reason):
        read(path)
    table = read(path, max_rejects=1)
    assert [row["text"] for row in table.rows] == ["x", "z"]
    assert table.lines == [1, 3]
    assert [(each.line, each.file) for each in table.rejected] == [(2, str(path))]
    assert "'y'" in table.rejected[0].text


def test_row_numbers_count_rejected_rows_too(tmp_path: Path):
    numbers = [math.nan if index in (5, 4999) else 1.0 for index in range(6000)]
    table = read(written(tmp_path, pa.table({"value": numbers})), max_rejects=2)
    assert [each.line for each in table.rejected] == [6, 5000]
    assert table.lines == [line for line in range(1, 6001) if line not in (6, 5000)]


def test_text_that_is_not_utf_8(tmp_path: Path):
    bad = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xff\xfe"))
    with pytest.raises(DataError, match="(?i)utf-?8") as caught:
        read(written(tmp_path, pa.table({"text": bad})))
    assert "\n" not in str(caught.value)


def test_column_twice_and_no_rows(tmp_path: Path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(DataError, match="names the column 'a' more than once"):
        read(written(tmp_path, table))
    with pytest.raises(DataError, match="has column names but no rows"):
        read(written(tmp_path, pa.table({"a": pa.array([], pa.string())})))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 4, b"text,label\n", bytes(100)])
def test_no_parquet(tmp_path: Path, content: bytes):
    (tmp_path / "rows.parquet").write_bytes(content)
    with pytest.raises(DataError, match="damaged or not a parquet file") as caught:
        read(tmp_path / "rows.parquet")
    assert "\n" not in str(caught.value)


def test_cut_off_anywhere(tmp_path: Path):
    path = written(tmp_path, pa.table({"text": ["a", "b"] * 100}))
    content = path.read_bytes()
    for size in (*range(0, len(content), 150), len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match="damaged or not a parquet file"):
            read(path)


def test_options_of_other_formats(tmp_path: Path):
    path = written(tmp_path, pa.table({"text": ["a"]}))
    with pytest.raises(UsageError, match="parquet files have no encoding; leave out --encoding"):
        read(path, encoding="latin-1")
    with pytest.raises(UsageError, match="--no-quotes, quotes=False\\) is for csv and tsv files"):
        read(path, quotes=False)


MUTATE = """
import random, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from graft.data.read import read
from graft.errors import GraftError
path, seed, trials = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
table = pa.table({"text": [f"some text {i % 7}" for i in range(60)], "label": [i % 3 for i in range(60)],
                  "score": [i / 7 for i in range(60)], "flag": [i % 2 == 0 for i in range(60)]})
files = []
for options in ({}, {"use_dictionary": False, "compression": "none"}, {"compression": "zstd", "row_group_size": 13},
                {"write_page_checksum": True, "data_page_version": "2.0"}):
    pq.write_table(table, path, **options)
    files.append(path.read_bytes())
refused = 0
for _ in range(trials):
    content = bytearray(rng.choice(files))
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(content))
        kind = rng.randrange(4)
        if kind == 0:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[place] = rng.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del content[place : place + rng.randrange(1, 9)]
        else:
            content[place:place] = rng.randbytes(rng.randrange(1, 9))
    path.write_bytes(content)
    try:
        found = read(path, max_rejects=10**9)
        assert found.read == found.kept + len(found.rejected) == len(found.lines) + len(found.rejected)
    except GraftError as error:
        refused += 1
        assert "\\n" not in str(error), error
print(refused)
"""


CRASHING = base64.b64decode(
    "UEFSMRUAFRYVFiwVAhUAFQYVBhwAAAACAAAAAgEBAAAAYRUEGSw1ABgGc2NoZW1hFQIAFQwlABgBdCUATBwAAAAWAhkcGRwmABwV"
    "DBklBgAZGAF0FQAWAhY8FjwmCEkcFQAVABUCADwWAhkGGSYAAgAAABY8FgImCBY8ACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lv"
    "biAyNi4wLjEZHBwAAACCAAAAUEFSMQ=="
)
"""One text column whose statistics are at odds with its schema: pyarrow 26 calls terminate() on it."""


def test_a_file_that_ends_the_process_that_reads_it(tmp_path: Path):
    (tmp_path / "rows.parquet").write_bytes(CRASHING)
    with pytest.raises(DataError, match=r"rows\.parquet: damaged"):
        read(tmp_path / "rows.parquet")


def mutate(folder: Path, seed: int, trials: int) -> int:
    """Read damaged files in a process of its own, which a crash would end."""
    command = [sys.executable, "-c", MUTATE, str(folder / "rows.parquet"), str(seed), str(trials)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout)


def test_damaged_files(tmp_path: Path):
    assert mutate(tmp_path, seed=1, trials=10) > 3


@pytest.mark.slow
def test_many_damaged_files(tmp_path: Path):
    assert mutate(tmp_path, seed=2, trials=500) > 200

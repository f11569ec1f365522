"""Files made to exhaust memory or time: each is read in a process of its own, whose memory and time are measured."""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

MIB = 2**20
READ = """
import resource, sys, time
from graft.data.read import read
from graft.errors import GraftError
if sys.argv[1].endswith(".parquet"):
    import pyarrow
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
try:
    said = f"kept {read(sys.argv[1]).kept}"
except GraftError as error:
    said = str(error)
scale = 1 if sys.platform == "darwin" else 1024
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * scale
grown = max(grown, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * scale)
print(time.process_time() - start, grown, said.encode("unicode_escape").decode())
"""


def giant_line(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"text,label\n" + b"a" * (17 * MIB))
        file.truncate(2**30)


def giant_quoted_line(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'text,label\n"' + b"a" * (17 * MIB))
        file.truncate(2**30)


def million_columns(path: Path) -> None:
    path.write_text(",".join(f"c{index}" for index in range(10**6)) + "\n")


def million_fields(path: Path) -> None:
    path.write_text("a,b\n" + '"",' * 10**6 + "\n")


def million_keys(path: Path) -> None:
    path.write_text(json.dumps({f"c{index}": 1 for index in range(10**6)}) + "\n")


def one_key_often(path: Path) -> None:
    path.write_text("{" + ",".join(['"a": 1'] * 10**6) + "}\n")


def deep(path: Path) -> None:
    path.write_text('{"a": ' * 10**5 + "\n")


def only_quotes(path: Path) -> None:
    path.write_text("a,b\n" + '"' * (16 * MIB - 3) + ",x\n")


def digits(path: Path) -> None:
    path.write_text('{"a": ' + "9" * (15 * MIB) + "}\n")


def gzip_bomb(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(b"text,label\n")
        for _ in range(100):
            file.write(b"good film,positive\n" * 2**16)


def xz_bomb(path: Path) -> None:
    with lzma.open(path, "wb", preset=0) as file:
        file.write(b"text,label\n")
        for _ in range(100):
            file.write(b"good film,positive\n" * 2**16)


def parquet_rows(path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), 20_000_000), pa.array(["x"]))
    pq.write_table(pa.table({"text": column}), path, compression="zstd")


def parquet_text(path: Path) -> None:
    pq.write_table(pa.table({"text": ["x" * MIB] * 100}), path, compression="zstd", use_dictionary=False)


def parquet_long_cell(path: Path) -> None:
    pq.write_table(pa.table({"text": ["x" * (17 * MIB)]}), path, compression="none")


def parquet_columns(path: Path) -> None:
    pq.write_table(pa.table({f"c{index}": pa.array([1]) for index in range(10_001)}), path)


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (giant_line, "a.csv", "line 2 is longer than 16,777,216 characters"),
        (giant_line, "a.jsonl", "line 2 is longer than 16,777,216 characters"),
        (giant_quoted_line, "a.csv", "line 2 is longer than 16,777,216 characters"),
        (million_columns, "a.csv", "1,000,000 fields; at most 10,000 are read"),
        (million_fields, "a.csv", "more than 10,000 fields"),
        (million_keys, "a.jsonl", "1,000,000 keys; at most 10,000 columns"),
        (one_key_often, "a.jsonl", "the key 'a' is given twice"),
        (deep, "a.jsonl", "nested more than 64 deep"),
        (only_quotes, "a.csv", "the quote opened in line 2 is never closed"),
        (digits, "a.jsonl", "does not fit in 64 bits"),
        (gzip_bomb, "a.csv.gz", "unpacks to more than 256 times its size"),
        (xz_bomb, "a.csv.xz", "unpacks to more than 256 times its size"),
        (parquet_rows, "a.parquet", "20,000,000 rows in"),
        (parquet_text, "a.parquet", "as a decompression bomb does"),
        (parquet_long_cell, "a.parquet", "longer than 16,777,216 characters"),
        (parquet_columns, "a.parquet", "10,001 columns; at most 10,000 are read"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_refused_within_limits(tmp_path: Path, make: Callable[[Path], None], name: str, reason: str):
    path = tmp_path / name
    make(path)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    seconds, grown, said = done.stdout.split(maxsplit=2)
    assert reason in said
    assert float(seconds) < 10  # about one on a quiet machine; what must not happen takes minutes
    assert int(grown) < 256 * MIB

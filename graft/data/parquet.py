"""Parquet files with flat columns, read in batches, within limits that are checked before anything is read."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from graft.data.lines import LINE, UNPACKED_FREE, UNPACKED_RATIO
from graft.data.table import COLUMNS, Reject, Table
from graft.errors import DataError

BATCH = 4096
ROWS_FREE = 2**20
ROWS_PER_BYTE = 8
"""A file may hold this many rows per byte, and ROWS_FREE rows anyway: constant columns take next to no room."""

_INTEGER = 2**63


def parse(path: Path) -> Table:
    """Read a parquet file. Text, numbers and booleans keep their types; dates, times and decimals become text.

    Raises:
        DataError: damaged, nested or binary columns, column names given twice, no rows, or beyond the limits.
    """
    try:
        return _parse(path)
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{path}: damaged or not a parquet file: {first}") from error


def _parse(path: Path) -> Table:
    with _opened(path) as file:
        _refuse_bomb(path, file.metadata)
        schema = file.schema_arrow
    _check_schema(path, schema)
    table = Table(path=path, names=tuple(schema.names), rows=[], lines=[], rejected=[], format="parquet")
    # Text is read as codes into a dictionary, and kept once: a text that repeats costs no more however often it does.
    texts: dict[str, str] = {}
    with _opened(path, read_dictionary=[field.name for field in schema if _is_text(field.type)]) as file:
        for batch in file.iter_batches(batch_size=BATCH, use_threads=False):
            _add(table, batch, texts)
    if not table.read:
        raise DataError(f"{path}: has columns but no rows")
    return table


def _opened(path: Path, **options: Any) -> Any:
    return pq.ParquetFile(
        path,
        memory_map=False,
        pre_buffer=False,
        page_checksum_verification=True,
        thrift_string_size_limit=LINE,
        thrift_container_size_limit=2**20,
        **options,
    )


def _refuse_bomb(path: Path, metadata: Any) -> None:
    size = os.path.getsize(path)
    if metadata.num_columns > COLUMNS:
        raise DataError(f"{path}: {metadata.num_columns:,} columns; at most {COLUMNS:,} are read")
    if metadata.num_rows > max(ROWS_FREE, ROWS_PER_BYTE * size):
        raise DataError(f"{path}: {metadata.num_rows:,} rows in {size:,} bytes, as a decompression bomb has")
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    unpacked = sum(
        group.column(index).total_uncompressed_size for group in groups for index in range(group.num_columns)
    )
    if unpacked > max(UNPACKED_FREE, UNPACKED_RATIO * size):
        raise DataError(f"{path}: unpacks to {unpacked:,} bytes from {size:,}, as a decompression bomb does")


def _check_schema(path: Path, schema: Any) -> None:
    seen: set[str] = set()
    for field in schema:
        if field.name in seen:
            raise DataError(
                f"{path}: names the column {field.name[:60]!r} more than once; give every column its own name"
            )
        seen.add(field.name)
        if not _is_flat(field.type):
            raise DataError(
                f"{path}: column {field.name[:60]!r} is {str(field.type)[:60]}; expected text, numbers, booleans, "
                "dates or times. Leave it out, or write JSON lines (.jsonl), which may hold lists and objects"
            )


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_simple(kind: Any) -> bool:
    return bool(
        pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)
    )


def _is_flat(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_flat(kind.value_type)
    written = pa.types.is_decimal(kind) or (pa.types.is_temporal(kind) and not pa.types.is_duration(kind))
    return _is_text(kind) or _is_simple(kind) or bool(written and not pa.types.is_interval(kind))


def _add(table: Table, batch: Any, texts: dict[str, str]) -> None:
    """Add a batch of rows, each either kept or rejected."""
    start = table.read + 1
    faults: dict[int, str] = {}
    columns = [_values(name, batch.column(index), texts, faults) for index, name in enumerate(table.names)]
    for index, values in enumerate(zip(*columns, strict=True)):
        row = dict(zip(table.names, values, strict=True))
        if index in faults:
            text = str(row)[:400] if len(row) < 50 else ""
            table.rejected.append(Reject(line=start + index, reason=faults[index], text=text, file=str(table.path)))
        else:
            table.rows.append(row)
            table.lines.append(start + index)


def _values(name: str, array: Any, texts: dict[str, str], faults: dict[int, str]) -> list[Any]:
    """Give a column's values, noting which rows they rule out."""
    codes: list[int | None] = list(range(len(array)))
    if pa.types.is_dictionary(array.type):
        used = array.indices.unique().drop_null()
        place = {code: index for index, code in enumerate(used.to_pylist())}
        codes = [place.get(code) for code in array.indices.to_pylist()]
        array = array.dictionary.take(used)
    array.validate(full=True)
    if not _is_text(array.type) and not _is_simple(array.type):
        array = array.cast(pa.string())
    values = [texts.setdefault(value, value) if type(value) is str else value for value in array.to_pylist()]
    bad = {index: fault for index, value in enumerate(values) if (fault := _fault(value))}
    if bad:
        for row, code in enumerate(codes):
            if code in bad:
                faults.setdefault(row, f"column {name[:60]!r}: {bad[code]}")
    return [None if code is None else values[code] for code in codes]


def _fault(value: Any) -> str:
    if isinstance(value, str):
        if "\0" in value:
            return "a NUL character"
        return f"longer than {LINE:,} characters, the most that are read" if len(value) > LINE else ""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a number to learn from; write null, or leave the row out"
    if isinstance(value, int) and not -_INTEGER <= value < _INTEGER:
        return f"the whole number {value} does not fit in 64 bits"
    return ""

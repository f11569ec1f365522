"""Parquet files of flat columns and lists, read by a child process: damaged ones can end the one that reads them."""

from __future__ import annotations

import bisect
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from graft.data.lines import LINE, UNPACKED_FREE, UNPACKED_RATIO
from graft.data.table import COLUMNS, Reject, Table
from graft.errors import DataError

LIMITS = {
    "columns": COLUMNS,
    # Constant columns take next to no room: without these two a small file could claim any number of rows.
    "rows": 2**20,
    "rows_per_byte": 8,
    "bytes": UNPACKED_FREE,
    "ratio": UNPACKED_RATIO,
    "batch": 4096,
}
_INTEGER = 2**63
_WORKER = Path(__file__).with_name("parquet_worker.py")
_REFUSED = 3  # its exit code for a file that it will not read


def parse(path: Path) -> Table:
    """Read a parquet file. Text, numbers, booleans and lists keep their types; dates, times and decimals become text.

    Raises:
        DataError: damaged, nested or binary columns, column names given twice, no rows, or beyond the limits.
    """
    worker = [sys.executable, "-P", str(_WORKER), str(path.absolute()), json.dumps(LIMITS)]
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(worker, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said) as child:
            table, fault = _received(path, child.stdout)
        said.seek(0)
        reason = said.read().decode("utf-8", "replace").strip()
    if child.returncode == _REFUSED and reason:
        raise DataError(f"{path}: {reason}")
    if child.returncode or fault:
        last = (reason.splitlines() or [f"exit code {child.returncode}"])[-1]
        raise DataError(f"{path}: damaged: the parquet library failed on it: {str(fault or last)[:200]}")
    if not table.read:
        raise DataError(f"{path}: has column names but no rows")
    return table


def _received(path: Path, stream: Any) -> tuple[Table, Exception | None]:
    """Take the rows that the child sends; with the error, if it stops in the middle."""
    table = Table(path=path, names=(), rows=[], lines=[], rejected=[], format="parquet")
    texts: dict[str, str] = {}
    try:
        with pa.ipc.open_stream(stream) as batches:
            table = Table(**{**vars(table), "names": tuple(batches.schema.names)})
            for batch in batches:
                _add(table, batch, texts)
    except (pa.ArrowException, OSError, ValueError) as error:
        return table, error
    return table, None


def _add(table: Table, batch: Any, texts: dict[str, str]) -> None:
    """Add a batch of rows, each either kept or rejected."""
    start = table.read + 1
    faults: dict[int, str] = {}
    columns = [_values(name, batch.column(index), texts, faults) for index, name in enumerate(table.names)]
    for index, values in enumerate(zip(*columns, strict=True)):
        row = dict(zip(table.names, values, strict=True))
        if index in faults:
            text = str(row) if len(row) < 50 else ""
            table.rejected.append(Reject(line=start + index, reason=faults[index], text=text, file=str(table.path)))
        else:
            table.rows.append(row)
            table.lines.append(start + index)


def _values(name: str, array: Any, texts: dict[str, str], faults: dict[int, str]) -> list[Any]:
    """Give a column's values, noting which rows they rule out. Equal texts become one object."""
    if pa.types.is_list(array.type):
        return _lists(name, array, texts, faults)
    codes: list[int | None] = list(range(len(array)))
    if pa.types.is_dictionary(array.type):
        codes, array = array.indices.to_pylist(), array.dictionary
    values = [texts.setdefault(value, value) if type(value) is str else value for value in array.to_pylist()]
    bad = {index: fault for index, value in enumerate(values) if (fault := _fault(value))}
    if bad:
        for row, code in enumerate(codes):
            if code in bad:
                faults.setdefault(row, f"column {name[:60]!r}: {bad[code]}")
    return [None if code is None else values[code] for code in codes]


def _lists(name: str, array: Any, texts: dict[str, str], faults: dict[int, str]) -> list[Any]:
    """The same for a column of lists."""
    inside: dict[int, str] = {}
    items, ends = _values(name, array.values, texts, inside), array.offsets.to_pylist()
    for item, fault in inside.items():
        faults.setdefault(bisect.bisect_right(ends, item) - 1, fault)
    there = array.is_valid().to_pylist()
    return [items[first:end] if is_one else None for first, end, is_one in zip(ends, ends[1:], there, strict=False)]


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

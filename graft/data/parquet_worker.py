"""A program of its own: reads a parquet file and writes its rows to standard output as an Arrow stream.

The parquet library ends the whole process on some damaged files: pyarrow 26 does so on a file of 172 bytes in which one
bit is wrong. Reading in a child leaves the parent standing. It imports nothing of the package and is run by path.

Usage: ``python -P parquet_worker.py FILE LIMITS``, LIMITS a JSON object with the keys columns, rows, rows_per_byte,
bytes, ratio and batch. Exit code 3: refused, with the reason on standard error.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

REFUSED = 3
NAME_SHOWN = 60


class RefusedError(Exception):
    """The file is not read; the text says why."""


def convert(path: str, limits: dict[str, int], out: Any) -> None:
    """Read a parquet file within limits and write it as an Arrow stream of flat columns and lists.

    Raises:
        RefusedError: nested or binary columns, column names given twice, or beyond the limits.
    """
    with opened(path) as file:
        refuse_bomb(path, file.metadata, limits)
        schema, stored = file.schema_arrow, file.schema
    check_names(schema)
    written = pa.schema([(field.name, written_type(field)) for field in schema])
    # Text is read as codes into a dictionary: a text that repeats a million times must not become a million texts.
    # No column left is nested but in a list, so that each is stored as one.
    texts = [stored.column(index).path for index, field in enumerate(schema) if is_text(item_type(field.type))]
    with opened(path, read_dictionary=texts) as file, pa.ipc.new_stream(out, written) as stream:
        # The library cannot give lists from two row groups in one batch.
        apart = any(is_list(field.type) for field in written)
        for groups in ([group] for group in range(file.num_row_groups)) if apart else [None]:
            for batch in file.iter_batches(batch_size=limits["batch"], row_groups=groups, use_threads=False):
                stream.write_batch(flattened(batch, written))


def opened(path: str, **options: Any) -> Any:
    """Open a parquet file for reading in batches."""
    return pq.ParquetFile(path, memory_map=False, pre_buffer=False, page_checksum_verification=True, **options)


def refuse_bomb(path: str, metadata: Any, limits: dict[str, int]) -> None:
    """Compare what the file says of itself with the limits, before any of it is unpacked."""
    size = os.path.getsize(path)
    if metadata.num_columns > limits["columns"]:
        raise RefusedError(f"{metadata.num_columns:,} columns; at most {limits['columns']:,} are read")
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    held = (sum(group.column(index).num_values for group in groups) for index in range(metadata.num_columns))
    for count, what in ((metadata.num_rows, "rows"), (max(held, default=0), "values of one column")):
        if count > max(limits["rows"], limits["rows_per_byte"] * size):
            raise RefusedError(f"{count:,} {what} in {size:,} bytes, as a decompression bomb has")
    unpacked = sum(
        group.column(index).total_uncompressed_size for group in groups for index in range(group.num_columns)
    )
    if unpacked > max(limits["bytes"], limits["ratio"] * size):
        raise RefusedError(f"unpacks to {unpacked:,} bytes from {size:,}, as a decompression bomb does")


def check_names(schema: Any) -> None:
    """Refuse columns with the same name."""
    seen: set[str] = set()
    for name in schema.names:
        if name in seen:
            raise RefusedError(f"names the column {name[:NAME_SHOWN]!r} more than once; give every column its own name")
        seen.add(name)


def written_type(field: Any) -> Any:
    """Say as what a column is passed on.

    Raises:
        RefusedError: it is nested, binary or of another type without a plain value.
    """
    item = item_type(field.type)
    plain = item.value_type if pa.types.is_dictionary(item) else item
    if is_text(plain) or is_written_out(plain):
        plain = pa.dictionary(pa.int32(), pa.large_string())
    elif not is_simple(plain):
        raise RefusedError(
            f"column {field.name[:NAME_SHOWN]!r} is {str(field.type)[:NAME_SHOWN]}; expected text, numbers, booleans, "
            "dates or times, or lists of them. Leave it out, or write JSON lines (.jsonl), which may hold objects"
        )
    return pa.list_(plain) if is_list(field.type) else plain


def is_list(kind: Any) -> bool:
    """Tell lists of any lengths."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def item_type(kind: Any) -> Any:
    """What a list is of; other types as they are."""
    return kind.value_type if is_list(kind) else kind


def is_text(kind: Any) -> bool:
    """Tell text, plain or in a dictionary."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_simple(kind: Any) -> bool:
    """Tell the types that are passed on as they are."""
    types = pa.types
    return bool(types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind))


def is_written_out(kind: Any) -> bool:
    """Tell the types that are passed on as text: dates, times and decimals."""
    types = pa.types
    unclear = types.is_duration(kind) or types.is_interval(kind)
    return bool(types.is_decimal(kind) or (types.is_temporal(kind) and not unclear))


def flattened(batch: Any, schema: Any) -> Any:
    """Give a batch the types it is passed on as."""
    columns = [flat(batch.column(index), field.type) for index, field in enumerate(schema)]
    return pa.record_batch(columns, schema=schema)


def flat(array: Any, kind: Any) -> Any:
    """Give a column the type it is passed on as, with only those texts in its dictionary that the batch uses."""
    if is_list(kind):
        ends = pa.concat_arrays(
            [pa.array([0]), pc.cumulative_sum(pc.list_value_length(array).fill_null(0).cast("int64"))]
        )
        items = flat(array.flatten(), kind.value_type)
        return pa.ListArray.from_arrays(ends.cast("int32"), items, mask=array.is_null())
    if not pa.types.is_dictionary(kind):
        return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    if not pa.types.is_dictionary(array.type):
        array = array.cast(pa.string()).dictionary_encode()
    used = array.indices.unique().drop_null()
    codes = pc.index_in(array.indices, used)
    texts = array.dictionary.take(used).cast(pa.large_string())
    texts.validate(full=True)
    return pa.DictionaryArray.from_arrays(codes, texts)


def main(path: str, limits: str) -> int:
    """Convert one file; say on standard error, in one line, why not."""
    try:
        with os.fdopen(os.dup(1), "wb") as out:
            convert(path, json.loads(limits), out)
    except RefusedError as error:
        said = str(error)
    except BrokenPipeError:
        return REFUSED  # the parent has stopped reading, and knows why
    except Exception as error:  # whatever the library throws at a damaged file
        said = f"damaged or not a parquet file: {(str(error) or type(error).__name__).splitlines()[0][:200]}"
    else:
        return 0
    sys.stderr.write(said)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Reading JSON strictly and writing so that nothing is ever left half-written."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graft.errors import ModelError, StorageError

JSON_BYTES = 256 * 2**20
"""Larger JSON files are refused before they are read (the largest tokenizer files are some tens of MiB)."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object from its pairs; a key given twice is an error, since readers disagree on which one counts."""
    built = dict(pairs)
    if len(built) != len(pairs):
        counted = Counter(name for name, _ in pairs)
        twice = min(name for name, count in counted.items() if count > 1)
        raise ValueError(f"the key {twice!r:.100} is given twice")
    return built


def read_json(path: Path, largest: int = JSON_BYTES) -> dict[str, Any]:
    """Read one JSON object from a file of a model folder.

    Raises:
        ModelError: absent, no file, larger than so many bytes, not UTF-8, not JSON, not an object, too deep, or a key
            given twice.
    """
    value = _json(path, largest)
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def read_json_list(path: Path, largest: int = JSON_BYTES) -> list[Any]:
    """As ``read_json``, for a file that holds an array."""
    value = _json(path, largest)
    if not isinstance(value, list):
        raise ModelError(f"{path}: expected a JSON array, found {type(value).__name__}")
    return value


def _json(path: Path, largest: int) -> Any:
    try:
        status = path.stat()
        if status.st_size > largest:
            raise ModelError(f"{path}: {status.st_size} bytes of JSON, expected at most {largest}")
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise ModelError(f"{path}: is a device or a pipe, expected a file")
        return json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=unique_keys, parse_constant=_no_number)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise ModelError(f"{path}: not a valid JSON file: {reason}") from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, keys in the order given; NaN and infinity are refused."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` to write to; it takes the target's place only when all is on disk.

    A folder that is replaced is first moved aside, and removed only after the new one stands. Whatever goes wrong, also
    Ctrl-C, what was there before stays and nothing of the new is left.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    target = Path(target)
    hold = target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
    new, old = hold / "new", hold / "old"
    try:
        _make(hold, target)
        yield new
        _sync(new)
        _swap_in(new, target, old)
    except OSError as error:
        raise StorageError(
            f"{target}: cannot be written: {error.strerror or error}. What was there before is unharmed"
        ) from error
    except StorageError as error:  # of a part; nobody knows the place by its temporary name
        raise StorageError(str(error).replace(str(new), str(target))) from error
    finally:
        try:
            _clean(hold, old, target)
        except KeyboardInterrupt:
            _clean(hold, old, target)
            raise


def _make(hold: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        hold.mkdir(mode=0o700)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror}. Choose another place with --out") from error


def _clean(hold: Path, old: Path, target: Path) -> None:
    """Put the old back where the new did not come to stand. Not beside the renaming, where Ctrl-C can come between."""
    if os.path.exists(old) and not os.path.exists(target):
        os.rename(old, target)
    try:
        shutil.rmtree(hold, ignore_errors=True)
    except OSError as error:  # Ctrl-C within its os.close makes it close a second time, and that fault hides the Ctrl-C
        raise (error.__context__ if isinstance(error.__context__, KeyboardInterrupt) else error) from None


def _swap_in(new: Path, target: Path, old: Path) -> None:
    if new.is_dir() and target.exists():
        os.rename(target, old)
        os.rename(new, target)
    else:
        os.replace(new, target)
    _sync_one(target.parent)


def _sync(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            _sync(inner)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

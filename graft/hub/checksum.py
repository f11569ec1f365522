"""Checksums of large files, remembered, so that checking a model a second time costs nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from graft.errors import StorageError
from graft.files import replacing, write_json


def home() -> Path:
    """The folder for what Graft keeps between runs: GRAFT_HOME, else the platform's cache folder."""
    chosen = os.environ.get("GRAFT_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "graft"
    base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "graft"


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits.

    The digest is remembered under the file's real path, size and time of change; where it cannot be remembered (a
    read-only home, a damaged record), it is computed again.
    """
    real = os.path.realpath(path)
    state = os.stat(real)
    stamp = [state.st_size, state.st_mtime_ns]
    known = _remembered().get(real)
    if isinstance(known, list) and known[:2] == stamp:
        return str(known[2])
    with open(real, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _remember(real, [*stamp, digest])
    return digest


def git_sha1(path: Path) -> str:
    """The name git gives to a file's content: how the hub names files that are not in large-file storage."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _record() -> Path:
    return home() / "verified.json"


def _remembered() -> dict[str, Any]:
    try:
        record = json.loads(_record().read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    known = record.get("files") if isinstance(record, dict) else None
    return {path: entry for path, entry in known.items() if _is_entry(entry)} if isinstance(known, dict) else {}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and [type(part) for part in entry] == [int, int, str]


def _remember(real: str, entry: list[Any]) -> None:
    record = {path: known for path, known in _remembered().items() if os.path.exists(path)}
    # A record that cannot be kept only costs the next run some time.
    with contextlib.suppress(StorageError), replacing(_record()) as file:
        write_json(file, {"files": record | {real: entry}})

"""From a file to a task's rows, with every row accounted for."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graft.data.columns import Role, choose, described
from graft.data.read import read
from graft.data.split import side
from graft.data.table import Reject, Table, refuse
from graft.errors import DataError
from graft.recipes.watch import Watch
from graft.tasks import Row, Task

SPLIT = Role(name="split", aliases=("fold", "partition"), required=False)
SIDES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "eval": "test",
    "dev": "dev",
    "validation": "dev",
    "valid": "dev",
}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A task's rows from one file.

    Attributes:
        path: the file.
        rows: the rows kept.
        rejected: the rows not kept, with the reason.
        columns: which column plays which role.
        sides: "train", "dev" or "test" for each row, where the file has a column that says so.
        fingerprint: digest of all texts and targets, in order.
    """

    path: Path
    rows: list[Row]
    rejected: list[Reject]
    columns: dict[str, str]
    sides: list[str] | None
    fingerprint: str

    def counts(self) -> dict[str, int]:
        """Rows read, kept and rejected; the first is the sum of the others."""
        return {"read": len(self.rows) + len(self.rejected), "kept": len(self.rows), "rejected": len(self.rejected)}


def load_rows(
    task: Task,
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    max_rejects: int = 0,
    quotes: bool = True,
    labelled: bool = True,
    watch: Watch,
) -> Loaded:
    """Read a file for a task and say what was found.

    Args:
        task: the task.
        path: csv, tsv, jsonl or parquet.
        columns: role -> column, where the names do not say.
        encoding: of the file, if not UTF-8.
        max_rejects: rows that may be unusable.
        quotes: whether fields of csv and tsv may be quoted.
        labelled: whether the rows must have targets.
        watch: told what was inferred and how many rows were kept.

    Raises:
        DataError: the file cannot be read, a column is missing, or more rows are unusable than allowed.
    """
    reading = {"quotes": quotes, "tagged": task.head == "tag", "whole": task.whole_text}
    table = task.reshape(read(path, encoding=encoding, max_rejects=max_rejects, **reading))
    roles = [role if labelled or role.name in _inputs(task) else replace(role, required=False) for role in task.roles]
    chosen = choose(table, [*roles, SPLIT], columns)
    split = chosen.pop("split", None)
    if not labelled:
        chosen = {role: column for role, column in chosen.items() if role in _inputs(task)}
    rows, unusable = task.read(table, chosen)
    rejected = [*table.rejected, *(reject if reject.file else replace(reject, file=str(path)) for reject in unusable)]
    refuse(path, len(rows) + len(rejected), rejected, max_rejects)
    loaded = Loaded(
        path=Path(path),
        rows=rows,
        rejected=rejected,
        columns=chosen,
        sides=_sides(table, rows, split),
        fingerprint=_fingerprint(rows),
    )
    counts, said = loaded.counts(), task.said(rows)
    watch.note(
        f"{path}: {table.format}; columns {described(chosen)}; {said and f'{said}; '}"
        f"{counts['read']:,} rows read = {counts['kept']:,} kept + {counts['rejected']:,} rejected"
    )
    return loaded


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Put a file's name before what is found wrong with its rows."""
    try:
        yield
    except DataError as error:
        if type(error) is not DataError or str(path) in str(error):
            raise
        raise DataError(f"{path}: {error}") from error


def _inputs(task: Task) -> set[str]:
    targets = {"label", "score", "answer", "answer_start", "is_impossible", "summary", "target", "ner_tags"}
    return {role.name for role in task.roles} - targets


def _sides(table: Table, rows: Sequence[Row], split: str | None) -> list[str] | None:
    """The side each row says it belongs to; None unless every row names one that is known."""
    if split is None:
        return None
    named: dict[int, Any] = {line: row.get(split) for line, row in zip(table.lines, table.rows, strict=True)}
    sides = [SIDES.get(str(named[row.line]).strip().lower()) for row in rows]
    return None if None in sides else [str(one) for one in sides]


def held_out(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Set a share of the rows aside by hash of their text: the same text is always on the same side."""
    sides = [side(row.key, dev=0.0, test=share, seed=seed) for row in rows]
    kept = [row for row, where in zip(rows, sides, strict=True) if where == "train"]
    return kept, [row for row, where in zip(rows, sides, strict=True) if where == "test"]


def _fingerprint(rows: Sequence[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.key}\0{row.target}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()

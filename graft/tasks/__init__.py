"""Tasks: rows in, answers out. One file each, exporting one TASK; each names its head, columns and metrics."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from graft.data.columns import Role
from graft.data.table import Reject, Table
from graft.errors import UsageError, nearest
from graft.heads import Head
from graft.sealed import Text

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a task's data.

    Attributes:
        inputs: what the model reads: usually one text or one pair; two texts where each is read for itself.
        target: what it should answer; None where the row has no answer.
        line: where the row starts in its file.
    """

    inputs: tuple[Text, ...]
    target: Any
    line: int

    @property
    def key(self) -> str:
        """All its text, by which rows are split and compared."""
        return "\n".join("\n".join(one) if isinstance(one, tuple) else one for one in self.inputs)


class Task(Protocol):
    """What a task must say of itself."""

    name: str
    head: str
    roles: tuple[Role, ...]
    primary: str
    """The metric that decides between models."""

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Rows with a usable input and target, and those without."""

    def learn(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What the head must know of the training rows (label names)."""

    def target(self, row: Row, head: Head) -> Tensor:
        """The target as the head's loss wants it."""

    def measure(self, head: Head, outputs: Tensor, rows: Sequence[Row]) -> dict[str, Interval]:
        """Metrics of the head's outputs, (B, ...), against the rows' targets."""


def names() -> list[str]:
    """The tasks this package has, by its own listing."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> Task:
    """The task of that name.

    Raises:
        UsageError: there is none.
    """
    own = names()
    if name not in own:
        raise UsageError(f"unknown task {name!r}: {nearest(str(name), own)}")
    task: Task = importlib.import_module(f"{__name__}.{own[own.index(name)]}").TASK
    return task

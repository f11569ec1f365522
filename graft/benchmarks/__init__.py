"""Public benchmarks of models as they are: each a file that exports one BENCHMARK, named as the public name is.

They are tasks that nothing is learned for: rows in, metrics with intervals out. The data is the user's to bring.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence

from graft.data.columns import Role
from graft.data.table import Reject, Table
from graft.errors import ModelError, UsageError, nearest
from graft.generate.likelihood import PSEUDO, measure
from graft.grafted import Model
from graft.tasks import Row, Task


class Benchmark(Task):
    """What every benchmark of language models shares."""

    head = "next"
    learned = False
    overflows: tuple[str, ...] = ()
    roles: tuple[Role, ...] = (Role(name="text", aliases=("page", "document", "content", "body", "sentence")),)

    def fits(self, kind: str | None) -> bool:
        """No model is adapted to it."""
        return False

    def check(self, model: Model) -> None:
        """Refuse a model that does not read from left to right.

        Raises:
            ModelError: saying what is needed.
        """
        if measure(model) == PSEUDO or model.backbone.decoder is not None:
            raise ModelError(
                f"{model.folder}: {self.name} is measured on models that read from left to right (GPT, Llama, XLNet); "
                "`graft run score` scores texts with this one"
            )

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Rows with text."""
        kept, rejected = [], []
        for line, values in zip(table.lines, table.rows, strict=True):
            texts = [values.get(columns[role.name]) for role in self.roles]
            good = [text for text in texts if isinstance(text, str) and text.strip()]
            if len(good) < len(texts):
                reason = f"{' or '.join(repr(columns[role.name]) for role in self.roles)} is empty or not text"
                rejected.append(Reject(line=line, reason=reason, text=str(texts[0] or "")))
            else:
                kept.append(self.row(good, line))
        return kept, rejected

    def row(self, texts: Sequence[str], line: int) -> Row:
        """One row from its texts, in the order of the roles."""
        return Row((texts[0],), None, line)


def names() -> list[str]:
    """The benchmarks this package has, by its own listing."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> Benchmark:
    """The benchmark of that name.

    Raises:
        UsageError: there is none.
    """
    own = names()
    if name not in own:
        raise UsageError(f"unknown benchmark {name!r}: {nearest(str(name), own)}")
    found: Benchmark = importlib.import_module(f"{__name__}.{own[own.index(name)]}").BENCHMARK
    return found

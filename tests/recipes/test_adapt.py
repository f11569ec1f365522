"""Adapting where task and strategy do not fit each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from lessons import LABELS, rows

from graft import transfer
from graft.errors import UsageError
from graft.grafted import Model
from graft.loading import load
from graft.recipes.adapt import Plan, adapt
from graft.recipes.watch import Watch
from graft.tasks import Row, Task
from graft.train.example import Example
from graft.transfer import Solver, Strategy


class Tagging(Task):
    """Rows that have a label for each token."""

    name, head = "tagging", "tag"

    def learn(self, rows: Sequence[Row]) -> dict[str, Any]:
        return {"labels": LABELS}

    def examples(self, model: Model, given: Sequence[Row]) -> tuple[list[Example], int]:
        return rows(model), 0


@pytest.mark.parametrize("name", transfer.names())
def test_labels_of_tokens_are_learned_step_by_step_or_refused(tiny, name: str):
    model, plan = (
        load(tiny("bert").folder, "float32"),
        Plan(strategy=name, epochs=6, learning_rate=0.01, dtype="float32"),
    )
    given = [Row(("a text",), None, line) for line in range(6)]
    strategy = transfer.make(name)
    if isinstance(strategy, Solver) or not isinstance(strategy, Strategy):
        with pytest.raises(UsageError, match=r"^[^\n]+; use "):
            adapt(model, Tagging(), given, plan, Watch(quiet=True))
    else:
        done = adapt(model, Tagging(), given, plan, Watch(quiet=True))
        assert done.steps[-1]["loss"] < done.steps[0]["loss"]

"""The files beside a model's weights: what was run, what was measured, and pages to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from graft.data.check import Findings
from graft.grafted import Model
from graft.recipes.adapt import Adapted, lines
from graft.recipes.evaluate import Judged
from graft.recipes.rows import Loaded
from graft.tasks import Row, Task


def run_files(
    model: Model,
    job: Task,
    record: Mapping[str, Any],
    loaded: Loaded,
    rows: Sequence[Row],
    judged: Judged,
    done: Adapted,
    findings: Findings,
) -> dict[str, str]:
    """Names and contents of the text files of a run's folder."""
    files = {"run.json": json.dumps(record, indent=2, ensure_ascii=False) + "\n"}
    if done.steps:
        files["metrics.jsonl"] = "\n".join([*lines(done.steps), *lines(done.epochs)]) + "\n"
    return files

"""The systems benchmarks/transfer.py compares, each the main program of one worker process.

    python benchmarks/finetuners.py SYSTEM MODEL_FOLDER DATA_SET FEW TEST       (started by transfer.py)

Handlers: `load` (imports, and a warm-up on the few rows) and `run` (once from the files to scores). A reply of `run`
has `training_seconds`, `whole_seconds` (see lessons.Done), `rows_per_second`, and `scores` of the answers to the test
rows. `load` replies `unavailable` with the reason where this Graft has no such task, strategy or setting.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_sets import DATA_SETS, read
from lessons import BATCH, LORA, Done, Lesson, Run
from probes import setfit, sklearn_probe
from rounds import serve
from scores import METRICS
from trainers import trainer

ANSWERS: dict[str, Callable[[Any], Any]] = {
    "classify": lambda answer: answer.label,
    "pair": lambda answer: answer.label,
    "similarity": lambda answer: answer.score,
    "tag": lambda answer: [word.tag for word in answer.tagged],
    "ask": lambda answer: answer.text or "",
}


def graft(strategy: str, *, own_plan: bool = False, **settings: Any) -> Run:
    """Graft, from the same files, with the peers' plan or its own. Answers are those of the saved folder, reopened."""

    def plan(lesson: Lesson) -> dict[str, Any]:
        given = {} if lesson.epochs is None else {"epochs": lesson.epochs}
        if strategy == "probe":
            return {}
        if own_plan:
            return given
        rate = LORA["rate"] if strategy == "lora" else lesson.data.rate
        return {"epochs": lesson.times, "batch_size": BATCH, "learning_rate": rate}

    def run(lesson: Lesson) -> Done:
        import graft

        data = lesson.data
        with tempfile.TemporaryDirectory() as out:
            options = {"task": data.task, "model": str(lesson.folder), "limit": data.limit, "seed": lesson.seed}
            options["calibrate"] = False  # all rows are learned from, as on the other side
            start = time.perf_counter()
            made = graft.finetune(
                lesson.train, strategy=strategy, eval=lesson.test, out=out, **options, **plan(lesson), **settings
            )
            whole = time.perf_counter() - start
            asked, _ = read(data, lesson.test)
            answers = graft.run(data.task, asked, model=graft.load(out))
        done = made.adapted
        return Done(
            answers=[ANSWERS[data.task](answer) for answer in answers],
            training_seconds=done.seconds,
            whole_seconds=whole,
            rows_seen=done.rows * (made.record["epochs"] or 1),
            notes={"it_reports": {name: one["value"] for name, one in made.record["metrics"].items()}},
        )

    return run


_LORA = {name: LORA[name] for name in ("rank", "alpha", "targets")}
GROUPS: dict[str, dict[str, Run]] = {
    "full": {
        "transformers Trainer float32": trainer(bf16=False),
        "transformers Trainer bf16": trainer(bf16=True),
        "graft full": graft("full"),
    },
    "lora": {
        "transformers Trainer bf16 + peft": trainer(bf16=True, lora=True),
        "graft lora": graft("lora", **_LORA),
    },
    "probe": {
        "sentence-transformers float32 + sklearn": sklearn_probe("float32"),
        "sentence-transformers bf16 + sklearn": sklearn_probe("bfloat16"),
        "graft probe": graft("probe"),
        "graft probe (mix of layers)": graft("probe", mix=True),
    },
    "few-shot": {
        "setfit": setfit,
        "graft contrastive": graft("contrastive", own_plan=True),
        "graft probe (few rows)": graft("probe"),
    },
    "small": {
        "graft full (own plan)": graft("full", own_plan=True),
        "graft full + language model": graft("full", own_plan=True, auxiliary=0.5),
        "graft probe (last layer)": graft("probe"),
        "graft probe (layer 4 of 6)": graft("probe", layer=4),
        "graft probe (mix of layers)": graft("probe", mix=True),
        "graft gradual": graft("gradual", own_plan=True),
        "graft lora (own plan)": graft("lora", own_plan=True),
    },
}
SYSTEMS = {name: run for group in GROUPS.values() for name, run in group.items()}


def main(system: str, folder: Path, name: str, few: Path, test: Path) -> None:
    data, measured = DATA_SETS[name], SYSTEMS[system]

    def warm_up() -> dict[str, Any]:
        try:
            measured(Lesson(data=data, folder=folder, train=few, test=few, seed=0, epochs=1))
        except Exception as error:
            if system.startswith("graft") and str(error).startswith("unknown "):
                return {"unavailable": str(error)}
            raise
        return {}

    def run(seed: int, epochs: int | None, train: str) -> dict[str, Any]:
        done = measured(Lesson(data=data, folder=folder, train=Path(train), test=test, seed=seed, epochs=epochs))
        _, targets = read(data, test)
        return {
            "scores": METRICS[data.metric](done.answers, targets),
            "training_seconds": done.training_seconds,
            "whole_seconds": done.whole_seconds,
            "rows_seen": done.rows_seen,
            "rows_per_second": done.rows_seen / done.training_seconds,
            **done.notes,
        }

    serve({"load": warm_up, "run": run})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]))

"""The files beside a model's weights: what was run, what was measured, a model card, and a page to look at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graft import adapters, hub
from graft.data.check import Findings
from graft.evaluate import report
from graft.evaluate.card import Card, model_card
from graft.evaluate.wording import title
from graft.grafted import Model
from graft.heads import Classify, Regress, Tag
from graft.recipes import calibrate
from graft.recipes.adapt import Adapted
from graft.recipes.evaluate import Judged
from graft.recipes.learning import lines
from graft.recipes.overflow import beyond
from graft.recipes.rows import Loaded
from graft.tasks import Row, Task


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything one finetune run knows."""

    model: Model
    job: Task
    name: str
    record: Mapping[str, Any]
    loaded: Loaded
    train: Sequence[Row]
    test: Sequence[Row]
    judged: Judged
    adapted: Adapted
    findings: Findings


def run_files(run: Run) -> dict[str, str]:
    """Names and contents of the text files of a run's folder."""
    files = {
        "run.json": json.dumps(run.record, indent=2, ensure_ascii=False) + "\n",
        "README.md": model_card(_card(run)),
        "report.html": report.html(_page(run)),
    }
    if run.adapted.steps:
        files["metrics.jsonl"] = "\n".join([*lines(run.adapted.steps), *lines(run.adapted.epochs)]) + "\n"
    if run.loaded.rejected:
        kept = ("file", "line", "reason", "text")
        rejects = [{key: getattr(one, key) for key in kept} for one in run.loaded.rejected]
        files["rejects.jsonl"] = "\n".join(json.dumps(one, ensure_ascii=False) for one in rejects) + "\n"
    return files


def _page(run: Run) -> report.Page:
    name = run.job.primary if run.job.primary in run.judged.metrics else next(iter(run.judged.metrics))
    first = run.judged.metrics[name]
    summary = {
        "Task": run.job.name,
        "Base model": Path(str(run.record["model"])).name,
        "Strategy": str(run.record["strategy"]),
        title(name): f"{first.value:.3f} ({first.low:.3f} – {first.high:.3f})",
        "Rows learned from": f"{run.adapted.rows:,}",
        "Rows scored": f"{len(run.test):,}",
        "Training": f"{run.adapted.seconds:.1f} s, {run.adapted.rows_per_second:,.0f} rows a second",
    }
    sections = [
        report.scores_section(run.judged.metrics, rows=len(run.test), note=run.job.method()),
        *_sections(run),
        report.data_section(_data(run)),
    ]
    if run.adapted.steps:
        sections.append(_training(run))
    return report.Page(title=f"{run.job.name}: {run.loaded.path.name}", summary=summary, sections=sections)


def _sections(run: Run) -> list[report.Section]:
    own = run.job.sections(run.model.head, run.judged.values, run.test, run.judged.metrics)  # type: ignore[arg-type]
    trust = calibrate.sections(run.model, run.job, run.judged.values, run.test, run.judged.metrics)
    place = next((number for number, one in enumerate(own) if one.title == "Calibration"), len(own))
    return own[:place] + trust + own[place + bool(trust) :]  # before and after, in the place of after alone


def _data(run: Run) -> report.DataSummary:
    labels = Counter(
        name
        for row in run.train
        for name in (row.target if isinstance(row.target, tuple) else (row.target,))
        if isinstance(name, str)
    )
    return report.DataSummary(
        **run.loaded.counts(),
        columns=run.loaded.columns,
        splits=_splits(run),
        labels=dict(labels.most_common()),
        labelled="Words" if isinstance(run.model.head, Tag) else "Rows",
        duplicates=run.findings.duplicates,
        conflicts=run.findings.conflicts,
        leaks=run.findings.leaks,
        truncated_tokens=run.adapted.truncated_tokens + run.judged.truncated_tokens,
        rejects_file="rejects.jsonl" if run.loaded.rejected else "",
        notes=[*run.findings.lines(), *_beyond(run)],
    )


def _splits(run: Run) -> dict[str, int]:
    development = {"development": run.adapted.dev} if run.adapted.dev else {}
    return {"train": run.adapted.rows, **development, "test": len(run.test)}


def _beyond(run: Run) -> list[str]:
    """What became of texts longer than the model, a sentence each for training and held-out ones."""
    done: dict[str, Adapted | Judged] = {"training": run.adapted, "held-out": run.judged}
    said = (beyond(run.model, which, cut=one.truncated_tokens, windows=one.windows) for which, one in done.items())
    return [f"{line[0].upper()}{line[1:]}." for line in said if line]


def _training(run: Run) -> report.Section:
    steps = run.adapted.steps
    ends = {step["epoch"] + 1: step["number"] for step in steps}
    dev = {
        run.job.primary: [
            (ends[e["epoch"]], e[run.job.primary]["value"]) for e in run.adapted.epochs if run.job.primary in e
        ]
    }
    note = f"Seed {run.record['plan']['seed']}; learning rate up to {max(step['rate'] for step in steps):g}."
    return report.training_section(
        [(step["number"], step["loss"]) for step in steps], dev if dev[run.job.primary] else None, note=note
    )


def _card(run: Run) -> Card:
    head, plan = run.model.head, run.record["plan"]
    both = run.model.settings.both_orders
    opens = adapters.library(run.model.backbone, run.model.family) if isinstance(head, Classify | Regress | Tag) else ""
    opens, overflow = "" if both else opens, run.model.settings.overflow
    notes = ["Each pair is read in both orders, and the two numbers added; other tools read one order."] if both else []
    return Card(
        name=run.name,
        task=run.job.name,
        strategy=run.record["strategy"],
        base_model=str(run.record["model"]),
        scores=run.judged.metrics,
        rows=len(run.test),
        data=run.loaded.path.name,
        training_rows=run.adapted.rows,
        fingerprint=run.loaded.fingerprint,
        seed=plan["seed"],
        versions={"graft": run.record["version"], "torch": torch.__version__},
        labels=head.labels if isinstance(head, Classify) else (),
        command=run.job.command,
        python=run.job.python,
        example="Angela Merkel visited Paris." if isinstance(head, Tag) else Card.example,
        interval_method=run.job.method(),
        license=hub.licence(run.model.folder) or "",
        max_tokens=run.model.limit,
        overflow="window" if run.job.windows and overflow == "truncate" else overflow,
        calibration=_calibration(run),
        abstention=_abstention(run),
        opens_in=opens,
        architecture=run.model.architecture,
        relation="merge" if run.record["strategy"] == "lora" and opens == "transformers" else "",
        notes=[*run.findings.lines(), *notes],
    )


def _calibration(run: Run) -> str:
    found = run.model.settings.calibration
    if found is None:
        return ""
    return (
        f"Its logits were divided by a temperature of {found.temperature:.3f}, found on {found.rows:,} rows it did "
        "not learn from; the weights of its last layer hold that."
    )


def _abstention(run: Run) -> str:
    rule = run.model.settings.abstention
    if rule is None:
        return ""
    return (
        f"Graft marks answers of a probability below {rule.threshold:.4f} as abstained; from there on, "
        f"{rule.precision:g} of the answers or more are right, by {rule.rows:,} rows it did not learn from."
    )

"""Finetune: from a file of rows and a pretrained model to a sealed folder, with proof of how good it is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft import checkpoint, hub, tasks, transfer
from graft.data.check import Findings, check
from graft.data.table import RejectedRows, write_rejects
from graft.errors import DataError, UsageError, nearest
from graft.grafted import Model, check_target
from graft.inference import computing
from graft.loading import load
from graft.model.config import UNLIMITED
from graft.recipes.adapt import Adapted, Plan, adapt
from graft.recipes.calibrate import check_wish, compared
from graft.recipes.evaluate import Judged, judge
from graft.recipes.learning import plain
from graft.recipes.overflow import check_overflow, say_beyond
from graft.recipes.rows import Loaded, held_out, load_rows, naming
from graft.recipes.run_folder import Run, run_files
from graft.recipes.watch import Watch
from graft.recipes.worded import formed
from graft.sealed import Settings, Text
from graft.tasks import Row, Task
from graft.version import __version__

TEST_SHARE = 0.2
"""Rows set aside for the score where the user names none."""

GOLDEN = 16


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """The result of `finetune`.

    Attributes:
        model: the adapted model, float32.
        out: its folder, where one was asked for.
        rows: rows read, kept and rejected of the training file.
        judged: the score on the held-out rows.
        adapted: what training did.
        findings: duplicates, conflicts and leaks.
        record: everything resolved: what ``--json`` prints.
    """

    model: Model
    out: Path | None
    rows: dict[str, int]
    judged: Judged
    adapted: Adapted
    findings: Findings
    record: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return self.record


def finetune(
    data: str | Path,
    *,
    task: str = "classify",
    model: str | Path | Model = hub.ENCODER,
    strategy: str = "full",
    eval: str | Path | None = None,
    out: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    max_rejects: int = 0,
    quotes: bool = True,
    limit: int | None = None,
    overflow: str = "truncate",
    template: str | None = None,
    form: str | None = None,
    watch: Watch | None = None,
    **plan: Any,
) -> Finetuned:
    """Adapt a pretrained model to a file of rows, measure it on rows held out, and save it.

    Args:
        data: csv, tsv, jsonl, CoNLL, SQuAD's json (plain, .gz, .xz) or parquet with the task's columns.
        task: "classify", "pair", "choice", "similarity", "embed", "tag", "ask", "summarize", "translate" or "language".
        model: a folder, a name on the hub, or a loaded model (which is left as it is).
        strategy: a name from graft.transfer: "probe" (seconds), "full" (best), "bitfit", "partial", "gradual", ...
        eval: a file to measure on. Without it: the rows whose column `split` says test, else a fifth set aside by hash.
        out: folder to save to; it must be new, empty, or one Graft wrote.
        columns: role -> column, where the names do not say.
        encoding: of the files, if not UTF-8.
        max_rejects: rows that may be unusable; they are listed in rejects.jsonl.
        quotes: whether fields of csv and tsv may be quoted.
        limit: longest input in tokens.
        overflow: what happens to longer inputs: "truncate", "head_tail", "window" or "error" (`graft.sealed.Settings`).
        template: for models that write text: the words around a text, {} in its place; default: the family's own.
        form: whether labels and scores are a head's ("head") or written ("text"); default: as the model is used to.
        watch: where notices and progress go; silent by default.
        **plan: what `graft.recipes.adapt.Plan` has (epochs, seed, ...), and the strategy's own settings (see its file
            in graft/transfer), which come first where a name is both.

    Raises:
        GraftError: something cannot be used; the message says what to do. Nothing half-written is left.
    """
    watch = watch or Watch(quiet=True)
    chosen, target = _plan(strategy, plan), _target(out)
    reading = {"columns": columns, "encoding": encoding, "max_rejects": max_rejects, "quotes": quotes}
    source = _Source(job=_job(task, overflow, chosen), out=target, reading=reading, watch=watch)
    rows = source.sides(data, eval, chosen.seed)
    live, source = _for_task(_fresh(model, limit, overflow), rows, template, form, chosen, source)
    return _finetune(live, str(getattr(model, "folder", model)), rows, chosen, source)


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Rows to learn from, of these the development rows the file names, rows to measure on, and their origins."""

    loaded: Loaded
    train: Sequence[Row]
    named: Sequence[Row]
    test: Sequence[Row]
    test_path: Path
    tested_on: str


@dataclass(frozen=True, kw_only=True)
class _Source:
    """How files are read for one run."""

    job: Task
    out: Path | None
    reading: Mapping[str, Any]
    watch: Watch

    def read(self, path: str | Path) -> Loaded:
        """Read rows. If too many are unusable, they are still listed in a file before the error goes on."""
        try:
            return load_rows(self.job, path, watch=self.watch, **self.reading)
        except RejectedRows as error:
            file = Path(f"{self.out or Path(path).name}.rejects.jsonl")
            write_rejects(error.rejected, file)
            raise DataError(f"{error} (all of them are listed in {file})") from error

    def sides(self, data: str | Path, eval: str | Path | None, seed: int) -> _Rows:
        """Read what to learn from, and decide what to measure on."""
        loaded = self.read(data)
        if eval is not None:
            test = self.read(eval).rows
            named = _named(loaded, loaded.rows)
            return _Rows(
                loaded=loaded, train=loaded.rows, named=named, test=test, test_path=Path(eval), tested_on=str(eval)
            )
        if loaded.sides and {"test", "train"} <= set(loaded.sides):
            pairs = list(zip(loaded.rows, loaded.sides, strict=True))
            test = [row for row, where in pairs if where == "test"]
            self.watch.note(f"{data}: the split column sets {len(test):,} rows aside for the score")
            train = [row for row, where in pairs if where != "test"]
            return _Rows(
                loaded=loaded,
                train=train,
                named=_named(loaded, train),
                test=test,
                test_path=loaded.path,
                tested_on=f"{data} (split column)",
            )
        train, test = held_out(loaded.rows, TEST_SHARE, seed)
        if not train or not test:
            raise DataError(f"{data}: {len(loaded.rows)} rows are too few to set some aside for the score; give --eval")
        self.watch.note(f"{data}: {len(test):,} rows set aside by hash for the score; --eval FILE measures on others")
        return _Rows(
            loaded=loaded,
            train=train,
            named=_named(loaded, train),
            test=test,
            test_path=loaded.path,
            tested_on=f"{data} (set aside by hash)",
        )


def _named(loaded: Loaded, rows: Sequence[Row]) -> list[Row]:
    """The rows whose split column says that they are for development."""
    named = {id(row) for row, where in zip(loaded.rows, loaded.sides or (), strict=False) if where == "dev"}
    return [row for row in rows if id(row) in named]


def _finetune(live: Model, base: str, rows: _Rows, plan: Plan, source: _Source) -> Finetuned:
    job, watch = source.job, source.watch
    findings = _check(rows, watch)
    before = _before(live, rows, plan, source)
    with naming(rows.loaded.path):
        done = adapt(live, job, rows.train, plan, watch, rows.named)
    say_beyond(live, "training", watch, cut=done.truncated_tokens, windows=done.windows)
    with computing(live, checkpoint.choose_dtype(plan.dtype)), naming(rows.test_path):
        judged = judge(live, job, rows.test, watch)
    say_beyond(live, "held-out", watch, cut=judged.truncated_tokens, windows=judged.windows)
    record = _record(base, rows, plan, source, done, judged, findings) | before
    record |= _trusted(live, job, judged, rows.test)
    golden = _golden([text for row in rows.test for text in job.sequences(row)])
    live.seal(golden, _settings(live, job, record, rows.loaded))
    if source.out is not None:
        run = Run(
            model=live,
            job=job,
            name=source.out.resolve().name,
            record=record,
            loaded=rows.loaded,
            train=rows.train,
            test=rows.test,
            judged=judged,
            adapted=done,
            findings=findings,
        )
        live.save(source.out, run_files(run))
        watch.note(
            f"saved to {source.out}: look at report.html there; "
            f"`graft run {job.name} {job.command or 'TEXT'} --model {source.out}`"
        )
    return Finetuned(
        model=live,
        out=source.out,
        rows=rows.loaded.counts(),
        judged=judged,
        adapted=done,
        findings=findings,
        record=record,
    )


def _before(live: Model, rows: _Rows, plan: Plan, source: _Source) -> dict[str, Any]:
    """The score of the model as it came, for tasks where that says something."""
    if not source.job.measures_before:
        return {}
    with computing(live, checkpoint.choose_dtype(plan.dtype)), naming(rows.test_path):
        judged = judge(live, source.job, rows.test, source.watch)
    for name, interval in judged.metrics.items():
        source.watch.note(f"before learning: {name} {interval}")
    return {"before": plain(judged.metrics)}


def _fresh(model: str | Path | Model, limit: int | None, overflow: str) -> Model:
    """The pretrained model anew, in float32, whatever state the given one is in."""
    live = load(model.folder if isinstance(model, Model) else model, dtype="float32")
    if isinstance(model, Model):
        live.base = model.base
    live.settings = Settings(limit=_limit(live, limit), overflow=overflow)  # type: ignore[arg-type]
    return live


def _job(task: str, overflow: str, plan: Plan) -> Task:
    """The task, if it is learned, has such a rule for long texts, and probabilities where they are to be calibrated."""
    job = tasks.find(task)
    if not job.learned:
        raise UsageError(f"{task} is done with models as they are (`graft run {task}`); nothing is learned for it")
    check_overflow(job, overflow, learning=True)
    check_wish(job, plan)
    return job


def _target(out: str | Path | None) -> Path | None:
    """The folder to save to, if it may be."""
    target = None if out is None else Path(out)
    if target is not None:
        check_target(target)
    return target


def _for_task(
    live: Model, rows: _Rows, template: str | None, form: str | None, plan: Plan, source: _Source
) -> tuple[Model, _Source]:
    """The model with the settings its task adds, and the task in the form it is learned in."""
    job = formed(source.job, live, form, plan.strategy, plan.settings)
    check_overflow(job, live.settings.overflow, learning=True)
    own = job.settings(live, rows.train, rows.loaded.columns, template)
    live.settings = dataclasses.replace(live.settings, **own)
    return live, dataclasses.replace(source, job=job)


def _record(
    base: str, rows: _Rows, plan: Plan, source: _Source, done: Adapted, judged: Judged, findings: Findings
) -> dict[str, Any]:
    """Everything about the run that is worth keeping; what ``--json`` prints."""
    return {
        "out": None if source.out is None else str(source.out),
        "task": source.job.name,
        "model": base,
        "strategy": plan.strategy,
        "data": str(rows.loaded.path),
        "rows": rows.loaded.counts(),
        "columns": rows.loaded.columns,
        "trained_on": done.rows,
        "development_rows": done.dev,
        "evaluated_on": {"data": rows.tested_on, "n": len(rows.test)},
        "metrics": plain(judged.metrics),
        "seconds": round(done.seconds, 3),
        "rows_per_second": round(done.rows_per_second, 1),
        "truncated_tokens": {"train": done.truncated_tokens, "eval": judged.truncated_tokens},
        "windows": {"train": done.windows, "eval": judged.windows},
        "auxiliary": done.auxiliary,
        "found": done.found,
        "findings": findings.as_dict(),
        "plan": {name: getattr(plan, name) for name in Plan.__dataclass_fields__} | {"learning_rate": plan.rate},
        "epochs": done.steps[-1]["epoch"] + 1 if done.steps else None,
        "version": __version__,
    }


def _plan(strategy: str, given: Mapping[str, Any]) -> Plan:
    """Options of the plan, and those that are the strategy's own."""
    known = set(Plan.__dataclass_fields__) - {"strategy", *transfer.settings(strategy)}
    own = dict(given.get("settings") or {}) | {name: value for name, value in given.items() if name not in known}
    valid = [*known - {"settings"}, *transfer.settings(strategy)]
    unknown = sorted(set(own) - set(valid))
    if unknown:
        raise UsageError(f"unknown option {unknown[0]!r} of strategy {strategy}: {nearest(unknown[0], valid)}")
    transfer.make(strategy, own)  # a setting that makes no sense is told before anything is read
    plan = {name: value for name, value in given.items() if name in known}
    return Plan(strategy=strategy, **plan | {"settings": own})


def _check(rows: _Rows, watch: Watch) -> Findings:
    findings = check(
        [row.key for row in rows.train],
        [row.target for row in rows.train],
        [row.key for row in rows.test],
        train_lines=[row.line for row in rows.train],
        held_out_lines=[row.line for row in rows.test],
    )
    for line in findings.lines():
        watch.note(f"note: {line}")
    return findings


def _limit(model: Model, asked: int | None) -> int | None:
    if asked is None:
        return model.limit
    most = model.backbone.config.positions
    if not 3 <= asked <= most:
        room = "at least 3" if most == UNLIMITED else f"3 to {most}, what this model can hold"
        raise UsageError(f"limit is {asked} tokens, expected {room}")
    return asked


def _trusted(model: Model, job: Task, judged: Judged, rows: Sequence[Row]) -> dict[str, Any]:
    """How far the probabilities can be trusted, before and after; and from which on answers are relied on."""
    rule = model.settings.abstention
    return {
        "calibration": compared(model, job, judged.values, rows),
        "abstention": None if rule is None else dataclasses.asdict(rule),
    }


def _golden(texts: Sequence[Text]) -> list[Text]:
    """Inputs spread evenly over the rows."""
    step = max(1, len(texts) // GOLDEN)
    return list(texts[::step][:GOLDEN])


def _settings(model: Model, job: Task, record: Mapping[str, Any], loaded: Loaded) -> Settings:
    kept = ("strategy", "model", "trained_on", "plan", "epochs", "found")
    made = {key: record[key] for key in kept} | {"data": loaded.path.name, "fingerprint": loaded.fingerprint}
    made["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return dataclasses.replace(model.settings, task=job.name, made=made)

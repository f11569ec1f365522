"""Fine-tuning all-MiniLM-L6-v2 on SST-2: rows a second and dev accuracy, Graft beside transformers' Trainer.

    benchmarks/.venv/bin/python benchmarks/finetune.py [--only full|probe] [--seeds 0,1,2] [--json]

Prints tables (or JSON) and writes benchmarks/results/finetune[-full|-probe]-YYYY-MM-DD.json. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import math
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

from finetuners import FULL, PROBE
from machine import facts, model_folder, record
from mix import DATA
from rounds import Worker, alternate, cores, disturbances, note, ratios, summary

HERE = Path(__file__).resolve().parent
GROUPS = {"full": FULL, "probe": PROBE}


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        train, dev = files(options.data / "sst2", options.rows, Path(scratch))
        measured = {group: measure(options, list(GROUPS[group]), train, dev) for group in options.groups}
    result = {
        "benchmark": "finetune",
        "machine": facts(options.threads),
        "settings": {"data": "SST-2", "rows": options.rows or "all", "epochs": options.epochs, "seeds": options.seeds},
        **measured,
    }
    record("-".join(["finetune", *([options.only] if options.only else [])]), result, options.results)
    print(json.dumps(result, indent=1) if options.json else "\n\n".join(table(result[name]) for name in measured))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=GROUPS, help="full fine-tuning, or the frozen-feature probe; default: both")
    parser.add_argument("--systems", help="some of the systems' names, comma separated; default: all")
    parser.add_argument("--seeds", default="0,1,2", help="one round for each")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, help="learn from so many rows only, for a quick look")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--model", type=Path, help="a folder with all-MiniLM-L6-v2; default: the installed wheel's")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.data / "sst2").is_dir():
        parser.error(f"SST-2 is not here: expected {options.data / 'sst2'} with train.csv and dev.csv (text,label)")
    known = {**FULL, **PROBE}
    options.systems = options.systems.split(",") if options.systems else list(known)
    if unknown := set(options.systems) - set(known):
        parser.error(f"unknown systems {sorted(unknown)}; choose from {', '.join(known)}")
    options.seeds = [int(seed) for seed in options.seeds.split(",")]
    wanted = [options.only] if options.only else list(GROUPS)
    options.groups = [name for name in wanted if set(GROUPS[name]) & set(options.systems)]
    options.model = options.model or model_folder()
    return options


def files(folder: Path, rows: int | None, scratch: Path) -> tuple[Path, Path]:
    """The train and dev files; with ``rows``, a file of so many training rows drawn at random."""
    if rows is None:
        return folder / "train.csv", folder / "dev.csv"
    with (folder / "train.csv").open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    part = scratch / "train.csv"
    with part.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *random.Random(0).sample(lines, rows)])  # noqa: S311
    return part, folder / "dev.csv"


def measure(options: argparse.Namespace, names: list[str], train: Path, dev: Path) -> dict[str, Any]:
    """Every system once for each seed, whole runs in turn."""
    with contextlib.ExitStack() as stack:
        workers = []
        for name in (name for name in names if name in options.systems):
            paths = [str(options.model), str(train), str(dev)]
            workers.append(stack.enter_context(Worker(name, "finetuners.py", paths, options.threads)))
            note(f"{name}: warming up")
            workers[-1].call("load")
        turns = alternate(workers, [{"seed": seed, "epochs": options.epochs} for seed in options.seeds])
    return report(turns)


def report(turns: dict[str, list[dict]]) -> dict[str, Any]:
    fields = ("rows_per_second", "training_seconds", "whole_seconds")
    systems = {
        name: {field: summary([turn[field] for turn in each]) for field in fields}
        | {"accuracy": mean_interval([turn["accuracy"] for turn in each])}
        for name, each in turns.items()
    }
    ours = next((row for name, row in systems.items() if name.startswith("graft")), None)
    return {
        "systems": systems,
        "graft_over": {
            name: {
                "training": ratios(row["training_seconds"]["rounds"], ours["training_seconds"]["rounds"]),
                "whole": ratios(row["whole_seconds"]["rounds"], ours["whole_seconds"]["rounds"]),
            }
            for name, row in systems.items()
            if ours and row is not ours
        },
        "warnings": disturbances(turns),
        "turns": turns,
    }


def mean_interval(values: list[float]) -> dict[str, Any]:
    """Mean over the seeds, with Student's 95 % interval where they differ."""
    from scipy.stats import t

    mean = statistics.fmean(values)
    found: dict[str, Any] = {"mean": mean, "seeds": values}
    if len(set(values)) > 1:
        half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        found |= {"low": mean - half, "high": mean + half}
    return found


def table(part: dict[str, Any]) -> str:
    head = f"{'system':40} {'rows/s':>7} {'training s':>10} {'whole s':>8} {'accuracy (95 %)':>24}"
    lines = [f"{head} {'graft trains':>22} {'whole':>7}"]
    for name, row in part["systems"].items():
        score = row["accuracy"]
        interval = f" ({score['low']:.2%} - {score['high']:.2%})" if "low" in score else ""
        mean, over = f"{score['mean']:.2%}", part["graft_over"].get(name)
        faster = ""
        if over:
            train = over["training"]
            faster = (
                f"{train['median']:5.2f} x ({train['min']:.2f} - {train['max']:.2f}) {over['whole']['median']:5.2f} x"
            )
        lines.append(
            f"{name:40} {row['rows_per_second']['median']:7.0f} {row['training_seconds']['median']:10.1f} "
            f"{row['whole_seconds']['median']:8.1f} {mean + interval:>24} {faster}"
        )
    return "\n".join(lines + [f"warning: {line}" for line in part["warnings"]])


if __name__ == "__main__":
    main()

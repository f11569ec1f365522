"""Adapting all-MiniLM-L6-v2 to real data: quality and rows a second, Graft beside the reference tools.

    benchmarks/.venv/bin/python benchmarks/transfer.py [--only sst2,cola] [--strategies full,lora,probe] [--json]
    benchmarks/.venv/bin/python benchmarks/transfer.py --few-shot 8          # contrastive beside setfit, five draws
    benchmarks/.venv/bin/python benchmarks/transfer.py --small               # Graft alone: what to do with few rows

Prints tables (or JSON) and writes benchmarks/results/transfer[-few-shot|-small][-DATA SET]-YYYY-MM-DD.json. See
README.md here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_sets import DATA_SETS, DataSet, Raw, draw, draw_each, load, store
from finetuners import GROUPS, SYSTEMS
from machine import facts, model_folder, record
from mix import DATA
from rounds import Worker, alternate, cores, disturbances, note, ratios, summary

HERE = Path(__file__).resolve().parent
STRATEGIES = ("full", "lora", "probe")
WITHOUT_PROBE = ("tag", "ask")  # tasks whose heads no regression solves for
SIZES = (300, 1000, 5000)
WARM = 128  # rows


class Lot(NamedTuple):
    """One comparison: a data set, a group of systems, and a request for each round."""

    group: str
    name: str
    rows: int
    requests: list[dict[str, Any]]


def main() -> None:
    options = arguments()
    measured: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.only:
            measured += on_data_set(options, name, Path(scratch))
    seconds = estimate(measured, options)
    result = {
        "benchmark": "transfer",
        "machine": facts(options.threads),
        "settings": {
            "mode": options.mode,
            "rows": options.rows or "all",
            "test_rows": options.test_rows or "all",
            "epochs": options.epochs or "by data set",
            "seeds": options.seeds,
        },
        "measured": measured,
        "estimated_seconds_on_all_rows": seconds,
    }
    record("-".join([options.mode, *(options.only if len(options.only) == 1 else ())]), result, options.results)
    print(json.dumps(result, indent=1) if options.json else "\n\n".join(tables(measured, options.mode)))
    if seconds is not None:
        note(f"these comparisons on all rows: about {seconds / 3600:.1f} hours on this machine as it is now")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"some of the data sets, comma separated: {','.join(DATA_SETS)}")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="some of these; default: %(default)s")
    parser.add_argument("--few-shot", type=int, metavar="N", help="instead: contrastive from N rows a label")
    parser.add_argument("--small", action="store_true", help=f"instead: Graft's strategies on {SIZES} rows")
    parser.add_argument("--systems", help="some of the systems' names, comma separated; default: all")
    parser.add_argument("--seeds", help="one round for each; default: 0,1,2 (for --few-shot five draws)")
    parser.add_argument("--epochs", type=int, help="times through the rows; default: by data set")
    parser.add_argument("--rows", type=int, help="learn from so many rows only, for a quick look")
    parser.add_argument("--test-rows", type=int, help="measure on so many rows only, for a quick look")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--model", type=Path, help="a folder with all-MiniLM-L6-v2; default: the installed wheel's")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.small and options.few_shot:
        parser.error("--small and --few-shot are two tables: choose one")
    options.mode = "transfer-small" if options.small else "transfer-few-shot" if options.few_shot else "transfer"
    usual = {"transfer": list(DATA_SETS), "transfer-few-shot": ["sst2", "banking77"], "transfer-small": ["sst2", "rte"]}
    options.only = _some(parser, "--only", options.only, list(DATA_SETS)) or usual[options.mode]
    options.strategies = _some(parser, "--strategies", options.strategies, list(STRATEGIES))
    options.systems = _some(parser, "--systems", options.systems, list(SYSTEMS)) or list(SYSTEMS)
    seeds = options.seeds or ("0,1,2,3,4" if options.few_shot else "0,1,2")
    options.seeds = [int(seed) for seed in seeds.split(",")]
    _check_data(parser, options)
    options.model = options.model or model_folder()
    return options


def _some(parser: argparse.ArgumentParser, option: str, given: str | None, known: Sequence[str]) -> list[str]:
    chosen = given.split(",") if given else []
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"{option}: {unknown[0]!r} is not known; choose from {', '.join(known)}")
    return chosen


def _check_data(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    labelled = [name for name, data in DATA_SETS.items() if data.task == "classify"]
    if options.few_shot and (other := sorted(set(options.only) - set(labelled))):
        parser.error(
            f"--few-shot is for single texts with labels, not for {other[0]}; choose from {', '.join(labelled)}"
        )
    for name in options.only:
        for file in (DATA_SETS[name].train, *DATA_SETS[name].test):
            if not (options.data / file).is_file():
                parser.error(f"{name} is not here: expected {options.data / file}; --data FOLDER, or --only others")


def on_data_set(options: argparse.Namespace, name: str, scratch: Path) -> list[dict[str, Any]]:
    """Everything asked for on one data set."""
    data = DATA_SETS[name]
    folder = scratch / name
    folder.mkdir()
    train = load(options.data / data.train)
    asked = [raw for file in data.test for raw in load(options.data / file)]
    part = draw(data, asked, options.test_rows, 0) if options.test_rows else asked
    test = store(part, folder / f"test{Path(data.train).suffix}")
    sizes = {"all_rows": len(train), "test_rows": len(part), "all_test_rows": len(asked)}
    found = []
    for lot in lots(options, name, train, folder):
        few = store(_warm(data, load(Path(lot.requests[0]["train"])), options), folder / f"few{test.suffix}")
        found += [{**sizes, **one} for one in measure(options, lot, [str(options.model), name, str(few), str(test)])]
    return found


def _warm(data: DataSet, raws: Sequence[Raw], options: argparse.Namespace) -> list[Raw]:
    """Rows to warm up on; where pairs are made of them, those of two labels alone."""
    return list(raws[: 2 * options.few_shot]) if options.few_shot else draw(data, raws, WARM, 0)


def lots(options: argparse.Namespace, name: str, train: Sequence[Raw], folder: Path) -> Iterator[Lot]:
    """The comparisons on one data set, with their training files."""
    data = DATA_SETS[name]

    def written(raws: Sequence[Raw], label: str) -> str:
        return str(store(raws, folder / f"train-{label}{Path(data.train).suffix}"))

    def request(seed: int, path: str) -> dict[str, Any]:
        return {"seed": seed, "epochs": options.epochs, "train": path}

    if options.few_shot:
        count = options.few_shot
        drawn = {seed: draw_each(data, train, count, seed) for seed in options.seeds}
        requests = [request(seed, written(raws, f"{seed}")) for seed, raws in drawn.items()]
        yield Lot("few-shot", name, len(drawn[options.seeds[0]]), requests)
    elif options.small:
        for size in sorted({min(size, len(train)) for size in ([options.rows] if options.rows else SIZES)}):
            parts = {seed: draw(data, train, size, seed) for seed in options.seeds}
            yield Lot(
                "small", name, size, [request(seed, written(raws, f"{size}-{seed}")) for seed, raws in parts.items()]
            )
    else:
        rows = draw(data, train, options.rows, 0) if options.rows else list(train)
        path = written(rows, "rows")
        for group in options.strategies:
            if group != "probe" or data.task not in WITHOUT_PROBE:
                yield Lot(group, name, len(rows), [request(seed, path) for seed in options.seeds])


def measure(options: argparse.Namespace, lot: Lot, paths: list[str]) -> list[dict[str, Any]]:
    """Every system of a group once for each request, whole runs in turn."""
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        workers = []
        for system in (system for system in GROUPS[lot.group] if system in options.systems):
            worker = stack.enter_context(Worker(system, "finetuners.py", paths, options.threads))
            note(f"{lot.name}, {lot.rows:,} rows, {system}: warming up")
            reason = worker.call("load").get("unavailable")
            if reason:
                left_out[system] = reason
                note(f"{system}: left out, this Graft has it not: {reason}")
            else:
                workers.append(worker)
        turns = alternate(workers, lot.requests)
    if not turns and not left_out:
        return []
    epochs = DATA_SETS[lot.name].epochs if options.epochs is None else options.epochs
    ours = next(name for name in GROUPS[lot.group] if name.startswith("graft"))
    about = {"data": lot.name, "group": lot.group, "rows": lot.rows, "epochs": epochs, "left_out": left_out}
    return [{**about, **report(turns, ours)}]


def report(turns: dict[str, list[dict]], named: str) -> dict[str, Any]:
    """Medians and means of each system; ratios to the one named, where it took part."""
    fields = ("rows_per_second", "training_seconds", "whole_seconds")
    systems = {
        name: {field: summary([turn[field] for turn in each]) for field in fields}
        | {"scores": {key: mean_interval([turn["scores"][key] for turn in each]) for key in each[0]["scores"]}}
        for name, each in turns.items()
    }
    ours = systems.get(named)
    return {
        "systems": systems,
        "graft_over": {
            name: {
                "training": ratios(row["training_seconds"]["rounds"], ours["training_seconds"]["rounds"]),
                "whole": ratios(row["whole_seconds"]["rounds"], ours["whole_seconds"]["rounds"]),
            }
            for name, row in systems.items()
            if ours and not name.startswith("graft")
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


def estimate(measured: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> float | None:
    """Seconds these comparisons would take on all rows with all epochs and three seeds; None where they were all there.

    Training grows with rows times epochs, the rest of a run with the rows that are answered.
    """
    if options.mode != "transfer" or not (options.rows or options.test_rows or options.epochs):
        return None
    total = 0.0
    for one in measured:
        times = 1.0 if one["group"] == "probe" else DATA_SETS[one["data"]].epochs / one["epochs"]
        more = one["all_rows"] / one["rows"] * times, one["all_test_rows"] / one["test_rows"]
        for row in one["systems"].values():
            training, whole = (row[field]["median"] for field in ("training_seconds", "whole_seconds"))
            total += 3 * (training * more[0] + (whole - training) * more[1])
    return total


def tables(measured: Sequence[Mapping[str, Any]], mode: str) -> list[str]:
    if mode != "transfer-small":
        return [table(one) for one in measured]
    names = dict.fromkeys(one["data"] for one in measured)
    return [sizes_table([one for one in measured if one["data"] == name]) for name in names]


def table(one: Mapping[str, Any]) -> str:
    systems = one["systems"]
    names = list(next(iter(systems.values()))["scores"]) if systems else []
    title = f"{one['data']}, {one['group']}: {one['rows']:,} rows, scores on {one['test_rows']:,}"
    head = f"{'system':40} {'rows/s':>7} {'training s':>10} {'whole s':>8} {f'{names[0]} (95 %)' if names else '':>24}"
    lines = [title, head + "".join(f" {name:>11}" for name in names[1:]) + f" {'graft trains':>22} {'whole':>7}"]
    for name, row in systems.items():
        over = one["graft_over"].get(name)
        faster = f" {_ratio(over['training']):>22} {over['whole']['median']:5.2f} x" if over else ""
        first, *others = row["scores"].values()
        lines.append(
            f"{name:40} {row['rows_per_second']['median']:7.0f} {row['training_seconds']['median']:10.1f} "
            f"{row['whole_seconds']['median']:8.1f} {_score(first):>24}"
            + "".join(f" {other['mean']:11.2%}" for other in others)
            + faster
        )
    return "\n".join(lines + _remarks([one]))


def sizes_table(parts: Sequence[Mapping[str, Any]]) -> str:
    """Systems by rows learned from: mean scores with their intervals."""
    names = dict.fromkeys(name for one in parts for name in one["systems"])
    title = f"{parts[0]['data']}: scores on {parts[0]['test_rows']:,} rows, and seconds of training"
    lines = [title, f"{'system':40}" + "".join(f" {one['rows']:>24,} rows" for one in parts)]
    for name in names:
        cells = [one["systems"].get(name) for one in parts]
        shown = [
            f"{_score(next(iter(row['scores'].values())))} {row['training_seconds']['median']:5.0f}s" if row else ""
            for row in cells
        ]
        lines.append(f"{name:40}" + "".join(f" {cell:>29}" for cell in shown))
    return "\n".join(lines + _remarks(parts))


def _score(found: Mapping[str, Any]) -> str:
    interval = f" ({found['low']:.1%} - {found['high']:.1%})" if "low" in found else ""
    return f"{found['mean']:.2%}{interval}"


def _ratio(found: Mapping[str, Any]) -> str:
    return f"{found['median']:5.2f} x ({found['min']:.2f} - {found['max']:.2f})"


def _remarks(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    left = {name: reason for one in parts for name, reason in one["left_out"].items()}
    warned = dict.fromkeys(line for one in parts for line in one["warnings"])
    return [*(f"left out: {name}: {reason}" for name, reason in left.items()), *(f"warning: {line}" for line in warned)]


if __name__ == "__main__":
    main()

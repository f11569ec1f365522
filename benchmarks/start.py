"""How long a person waits: `import graft`, `graft --help` and the first answer, each from a process not yet started.

    benchmarks/.venv/bin/python benchmarks/start.py [--runs 10] [--json]

Wall-clock seconds around whole processes, nothing subtracted; the commands take turns. Writes
benchmarks/results/start-YYYY-MM-DD.json. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import facts, record
from rounds import cores, environment, note, summary

HERE = Path(__file__).resolve().parent
TEXT = "My parcel never arrived"
PIPELINE = "from transformers import pipeline; print(pipeline('text-classification', {folder!r})({text!r}))"


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_model(Path(scratch) / "tickets", options.threads)
        waits = measure(commands(folder), options.runs, options.threads)
    result = {
        "benchmark": "start",
        "machine": facts(options.threads),
        "runs": options.runs,
        "seconds": {name: summary(seconds[1:]) | {"first": seconds[0]} for name, seconds in waits.items()},
    }
    record("start", result, options.results)
    print(json.dumps(result, indent=1) if options.json else table(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="after one more that warms the disk cache")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def commands(folder: Path) -> dict[str, list[str]]:
    """What is timed. The last line answers from the very folder Graft saved."""
    python, graft = sys.executable, str(Path(sys.executable).parent / "graft")
    pipeline = PIPELINE.format(folder=str(folder), text=TEXT)
    return {
        "python -c pass": [python, "-c", "pass"],
        "import graft": [python, "-c", "import graft"],
        "graft --help": [graft, "--help"],
        "graft run classify": [graft, "run", "classify", TEXT, "--model", str(folder)],
        "import torch": [python, "-c", "import torch"],
        "transformers pipeline, same folder": [python, "-c", pipeline],
    }


def make_model(folder: Path, threads: int) -> Path:
    """A small classifier to ask: a probe on examples/tickets.csv."""
    data = HERE.parent / "examples" / "tickets.csv"
    code = f"import graft; graft.finetune({str(data)!r}, task='classify', strategy='probe', out={str(folder)!r})"
    run([sys.executable, "-c", code], threads)
    return folder


def measure(timed: dict[str, list[str]], runs: int, threads: int) -> dict[str, list[float]]:
    waits: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(runs + 1):
        note(f"run {number} of {runs}")
        for name, command in timed.items():
            start = time.perf_counter()
            run(command, threads)
            waits[name].append(time.perf_counter() - start)
    return waits


def run(command: list[str], threads: int) -> None:
    done = subprocess.run(command, env=environment(threads), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed ({done.returncode}):\n{done.stderr[-3000:]}")


def table(result: dict[str, Any]) -> str:
    lines = [f"{'command':36} {'median s':>9} {'min - max':>15} {'first':>7}"]
    for name, wait in result["seconds"].items():
        spread = f"{wait['min']:.3f} - {wait['max']:.3f}"
        lines.append(f"{name:36} {wait['median']:9.3f} {spread:>15} {wait['first']:7.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

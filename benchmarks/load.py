"""From a folder to a model that has answered once: GPT-2 124M from float32 safetensors, Graft beside transformers.

    benchmarks/.venv/bin/python benchmarks/load.py [--rounds 7] [--json]

Each load happens in a process of its own, which has imported its library before the clock starts; the systems take
turns and the file lies in the disk cache. "Ready" means that a prompt of four tokens has been answered, so that
weights only mapped and not yet read do not count as loaded. Memory is the peak of resident memory above what the
process had before loading, as a multiple of the model's weights in the dtype it was loaded in. Weights are random,
saved by transformers.
Writes benchmarks/results/load-YYYY-MM-DD.json. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import facts, record
from rounds import cores, environment, note, ratios, summary

HERE = Path(__file__).resolve().parent
PROMPT = [464, 3290, 318, 257]


def graft(dtype: str) -> Callable[[str], tuple[Any, Any]]:
    from graft import loading  # `import graft` alone imports next to nothing

    def load(folder: str) -> tuple[Any, Any]:
        model = loading.load(folder, dtype=dtype, device="cpu")
        return model, model.logits([PROMPT])[0][-1]

    return load


def transformers(dtype: str) -> Callable[[str], tuple[Any, Any]]:
    import torch
    from transformers import GPT2LMHeadModel

    def load(folder: str) -> tuple[Any, Any]:
        model = GPT2LMHeadModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        with torch.inference_mode():
            return model, model(torch.tensor([PROMPT])).logits[0, -1]

    return load


SYSTEMS = {
    "graft float32": (graft, "float32"),
    "transformers float32": (transformers, "float32"),
    "graft bfloat16": (graft, "bfloat16"),
    "transformers bfloat16": (transformers, "bfloat16"),
}


def child(system: str, folder: str) -> dict[str, Any]:
    """Load once; figures of this process."""
    make, dtype = SYSTEMS[system]
    load = make(dtype)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, start = _status("VmRSS"), time.perf_counter()
    model, logits = load(folder)
    seconds = time.perf_counter() - start
    weights = sum(parameter.nbytes for parameter in model.parameters())
    peak = _status("VmHWM") - before
    return {"seconds": seconds, "peak": peak / weights, "weights": weights, "next": int(logits.argmax())}


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def main() -> None:
    options = arguments()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        make_model(scratch, options.threads)
        loads = measure(scratch, options.rounds, options.threads)
    seconds = {name: [one["seconds"] for one in each] for name, each in loads.items()}
    result = {
        "benchmark": "load",
        "machine": facts(options.threads),
        "rounds": options.rounds,
        "seconds": {name: summary(each) for name, each in seconds.items()},
        "peak_over_weights": {name: summary([one["peak"] for one in each]) for name, each in loads.items()},
        "weights_bytes": {name: each[0]["weights"] for name, each in loads.items()},
        "graft_over": {
            name: ratios(seconds[name.replace("transformers", "graft")], seconds[name])
            for name in seconds
            if name.startswith("transformers")
        },
        "same_next_token": len({one["next"] for name, each in loads.items() if "float32" in name for one in each}) == 1,
    }
    record("load", result, options.results)
    print(json.dumps(result, indent=1) if options.json else table(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="after one more that warms the disk cache")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("SYSTEM", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def make_model(folder: str, threads: int) -> None:
    code = "import sys, torch; from transformers import GPT2Config, GPT2LMHeadModel; torch.manual_seed(0); "
    code += "GPT2LMHeadModel(GPT2Config()).save_pretrained(sys.argv[1])"
    run([sys.executable, "-c", code, folder], threads)


def measure(folder: str, rounds: int, threads: int) -> dict[str, list[dict[str, Any]]]:
    loads: dict[str, list[dict[str, Any]]] = {name: [] for name in SYSTEMS}
    for number in range(rounds + 1):
        note(f"round {number} of {rounds}")
        for name, each in loads.items():
            each.append(json.loads(run([sys.executable, __file__, "--child", name, folder], threads).splitlines()[-1]))
    return {name: each[1:] for name, each in loads.items()}


def run(command: list[str], threads: int) -> str:
    done = subprocess.run(command, env=environment(threads), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return done.stdout


def table(result: dict[str, Any]) -> str:
    lines = [f"{'system':24} {'median s':>9} {'min - max':>15} {'peak / weights':>15}"]
    for name, wait in result["seconds"].items():
        spread, peak = f"{wait['min']:.3f} - {wait['max']:.3f}", result["peak_over_weights"][name]["median"]
        lines.append(f"{name:24} {wait['median']:9.3f} {spread:>15} {peak:15.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

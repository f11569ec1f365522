"""Texts per second of embedding with all-MiniLM-L6-v2: Graft beside its peers, at the same number of threads.

    benchmarks/.venv/bin/python benchmarks/embed.py [--rounds 5] [--json]

Prints a table (or JSON) and writes benchmarks/results/embed-YYYY-MM-DD.json. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from embedders import LONGEST, SYSTEMS
from machine import facts, model_folder, record
from mix import DATA, mixed_texts
from rounds import Worker, alternate, cores, disturbances, environment, note, ratios, summary

HERE = Path(__file__).resolve().parent
REFERENCE = "sentence-transformers float32"
LIMIT = "matrix products"


def main() -> None:
    options = arguments()
    texts, what = mixed_texts(options.data, options.count)
    lengths, config = token_counts(texts, options.model)
    work = multiply_adds(lengths, config) * 2e-9 / len(texts)
    note(f"{len(texts)} texts, {what}; {lengths.mean():.1f} tokens and {work:.3f} GFLOP a text")
    with tempfile.TemporaryDirectory() as scratch:
        loaded, turns, vectors = measure(options, texts, Path(scratch))
    result = {
        "benchmark": "embed",
        "machine": facts(options.threads),
        "texts": {
            "count": len(texts),
            "mix": what,
            "tokens": {"mean": float(lengths.mean()), "median": float(np.median(lengths)), "max": int(lengths.max())},
            "gflop_per_text": work,
        },
        **report(turns, loaded, vectors, work),
    }
    record("embed", result, options.results)
    print(json.dumps(result, indent=1) if options.json else table(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=2000, help="how many texts")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="names from the table, comma separated")
    parser.add_argument("--model", type=Path, help="a folder with all-MiniLM-L6-v2; default: the installed wheel's")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.systems = options.systems.split(",")
    if unknown := set(options.systems) - set(SYSTEMS):
        parser.error(f"unknown systems {sorted(unknown)}; choose from {', '.join(SYSTEMS)}")
    options.model = options.model or model_folder()
    return options


def token_counts(texts: list[str], folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """How many tokens the model sees of each text, special tokens included, and the model's config."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    lengths = np.array([len(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts)])
    return lengths, json.loads((folder / "config.json").read_text(encoding="utf-8"))


def multiply_adds(lengths: np.ndarray, config: dict[str, Any]) -> float:
    """Multiply-adds of all linear layers and of both attention products, over real tokens only (no padding)."""
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    linear = 4 * hidden**2 + 2 * hidden * inner
    return float(layers * (linear * lengths.sum() + 2 * hidden * (lengths.astype(float) ** 2).sum()))


def measure(options: argparse.Namespace, texts: list[str], scratch: Path) -> tuple[dict, dict, dict]:
    """Load every system, alternate them, fetch their vectors."""
    texts_file, onnx = scratch / "texts.json", scratch / "onnx"
    texts_file.write_text(json.dumps(texts), encoding="utf-8")
    if any(name.startswith("onnx") for name in options.systems):
        export = [sys.executable, str(HERE / "onnx_export.py"), str(options.model), str(onnx)]
        subprocess.run(export, env=environment(options.threads), check=True, stdout=subprocess.DEVNULL)
    loaded, vectors = {}, {}
    with contextlib.ExitStack() as stack:
        files = [str(options.model), str(texts_file), str(onnx)]
        workers = [stack.enter_context(Worker(LIMIT, "machine.py", [], options.threads))]
        for name in options.systems:
            worker = stack.enter_context(Worker(name, "embedders.py", files, options.threads))
            loaded[name] = worker.call("load")
            note(f"{name}: loaded, {loaded[name]['settings']}")
            workers.append(worker)
        turns = alternate(workers, [{}] * options.rounds)
        for worker in workers[1:]:
            path = scratch / f"{len(vectors)}.npy"
            worker.call("save", path=str(path))
            vectors[worker.name] = np.load(path)
    return loaded, turns, vectors


def report(turns: dict, loaded: dict, vectors: dict, work: float) -> dict[str, Any]:
    limits = turns.pop(LIMIT)
    bf16 = [turn["bfloat16"]["gflops"] for turn in limits]
    speeds = {name: [turn["texts_per_second"] for turn in each] for name, each in turns.items()}
    systems = {
        name: {
            "texts_per_second": summary(speeds[name]),
            "share_of_bf16_limit": summary(
                [speed * work / limit for speed, limit in zip(speeds[name], bf16, strict=True)]
            ),
            "cosine_to_reference": agreement(vectors[name], vectors.get(REFERENCE)),
            **loaded[name],
        }
        for name in speeds
    }
    ours = speeds.get("graft", {})
    return {
        "systems": systems,
        "graft_over": {name: ratios(ours, speeds[name]) for name in speeds if ours and name != "graft"},
        "limit": {
            "bfloat16_gflops": summary(bf16) | {"shapes": [turn["bfloat16"]["shape"] for turn in limits]},
            "float32_gflops": summary([turn["float32"]["gflops"] for turn in limits]),
            "texts_per_second": summary([limit / work for limit in bf16]),
        },
        "warnings": disturbances({**turns, LIMIT: limits}),
        "turns": turns,
    }


def agreement(vectors: np.ndarray, reference: np.ndarray | None) -> dict[str, float] | None:
    """Cosine of each text's vector to the reference system's, smallest and mean."""
    if reference is None:
        return None
    products = (vectors * reference).sum(1)
    cosine = products / np.linalg.norm(vectors, axis=1) / np.linalg.norm(reference, axis=1)
    return {"min": float(cosine.min()), "mean": float(cosine.mean())}


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{'system':31} {'texts/s':>8} {'min - max':>13} {'of limit':>8} {'cosine min / mean':>19} {'graft is':>22}"
    ]
    for name, row in result["systems"].items():
        speed, cosine = row["texts_per_second"], row["cosine_to_reference"]
        same = f"{cosine['min']:.5f} / {cosine['mean']:.5f}" if cosine else "-"
        over = result["graft_over"].get(name)
        faster = f"{over['median']:.2f} x ({over['min']:.2f} - {over['max']:.2f})" if over else ""
        spread = f"{speed['min']:.0f} - {speed['max']:.0f}"
        share = f"{row['share_of_bf16_limit']['median']:.0%}"
        lines.append(f"{name:31} {speed['median']:8.0f} {spread:>13} {share:>8} {same:>19} {faster:>22}")
    limit = result["limit"]
    lines.append(
        f"limit: bf16 products {limit['bfloat16_gflops']['median']:.0f} GFLOP/s, float32 "
        f"{limit['float32_gflops']['median']:.0f}; at {result['texts']['gflop_per_text']:.3f} GFLOP a text "
        f"{limit['texts_per_second']['median']:.0f} texts/s"
    )
    return "\n".join(lines + [f"warning: {line}" for line in result["warnings"]])


if __name__ == "__main__":
    main()

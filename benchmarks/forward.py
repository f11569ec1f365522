"""Sequences per second through encoders: Graft's packed batches beside transformers' padded ones, in the same dtype.

    benchmarks/.venv/bin/python benchmarks/forward.py [--rounds 5] [--models minilm,bert,t5,xlnet] [--json]

The models have the published shapes and random weights, and are saved by transformers. All get the same sequences of
token ids, of mixed lengths (most have 5 to 40 tokens, some up to 256). transformers runs them as its users do, in
batches of 32 padded to their longest, once in the order given and once sorted by length; Graft packs them as it does
for every job. A turn starts with lists of token ids in memory and ends with the last hidden states of every sequence.
Models Graft cannot load are left out with a notice. Writes benchmarks/results/forward-YYYY-MM-DD.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from machine import facts, record
from rounds import Worker, alternate, cores, disturbances, note, ratios, serve, summary

HERE = Path(__file__).resolve().parent
BATCH = 32
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
T5 = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "minilm": ("BertModel", MINILM),
    "bert": ("BertModel", {}),
    "t5": ("T5EncoderModel", T5),
    "xlnet": ("XLNetModel", {"d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072}),
}
SYSTEMS = ("graft", "transformers", "transformers sorted")
Forward = Callable[[list[list[int]]], list[Any]]


def sequences(count: int, seed: int = 0) -> list[list[int]]:
    """Token ids with the lengths of a search index: 85 % short, 15 % long."""
    draw = random.Random(seed)  # noqa: S311
    lengths = [draw.randint(5, 40) if draw.random() < 0.85 else draw.randint(60, 256) for _ in range(count)]
    return [[draw.randrange(1000, 28000) for _ in range(length)] for length in lengths]


def make(name: str, folder: Path) -> None:
    import torch
    import transformers

    architecture, sizes = MODELS[name]
    torch.manual_seed(0)
    theirs = getattr(transformers, architecture)
    theirs(theirs.config_class(**sizes)).save_pretrained(folder)


def graft(folder: str, dtype: str) -> Forward:
    import graft as library

    return library.load(folder, dtype=dtype, device="cpu").hidden_states


def transformers(folder: str, dtype: str, *, by_length: bool) -> Forward:
    import torch
    import transformers as library

    architecture = library.AutoConfig.from_pretrained(folder).architectures[0]
    model = getattr(library, architecture).from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    def run(given: list[list[int]]) -> list[Any]:
        order = sorted(range(len(given)), key=lambda n: len(given[n])) if by_length else list(range(len(given)))
        found: list[Any] = [None] * len(given)
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                chosen = order[start : start + BATCH]
                longest = max(len(given[number]) for number in chosen)
                ids = torch.zeros(len(chosen), longest, dtype=torch.long)
                mask = torch.zeros_like(ids)
                for row, number in enumerate(chosen):
                    ids[row, : len(given[number])] = torch.tensor(given[number])
                    mask[row, : len(given[number])] = 1
                states = model(input_ids=ids, attention_mask=mask).last_hidden_state
                for row, number in enumerate(chosen):
                    found[number] = states[row, : len(given[number])]
        return found

    return run


def worker(system: str, folder: str, dtype: str, count: str) -> None:
    given, state = sequences(int(count)), {}

    def load() -> dict[str, Any]:
        makers = {
            "graft": graft,
            "transformers": lambda *rest: transformers(*rest, by_length=False),
            "transformers sorted": lambda *rest: transformers(*rest, by_length=True),
        }
        state["run"] = makers[system](folder, dtype)
        state["run"](given[:64])
        return {}

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        found = state["run"](given)
        seconds = time.perf_counter() - start
        assert [len(each) for each in found] == [len(each) for each in given]
        return {"seconds": seconds, "sequences_per_second": len(given) / seconds, "sample": found[3][-1, :4].tolist()}

    serve({"load": load, "run": run})


def measure(name: str, options: argparse.Namespace) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        make(name, Path(scratch))
        given = [scratch, options.dtype, str(options.count)]
        workers = [stack.enter_context(Worker(each, "forward.py", given, options.threads)) for each in SYSTEMS]
        for each in workers:
            try:
                each.call("load")
            except RuntimeError as error:
                note(f"{name} is left out: {str(error).splitlines()[0]}")
                return None
        turns = alternate(workers, [{}] * options.rounds)
    speeds = {each: [turn["sequences_per_second"] for turn in taken] for each, taken in turns.items()}
    samples = {each: taken[0]["sample"] for each, taken in turns.items()}
    return {
        "sequences_per_second": {each: summary(values) for each, values in speeds.items()},
        "graft_over": {each: ratios(speeds["graft"], speeds[each]) for each in SYSTEMS[1:]},
        "farthest": max(abs(a - b) for a, b in zip(samples["graft"], samples["transformers"], strict=True)),
        "warnings": disturbances(turns),
    }


def main() -> None:
    options = arguments()
    lengths = [len(each) for each in sequences(options.count)]
    measured = {name: figures for name in options.models.split(",") if (figures := measure(name, options))}
    result = {
        "benchmark": "forward",
        "machine": facts(options.threads),
        "dtype": options.dtype,
        "sequences": {"count": len(lengths), "tokens": sum(lengths), "longest": max(lengths), "batch": BATCH},
        "models": measured,
    }
    record("forward", result, options.results)
    print(json.dumps(result, indent=1) if options.json else table(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=500, help="how many sequences")
    parser.add_argument("--models", default=",".join(MODELS), help="comma separated")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def rows(result: dict[str, Any]) -> Iterator[str]:
    yield f"{'model':8} {'system':20} {'sequences/s':>11} {'graft is':>22}"
    for name, figures in result["models"].items():
        for system, speed in figures["sequences_per_second"].items():
            over = figures["graft_over"].get(system)
            faster = f"{over['median']:.2f} x ({over['min']:.2f} - {over['max']:.2f})" if over else ""
            yield f"{name:8} {system:20} {speed['median']:11.1f} {faster:>22}"
        yield from (f"warning: {line}" for line in figures["warnings"])


def table(result: dict[str, Any]) -> str:
    return "\n".join(rows(result))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in SYSTEMS:
        worker(*sys.argv[1:])
    else:
        main()

"""The two choices Graft makes among processor kernels: attention by length, and weights laid out beforehand.

    benchmarks/.venv/bin/python benchmarks/kernels.py [--threads 1] [--json]

Each figure is the median of alternating calls, in microseconds. Prints tables (or JSON); writes nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from graft.batch import pack
from graft.model import attend as kernels
from graft.model.layout import Layout
from graft.model.linear import Linear, laid_out

TOKENS, HEADS = 1024, 12
LENGTHS = (8, 24, 64, 128, 256, 512, 1024, 2048)
SHAPES = ((384, 384), (384, 1536), (1536, 384), (768, 3072))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="1 is how long jobs run: a batch to each core")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        rows = [attention(length, size, options.seconds) for size in (32, 64) for length in LENGTHS]
        products = [linear(dtype, *shape, options.seconds) for dtype in ("bfloat16", "float32") for shape in SHAPES]
    if options.json:
        print(json.dumps({"attention": rows, "linear": products}, indent=1))
        return
    for title, found in (("attention, bfloat16", rows), (f"linear, {TOKENS} rows", products)):
        print(title)
        for row in found:
            print("  " + "  ".join(f"{name} {value}" for name, value in row.items()))


def attention(length: int, size: int, seconds: float) -> dict[str, Any]:
    """Sequences of one length, and of nearly that length (filling has to be hidden), through both kernels."""
    count = max(1, TOKENS // length)
    found: dict[str, Any] = {"length": length, "head size": size, "sequences": count}
    for name, shorter in (("equal", 0), ("ragged", 3)):
        lengths = [length - shorter * (number % 2) for number in range(count)]
        q, k, v = (torch.randn(sum(lengths), HEADS, size).bfloat16() for _ in range(3))
        layout = Layout(pack([[0] * one for one in lengths]))

        def run(longest: int, q=q, k=k, v=v, layout=layout) -> None:
            kernels.PLAIN_LONGEST = longest
            kernels.attend(q, k, v, layout, causal=False, scale=size**-0.5)

        plain, fused = alternating([lambda run=run: run(10**9), lambda run=run: run(0)], seconds)
        found |= {f"{name} plain": plain, f"{name} fused": fused}
    return found


def linear(dtype: str, inputs: int, outputs: int, seconds: float) -> dict[str, Any]:
    """One layer with its weights as they are, and laid out."""
    layer = Linear(inputs, outputs).to(getattr(torch, dtype))
    x = torch.randn(TOKENS, inputs).to(getattr(torch, dtype))
    with laid_out(layer):
        plain, laid = alternating([lambda: F.linear(x, layer.weight, layer.bias), lambda: layer(x)], seconds)
    return {"dtype": dtype, "inputs": inputs, "outputs": outputs, "as it is": plain, "laid out": laid}


def alternating(calls: list[Callable[[], Any]], seconds: float) -> list[int]:
    """Median microseconds of each."""
    taken: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(taken[0]) < 3:
        for call, times in zip(calls, taken, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return [round(statistics.median(times) * 1e6) for times in taken]


if __name__ == "__main__":
    main()

"""What choosing the next token of each text costs, beside torch on all rows at once and transformers' warpers.

    python benchmarks/choosing.py [--rows 8] [--vocabulary 50257]

Microseconds of processor time for one step of all rows: the least of several medians, one thread. Prints a table;
writes nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers

from graft.generate.choose import Chooser
from graft.generate.sampling import Sampling

MIXES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "greedy, repetition_penalty=1.2": {"temperature": 0.0, "repetition_penalty": 1.2},
    "greedy, no_repeat_ngram=3": {"temperature": 0.0, "no_repeat_ngram": 3},
    "greedy, logprobs=5": {"temperature": 0.0, "logprobs": 5},
    "temperature=0.7": {"temperature": 0.7},
    "top_k=50": {"top_k": 50},
    "top_k=50, top_p=0.95": {"top_k": 50, "top_p": 0.95},
    "top_p=0.9": {"top_p": 0.9},
    "min_p=0.05": {"min_p": 0.05},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=50257)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(options.rows, options.vocabulary, generator=generator) * 3 for _ in range(4)]
    chooser = Chooser(options.vocabulary, end=[options.vocabulary - 1])
    print(f"{'':32} {'Graft':>8} {'library':>8}   microseconds a step of {options.rows} rows")
    for name, settings in MIXES.items():
        states = chooser.states(Sampling(seed=1, max_tokens=10**6, **settings), list(range(400)), options.rows)
        ours = cost(logits, lambda x_BV, states=states: chooser.choose(x_BV, states))
        print(f"{name:32} {ours:8.0f} {cost(logits, library(settings)):8.0f}")


def library(settings: dict[str, Any]) -> Callable[[torch.Tensor], Any]:
    """The same with torch, and with transformers' warpers where tokens are drawn; penalties are left out."""
    if settings.get("temperature") == 0:
        return lambda x_BV: x_BV.argmax(-1).tolist()
    made: dict[str, Callable[[Any], Any]] = {
        "temperature": transformers.TemperatureLogitsWarper,
        "top_k": transformers.TopKLogitsWarper,
        "top_p": transformers.TopPLogitsWarper,
        "min_p": transformers.MinPLogitsWarper,
    }
    warpers = [made[name](value) for name, value in settings.items()]

    def choose(x_BV: torch.Tensor) -> Any:
        for warper in warpers:
            x_BV = warper(None, x_BV)
        return torch.multinomial(x_BV.softmax(-1), 1).tolist()

    return choose


def cost(logits: list[torch.Tensor], run: Callable[[torch.Tensor], Any]) -> float:
    medians = []
    for _ in range(3):
        taken = []
        for number in range(15):
            start = time.process_time()
            run(logits[number % len(logits)])
            taken.append(time.process_time() - start)
        medians.append(statistics.median(taken))
    return min(medians) * 1e6


if __name__ == "__main__":
    main()

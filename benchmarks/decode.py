"""Graft's decoding step alone: tokens a second beside the forward pass, what limits it, and what int8 costs in quality.

    benchmarks/.venv/bin/python benchmarks/decode.py [--streams 1 8] [--seconds 20] [--json]
    benchmarks/.venv/bin/python benchmarks/decode.py --quality FOLDER [--text FILE]

The shape is GPT-2's (124M), the weights random; every stream goes on from 64 tokens by 128. The ways take turns, a few
tokens each; the best and the median turn count, as other work on the machine only ever makes a turn slower. Prints a
table (or JSON); writes nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from graft import int8
from graft.batch import Packed
from graft.families.gpt2 import FAMILY
from graft.generate import native
from graft.generate.cache import StaticCache
from graft.generate.fast import Decoder
from graft.grafted import Model
from graft.heads.tokens import PredictNext
from graft.inference import run_all
from graft.loading import load
from graft.model.config import Config
from graft.model.transformer import Transformer
from graft.sealed import Settings

GPT2 = {"vocab_size": 50257, "hidden_size": 768, "layers": 12, "heads": 12, "feed_forward_size": 3072}
PROMPT, NEW, TURN = 64, 128, 8
Step = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20, help="for each number of streams")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quality", type=Path, metavar="FOLDER", help="a model, before and after int8")
    parser.add_argument("--text", type=Path, help="what it reads; without it, what it samples itself")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        if options.quality:
            found = quality(options.quality, options.text)
        else:
            found = {"memory read, GB/s": round(memory(), 1), "building the library, s": building()}
            found |= {f"{count} streams": speeds(count, options.seconds) for count in options.streams}
    print(json.dumps(found) if options.json else "\n".join(lines(found)))


def lines(found: dict[str, Any], indent: str = "") -> Iterator[str]:
    """A nested table as text."""
    for name, value in found.items():
        if isinstance(value, dict):
            yield f"{indent}{name}"
            yield from lines(value, indent + "  ")
        else:
            yield f"{indent}{name:42}{value}"


def gpt2(rounded: bool, **changes: Any) -> Model:
    """A model of GPT-2's shape in bfloat16."""
    config = Config(**{**GPT2, **changes}, positions=1024, causal=True, norm="pre", activation="gelu_tanh")
    backbone = Transformer(config).to(torch.bfloat16).eval()
    head = PredictNext(backbone.token_embedding)
    model = Model(backbone, head, family=FAMILY, published={}, folder=Path("gpt2"), settings=Settings())
    if rounded:
        int8.swap(model)
    return model


def slots(model: Model, count: int, length: int = PROMPT + NEW) -> SimpleNamespace:
    """Filled slots."""
    config = model.backbone.config
    shape = (config.layers, count, config.key_heads, length, config.head_size)
    return SimpleNamespace(keys=torch.randn(shape), values=torch.randn(shape))


def forward(model: Model, count: int) -> Step:
    """The step as the backbone's own forward pass does it."""
    cache = StaticCache(model.backbone.config, count, PROMPT + NEW, dtype=torch.float32)
    lengths_B, head = torch.ones(count, dtype=torch.int64), model.head
    cache.keys, cache.values = cache.keys.to(model.dtype), cache.values.to(model.dtype)

    def step(ids_B: Tensor, position_B: Tensor) -> Tensor:
        batch = Packed(ids_B, lengths_B, start_B=position_B)
        assert head is not None
        return head(model.backbone(batch, cache=cache), batch)  # type: ignore[no-any-return]

    return step


def turn(step: Step, count: int, start: int) -> float:
    """Seconds of some greedy tokens."""
    ids_B, position_B = torch.arange(count), torch.full((count,), start)
    begun = time.perf_counter()
    for _ in range(TURN):
        ids_B = step(ids_B, position_B).argmax(-1)
        position_B = position_B + 1
    return time.perf_counter() - begun


def speeds(count: int, seconds: float) -> dict[str, Any]:
    """Tokens a second of each way, and of the decoder where the time goes."""
    models = {"bf16": gpt2(False), "int8": gpt2(True)}
    ways: dict[str, Step] = {f"forward {name}": forward(model, count) for name, model in models.items()}
    ways |= {f"decoder {name}": Decoder(model, slots(model, count)) for name, model in models.items()}
    part = gpt2(True, layers=1)
    ways["of that head"] = Decoder(part, slots(part, count))
    ways["of that attention"] = ways["decoder int8"]
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for step in ways.values():
        turn(step, count, 0)
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        start = PROMPT + len(taken["decoder int8"]) * TURN % NEW
        for name, step in ways.items():
            taken[name].append(turn(step, count, 0 if name == "of that attention" else start) / TURN)
    least = {name: min(times) for name, times in taken.items()}
    found: dict[str, Any] = {}
    for name in ways:
        if not name.startswith("of"):
            model = models[name.split()[1]]
            rates = {"best": count / least[name], "median": count / statistics.median(taken[name])}
            found[name] = {what: round(rate, 1) for what, rate in rates.items()}
            found[name]["weights read, GB/s"] = round(weights(model) / least[name] / 1e9, 1)
    whole, one = least["decoder int8"], least["of that head"]
    shares = {
        "keys and values of earlier tokens": whole - least["of that attention"],
        "output embedding, and one layer": one,
    }
    found["decoder int8: ms a step"] = {"all": round(whole * 1e3, 2)} | {
        k: round(v * 1e3, 2) for k, v in shares.items()
    }
    return found


def weights(model: Model) -> int:
    """Bytes of weights that one step reads: all matrices of the blocks and the output embedding."""
    layers = [layer for layer in model.modules() if hasattr(layer, "in_features")]
    return sum(layer.weight.nbytes for layer in layers)  # type: ignore[union-attr, misc]


def memory() -> float:
    """Bytes a second that all threads read together, in GB/s; the best of many."""
    many = torch.ones(2**26, dtype=torch.int64)
    best = float("inf")
    for _ in range(12):
        begun = time.perf_counter()
        many.sum()
        best = min(best, time.perf_counter() - begun)
    return many.nbytes / best / 1e9


def building() -> dict[str, float]:
    """Seconds to build the library, and to load it when it is there."""
    native.library.cache_clear()
    begun = time.perf_counter()
    native.library()
    return {"with what is there": round(time.perf_counter() - begun, 3)}


def quality(folder: Path, text: Path | None) -> dict[str, Any]:
    """Perplexity of a text before and after the weights are rounded, and how often the first choice stays the same."""
    model = load(folder, "float32")
    size = min(model.backbone.config.positions, 256)
    if text is None:
        pieces = sampled(model, 64, size)
    else:
        ids = model.tokenizer.encode([text.read_text(encoding="utf-8")])[0].ids
        pieces = [ids[at : at + size] for at in range(0, min(len(ids), 100 * size) - size, size)]
    before, firsts = perplexity(model, pieces)
    int8.swap(model)
    after, others = perplexity(model, pieces)
    same = (firsts == others).float().mean()
    found = {
        "tokens": len(pieces) * (size - 1),
        "float32": before,
        "int8": after,
        "change": f"{after / before - 1:+.3%}",
    }
    return found | {"same first choice": f"{same:.2%}"}


def sampled(model: Model, count: int, size: int) -> list[list[int]]:
    """Texts drawn from the model, each from token 1 on."""
    generator = torch.Generator().manual_seed(0)
    step, ids_B, texts = Decoder(model, slots(model, count, size)), torch.ones(count, dtype=torch.int64), []
    for place in range(size):
        texts.append(ids_B)
        logits_BV = step(ids_B, torch.full((count,), place))
        ids_B = torch.multinomial(logits_BV.softmax(-1), 1, generator=generator)[:, 0]
    return torch.stack(texts, 1).tolist()  # type: ignore[no-any-return]


def perplexity(model: Model, pieces: list[list[int]]) -> tuple[float, Tensor]:
    """Perplexity of pieces of text, and the first choice at each token."""
    sums, firsts = [0.0], {}

    def keep(indices: list[int], batch: Packed) -> None:
        assert model.head is not None
        logits = model.head(model.backbone(batch), batch).split(batch.lengths)
        for index, one in zip(indices, logits, strict=True):
            target = torch.tensor(pieces[index][1:])
            sums.append(float(torch.nn.functional.cross_entropy(one[:-1], target, reduction="sum")))
            firsts[index] = one.argmax(-1)

    run_all(pieces, None, keep, model.backbone)
    count = sum(map(len, pieces)) - len(pieces)
    return float(torch.tensor(sum(sums) / count).exp()), torch.cat([firsts[index] for index in range(len(pieces))])


if __name__ == "__main__":
    main()

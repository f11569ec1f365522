"""Tiny models run by transformers and by Graft, for the tests that compare the two."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_models import BYTES, POSITIONS, SIZES, TINY, head
from torch import Tensor

from graft.batch import Packed
from graft.grafted import Model
from graft.model.layers import Dropout

BARE = tuple(name for name in TINY if not head(name))
HEADED = tuple(name for name in TINY if head(name))
TYPED = ("bert", "xlnet")
RAGGED = (7, 1, 40, 2, 23, 8, 7, 39, 16, 3)


def family(name: str) -> str:
    return name.partition("-")[0]


def long(name: str) -> dict[str, int]:
    """Room for 400 tokens, where a family has a limit."""
    if family(name) == "xlnet":
        return {}
    key = "n_positions" if family(name) in BYTES else "max_position_embeddings"
    return {key: 400 + SIZES[family(name)][key] - POSITIONS}


def draw(lengths: Sequence[int], vocab_size: int, seed: int = 0) -> list[list[int]]:
    """Random sequences without tokens 0 and 1, which transformers takes for padding in some families."""
    numbers = random.Random(seed)
    return [[numbers.randrange(2, vocab_size) for _ in range(length)] for length in lengths]


def draw_types(name: str, sequences: Sequence[Sequence[int]]) -> list[list[int]] | None:
    """Token types of two segments, for the family that has them."""
    if family(name) not in TYPED:
        return None
    return [[int(place >= len(one) // 2) for place in range(len(one))] for one in sequences]


def alone(theirs: Any, ids: Sequence[int], types: Sequence[int] | None = None, **options: Any) -> Any:
    """What transformers makes of one sequence, where there is nothing to pad."""
    given = {"input_ids": torch.tensor([ids])} | ({} if types is None else {"token_type_ids": torch.tensor([types])})
    if type(theirs).__name__.endswith("ForMultipleChoice"):
        given = {what: value[None] for what, value in given.items()}
    with torch.inference_mode():
        return theirs(**given, **options)


def numbers(output: Any) -> Tensor:
    """What a head of transformers says about one sequence, in the form Graft's heads have."""
    if "start_logits" in output:
        return torch.stack([output.start_logits[0], output.end_logits[0]], dim=-1)
    if "prediction_logits" in output:
        return output.prediction_logits[0]
    if "start_top_index" in output:
        return torch.cat([value.flatten() for name, value in output.items() if name != "mems"])
    if "MultipleChoice" in type(output).__name__:
        return output.logits[0]
    return output[0] if "last_hidden_state" in output else output.logits.flatten(0, -2)


@torch.inference_mode()
def run(model: Model, batch: Packed) -> tuple[Tensor, list[Tensor]]:
    layers: list[Tensor] = []
    return model.backbone(batch, layers=layers), layers


def worst(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours.float() - theirs.float()).abs().max())


def wave(x: Tensor, rate: float) -> Tensor:
    """Factors that depend on the place alone: Graft lays attention into blocks that may be longer than a sequence."""
    return (1 + rate * torch.cos(torch.arange(x.shape[-1], dtype=x.dtype))).expand_as(x)


def waves_for_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make dropout of both libraries multiply by a wave as high as its rate, where each would draw by itself.

    One place left out, one too many, or one with another's rate changes what comes out.
    """

    def multiply(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return x * wave(x, p) if training else x

    monkeypatch.setattr(torch.nn.functional, "dropout", multiply)
    monkeypatch.setattr(Dropout, "mask", lambda self, like: wave(like, self.rate))

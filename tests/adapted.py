"""Tiny models adapted in a few steps, for the tests of adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from side_by_side import draw

from graft import transfer
from graft.grafted import Model
from graft.inference import computing
from graft.loading import load
from graft.train.example import Example
from graft.train.loop import Schedule, train
from graft.train.optimizer import AdamW
from graft.transfer import Strategy

FAMILIES = ("bert", "roberta", "distilbert", "xlnet", "gpt2", "llama", "t5")
LABELS = ("low", "high", "middling")


def sequences(name: str) -> list[list[int]]:
    """T5's classifier of transformers wants an end token; RoBERTa takes that number for padding."""
    return [one + [1] * (name == "t5") for one in draw((4, 8, 11, 2, 6, 7), 90, seed=5)]


def grafted(folder: Path, dtype: str = "float32") -> Model:
    """A model with a fresh classifier."""
    model = load(folder, dtype)
    torch.manual_seed(3)
    model.graft("classify", labels=LABELS, problem="single")
    return model


def learn(model: Model, name: str, steps: int = 3, dtype: torch.dtype = torch.float32, **settings: Any) -> None:
    """Some steps of training."""
    strategy = transfer.make(name, settings)
    assert isinstance(strategy, Strategy)
    examples = [
        Example(sequences=(one,), types=(None,), target=torch.tensor(number % 3), line=number)
        for number, one in enumerate(sequences(model.family.name))
    ]
    groups = strategy.begin(model)
    with computing(model, dtype) as masters:
        optimizer = AdamW(groups, masters)
        schedule = Schedule(epochs=steps, batch_size=6, learning_rate=0.01, warmup=0)
        assert len(list(train(model, examples, optimizer, schedule))) == steps
    strategy.finish(model)


def logits(model: Model) -> torch.Tensor:
    return torch.stack(model.logits(sequences(model.family.name)))

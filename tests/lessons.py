"""What every head can learn from: a few rows of tiny random sequences, and how a model without its task is trained."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from side_by_side import draw
from torch import Tensor

from graft.grafted import Model
from graft.inference import computing
from graft.train.example import Example, packed
from graft.train.loop import Schedule, train
from graft.train.optimizer import AdamW
from graft.transfer import Strategy

LABELS = ("no", "yes", "maybe")
OPTIONS = {"classify": {"labels": LABELS, "problem": "single"}, "tag": {"labels": LABELS}}
LENGTHS = (5, 3, 7, 4, 6, 5)
STEPS = 3


def rows(model: Model) -> list[Example]:
    """Six rows for the head a model has."""
    kind, vocab = model.head.kind, model.backbone.config.vocab_size
    found = []
    for number, length in enumerate(LENGTHS):
        sequences = draw([length] * {"choose": 2, "embed": 2}.get(kind, 1), vocab, seed=number)
        target, places, read = torch.tensor(number % len(LABELS)), None, ()
        if kind in ("regress", "embed"):
            target = torch.tensor(number / len(LENGTHS))
        elif kind == "choose":
            target = torch.tensor(number % 2)
        elif kind == "span":
            target = torch.tensor([0, length - 1])
        elif kind in ("tag", "next", "mask"):
            places = tuple(range(length - 1))
            target = torch.tensor([one % (len(LABELS) if kind == "tag" else vocab) for one in sequences[0][1:]])
            read = (sequences[0],) if kind == "next" and model.backbone.decoder is not None else ()
        halves = [0] * (length // 2) + [1] * (length - length // 2)
        types = halves if model.backbone.config.token_types > 1 else None
        found.append(Example(tuple(sequences), (types,) * len(sequences), target, number, places, read))
    return found


@torch.inference_mode()
def outputs(model: Model) -> Tensor:
    """What the head gives for all rows."""
    batch, read = packed(model, rows(model))
    return model(batch, read).clone()


def learn(model: Model, strategy: Strategy) -> Iterator[str]:
    """Train three steps, each an epoch; says "begun" before them and "learned" before the strategy finishes."""
    examples = rows(model)
    groups = strategy.begin(model)
    yield "begun"
    schedule = Schedule(epochs=STEPS, batch_size=len(examples), learning_rate=0.01, warmup=0.0)
    with computing(model, torch.float32) as masters:
        optimizer = AdamW(groups, masters)
        strategy.epoch(model, 0, STEPS)
        for step in train(model, examples, optimizer, schedule):
            if step.number < step.steps:
                strategy.epoch(model, step.epoch + 1, STEPS)
    yield "learned"
    strategy.finish(model)

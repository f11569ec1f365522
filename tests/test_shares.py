"""How much each layer counts in a learned mix."""

from __future__ import annotations

import pytest
import torch

from graft import shares
from graft.heads import Classify, Head, Regress

ROWS, SIZE = 400, 6


def layers(telling: int | None, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three layers of noise, one of which (None: all alike) shows the label by its first number."""
    draw = torch.Generator().manual_seed(seed)
    x_LND, targets = torch.randn(3, ROWS, SIZE, generator=draw), torch.arange(ROWS) % 2
    chosen = slice(None) if telling is None else telling
    x_LND[chosen, :, 0] = 3.0 * (2 * targets - 1) + torch.randn(ROWS, generator=draw)
    return x_LND, targets


HEADS: dict[str, tuple[Head, torch.dtype]] = {
    "labels": (Classify(SIZE, labels=("no", "yes")), torch.int64),
    "several": (Classify(SIZE, labels=("one",), problem="multi"), torch.float32),
    "number": (Regress(SIZE), torch.float32),
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("telling", [0, 1, 2])
def test_the_layer_that_tells_counts_most(kind: str, telling: int):
    head, dtype = HEADS[kind]
    x_LND, targets = layers(telling)
    target = targets.to(dtype)[:, None] if kind == "several" else targets.to(dtype)
    weights_L, penalty = shares.learn(x_LND, target, head)
    found = weights_L.softmax(0)
    assert found.argmax() == telling
    assert found[telling] > 0.6
    assert penalty == min(shares.PENALTIES)


def test_layers_that_tell_the_same_count_alike():
    x_LND, targets = layers(None)
    x_LND[:] = x_LND[:1]
    weights_L, _ = shares.learn(x_LND, targets, HEADS["labels"][0])
    torch.testing.assert_close(weights_L.softmax(0), torch.full((3,), 1 / 3), atol=1e-4, rtol=0)


def test_too_few_rows_teach_nothing():
    x_LND, targets = layers(1)
    few = shares.FEWEST - 1
    weights_L, penalty = shares.learn(x_LND[:, :few], targets[:few], HEADS["labels"][0])
    assert penalty is None
    assert not weights_L.any()


def test_the_same_seed_gives_the_same_weights():
    x_LND, targets = layers(1)
    first, again = (shares.learn(x_LND, targets, HEADS["labels"][0], seed=3)[0] for _ in range(2))
    assert torch.equal(first, again)

"""The learned mix of layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graft.model.scalar_mix import ScalarMix

LAYERS = [torch.randn(5, 4, generator=torch.Generator().manual_seed(n)) * (n + 1) + n for n in range(3)]


def test_a_fresh_mix_is_the_mean():
    torch.testing.assert_close(ScalarMix(3)(LAYERS), torch.stack(LAYERS).mean(0))


@pytest.mark.parametrize("normalized", [False, True])
def test_the_formula(normalized: bool):
    mix = ScalarMix(3, normalized=normalized)
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([0.5, -1.0, 2.0]))
        mix.gamma.fill_(0.7)
    layers = [layer.double().numpy() for layer in LAYERS]
    if normalized:
        layers = [(one - one.mean()) / one.std() for one in layers]
    shares = np.exp([0.5, -1.0, 2.0]) / np.exp([0.5, -1.0, 2.0]).sum()
    expected = 0.7 * sum(share * one for share, one in zip(shares, layers, strict=True))
    torch.testing.assert_close(mix(LAYERS), torch.from_numpy(expected).float(), rtol=0, atol=1e-5)


def test_it_learns():
    mix = ScalarMix(3, normalized=True)
    mix(LAYERS)[:, 0].sum().backward()
    assert mix.gamma.grad is not None
    assert mix.weights.grad is not None
    assert mix.weights.grad.abs().min() > 0


def test_as_many_layers_as_it_was_made_for():
    with pytest.raises(ValueError, match="zip"):
        ScalarMix(2)(LAYERS)

"""AdamW beside torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graft.inference import computing
from graft.train.optimizer import AdamW
from graft.transfer import Group


def strided(values: torch.Tensor) -> nn.Parameter:
    """A parameter that lies as a view of a larger tensor, transposed, as loading leaves GPT-2's joint matrices."""
    large = torch.zeros(values.shape[1], 3 * values.shape[0])
    part = large.t()[values.shape[0] : 2 * values.shape[0]]
    part.copy_(values)
    assert not part.is_contiguous()
    return nn.Parameter(part)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [nn.Parameter, strided])
def test_steps_are_those_of_torch(make, dtype: torch.dtype):
    """Three steps with two groups of different rate and decay; in bfloat16 the float32 masters are compared."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(5, 7, generator=generator) for _ in range(2)]
    model = nn.ParameterList([make(value.clone()) for value in values])
    theirs = [nn.Parameter(value.clone()) for value in values]
    reference = torch.optim.AdamW(
        [{"params": theirs[:1], "lr": 0.01, "weight_decay": 0.1}, {"params": theirs[1:], "lr": 0.005}],
        weight_decay=0.0,
    )
    with computing(model, dtype) as masters:
        groups = [Group(parameters=[model[0]], decay=0.1), Group(parameters=[model[1]], rate=0.5)]
        optimizer = AdamW(groups, masters)
        for _ in range(3):
            for mine, other in zip(model, theirs, strict=True):
                mine.grad = torch.randn(5, 7, generator=generator).to(dtype)
                other.grad = mine.grad.float()
            optimizer.step(0.01)
            reference.step()
            assert {p.dtype for p in model} == {dtype}
    for mine, other in zip(model, theirs, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine.data, other.data, atol=1e-6, rtol=1e-6)


def test_a_parameter_counts_its_own_steps():
    """Torch counts for each parameter as well: one frozen at first, one frozen at last."""
    generator = torch.Generator().manual_seed(3)
    ours = [nn.Parameter(torch.ones(4, 3)) for _ in range(2)]
    theirs = [nn.Parameter(torch.ones(4, 3)) for _ in range(2)]
    optimizer, reference = AdamW([Group(parameters=ours)]), torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.0)
    for frozen in (1, 1, 1, None, 0, 0):
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(4, 3, generator=generator)
            mine.grad, other.grad = (None, None) if number == frozen else (gradient.clone(), gradient)
        optimizer.step(0.01)
        reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.data, other.data, atol=1e-7, rtol=0)

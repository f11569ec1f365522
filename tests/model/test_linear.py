"""Weights laid out for the processor: same results, for a while, and only where nothing is learned."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graft.model.linear import Linear, laid_out

needs_kernels = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN")


def draw(dtype: torch.dtype, bias: bool = True) -> tuple[Linear, torch.Tensor]:
    torch.manual_seed(3)
    return Linear(40, 24, bias=bias).to(dtype), torch.randn(19, 40).to(dtype)


@needs_kernels
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_product_is_the_same(dtype: torch.dtype, bias: bool):
    layer, x = draw(dtype, bias)
    with torch.no_grad():
        expected = layer(x)
        with laid_out(nn.Sequential(layer)):
            found = layer(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-2)


@needs_kernels
def test_the_copy_is_used_until_the_end_and_then_dropped():
    layer, x = draw(torch.float32)
    with torch.no_grad(), laid_out(layer):
        before = layer(x)
        layer.weight.zero_()
        assert torch.equal(layer(x), before)
    assert layer.laid is None
    assert torch.equal(layer(x), layer.bias.expand(19, 24))


@needs_kernels
def test_gradients_are_those_of_the_weights_themselves():
    layer, x = draw(torch.float32)
    with laid_out(layer):
        layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.sum(0).expand(24, 40))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_dtypes_without_such_kernels_are_left_alone(dtype: torch.dtype):
    layer, x = draw(dtype)
    with torch.no_grad(), laid_out(layer):
        assert layer.laid is None
        assert layer(x).dtype == dtype


def test_weights_elsewhere_than_on_the_processor_are_left_alone():
    layer = Linear(40, 24, device="meta")
    with torch.no_grad(), laid_out(layer):
        assert layer.laid is None
        assert layer(torch.empty(19, 40, device="meta")).shape == (19, 24)


def test_nothing_of_it_is_saved():
    layer, _ = draw(torch.float32)
    names = set(layer.state_dict())
    with laid_out(layer):
        assert set(layer.state_dict()) == names

"""The parts of a block: activations, dropout by bytes, and the two orders of normalization."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graft.batch import pack
from graft.errors import DataError, ModelError
from graft.model.attention import Flow
from graft.model.block import Block
from graft.model.config import Config, Experts
from graft.model.layers import ACTIVATIONS, Dropout, activation
from graft.model.layout import Layout
from graft.model.transformer import Transformer

CONFIG = Config(vocab_size=20, hidden_size=8, layers=2, heads=2, feed_forward_size=12, positions=16)
MANY = 2**20


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("gelu", lambda x: x / 2 * (1 + torch.erf(x / math.sqrt(2)))),
        ("gelu_tanh", lambda x: x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
        ("relu", lambda x: x.clamp(min=0)),
        ("silu", lambda x: x / (1 + torch.exp(-x))),
    ],
)
def test_activations(name, formula):
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    torch.testing.assert_close(activation(name)(x), formula(x), rtol=0, atol=1e-12)
    assert len(ACTIVATIONS) == 4


def test_an_unknown_activation():
    with pytest.raises(ModelError, match="unknown activation 'glu': did you mean 'gelu'"):
        activation("glu")


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9, 1 / 256, 255 / 256, 0.001, 0.999])
def test_dropout_drops_at_its_rate_and_keeps_the_expectation(rate: float):
    torch.manual_seed(5)
    kept = Dropout(rate)(torch.ones(MANY))
    # A byte decides, so the rate is the nearest 1/256; rates no byte can tell from 0 or 1 are exact.
    used = round(rate * 256) / 256
    used = used if 0 < used < 1 else rate
    assert kept.unique().tolist() == pytest.approx([0, 1 / (1 - used)])
    deviation = math.sqrt(used * (1 - used) / MANY)
    assert abs(float((kept == 0).double().mean()) - used) < 5 * deviation
    assert abs(float(kept.double().mean()) - 1) < 5 * deviation / (1 - used)


def test_the_eight_bytes_of_a_draw_are_independent():
    torch.manual_seed(6)
    dropped = (Dropout(0.5)(torch.ones(MANY)) == 0).double().view(-1, 8)
    assert float((dropped.mean(0) - 0.5).abs().max()) < 5 * 0.5 / math.sqrt(len(dropped))
    correlation = torch.corrcoef(dropped.T) - torch.eye(8)
    assert float(correlation.abs().max()) < 5 / math.sqrt(len(dropped))


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (3, 5), (2, 3, 9), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dropout_of_any_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype):
    x = torch.full(shape, 3.0, dtype=dtype)
    dropped = Dropout(0.5)(x)
    assert (dropped.shape, dropped.dtype) == (x.shape, dtype)
    assert set(dropped.unique().tolist()) <= {0.0, 6.0}


def test_dropout_follows_the_seed_and_its_gradient_the_mask():
    x = torch.ones(1000, requires_grad=True)
    torch.manual_seed(7)
    first = Dropout(0.3)(x)
    torch.manual_seed(7)
    again = Dropout(0.3)(x)
    assert torch.equal(first, again)
    first.sum().backward()
    assert torch.equal(x.grad, first.detach())


def test_dropout_out_of_training_is_nothing():
    x = torch.randn(10)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert not Dropout(0.0).active


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_normalizes_where_it_says(norm):
    torch.manual_seed(8)
    block = Block(dataclasses.replace(CONFIG, norm=norm), 0).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    layout = Layout(pack([[0] * 5, [0] * 3]))
    x = torch.randn(8, 8)

    def attention(y):
        q, k, v = (
            layer(y).unflatten(-1, (2, 4))
            for layer in (block.attention.query, block.attention.key, block.attention.value)
        )
        mixed = [
            F.scaled_dot_product_attention(*(z[rows].transpose(0, 1) for z in (q, k, v))).transpose(0, 1)
            for rows in (slice(0, 5), slice(5, 8))
        ]
        return block.attention.output(torch.cat(mixed).flatten(1))

    def feed_forward(y):
        return block.feed_forward.down(F.gelu(block.feed_forward.up(y)))

    first, second = block.attention_norm, block.feed_forward_norm
    if norm == "pre":
        y = x + attention(first(x))
        expected = y + feed_forward(second(y))
    else:
        y = first(x + attention(x))
        expected = second(y + feed_forward(y))
    torch.testing.assert_close(block(x, Flow(layout=layout)), expected, rtol=1e-4, atol=1e-4)


def test_every_rate_of_a_configuration_is_used():
    """Training twice differs for each kind of dropout alone, and for none it does not."""
    batch = pack([[1, 2, 3, 4, 5]])
    for rates in ({}, {"dropout": 0.5}, {"embedding_dropout": 0.5}, {"attention_dropout": 0.5}):
        torch.manual_seed(9)
        backbone = Transformer(dataclasses.replace(CONFIG, **rates)).train()
        assert torch.equal(backbone(batch), backbone(batch)) == (not rates), rates


def test_attention_dropout_keeps_the_expectation():
    torch.manual_seed(10)
    block = Block(dataclasses.replace(CONFIG, attention_dropout=0.25), 0)
    layout = Layout(pack([[0] * 12, [0] * 11, [0] * 3]))
    x = torch.randn(26, 8)
    with torch.no_grad():
        draws = torch.stack([block.attention(x, Flow(layout=layout)) for _ in range(800)])
        exact = block.eval().attention(x, Flow(layout=layout))
    error = (draws.mean(0) - exact) / (draws.std(0) / math.sqrt(len(draws)))
    assert float(draws.std(0).min()) > 0
    assert float(error.abs().max()) < 5


@pytest.mark.parametrize("lengths", [(17,), (3, 40, 2)])
def test_a_sequence_longer_than_the_positions(lengths: tuple[int, ...]):
    backbone = Transformer(CONFIG)
    where = lengths.index(max(lengths))
    with pytest.raises(DataError, match=f"sequence {where} has {max(lengths)} tokens, the model holds at most 16"):
        backbone(pack([[1] * length for length in lengths]))


WIDE = dataclasses.replace(CONFIG, hidden_size=64, head_size=32, feed_forward_size=96, vocab_size=500)
LLAMA: dict[str, Any] = {"norm": "pre", "norm_kind": "rms", "position_kind": "rotary", "gated": True, "biases": ()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": "pre", "token_types": 2, "embedding_norm": True, "position_offset": 3},
        {**LLAMA, "key_heads": 1, "head_size": 16},
        {**LLAMA, "experts": Experts(count=4, chosen=2, size=24, shared=40), "dense_layers": (1,)},
    ],
)
def test_a_configuration_counts_its_parameters(changes: dict[str, Any]):
    """To within norms and biases: it decides whether a configuration can be believed, before anything is built."""
    config = dataclasses.replace(WIDE, **changes)
    parameters = dict(Transformer(config).named_parameters())
    small = sum(value.numel() for value in parameters.values() if value.dim() == 1)
    assert config.parameters == sum(value.numel() for value in parameters.values()) - small - 64 * bool(config.experts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "both"}, "norm is 'both', expected 'post' or 'pre'"),
        ({"heads": 3, "head_size": 0}, "hidden size 8 is not a multiple of 3 attention heads"),
        ({"layers": 0, "dropout": 1.0}, "layers is 0, .*; dropout is 1.0, expected at least 0 and below 1"),
        ({"vocab_size": 2**31, "hidden_size": 2**20}, "parameters, more than any model Graft can hold"),
    ],
)
def test_a_configuration_that_makes_no_sense(changes, message):
    with pytest.raises(ModelError, match=f"the model's configuration makes no sense: .*{message}"):
        dataclasses.replace(CONFIG, **changes)

"""Rounded weights: how far off they are, what is rounded, and that nobody saves them by mistake."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from graft.adapters import LowRank
from graft.adapters.swap import swap as put
from graft.batch import pack
from graft.errors import ModelError, UsageError
from graft.grafted import Model
from graft.int8 import Int8, rounded, swap
from graft.loading import load
from graft.model.linear import Linear

TEXTS = 12


def ids() -> list[list[int]]:
    return torch.randint(96, (TEXTS, 30), generator=torch.Generator().manual_seed(1)).tolist()


def logits(model: Model) -> list[Tensor]:
    """Of texts, or of what a decoder is given beside them."""
    if model.backbone.decoder is None:
        return model.logits(ids())
    batch = pack(ids())
    with torch.inference_mode():
        return [model.head(model.backbone.read(batch, "next", batch), batch)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_weight_is_within_half_a_step(dtype: torch.dtype):
    weight = (torch.randn(50, 33, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 3, 50)[:, None]).to(
        dtype
    )
    weight[7] = 0
    numbers, scale = rounded(weight)
    assert numbers.dtype == torch.int8
    assert int(numbers.abs().max()) <= 127
    assert torch.equal(scale, scale.bfloat16().float())
    assert ((numbers * scale[:, None] - weight.float()).abs() <= scale[:, None] * 0.5001).all()
    assert (scale <= weight.float().abs().amax(-1) / 125).logical_or(weight.float().abs().amax(-1) == 0).all()


@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 3, 16, 17, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_multiplies_with_its_rounded_weights(rows: int, dtype: torch.dtype):
    torch.manual_seed(rows)
    layer = Linear(48, 70).to(dtype)
    small, x = Int8(layer), torch.randn(rows, 48).to(dtype)
    exact = F.linear(x.float(), small.weight * small.scale[:, None], layer.bias.float())
    error = (small(x).float() - exact).abs().max() / exact.abs().max()
    assert float(error) < (1e-5 if dtype is torch.float32 else 1e-2)


@pytest.mark.parametrize("columns", [5, 33, 48, 172])
def test_columns_that_fill_no_register(columns: int):
    """torch's kernel reads beyond a row that ends within one."""
    torch.manual_seed(0)
    for _ in range(50):
        layer = Linear(columns, 64).bfloat16()
        x = torch.randn(3, columns).bfloat16()
        expected = layer(x).float()
        assert (Int8(layer)(x).float() - expected).abs().max() <= 0.05 * expected.abs().max()


def test_weights_that_lie_transposed():
    """As GPT-2's do in its files."""
    layer = Linear(64, 96).bfloat16()
    layer.weight.data = layer.weight.data.t().contiguous().t()
    small, x = Int8(layer), torch.randn(2, 64).bfloat16()
    assert small.weight.is_contiguous()
    assert (small(x) - layer(x)).abs().max() <= 0.05 * layer(x).abs().max()


def test_loaded_rounded(tiny, tmp_path: Path):
    """The same as rounding what was loaded; it says what it is when it is to be saved."""
    folder = tiny("gpt2-lm").folder
    model, other = load(folder, "int8"), load(folder)
    swap(other)
    assert model.dtype == other.dtype
    assert isinstance(model.backbone.blocks[0].attention.query, Int8)
    for one, two in zip(logits(model), logits(other), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(ModelError, match="rounded to int8 for running"):
        model.save(tmp_path / "saved")


@pytest.mark.parametrize(
    ("name", "most"), [("gpt2-lm", 0.05), ("llama-lm", 0.05), ("t5-lm", 0.05), ("bert-lm", 0.05), ("mixtral-lm", 0.15)]
)
def test_answers_stay_close(tiny, name: str, most: float):
    """A step is some 1/60 of the deviation of random weights; in a mixture, some tokens take other experts."""
    model, other = load(tiny(name).folder, "float32"), load(tiny(name).folder, "float32")
    swap(other)
    expected, found = torch.cat(logits(model)), torch.cat(logits(other))
    error = (found - expected).square().mean().sqrt() / expected.std()
    assert 0 < float(error) < most


def test_what_is_rounded(tiny):
    model = load(tiny("qwen2_moe-lm").folder, "float32")
    tokens = model.backbone.token_embedding.weight.clone()
    put_in = swap(model)
    assert {type(layer) for layer in put_in.values()} == {Int8}
    left = {name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    assert {name.rpartition(".")[2] for name in left} == {"router", "shared_gate"}
    assert "head.output" in put_in
    assert torch.equal(model.backbone.token_embedding.weight, tokens)
    assert swap(model) == {}


def test_memory_is_about_half_of_bfloat16(tiny):
    model = load(tiny("gpt2-untied").folder, "bfloat16")
    before = {name: one.nbytes for name, one in model.named_parameters() if one.dim() == 2 and "embedding" not in name}
    after = sum(layer.weight.nbytes + layer.scale.nbytes for layer in swap(model).values())
    assert after < 0.6 * sum(before.values())
    assert math.isclose(
        sum(layer.weight.nbytes for layer in model.modules() if isinstance(layer, Int8)) * 2, sum(before.values())
    )


def test_rounded_weights_are_not_saved(tiny, tmp_path: Path):
    model = load(tiny("gpt2-lm").folder, "float32")
    swap(model)
    with pytest.raises(ModelError, match=r"output\.weight is rounded to int8 for running; save the model before"):
        model.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_other_weights_and_adapters_are_refused(tiny):
    model = load(tiny("gpt2-lm").folder, "float32")
    with pytest.raises(UsageError, match="weights as 'int3': the valid choice is 'int8'"):
        swap(model, "int3")  # type: ignore[arg-type]
    put(model, lambda name, layer: name.endswith("query"), lambda layer: LowRank(layer, 2, 1.0).fresh())
    with pytest.raises(
        ModelError, match=r"backbone\.blocks\.0\.attention\.query has an adapter beside its weights; merge"
    ):
        swap(model)

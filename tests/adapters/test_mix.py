"""A head that reads a learned mix of all layers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adapted import grafted, logits, sequences
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from graft import adapters
from graft.errors import ModelError, UsageError
from graft.features import features
from graft.grafted import Model
from graft.loading import load

FAMILIES = ("bert", "xlnet", "gpt2", "llama")
WEIGHTS = torch.tensor([0.3, -1.0, 0.5, 0.0])


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))


def mixed(tiny, name: str) -> Model:
    model = grafted(tiny(name).folder)
    adapters.mix(model.backbone, WEIGHTS[: model.backbone.config.layers + 1], 1.7)
    return model


def expected(model: Model, ids: list[int]) -> np.ndarray:
    """The formula, from the hidden states of the model without its mix."""
    mix, model.backbone.mix = model.backbone.mix, None
    states = model.hidden_states([ids], layers=True)[0].double()
    states[-1] = model.hidden_states([ids])[0]
    model.backbone.mix = mix
    x_LTD = states.numpy()
    x_LTD = (x_LTD - x_LTD.mean(-1, keepdims=True)) / np.sqrt(x_LTD.var(-1, keepdims=True) + 1e-5)
    weights_L = WEIGHTS[: len(x_LTD)].double().numpy()
    shares_L = np.exp(weights_L) / np.exp(weights_L).sum()
    return 1.7 * np.einsum("l,ltd->td", shares_L, x_LTD).mean(0)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_token_reads_the_mean_of_the_mix(tiny, name: str):
    model = mixed(tiny, name)
    for ids, states in zip(sequences(name), model.hidden_states(sequences(name)), strict=True):
        wanted = torch.from_numpy(expected(model, ids)).float().expand(len(ids), -1)
        torch.testing.assert_close(states, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_saved_is_the_mix_and_the_head(tiny, tmp_path: Path, name: str):
    model = mixed(tiny, name)
    folder = model.save(tmp_path / "saved")
    held = load_file(folder / "learned.safetensors")
    names = {"backbone.mix.shares.weights", "backbone.mix.shares.gamma", *(f"head.{one}" for one in model.head.own())}
    assert held.keys() == names
    again = load(folder, "float32")
    assert torch.equal(logits(again), logits(model))
    assert adapters.library(again.backbone, again.family) == ""
    assert adapters.look(folder).mixed
    for made in (model, again):
        learning = [name for name, one in made.backbone.named_parameters() if one.requires_grad]
        assert learning == ["mix.shares.weights", "mix.shares.gamma"]
    assert json.loads((folder / "graft.json").read_text())["base"]["reference"] == str(tiny(name).folder.absolute())
    with pytest.raises(OSError, match="model.safetensors"):
        AutoModelForSequenceClassification.from_pretrained(folder)


def test_features_of_all_layers_are_what_the_mix_is_made_of(tiny):
    model = mixed(tiny, "bert")
    ids = sequences("bert")
    every = features(model, ids, [None] * len(ids), "mean", torch.float32, layers=True)
    shares_L = WEIGHTS.softmax(0)
    made = 1.7 * torch.einsum("l,nld->nd", shares_L, every.view(len(ids), len(shares_L), -1))
    read = torch.stack([states[0] for states in model.hidden_states(ids)])
    torch.testing.assert_close(made, read, atol=2e-5, rtol=0)
    last = features(model, ids, [None] * len(ids), "mean", torch.float32)
    torch.testing.assert_close(last, read, atol=2e-5, rtol=0)


def test_it_cannot_be_merged_nor_adapted(tiny):
    model = mixed(tiny, "bert")
    with pytest.raises(UsageError, match="a mix of layers cannot be merged into its base; use or adapt the base"):
        model.merge()
    with pytest.raises(UsageError, match="this model is an adapter already"):
        adapters.add(model.backbone, model.head, model.base, ["query"], lambda layer: adapters.Bottleneck(layer, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: held.pop("backbone.mix.shares.gamma"), "tensors missing (1): backbone.mix.shares.gamma"),
        (lambda held: held.pop("backbone.mix.shares.weights"), "tensors missing (1): backbone.mix.shares.weights"),
        (
            lambda held: held.update({"backbone.mix.shares.weights": torch.zeros(9)}),
            "tensors of another shape (1): backbone.mix.shares.weights",
        ),
        (
            lambda held: held.update({"backbone.mix.shares.more": torch.zeros(1)}),
            "tensors that fit nothing in the base (1): backbone.mix.shares.more",
        ),
    ],
)
def test_a_damaged_file(tiny, tmp_path: Path, change, message: str):
    folder = mixed(tiny, "bert").save(tmp_path / "saved")
    held = load_file(folder / "learned.safetensors")
    change(held)
    save_file(held, folder / "learned.safetensors")
    with pytest.raises(ModelError) as refused:
        load(folder)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)

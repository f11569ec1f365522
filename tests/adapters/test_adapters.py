"""LoRA and bottleneck adapters in every kind of family: what learns, what stays, what is saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from adapted import FAMILIES, LABELS, grafted, learn, logits, sequences
from safetensors.torch import load_file
from torch import nn

from graft import adapters, transfer
from graft.adapters.swap import swap
from graft.errors import UsageError
from graft.loading import load
from graft.sealed import Settings
from graft.transfer import Strategy

STRATEGIES = ("lora", "adapter")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", FAMILIES)
def test_at_the_start_nothing_or_almost_nothing_is_added(tiny, name: str, strategy: str):
    model = grafted(tiny(name).folder)
    before = logits(model)
    made = transfer.make(strategy)
    assert isinstance(made, Strategy)
    made.begin(model)
    change = float((logits(model) - before).abs().max())
    assert change == 0 if made.unchanged_at_start else 0 < change < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_frozen_stays_and_all_that_learns_moves(tiny, name: str, strategy: str, dtype: torch.dtype):
    model = grafted(tiny(name).folder)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    learn(model, strategy, dtype=dtype)
    after = model.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    norms = {key for key in before if ".blocks." in key and "_norm." in key}
    head = {f"head.{key}" for key in model.head.own()}
    assert moved == head | (norms if strategy == "adapter" else set())
    new = [value for key, value in after.items() if key not in before]
    assert new
    assert all(value.dtype == torch.float32 and value.any() for value in new)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_saved_is_small_and_answers_exactly_the_same(tiny, tmp_path: Path, name: str, strategy: str):
    model = grafted(tiny(name).folder)
    learn(model, strategy, **({"rank": 2} if strategy == "lora" else {"size": 3}))
    expected = logits(model)
    folder = model.save(tmp_path / "saved")
    weights = "adapter_model.safetensors" if strategy == "lora" else "learned.safetensors"
    assert (folder / weights).is_file()
    assert not (folder / "model.safetensors").exists()
    assert (folder / weights).stat().st_size < (tiny(name).folder / "model.safetensors").stat().st_size / 3
    again = load(folder, "float32")
    assert again.head.labels == LABELS
    assert torch.equal(logits(again), expected)
    assert load(folder, "bfloat16").dtype == torch.bfloat16
    second = load(again.save(tmp_path / "second"), "float32")
    assert torch.equal(logits(second), expected)
    assert load_file(tmp_path / "second" / weights).keys() == load_file(folder / weights).keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_merged_it_answers_the_same_and_opens_in_transformers(tiny, tmp_path: Path, name: str):
    model = grafted(tiny(name).folder)
    learn(model, "lora", targets=("all",), dropout=0.1)
    expected = logits(model)
    model.merge()
    assert not adapters.present(model.backbone)
    assert float((logits(model) - expected).abs().max()) < 1e-5
    folder = model.save(tmp_path / "whole")
    assert not (folder / "adapter_config.json").exists()
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert tuple(theirs.config.id2label.values()) == LABELS
    with torch.inference_mode():
        found = torch.cat([theirs(input_ids=torch.tensor([one])).logits for one in sequences(name)])
    assert float((found - expected).abs().max()) < 1e-5


def test_the_setting_merges_at_the_end(tiny, tmp_path: Path):
    model = grafted(tiny("bert").folder)
    learn(model, "lora", merge=True)
    folder = model.save(tmp_path / "whole")
    assert (folder / "model.safetensors").is_file()
    assert torch.equal(logits(load(folder, "float32")), logits(model))
    assert json.loads((folder / "graft.json").read_text())["base"] is None


def test_bottlenecks_cannot_be_merged(tiny):
    model = grafted(tiny("bert").folder)
    learn(model, "adapter")
    with pytest.raises(UsageError, match="bottleneck adapters cannot be merged"):
        model.merge()


def test_an_adapter_takes_no_second_one(tiny, tmp_path: Path):
    model = grafted(tiny("bert").folder)
    learn(model, "lora")
    with pytest.raises(UsageError, match="is an adapter already; `graft convert` merges it"):
        learn(model, "lora")
    again = load(model.save(tmp_path / "saved"), "float32")
    again.merge()
    with pytest.raises(UsageError, match="is an adapter already"):
        learn(again, "adapter")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lora", {"targets": "querry"}, "no layer is called 'querry'; did you mean 'query'?"),
        ("lora", {"targets": "gate"}, "no layer is called 'gate'"),
        ("lora", {"targets": ()}, "no layers are named"),
        ("lora", {"rank": 0}, "rank is 0, expected 1 to 65536"),
        ("lora", {"alpha": 0.0}, "alpha is 0.0, expected above 0"),
        ("lora", {"alpha": float("nan")}, "alpha is nan, expected above 0"),
        ("lora", {"dropout": 1.0}, "dropout is 1.0, expected 0 to 0.99"),
        ("adapter", {"size": 0}, "size is 0, expected 1 to 65536"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tiny, name: str, settings: dict[str, object], message: str):
    with pytest.raises(UsageError) as caught:
        learn(grafted(tiny("bert").folder), name, **settings)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("strategy", "settings", "expected"),
    [("lora", {"targets": "all"}, {"query", "key", "value", "output"}), ("adapter", {}, {"output"})],
)
def test_a_mixture_keeps_its_experts_as_they_are(
    tiny, tmp_path: Path, strategy: str, settings: dict[str, str], expected: set[str]
):
    model = grafted(tiny("mixtral").folder)
    learn(model, strategy, **settings)
    kinds = (adapters.LowRank, adapters.Bottleneck)
    wrapped = [name for name, layer in model.backbone.named_modules() if isinstance(layer, kinds)]
    assert {name.rpartition(".")[2] for name in wrapped} == expected
    assert torch.equal(logits(load(model.save(tmp_path / "saved"), "float32")), logits(model))


def test_heads_of_other_kinds(tiny, tmp_path: Path):
    """A head without weights of its own, one whose matrix is the embedding, one inside another module."""
    for name, kind, options in (("bert", "embed", {}), ("gpt2-lm", "", {}), ("bert-mask", "", {})):
        model = load(tiny(name).folder, "float32")
        if kind:
            model.graft(kind, **options)
        strategy = transfer.make("lora")
        assert isinstance(strategy, Strategy)
        strategy.begin(model)
        assert not model.backbone.token_embedding.weight.requires_grad
        with torch.no_grad():
            for layer in model.backbone.modules():
                if isinstance(layer, adapters.LowRank):
                    layer.lora_b.normal_(std=0.1)
        expected = model.logits(sequences(name))
        again = load(model.save(tmp_path / name), "float32")
        assert all(torch.equal(a, b) for a, b in zip(again.logits(sequences(name)), expected, strict=True))


def test_golden_inputs_are_replayed(tiny, tmp_path: Path):
    model = grafted(tiny("bert").folder)
    learn(model, "lora")
    model.seal(["a cab", "bad ace!"], Settings(task="classify"))
    folder = model.save(tmp_path / "saved")
    assert load(folder, "float32", verify=True).settings.base["reference"] == str(tiny("bert").folder)


def test_a_base_beside_the_adapter_moves_with_it(tiny, tmp_path: Path):
    shutil.copytree(tiny("bert").folder, tmp_path / "here" / "base")
    model = grafted(tmp_path / "here" / "base")
    learn(model, "lora")
    folder = model.save(tmp_path / "here" / "small")
    path = folder / "adapter_config.json"
    assert json.loads(path.read_text())["base_model_name_or_path"] == str(tmp_path / "here" / "base")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "../base"}))
    shutil.move(tmp_path / "here", tmp_path / "there")
    again = load(tmp_path / "there" / "small", "float32")
    assert torch.equal(logits(again), logits(model))


def test_swapping_there_and_back_gives_the_same_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.GELU()))
    x = torch.randn(2, 3)
    before, weights = model(x), [one.data_ptr() for one in model.parameters()]
    made = swap(model, lambda name, layer: name == "1.0", lambda layer: adapters.Bottleneck(layer, 2).fresh())
    assert list(made) == ["1.0"]
    assert not torch.equal(model(x), before)
    back = swap(model, lambda name, layer: layer in made.values(), lambda layer: layer.plain())
    assert list(back) == ["1.0"]
    assert [one.data_ptr() for one in model.parameters()] == weights
    torch.testing.assert_close(model(x), before)

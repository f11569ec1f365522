"""Adapters that are damaged, hostile, or without their base: one line each that names the file and says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted import grafted, learn, logits
from refusals import refused
from safetensors.torch import load_file, save_file

from graft.errors import ModelError
from graft.loading import load

CONFIG, WEIGHTS, LEARNED = "adapter_config.json", "adapter_model.safetensors", "learned.safetensors"
QUERY = "base_model.model.bert.encoder.layer.1.attention.self.query"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def adapter(tiny, tmp_path: Path) -> Callable[..., Path]:
    """An adapter beside its base, with some entries of its adapter_config.json changed."""

    def make(strategy: str = "lora", **changes: Any) -> Path:
        shutil.copytree(tiny("bert").folder, tmp_path / "base")
        model = grafted(tmp_path / "base")
        learn(model, strategy, steps=1)
        folder = model.save(tmp_path / "small")
        if changes:
            change(folder / CONFIG, **changes)
        return folder

    return make


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def rewrite(path: Path, how: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(path)
    how(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("strategy", ["lora", "adapter"])
def test_a_missing_base(adapter, tmp_path: Path, strategy: str):
    folder = adapter(strategy)
    shutil.rmtree(tmp_path / "base")
    message = refused(folder)
    assert f"its base model cannot be opened: {tmp_path / 'base'}: no such folder" in message
    assert "Put it there, or write its folder or its name on the hub into" in message


def test_a_base_that_is_not_on_this_machine(adapter):
    message = refused(adapter(base_model_name_or_path="nobody/nothing-at-all"))
    assert "nobody/nothing-at-all is not on this machine, and HF_HUB_OFFLINE forbids the network" in message


@pytest.mark.parametrize("strategy", ["lora", "adapter"])
def test_another_base_of_the_same_shape(adapter, tmp_path: Path, strategy: str):
    folder = adapter(strategy)
    rewrite(tmp_path / "base" / "model.safetensors", lambda it: it["pooler.dense.bias"].add_(1))
    message = refused(folder)
    assert "learned on a base whose weights have sha256" in message
    assert "another model or another version of it. Get the right one and write its folder" in message


@pytest.mark.parametrize("strategy", ["lora", "adapter"])
def test_another_base_of_another_shape(adapter, tiny, tmp_path: Path, strategy: str):
    folder = adapter(strategy)
    shutil.rmtree(tmp_path / "base")
    shutil.copytree(tiny("gpt2").folder, tmp_path / "base")
    assert "another model or another version of it" in refused(folder)
    change(folder / "graft.json", base={"reference": str(tmp_path / "base")})
    assert "config.json describes another model than the base" in refused(folder)
    if strategy == "lora":  # as peft writes it
        (folder / "config.json").unlink()
        assert "layers are not in the base, such as" in refused(folder)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("", "names no base model"),
        (None, "names no base model"),
        (7, "base_model_name_or_path is 7, expected text"),
        (["a"], "expected text"),
        (".", "is an adapter itself"),
        ("../small", "is an adapter itself"),
        ("/dev/null", "this is a file" if Path("/dev/null").is_file() else "no such folder"),
        ("/proc/self/fd", "no configuration"),
        ("../../../../../../etc", "no configuration"),
        ("file:///etc/passwd", "refuses the base model"),
        ("https://example.org/model", "refuses the base model"),
        ("hf://org/model", "refuses the base model"),
        ("~root/model", "refuses the base model"),
        ("\\\\host\\share", "refuses the base model"),
        ("--help", "refuses the base model"),
        ("two\nlines", "refuses the base model"),
        ("nul\0", "refuses the base model"),
        ("x" * 100_000, "refuses the base model"),
        ("x" * 1000, "cannot be opened"),
        ("org/na;me", "neither a folder here nor a name on the hub"),
    ],
)
def test_a_hostile_reference(adapter, reference: object, message: str):
    folder = adapter(base_model_name_or_path=reference)
    change(folder / "graft.json", base=None)
    assert message in refused(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 0}, "r is 0, expected a whole number from 1 to 65536"),
        ({"r": "8"}, "r is '8', expected a whole number"),
        ({"r": 10**30}, "expected a whole number from 1"),
        ({"r": 4}, "gives bert.encoder.layer.0.attention.self.query rank 4, its factors have rank 8"),
        ({"lora_alpha": None}, "lora_alpha is None, expected a number"),
        ({"lora_alpha": -1}, "lora_alpha is -1, expected a number from 0"),
        ({"lora_dropout": 1.5}, "lora_dropout is 1.5, expected a number from 0 to 0.99"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3', Graft reads 'LORA'"),
        ({"peft_type": None}, "peft_type is None"),
        ({"use_dora": True}, "asks for use_dora, which Graft does not have; merge it with peft"),
        ({"target_parameters": ["experts"]}, "asks for target_parameters"),
        ({"init_lora_weights": "pissa_niter_4"}, "asks for init_lora_weights=pissa_niter_4"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "alpha_pattern names layers by '(a+)+$'; Graft reads plain names alone"),
        ({"alpha_pattern": {"query": "x"}}, "query is 'x', expected a number"),
        ({"rank_pattern": [1]}, "rank_pattern is [1], expected an object"),
        ({"revision": 5}, "revision is 5, expected text"),
        ({"task_type": {}}, "task_type is {}, expected text"),
    ],
)
def test_a_configuration_that_makes_no_sense(adapter, changes: dict[str, Any], message: str):
    assert message in refused(adapter(**changes))


def test_a_damaged_or_absent_configuration(adapter):
    folder = adapter()
    (folder / CONFIG).write_text('{"peft_type": "LORA", ')
    assert CONFIG in refused(folder)
    (folder / CONFIG).unlink()
    assert CONFIG in refused(folder)


def double(tensors: dict[str, torch.Tensor], name: str) -> None:
    tensors[name] = torch.cat([tensors[name]] * 2)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda it: it.pop(f"{QUERY}.lora_B.weight"), "lacks bert.encoder.layer.1.attention.self.query.lora_B.weight"),
        (lambda it: double(it, f"{QUERY}.lora_A.weight"), "have shapes [16, 32] and [32, 8], expected [r, 32]"),
        (lambda it: it.update({f"{QUERY}.lora_A.weight": torch.ones(())}), "have shapes [] and [32, 8]"),
        (lambda it: it.update({f"{QUERY}.lora_A.weight": torch.ones(0, 32)}), "with r at least 1"),
        (
            lambda it: it.update({f"{QUERY}.lora_magnitude_vector": torch.ones(32)}),
            "1 tensors have no place in the base",
        ),
        (lambda it: it.update({"stranger": torch.ones(2)}), "'stranger' is not named as peft names them"),
        (lambda it: it.pop("base_model.model.classifier.weight"), "output.weight is missing"),
        (lambda it: double(it, "base_model.model.classifier.weight"), "output.weight has shape [6, 32]"),
        (
            lambda it: it.update({"base_model.model.bert.pooler.lora_A.weight": torch.ones(8, 32)}),
            "lacks bert.pooler.lora_B.weight, the partner",
        ),
        (
            lambda it: it.update({"base_model.model.bert.embeddings.word_embeddings.weight": torch.ones(3, 32)}),
            "has shape [3, 32], the base asks for [96, 32]",
        ),
    ],
)
def test_factors_that_do_not_fit(adapter, how: Callable[[dict[str, torch.Tensor]], Any], message: str):
    folder = adapter()
    rewrite(folder / WEIGHTS, how)
    assert message in refused(folder)


def test_files_cut_short_or_not_finite(adapter):
    folder = adapter()
    rewrite(folder / WEIGHTS, lambda it: it[f"{QUERY}.lora_A.weight"].fill_(float("nan")))
    assert f"NaN or infinity in 1 tensors: {QUERY}.lora_A.weight" in refused(
        folder, attempt=lambda it: load(it, "float32", check_finite=True)
    )
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    assert "not a valid safetensors file" in refused(folder)


def test_a_whole_model_beside_the_adapter(adapter, tmp_path: Path):
    folder = adapter()
    shutil.copy(tmp_path / "base" / "model.safetensors", folder)
    assert "holds adapter_model.safetensors, model.safetensors: a whole model or one adapter" in refused(folder)


@pytest.mark.parametrize("base", [5, {"sha256": 5}, {}, {"reference": "~/model"}])
def test_a_record_of_the_base_that_makes_no_sense(adapter, base: object):
    folder = adapter("adapter")
    change(folder / "graft.json", base=base)
    message = refused(folder)
    assert any(said in message for said in ("expected reference and sha256", "names no base", "refuses the base"))


SHRINK = "backbone.blocks.1.attention.output.shrink"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda it: it.pop(f"{SHRINK}.bias"), f"tensors missing (1): {SHRINK}.bias"),
        (
            lambda it: it.update({"backbone.extra": torch.ones(2)}),
            "tensors that fit nothing in the base (1): backbone.e",
        ),
        (lambda it: it.update({f"{SHRINK}.weight": torch.ones(7, 9)}), "tensors of another shape"),
        (lambda it: it.update({f"{SHRINK}.weight": torch.ones(())}), "tensors that fit nothing"),
        (lambda it: double(it, "backbone.blocks.0.attention_norm.weight"), "tensors of another shape (1)"),
        (lambda it: it.pop("head.output.bias"), "output.bias is missing"),
    ],
)
def test_what_was_learned_does_not_fit(adapter, how: Callable[[dict[str, torch.Tensor]], Any], message: str):
    folder = adapter("adapter")
    rewrite(folder / LEARNED, how)
    assert message in refused(folder)


def test_an_undamaged_one_opens(adapter):
    folder = adapter()
    assert torch.isfinite(logits(load(folder, "float32", check_finite=True))).all()
    with pytest.raises(ModelError, match=r"holds no golden inputs"):
        load(folder, verify=True)

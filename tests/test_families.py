"""Families: configurations there and back, defaults as in transformers, and old files under old names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from graft import families
from graft.errors import ModelError
from graft.families import ACTIVATIONS, Family
from graft.loading import load
from graft.model.layers import activation

DEFAULTS = {
    "bert": transformers.BertConfig,
    "distilbert": transformers.DistilBertConfig,
    "gpt2": transformers.GPT2Config,
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "mixtral": transformers.MixtralConfig,
    "olmoe": transformers.OlmoeConfig,
    "openai_gpt": transformers.OpenAIGPTConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen2_moe": transformers.Qwen2MoeConfig,
    "qwen3": transformers.Qwen3Config,
    "roberta": transformers.RobertaConfig,
    "xlm_roberta": transformers.XLMRobertaConfig,
    "xlnet": transformers.XLNetConfig,
}
ELSEWHERE = ("elmo",)
"""Published by another library than transformers."""

EXPERTS = ("num_local_experts", "num_experts", "num_experts_per_tok")
MORE = (*EXPERTS, "moe_intermediate_size", "shared_expert_intermediate_size", "num_key_value_heads", "rope_parameters")
"""What must be stated besides the entries without a default: sizes whose defaults are those of one published model."""


def stated(name: str, full: dict[str, Any]) -> dict[str, Any]:
    family = families.find(name)
    needed = [*(key for key in family.keys if key not in family.defaults), *(key for key in MORE if key in full)]
    return {key: full[key] for key in needed}


def test_every_file_is_a_family_of_its_name():
    assert set(DEFAULTS) <= set(families.names())
    for name in families.names():
        family = families.find(name)
        assert isinstance(family, Family)
        assert family.name.replace("-", "_") == name
        assert hasattr(transformers, family.bare) or name in ELSEWHERE
        assert all(hasattr(transformers, published) for published in family.heads)


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_a_configuration_leaves_out_is_as_in_transformers(name: str):
    full = json.loads(DEFAULTS[name]().to_json_string(use_diff=False))
    family = families.find(name)
    bare = family.config(stated(name, full))
    assert bare == family.config(full)
    for published in family.heads:
        options = family.heads[published].options
        short, long = options({}), options(full)
        assert short == {key: long[key] for key in short}


@pytest.mark.parametrize("theirs", ACTIVATIONS)
@pytest.mark.parametrize("name", DEFAULTS)
def test_a_configuration_there_and_back(name: str, theirs: str):
    family = families.find(name)
    key = next(key for key, ours in family.keys.items() if ours == "activation")
    config = family.config({**DEFAULTS[name]().to_dict(), key: theirs})
    published = family.publish(config)
    assert family.config(published) == config
    assert family.config(DEFAULTS[name](**published).to_dict()) == config


@pytest.mark.parametrize("theirs", ACTIVATIONS)
def test_activations_are_those_of_that_name(theirs: str):
    x = torch.linspace(-8, 8, 1001)
    torch.testing.assert_close(
        activation(ACTIVATIONS[theirs])(x), transformers.activations.ACT2FN[theirs](x), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("published", "labels", "problem"),
    [
        ({}, ("LABEL_0", "LABEL_1"), "single"),
        ({"num_labels": 1}, ("LABEL_0",), "regression"),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2"), "single"),
        ({"id2label": {"1": "b", "0": "a"}}, ("a", "b"), "single"),
        ({"id2label": {str(n): str(n) for n in range(12)}}, tuple(map(str, range(12))), "single"),
        ({"id2label": {"0": 1, "1": 2.5}}, ("1", "2.5"), "single"),
        ({"id2label": {"0": "x"}}, ("x",), "regression"),
        ({"id2label": {"0": "x"}, "problem_type": "multi_label_classification"}, ("x",), "multi"),
        ({"id2label": {"0": "x"}, "problem_type": "single_label_classification"}, ("x",), "single"),
        ({"problem_type": None}, ("LABEL_0", "LABEL_1"), "single"),
    ],
)
def test_labels(published: dict[str, Any], labels: tuple[str, ...], problem: str):
    found = families.label_options(published)
    assert (found["labels"], found["problem"]) == (labels, problem)
    assert families.label_options(families.publish_labels(found)) == found


def test_a_head_a_family_does_not_have():
    bert = families.find("bert")
    assert bert.architecture("classify") == "BertForSequenceClassification"
    with pytest.raises(ModelError, match="bert models have no 'beam' head; this family has: .*classify"):
        bert.architecture("beam")
    with pytest.raises(ModelError, match="x models have no 'next' head; this family has: none"):
        Family(name="x", bare="X", keys=bert.keys, rules=[]).architecture("next")


# Old files

BUFFERS = {
    "gpt2-lm": {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 40, 40, dtype=torch.uint8),
        "transformer.h.1.attn.masked_bias": torch.tensor(-1e4),
    },
    "bert-classify": {"bert.embeddings.position_ids": torch.arange(40)[None]},
}


def renamed(tensors: dict[str, Any]) -> dict[str, Any]:
    """As the first files named the weights and biases of normalizations."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    return {
        next((name.replace(new, first) for new, first in old.items() if name.endswith(new)), name): tensor
        for name, tensor in tensors.items()
    }


POOLER = {"pooler.dense.weight": torch.ones(32, 32), "pooler.dense.bias": torch.ones(32)}
NEXT_SENTENCE = {"cls.seq_relationship.weight": torch.ones(2, 32), "cls.seq_relationship.bias": torch.ones(2)}


def with_prefix(prefix: str) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in POOLER.items()}


def repeated(prefix: str, head: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """With the copies of tied tensors that files of some versions hold."""
    matrix = f"{prefix}embeddings.word_embeddings.weight"
    copies = {f"{head}decoder.weight": matrix, f"{head}decoder.bias": f"{head}bias"}
    return lambda tensors: tensors | {name: tensors[source].clone() for name, source in copies.items()}


def unprefixed(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("transformer.").removeprefix("bert."): tensor for name, tensor in tensors.items()}


def with_tied_matrix(tensors: dict[str, Any]) -> dict[str, Any]:
    return tensors | {"lm_loss.weight": tensors["transformer.word_embedding.weight"].clone()}


OLD: list[tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = [
    ("gpt2-lm", lambda tensors: tensors | BUFFERS["gpt2-lm"]),
    ("gpt2-lm", lambda tensors: unprefixed(tensors | BUFFERS["gpt2-lm"])),
    ("gpt2-lm", lambda tensors: tensors | {"lm_head.weight": tensors["transformer.wte.weight"].clone()}),
    ("gpt2-untied", unprefixed),
    ("xlnet-lm", with_tied_matrix),
    ("xlnet-classify", unprefixed),
    ("bert-classify", lambda tensors: tensors | BUFFERS["bert-classify"]),
    ("bert-classify", unprefixed),
    ("bert-classify", renamed),
    ("bert-mask", lambda tensors: renamed(tensors) | with_prefix("bert.") | NEXT_SENTENCE),
    ("bert-pretrain", renamed),
    ("bert-mask", repeated("bert.", "cls.predictions.")),
    ("roberta-mask", repeated("roberta.", "lm_head.")),
    ("roberta-mask", lambda tensors: tensors | with_prefix("roberta.")),
    ("roberta-classify", lambda tensors: tensors | with_prefix("roberta.")),
    ("bert-tag", lambda tensors: tensors | with_prefix("bert.")),
    ("bert-span", lambda tensors: tensors | with_prefix("bert.")),
]


@pytest.mark.parametrize(("name", "change"), OLD)
def test_old_files_give_the_same_model(tiny, tmp_path: Path, name: str, change: Callable[..., dict[str, Any]]):
    made = tiny(name)
    shutil.copytree(made.folder, tmp_path / "old")
    save_file(change(load_file(made.folder / "model.safetensors")), tmp_path / "old" / "model.safetensors")
    ids = list(range(1, 20))
    old, new = load(tmp_path / "old", "float32"), load(made.folder, "float32")
    for ours, theirs in zip(old.parameters(), new.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(old.logits([ids])[0], new.logits([ids])[0], rtol=0, atol=1e-6)
    saved = load_file(old.save(tmp_path / "again") / "model.safetensors")
    assert saved.keys() == load_file(made.folder / "model.safetensors").keys()


def test_a_bare_encoder_without_pooler(tiny, tmp_path: Path):
    made = tiny("bert")
    shutil.copytree(made.folder, tmp_path / "old")
    tensors = load_file(made.folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler")}
    save_file(kept, tmp_path / "old" / "model.safetensors")
    model = load(tmp_path / "old", "float32")
    ids = list(range(1, 20))
    assert torch.equal(model.hidden_states([ids])[0], load(made.folder, "float32").hidden_states([ids])[0])
    assert load_file(model.save(tmp_path / "again") / "model.safetensors").keys() == kept.keys()


def test_tied_biases_that_differ(tiny, tmp_path: Path):
    made = tiny("bert-mask")
    shutil.copytree(made.folder, tmp_path / "other")
    tensors = load_file(made.folder / "model.safetensors") | {"cls.predictions.decoder.bias": torch.ones(96)}
    save_file(tensors, tmp_path / "other" / "model.safetensors")
    with pytest.raises(ModelError, match="config.json ties the two output biases, the file has another"):
        load(tmp_path / "other", "float32")


def test_no_architectures_means_the_bare_class(tiny, tmp_path: Path):
    shutil.copytree(tiny("gpt2").folder, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    del config["architectures"]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    assert load(tmp_path / "model", "float32").head is None

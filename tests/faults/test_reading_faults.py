"""Model folders of every family, damaged: configurations, weights and the bytes they lie in, each refused by name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import GONE, opened, refused
from safetensors.torch import load_file, save_file
from tiny_models import LLAMA3

from graft.loading import load
from graft.shards import SINGLE

# config.json

LLAMA = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "feed_forward_size",
    "num_key_value_heads": "key_heads",
    "max_position_embeddings": "positions",
}
SIZES: dict[str, dict[str, str]] = {
    "llama-lm": {**LLAMA, "vocab_size": "vocab_size", "head_dim": "head_size"},
    "mixtral-lm": {**LLAMA, "num_local_experts": "experts.count", "num_experts_per_tok": "experts.chosen"},
    "qwen2_moe-lm": {"moe_intermediate_size": "experts.size", "shared_expert_intermediate_size": "experts.shared"},
    "roberta-classify": {"hidden_size": "hidden_size", "vocab_size": "vocab_size", "type_vocab_size": "token_types"},
    "distilbert-classify": {"dim": "hidden_size", "n_layers": "layers", "hidden_dim": "feed_forward_size"},
    "openai_gpt-lm": {"n_embd": "hidden_size", "n_positions": "positions", "n_layer": "layers"},
}
NO_SIZE = (-1, 2**40, 1.5, "32", True, [32])
RATES = {
    "llama-lm": ("attention_dropout",),
    "roberta-classify": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "distilbert-classify": ("dropout", "attention_dropout", "seq_classif_dropout"),
    "openai_gpt-lm": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
}


def rope(**changes: Any) -> dict[str, Any]:
    return {"rope_parameters": LLAMA3 | changes}


CONFIGS: list[tuple[str, dict[str, Any], str]] = [
    *[
        (name, {key: value}, f"{ours} is " if ours != "layers" or name != "qwen2_moe-lm" else "")
        for name, keys in SIZES.items()
        for key, ours in keys.items()
        for value in NO_SIZE
    ],
    *[(name, {key: 1.5}, " is 1.5, expected at least 0") for name, keys in RATES.items() for key in keys],
    *[(name, {key: "x"}, " is 'x', expected at least 0") for name, keys in RATES.items() for key in keys],
    *[
        (name, {key: GONE}, f"config.json lacks {key}")
        for name, key in (("llama-lm", "hidden_size"), ("mixtral-lm", "num_local_experts"), ("roberta", "vocab_size"))
    ],
    *[("llama-lm", rope(rope_theta=value), "expected numbers above 0") for value in (0, -1, "x", None, True, 1e300)],
    *[("llama-lm", rope(low_freq_factor=value), "") for value in (True, 0, -1, "x", [1], 4.0, 1e12)],
    *[("llama-lm", rope(original_max_position_embeddings=value), "numbers above 0") for value in (0, -5, "16", True)],
    *[("llama-lm", rope(rope_type=value), "rope_type is ") for value in ("yarn", "lama3", 3, ["linear"], {"a": 1})],
    ("llama-lm", rope(partial_rotary_factor=0.5), "partial_rotary_factor is 0.5, only 1.0 is supported"),
    ("llama-lm", {"rope_parameters": [1]}, r"rope_parameters is \[1\], expected an object"),
    ("llama-lm", {"head_dim": 7}, "a head of 7 numbers cannot turn in pairs"),
    ("llama-lm", {"num_key_value_heads": 3}, "4 attention heads cannot share 3 heads of keys and values evenly"),
    ("llama-lm", {"rms_norm_eps": 0}, "norm_eps is 0, expected above 0"),
    ("llama-lm", {"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no'"),
    ("llama-lm", {"pretraining_tp": 2}, "pretraining_tp is 2, only 1"),
    ("llama-lm", {"hidden_act": "swiglu"}, "activation 'swiglu'"),
    ("llama-lm", {"model_type": "lama"}, "did you mean 'llama'"),
    ("llama-lm", {"model_type": "mistral"}, "the class 'LlamaForCausalLM' is not one Graft loads"),
    ("llama-classify", {"id2label": {"0": "a", "1": "a", "2": "b"}}, "several labels the name 'a'"),
    *[("mistral-lm", {"sliding_window": value}, "") for value in (-1, 2**40, 10**300, 1.5, "9", True, [9])],
    ("mixtral-lm", {"num_experts_per_tok": 5}, "5 experts chosen of 4"),
    ("mixtral-lm", {"num_local_experts": 10**6}, "belongs to another model"),
    ("mixtral-lm", {"num_local_experts": 200, "intermediate_size": 1}, "belongs to another model"),
    ("mixtral-lm", {"num_hidden_layers": 1000}, "in 1000 layers, the weights hold"),
    *[("mixtral-lm", {"router_aux_loss_coef": value}, "") for value in (-1, "x", 1e300, [1])],
    *[("qwen2_moe-lm", {"num_hidden_layers": value}, "") for value in (2**40, 10**300, "3", 2000, -1)],
    *[("qwen2_moe-lm", {"decoder_sparse_step": value}, "decoder_sparse_step is ") for value in (0, -1, 1.5, "1", True)],
    *[("qwen2_moe-lm", {"norm_topk_prob": value}, "expected normalized true or false") for value in ("yes", 1, None)],
    ("qwen2_moe-lm", {"mlp_only_layers": 3}, "a value has the wrong type"),
    ("qwen2-lm", {"num_hidden_layers": 2**40, "layer_types": None}, "layers is 1099511627776"),
    ("qwen2-lm", {"max_window_layers": "x", "layer_types": None}, "a value has the wrong type"),
    *[("qwen2-lm", {"layer_types": value}, "layer_types is ") for value in ("full_attention", ["full"], [1], {"a": 1})],
    ("qwen3-lm", {"head_dim": 24}, "has shape .*, the configuration asks for"),
    *[("roberta", {"pad_token_id": value}, "pad_token_id is ") for value in (-1, 42, "1", 1.0, None, [1])],
    ("roberta", {"max_position_embeddings": 2**31}, "belongs to another model"),
    ("roberta", {"is_decoder": True}, "is_decoder is True, only False"),
    ("roberta-lm", {"is_decoder": False}, "is_decoder is False, only True"),
    ("distilbert", {"dim": 33}, "hidden size 33 is not a multiple of 4 attention heads"),
    ("distilbert", {"activation": "gleu"}, "did you mean 'gelu'"),
    ("openai_gpt-lm", {"afn": "gelu2"}, "activation 'gelu2'"),
    ("openai_gpt-lm", {"n_head": 5}, "not a multiple of 5 attention heads"),
]


@pytest.mark.parametrize(("name", "changes", "message"), CONFIGS, ids=lambda value: repr(value)[:50])
def test_a_configuration_that_makes_no_sense(broken, request, name: str, changes: dict[str, Any], message: str):
    folder = broken(name, **changes)
    request.getfixturevalue("little_memory")
    found = refused(folder)
    assert re.search(message, found), found
    assert len(found) < 4000


@pytest.mark.parametrize("name", ["llama-lm", "mixtral-lm", "roberta"])
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"hidden_size": 32', '"hidden_size": 32, "hidden_size": 64', "the key 'hidden_size' is given twice"),
        ('"hidden_size": 32', '"hidden_size": NaN', "NaN is no number in JSON"),
        ('"hidden_size": 32', '"hidden_size": -Infinity', "-Infinity is no number in JSON"),
        ('"hidden_size": 32', '"hidden_size": 1e999', "hidden_size is inf"),
        ('"hidden_size": 32', '"hidden_size": 032', "not a valid JSON file"),
        ('"initializer_range": 0.02', '"initializer_range": 1e999', "initializer_range is inf"),
        ("{", "{,", "not a valid JSON file"),
        ("{", "\ufeff{", "not a valid JSON file"),
    ],
)
def test_a_configuration_that_is_no_json(broken, name: str, before: str, after: str, message: str):
    folder = broken(name)
    text = (folder / "config.json").read_text()
    assert before in text
    (folder / "config.json").write_text(text.replace(before, after, 1))
    assert message in refused(folder)


# Weights

WEIGHTS: dict[str, tuple[str, str, str]] = {
    "llama-lm": ("model.layers.1.self_attn.q_proj.weight", "model.norm.weight", "norm.weight"),
    "mixtral-lm": (
        "model.layers.1.block_sparse_moe.experts.2.w1.weight",
        "model.layers.0.block_sparse_moe.gate.weight",
        "layers.0.block_sparse_moe.gate.weight",
    ),
    "qwen2_moe-lm": (
        "model.layers.0.mlp.shared_expert.up_proj.weight",
        "model.layers.0.mlp.experts.5.down_proj.weight",
        "layers.0.mlp.experts.5.down_proj.weight",
    ),
    "roberta-classify": (
        "roberta.encoder.layer.2.output.dense.weight",
        "classifier.dense.bias",
        "classifier.dense.bias",
    ),
    "distilbert-classify": (
        "distilbert.transformer.layer.0.ffn.lin1.weight",
        "distilbert.embeddings.LayerNorm.bias",
        "embeddings.LayerNorm.bias",
    ),
    "gpt2-lm": ("transformer.h.1.mlp.c_fc.weight", "transformer.ln_f.weight", "ln_f.weight"),
}


def reweigh(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    tensors = load_file(folder / SINGLE)
    change(tensors)
    save_file(tensors, folder / SINGLE)
    return folder


@pytest.mark.parametrize("name", WEIGHTS)
def test_everything_wrong_is_listed_at_once(broken, name: str):
    changed, gone, _ = WEIGHTS[name]

    def spoil(tensors: dict[str, Any]) -> None:
        shape = list(tensors[changed].shape)
        tensors[changed] = torch.ones(shape[0], shape[1] + 1)
        tensors |= {"extra.weight": torch.ones(1), "another\x1b[31m": torch.ones(2), "model.layers.77.x": torch.ones(1)}
        del tensors[gone]

    message = refused(reweigh(broken(name), spoil))
    assert f"{changed} has shape [" in message
    assert "without a place in this model (3): 'another\\x1b[31m', extra.weight, model.layers.77.x" in message
    assert f"tensors missing (1): {WEIGHTS[name][2]}" in message


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_tensor_that_is_not_there(broken, name: str):
    _, gone, message = WEIGHTS[name]
    assert message in refused(reweigh(broken(name), lambda tensors: tensors.pop(gone)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", WEIGHTS)
def test_numbers_that_are_none_are_named_on_request(broken, name: str, value: float):
    chosen = WEIGHTS[name][0]

    def spoil(tensors: dict[str, Any]) -> None:
        tensors[chosen][-1, -1] = value

    folder = reweigh(broken(name), spoil)
    load(folder, "float32")
    message = refused(folder, attempt=opened)
    assert message == f"{folder}: NaN or infinity in 1 tensors: {chosen}; the weights are damaged"


def test_of_many_bad_tensors_the_first_are_named(broken):
    def spoil(tensors: dict[str, Any]) -> None:
        for tensor in tensors.values():
            tensor.fill_(math.nan)

    folder = reweigh(broken("llama-lm"), spoil)
    found = re.search(r"NaN or infinity in (\d+) tensors: (.*);", refused(folder, attempt=opened))
    assert found is not None
    assert int(found[1]) == len(load_file(folder / SINGLE))
    assert len(found[2].split(", ")) == 5


def test_good_folders_pass_every_check(broken):
    opened(broken("bert-classify"))


# The bytes of a safetensors file


def header(content: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def joined(head: dict[str, Any] | bytes, data: bytes) -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + data


def with_entry(**changes: Any) -> Callable[[bytes], bytes]:
    """The first tensor's entry changed."""

    def damage(content: bytes) -> bytes:
        head, data = header(content)
        first = next(name for name in head if name != "__metadata__")
        head[first] |= changes
        return joined(head, data)

    return damage


def moved(shift: int) -> Callable[[bytes], bytes]:
    """The last tensor lies elsewhere, over another or beyond the end."""

    def damage(content: bytes) -> bytes:
        head, data = header(content)
        last = max((name for name in head if name != "__metadata__"), key=lambda name: head[name]["data_offsets"])
        head[last]["data_offsets"] = [offset + shift for offset in head[last]["data_offsets"]]
        return joined(head, data)

    return damage


def doubled(content: bytes) -> bytes:
    head, data = header(content)
    name, entry = next((name, entry) for name, entry in head.items() if name != "__metadata__")
    text = json.dumps(head)
    return joined(f"{text[:-1]}, {json.dumps(name)}: {json.dumps(entry)}}}".encode(), data)


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda good: b"",
    "seven bytes": lambda good: good[:7],
    "only a size": lambda good: good[:8],
    "half a header": lambda good: good[:200],
    "no data": lambda good: good[: 8 + int.from_bytes(good[:8], "little")],
    "half": lambda good: good[: len(good) // 2],
    "one byte short": lambda good: good[:-1],
    "one byte more": lambda good: good + b"\0",
    "appended archive": lambda good: good + b"PK\x05\x06" + bytes(18),
    "twice": lambda good: good + good,
    "huge header": lambda good: (2**62).to_bytes(8, "little") + good[8:],
    "header one longer": lambda good: (int.from_bytes(good[:8], "little") + 1).to_bytes(8, "little") + good[8:],
    "header one shorter": lambda good: (int.from_bytes(good[:8], "little") - 1).to_bytes(8, "little") + good[8:],
    "big endian": lambda good: good[:8][::-1] + good[8:],
    "pickle": lambda good: b"\x80\x04\x95cposix\nsystem\n.",
    "page of errors": lambda good: b"<!DOCTYPE html><html>404</html>",
    "pointer of a store": lambda good: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "zeros": lambda good: bytes(len(good)),
    "dtype": with_entry(dtype="F16"),
    "unknown dtype": with_entry(dtype="F4"),
    "dtype of half a byte": with_entry(dtype="F8_E5M2"),
    "no dtype": with_entry(dtype=None),
    "negative shape": with_entry(shape=[-1]),
    "huge shape": with_entry(shape=[2**63, 2**63]),
    "shape of text": with_entry(shape="32"),
    "shape of fractions": with_entry(shape=[0.5]),
    "no offsets": with_entry(data_offsets=[]),
    "offsets of text": with_entry(data_offsets=["0", "4"]),
    "offsets swapped": with_entry(data_offsets=[4, 0]),
    "negative offsets": with_entry(data_offsets=[-4, 0]),
    "overlap": moved(-4),
    "beyond the end": moved(4),
    "far beyond the end": moved(2**40),
    "a tensor twice": doubled,
    "metadata of numbers": lambda good: joined({**header(good)[0], "__metadata__": {"a": 1}}, header(good)[1]),
    "a list": lambda good: joined(b"[]", header(good)[1]),
    "deep": lambda good: joined(b'{"a":' * 10**5 + b"}" * 10**5, b""),
    "not UTF-8": lambda good: joined(b'{"\xff": 1}', b""),
}


@pytest.mark.parametrize("damage", BYTES.values(), ids=BYTES)
@pytest.mark.parametrize("name", ["llama-lm", "roberta-classify"])
@pytest.mark.usefixtures("little_memory")
def test_a_damaged_file_of_weights(broken, name: str, damage: Callable[[bytes], bytes]):
    folder = broken(name)
    file = folder / SINGLE
    good = file.read_bytes()
    file.write_bytes(damage(good))
    assert file.read_bytes() != good
    assert SINGLE in refused(folder)


def test_there_are_enough():
    assert len(CONFIGS) + 24 + 5 * len(WEIGHTS) + 2 * len(BYTES) > 300

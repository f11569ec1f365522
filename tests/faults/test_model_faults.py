"""Bad model folders: each is refused in one line that names the file, at once, and before it takes memory."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import GONE, SECONDS, refused
from safetensors.torch import load_file, save_file

from graft import checkpoint
from graft.batch import pack
from graft.errors import GraftError, ModelError
from graft.loading import load

NAMES = ("bert-classify", "gpt2-lm", "gpt2-classify", "bert", "gpt2-untied", "llama-tied", "mixtral-lm", "roberta")


# config.json, by what is wrong with it

NUMBERS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
NO_SIZE = (-1, 0, 2**40, 10**300, 1.5, 32.0, math.nan, math.inf, "32", True, [32], {"a": 1})
CONFIGS: list[tuple[str, dict[str, Any], str]] = [
    *[("bert-classify", {key: GONE}, f"config.json lacks {key}") for key in NUMBERS],
    *[("bert-classify", {key: None}, f"config.json lacks {key}") for key in NUMBERS],
    *[("bert-classify", {"hidden_size": value}, "hidden_size is ") for value in NO_SIZE],
    *[("bert-classify", {"vocab_size": value}, "vocab_size is ") for value in NO_SIZE],
    *[("gpt2-lm", {"n_embd": value}, "hidden_size is ") for value in NO_SIZE],
    ("bert-classify", {"num_hidden_layers": 10**6}, "layers is 1000000, expected a whole number from 1 to 1024"),
    ("bert-classify", {"num_hidden_layers": 1000}, "describes .* in 1000 layers, the weights hold"),
    ("gpt2-lm", {"n_layer": 10**6}, "layers is 1000000"),
    ("bert-classify", {"hidden_size": 10**9}, "more than any model Graft can hold"),
    ("bert-classify", {"hidden_size": 2**16}, "parameters in 3 layers, the weights hold"),
    ("bert-classify", {"vocab_size": 2**31}, "one of the two belongs to another model"),
    ("bert-classify", {"max_position_embeddings": 2**31}, "one of the two belongs to another model"),
    ("bert-classify", {"type_vocab_size": 2**31}, "one of the two belongs to another model"),
    ("bert-classify", {"type_vocab_size": -1}, "token_types is -1, expected a whole number from 0"),
    ("bert-classify", {"max_position_embeddings": None}, "positions is None"),
    ("gpt2-lm", {"n_positions": []}, r"positions is \[\]"),
    ("gpt2-lm", {"n_inner": 0}, "feed_forward_size is 0"),
    ("gpt2-lm", {"n_inner": "x"}, "feed_forward_size is 'x'"),
    ("bert-classify", {"num_attention_heads": 5}, "hidden size 32 is not a multiple of 5 attention heads"),
    ("bert-classify", {"num_attention_heads": 64}, "hidden size 32 is not a multiple of 64 attention heads"),
    ("gpt2-lm", {"n_head": 3}, "hidden size 32 is not a multiple of 3 attention heads"),
    *[
        ("bert-classify", {"layer_norm_eps": value}, "norm_eps is ")
        for value in (0, -1e-5, math.nan, math.inf, "x", None)
    ],
    *[("gpt2-lm", {"resid_pdrop": value}, "dropout is ") for value in (1, -0.1, math.nan, 10**400, "0.1", None, [])],
    ("bert-classify", {"hidden_dropout_prob": "0.1"}, "dropout is '0.1'"),
    ("gpt2-lm", {"attn_pdrop": 2}, "attention_dropout is 2, expected at least 0 and below 1"),
    ("gpt2-lm", {"initializer_range": -math.inf}, "initializer_range is -inf"),
    *[("bert-classify", {"classifier_dropout": value}, "classifier_dropout is ") for value in (math.nan, "x", 1, [0])],
    (
        "bert-classify",
        {"hidden_size": -1, "vocab_size": "x", "layer_norm_eps": 2},
        "vocab_size .* hidden_size .* norm_eps",
    ),
    ("bert-classify", {"hidden_act": "gelo"}, "activation 'gelo': did you mean 'gelu'"),
    ("bert-classify", {"hidden_act": ["gelu"]}, r"activation \['gelu'\]"),
    ("gpt2-lm", {"activation_function": None}, "activation None"),
    ("bert-classify", {"model_type": "brt"}, "model_type 'brt' is not one Graft knows: did you mean 'bert'"),
    ("bert-classify", {"model_type": GONE}, "model_type None is not one Graft knows"),
    ("bert-classify", {"model_type": ["bert"]}, r"model_type \['bert'\] is not one"),
    ("bert-classify", {"model_type": "../bert"}, "model_type '../bert' is not one"),
    ("bert-classify", {"model_type": "os"}, "model_type 'os' is not one"),
    ("bert-classify", {"model_type": "b" * 10**7}, "model_type 'bbbb"),
    ("bert-classify", {"model_type": "a\nb"}, r"model_type 'a\\nb'"),
    ("bert-classify", {"model_type": "gpt2"}, "the class 'BertForSequenceClassification' is not one Graft loads"),
    (
        "bert-classify",
        {"architectures": ["BertForSequenceClasification"]},
        "did you mean 'BertForSequenceClassification'",
    ),
    ("bert-classify", {"architectures": "BertModel"}, "the class 'BertModel' is not one Graft loads"),
    ("bert-classify", {"architectures": {"a": 1}}, r"the class \{'a': 1\} is not one Graft loads"),
    ("bert-classify", {"architectures": [None]}, "the class None is not one Graft loads"),
    (
        "bert-classify",
        {"architectures": GONE},
        r"without a place in this model \(2\): classifier.bias, classifier.weight",
    ),
    (
        "bert-classify",
        {"position_embedding_type": "relative_key"},
        "position_embedding_type is 'relative_key', only 'absol",
    ),
    (
        "bert-classify",
        {"position_embedding_type": "x", "add_cross_attention": 1},
        "position_embedding_type is 'x', only .* add_cross",
    ),
    ("bert-classify", {"is_decoder": True}, "is_decoder is True, only False"),
    ("bert-lm", {"is_decoder": False}, "is_decoder is False, only True"),
    ("bert-lm", {"is_decoder": None}, "is_decoder is False, only True"),
    ("bert-lm", {"is_decoder": "yes"}, "is_decoder is 'yes', only True"),
    *[("xlnet-beam", {"start_n_top": value}, "start_n_top is .*, expected a whole") for value in (0, 2**20, "5", None)],
    ("xlnet-beam", {"end_n_top": 2.0}, "end_n_top is 2.0, expected a whole number from 1 to 1024"),
    ("gpt2-lm", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True, only False"),
    ("gpt2-lm", {"scale_attn_weights": [1]}, r"scale_attn_weights is \[1\], only True is supported"),
    ("gpt2-lm", {"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no', expected true or false"),
    ("gpt2-untied", {"tie_word_embeddings": True}, "config.json ties the output matrix"),
    ("bert-classify", {"id2label": {"0": "a", "2": "b"}}, "id2label must number its labels 0 to 1, found 0, 2"),
    ("bert-classify", {"id2label": {"0": "a", "00": "b"}}, "id2label must number its labels 0 to 1, found 0, 00"),
    ("bert-classify", {"id2label": {"0": "a", "1": "a", "2": "b"}}, "id2label gives several labels the name 'a'"),
    ("bert-classify", {"id2label": ["a", "b", "c"]}, "id2label must be an object of numbers to names"),
    ("bert-classify", {"id2label": {"0": None, "1": "a", "2": "b"}}, "id2label must be an object of numbers to names"),
    (
        "bert-classify",
        {"id2label": {"0": "a", "1": "b"}},
        r"output.weight has shape \[3, 32\], config.json asks for \[2, 32\]",
    ),
    ("bert-classify", {"id2label": {str(n): str(n) for n in range(10**5)}}, r"config.json asks for \[100000, 32\]"),
    *[
        ("bert-classify", {"id2label": {}, "num_labels": value}, "num_labels is ")
        for value in ("3", -3, 0, 1.5, 10**9, [])
    ],
    (
        "bert-classify",
        {"problem_type": "multi_label_clasification"},
        "multi_label_clasification': did you mean 'multi_label_class",
    ),
    ("bert-classify", {"problem_type": ["regression"]}, r"problem_type is \['regression'\]"),
    ("bert-classify", {"problem_type": "regression"}, "'regression' with 3 labels, expected 1"),
]


@pytest.mark.parametrize(("name", "changes", "message"), CONFIGS, ids=lambda value: repr(value)[:40])
def test_a_configuration_that_makes_no_sense(broken, request, name: str, changes: dict[str, Any], message: str):
    folder = broken(name, **changes)
    request.getfixturevalue("little_memory")
    found = refused(folder)
    unwritable = any(isinstance(value, float) and not math.isfinite(value) for value in changes.values())
    assert re.search("is no number in JSON" if unwritable else message, found), found
    assert len(found) < 1000


def test_there_are_enough():
    assert len(CONFIGS) > 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a valid JSON file"),
        (b"\xff\xfe{\x00}\x00", "not a valid JSON file"),
        (b"[]", "expected a JSON object, found list"),
        (b'{"model_type": "bert", "model_type": "gpt2"}', "the key 'model_type' is given twice"),
        (b'{"model_type": "bert", "id2label": {"0": "a", "0": "b"}}', "the key '0' is given twice"),
        (b"[" * 10**6, "nested too deep"),
        (b'{"hidden_size": ' + b"9" * 10**5 + b"}", "not a valid JSON file"),
        (b'{"a": "' + b" " * checkpoint.CONFIG_BYTES + b'"}', f"expected at most {checkpoint.CONFIG_BYTES}"),
        (b'{"a": 1,' + b'"b": 1,' * 10**5 + b'"c": 1}', "the key 'b' is given twice"),
        (b"\x80\x04\x95cposix\nsystem\n.", "not a valid JSON file"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_damaged_configuration(broken, content: bytes, message: str):
    folder = broken()
    (folder / "config.json").write_bytes(content)
    assert message in refused(folder)


def test_code_named_in_a_configuration_is_not_run(broken, tmp_path: Path):
    folder, canary = broken(), tmp_path / "canary"
    for name in ("modeling_x.py", "configuration_x.py", "bert.py", "__init__.py"):
        (folder / name).write_text(f"open({str(canary)!r}, 'w')")
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoModel": "modeling_x.X", "AutoConfig": "configuration_x.C"}, "trust_remote_code": True}
    config |= {"_attn_implementation_internal": "x/y", "custom_pipelines": {"a": {"impl": "modeling_x.X"}}}
    (folder / "config.json").write_text(json.dumps(config))
    saved = load(folder, "float32").save(tmp_path / "out")
    assert not canary.exists()
    assert (
        not {"auto_map", "trust_remote_code", "_attn_implementation_internal"}
        & json.loads((saved / "config.json").read_text()).keys()
    )


# Folders


def only(folder: Path, *names: str) -> Path:
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()
    return folder


def replace(folder: Path, name: str, by: str) -> Path:
    path = folder / name
    if path.exists():
        path.unlink()
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "endless": lambda: path.symlink_to("/dev/zero")}[by]()
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: only(folder), "no configuration: expected one of config.json"),
        (lambda folder: only(folder, "model.safetensors"), "no configuration: expected one of config.json"),
        (lambda folder: only(folder, "config.json"), "no weights: expected model.safetensors"),
        (lambda folder: replace(folder, "config.json", "folder"), "no configuration"),
        (lambda folder: replace(folder, "config.json", "pipe"), "no configuration"),
        (lambda folder: replace(folder, "config.json", "endless"), "no configuration"),
        (lambda folder: replace(folder, "model.safetensors", "folder"), "no weights"),
        (lambda folder: replace(folder, "model.safetensors", "pipe"), "no weights"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin").parent,
            "can run code when opened",
        ),
        (lambda folder: (folder / "model.safetensors").rename(folder / "x.safetensors").parent, "no weights"),
    ],
)
def test_a_folder_that_is_no_model(broken, damage: Callable[[Path], Path], message: str):
    assert message in refused(damage(broken()), GraftError)


@pytest.mark.parametrize("by", ["pipe", "endless"])
def test_no_other_kind_of_file_is_waited_for(broken, by: str):
    """Where the hub's check of a folder is not asked, reading the configuration still is bounded."""
    folder = replace(broken(), "config.json", by)
    with pytest.raises(ModelError, match="is a device or a pipe, expected a file"):
        checkpoint.load(folder, dtype=torch.float32)
    with pytest.raises(ModelError, match="no such folder"):
        checkpoint.load(folder / "absent", dtype=torch.float32)


# Weights against the configuration

WEIGHT = "bert.encoder.layer.1.attention.self.query.weight"
MISSING = ("bert.embeddings.LayerNorm.bias", "bert.encoder.layer.2.output.dense.weight")


def reweigh(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_everything_wrong_is_listed_at_once(broken):
    def spoil(tensors: dict[str, Any]) -> None:
        for name in MISSING:
            del tensors[name]
        tensors |= {"bert.extra": torch.ones(1), "two\nlines": torch.ones(1), "bert.encoder.layer.9.x": torch.ones(1)}
        tensors[WEIGHT] = torch.ones(32, 31)
        tensors["bert.encoder.layer.1.attention.self.key.weight"] = torch.ones(32)
        tensors["bert.encoder.layer.0.output.dense.bias"] = torch.ones(32, dtype=torch.int64)
        tensors["embeddings.word_embeddings.weight"] = torch.ones(96, 32)

    message = refused(reweigh(broken(), spoil))
    for part in (
        "without a place in this model (3): bert.encoder.layer.9.x, bert.extra, 'two\\nlines'",
        "missing (2): embeddings.LayerNorm.bias, encoder.layer.2.output.dense.weight",
        "given twice (1): embeddings.word_embeddings.weight",
        f"{WEIGHT} has shape [32, 31], the configuration asks for [32, 32]",
        "layer.1.attention.self.key.weight has shape [32], the configuration asks for [32, 32]",
        "bert.encoder.layer.0.output.dense.bias holds torch.int64, expected floating-point numbers",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bert-classify", lambda t: t.pop("classifier.bias"), "missing (1): classifier.bias"),
        (
            "bert-classify",
            lambda t: t.pop("bert.pooler.dense.bias"),
            "head's weights do not fit the configuration: dense.bias is",
        ),
        (
            "bert-classify",
            lambda t: t.update({"classifier.weight": torch.tensor(1.0).double()}),
            "output.weight has shape [], config",
        ),
        (
            "bert-classify",
            lambda t: t.update({"classifier.bias": torch.ones(3, dtype=torch.uint8)}),
            "holds torch.uint8",
        ),
        ("bert-classify", lambda t: t.clear(), "the weights hold 0 in 0 tensors"),
        (
            "gpt2-classify",
            lambda t: t.update({"score.weight": torch.ones(32, 3)}),
            "output.weight has shape [32, 3], config",
        ),
        ("gpt2-lm", lambda t: t.update({"lm_head.weight": torch.ones(260, 32)}), "ties the output matrix to the token"),
        ("gpt2-lm", lambda t: t.update({"lm_head.weight": torch.ones(1)}), "ties the output matrix to the token"),
        (
            "gpt2-lm",
            lambda t: t.update({"transformer.h.0.attn.c_attn.weight": torch.ones(96, 32)}),
            "has shape [96, 32]",
        ),
        (
            "gpt2-lm",
            lambda t: t.update({"transformer.h.0.attn.c_attn.weight": torch.ones(32, 97)}),
            "has shape [32, 97]",
        ),
        ("gpt2-lm", lambda t: t.update({"transformer.h.0.attn.c_attn.bias": torch.ones(())}), "has shape [], the"),
        (
            "gpt2-lm",
            lambda t: t.update({"h.{n}.ln_1.weight": torch.ones(32)}),
            "a place in this model (1): h.{n}.ln_1.weight",
        ),
        ("gpt2-untied", lambda t: t.pop("lm_head.weight"), "output.weight is missing"),
        (
            "bert",
            lambda t: t.update({f"encoder.layer.{n}.x": torch.ones(0) for n in range(20_000)}),
            "in this model (20000)",
        ),
    ],
)
def test_weights_that_do_not_fit(broken, name: str, change: Callable[[dict[str, Any]], Any], message: str):
    assert message in refused(reweigh(broken(name), change))


def test_a_pooler_of_another_shape_is_refused_when_it_is_needed(broken):
    model = load(reweigh(broken("bert"), lambda t: t.update({"pooler.dense.bias": torch.ones(31)})), "float32")
    with pytest.raises(ModelError, match=r"dense\.bias has shape \[31\], config.json asks for \[32\]"):
        model.graft("classify", labels=("a", "b"))


# Anything at all

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([2**31, 10**18, -1, 0, 32]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.usefixtures("little_memory")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_configuration_raises_anything_else(tiny, tmp_path_factory, data: st.DataObject):
    name = data.draw(st.sampled_from(NAMES))
    source, folder = tiny(name).folder, tmp_path_factory.getbasetemp() / "fuzzed"
    config = json.loads((source / "config.json").read_text())
    changes = data.draw(st.dictionaries(st.sampled_from([*config, "num_labels"]), ANYTHING, min_size=1, max_size=3))
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / "model.safetensors").symlink_to(source / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config | changes))
    start, refusal = time.process_time(), ""
    try:
        model = load(folder, "float32")
        model.train()(pack([[1, 2, 3], [4]]))
        model.eval().save(folder.parent / "again")
    except GraftError as error:
        refusal = str(error)
    assert refusal.isprintable()
    assert time.process_time() - start < SECONDS

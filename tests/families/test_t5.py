"""T5 beside its numbers: buckets of distances, what it refuses, adapting it."""

from __future__ import annotations

import copy
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import SIZES

from graft.batch import pack
from graft.cli.show import describe
from graft.errors import DataError, ModelError, UsageError
from graft.families import find
from graft.families.t5 import bucket
from graft.loading import load
from graft.recipes.finetune import finetune
from graft.transfer.probe import Probe


def test_buckets_of_t5_small():
    """32 buckets up to 128: eight single distances each way and eight that widen, or sixteen and sixteen."""
    config = find("t5").config(
        {**SIZES["t5"], "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128}
    )
    both = [0, 1, 7, 8, 11, 12, 15, 16, 22, 23, 63, 64, 90, 91, 127, 128, 5000]
    wanted = [0, 1, 7, 8, 8, 9, 9, 10, 10, 11, 13, 14, 14, 15, 15, 15, 15]
    behind = bucket(-torch.tensor(both), config)
    assert behind.tolist() == wanted
    assert bucket(torch.tensor(both[1:]), config).tolist() == [16 + number for number in wanted[1:]]


def test_two_stacks_are_copied_whole(tiny):
    """The decoder sees the copy's embedding, and it is counted once."""
    own = load(tiny("t5").folder, "float32").backbone
    other = copy.deepcopy(own)
    assert other.decoder.token_embedding is other.token_embedding
    assert other.decoder.token_embedding is not own.token_embedding
    assert not any("decoder.token_embedding" in name for name in own.state_dict())
    assert own.to(torch.bfloat16).decoder.token_embedding.weight.dtype == torch.bfloat16
    counted = sum(parameter.numel() for parameter in own.parameters())
    assert 0.95 * counted < own.config.parameters <= counted


@pytest.mark.parametrize(("name", "tied"), [("t5-lm", None), ("t5-lm", True), ("t5-untied", False)])
def test_configurations_of_older_files(tiny, tmp_path: Path, name: str, tied: bool | None):
    """They say by `tie_word_embeddings` alone, or not at all, whether hidden states are scaled."""
    made = tiny(name)
    old = shutil.copytree(made.folder, tmp_path / "old")
    published = json.loads((old / "config.json").read_text())
    for entry in ("scale_decoder_outputs", "tie_word_embeddings", "num_decoder_layers", "dense_act_fn", "is_gated_act"):
        del published[entry]
    published |= {"num_decoder_layers": 2} | ({} if tied is None else {"tie_word_embeddings": tied})
    (old / "config.json").write_text(json.dumps(published))
    given = [[2, 3, 4, 1]], [[0, 9, 8]]
    [found], [expected] = (load(one, "float32").logits(given[0], decoder=given[1]) for one in (old, made.folder))
    assert torch.equal(found, expected)
    again = type(made.theirs).from_pretrained(load(old, "float32").save(tmp_path / "out"))
    assert again.config.scale_decoder_outputs == made.theirs.config.scale_decoder_outputs


def test_files_that_repeat_the_embedding(tiny, tmp_path: Path):
    made = tiny("t5-lm")
    copied = shutil.copytree(made.folder, tmp_path / "copied")
    tensors = load_file(copied / "model.safetensors")
    repeated = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    more = {name: tensors["shared.weight"].clone() for name in repeated} | {unused: torch.ones(12, 4)}
    save_file(tensors | more, copied / "model.safetensors")
    model = load(copied, "float32")
    assert model.head.tied
    assert load_file(model.save(tmp_path / "out") / "model.safetensors").keys() == tensors.keys()


@pytest.mark.parametrize("kept", [["encoder"], ["decoder"], ["encoder", "decoder"]])
def test_files_that_know_the_embedding_by_another_name(tiny, tmp_path: Path, kept: list[str]):
    made = tiny("t5-lm")
    copied = shutil.copytree(made.folder, tmp_path / "copied")
    tensors = load_file(copied / "model.safetensors")
    shared = tensors.pop("shared.weight")
    save_file(tensors | {f"{one}.embed_tokens.weight": shared.clone() for one in kept}, copied / "model.safetensors")
    saved = load_file(load(copied, "float32").save(tmp_path / "out") / "model.safetensors")
    assert saved.keys() == tensors.keys() | {"shared.weight"}
    assert torch.equal(saved["shared.weight"], shared)
    save_file(tensors, copied / "model.safetensors")
    with pytest.raises(ModelError, match=r"tensors missing \(1\): shared.weight"):
        load(copied, "float32")


def test_what_show_says(tiny):
    facts = describe(tiny("t5-lm").folder)
    assert facts["head"] == "next"
    assert facts["drawing"][0] == "token embedding"
    assert "decoder: 2 such blocks, each token sees those before it, then all of the encoder's" in facts["drawing"]
    weights = {name: parameter.numel() for name, parameter in tiny("t5-lm").theirs.named_parameters()}
    assert facts["parameters"]["total"] == sum(weights.values())
    assert facts["parameters"]["final_norm"] == 64
    assert facts["parameters"]["blocks"] == sum(
        count for name, count in weights.items() if ".block." in name and "relative" not in name
    )


def test_adapted_to_rows(tiny, tmp_path: Path):
    """Full fine-tuning learns; the sealed folder answers as it did."""
    numbers = random.Random(1)
    words = ["".join(numbers.choice(letters) for _ in range(6)) for letters in ("abcde", "vwxyz") * 60]
    rows = ["text,label", *(f"{word},{'low' if word < 'f' else 'high'}" for word in words)]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    made = tiny("t5")
    plan = {"epochs": 10, "learning_rate": 1e-3, "dtype": "float32"}
    done = finetune(tmp_path / "rows.csv", model=made.folder, strategy="full", out=tmp_path / "out", **plan)
    assert done.record["metrics"]["accuracy"]["value"] > 0.95
    model = load(tmp_path / "out", "float32", verify=True)
    assert [answer.label for answer in model(["abcabc", "xyzvwx"])] == ["low", "high"]


def test_sequences_for_a_decoder_that_is_not_there(tiny):
    with pytest.raises(DataError, match="for a decoder were given, this model has none; leave them out"):
        load(tiny("gpt2-lm").folder, "float32").logits([[2]], decoder=[[2]])
    model = load(tiny("t5-encoder").folder, "float32")
    with pytest.raises(ModelError, match="has no head"):
        model.logits([[2]], decoder=[[2]])
    cut = load(tiny("t5-lm").folder, "float32")
    with pytest.raises(TypeError, match="depth"):
        cut.graft("tag", labels=("a", "b"), depth=2)
    assert cut.backbone.decoder is not None
    cut.graft("tag", labels=("a", "b"))
    assert (cut.backbone.decoder, cut.backbone.config.decoder_layers) == (None, 0)
    for one in (model, cut):
        for kind in ("classify", "next", "span"):
            with pytest.raises(ModelError, match="reads a decoder, this model is an encoder alone; load one that has"):
                one.graft(kind)


def test_what_a_decoder_needs(tiny):
    model = load(tiny("t5-lm").folder, "float32")
    with pytest.raises(DataError, match="nothing to read; give a sequence that begins with its start token for each"):
        model.logits([[2], [3]])
    with pytest.raises(DataError, match="1 sequences for the decoder, expected one for each of the 2"):
        model.logits([[2], [3]], decoder=[[0]])
    with pytest.raises(DataError, match="sequence 1 has no ids"):
        model.logits([[2], [3]], decoder=[[0], []])
    with pytest.raises(DataError, match="1 sequences to decode beside 2 encoded ones"):
        model(pack([[2], [3]]), pack([[0]]))
    with pytest.raises(DataError, match="sequence 0 has 41 tokens, the model holds at most 40"):
        model.logits([[2]], decoder=[[0] * 41])


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("relative_attention_num_buckets", 2, "buckets is 2, expected a whole number from 4"),
        ("relative_attention_max_distance", 12, "furthest is 12, expected a whole number from 13"),
        ("num_decoder_layers", "2", "decoder_layers is '2', expected a whole number from 0 to 1024"),
        ("decoder_start_token_id", 96, "start_token is 96, expected a whole number from 0 to 95"),
        ("feed_forward_proj", "gated-tanh", "activation 'tanh'"),
        ("feed_forward_proj", "split-gelu", "activation 'split-gelu'"),
    ],
)
def test_configurations_that_make_no_sense(tiny, entry: str, value: Any, message: str):
    family = load(tiny("t5").folder, "float32").family
    with pytest.raises(ModelError, match=message):
        family.config({**tiny("t5").theirs.config.to_dict(), entry: value})


def test_the_probe_says_that_it_cannot(tiny):
    model = load(tiny("t5-classify").folder, "float32")
    with pytest.raises(UsageError, match="cannot be written into t5 models; use strategy full"):
        Probe().solve(model, [[2, 3, 4], [5, 6]], [None, None], torch.tensor([0, 1]))

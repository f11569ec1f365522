"""Heads against transformers, on tiny random models it saved: equal logits, tied matrices, what is kept beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from side_by_side import HEADED, RAGGED, alone, draw, draw_types, numbers, worst
from tiny_models import NAMES, head

from graft.batch import pack
from graft.errors import ModelError
from graft.heads import HEADS, FillMask, PredictNext
from graft.loading import load


@pytest.mark.parametrize("name", [name for name in HEADED if head(name) != "beam"])
def test_logits(tiny, name: str):
    made = tiny(name)
    model = load(made.folder, "float32")
    sequences = draw(RAGGED, model.backbone.config.vocab_size, seed=1)
    types = draw_types(name, sequences)
    with torch.inference_mode():
        ours = model(pack(sequences, types))
    kinds = types or [None] * len(sequences)
    each = [numbers(alone(made.theirs, *one)) for one in zip(sequences, kinds, strict=True)]
    assert ours.dtype == torch.float32
    assert worst(ours, torch.cat(each)) < 1e-5
    assert float(torch.cat(each).abs().max()) > 0.1
    rows = model.pooled(sequences, types, model.head)
    assert [len(row) if row.dim() > 1 else 1 for row in rows] == [
        len(ids) if HEADS[head(name)].per_token else 1 for ids in sequences
    ]
    assert all(worst(row, one.reshape(row.shape)) < 1e-5 for row, one in zip(rows, each, strict=True))


@pytest.mark.parametrize("name", [name for name in HEADED if head(name) == "tag"])
def test_labels_of_tokens_have_their_names(tiny, name: str):
    made = tiny(name)
    assert load(made.folder, "float32").head.labels == NAMES == tuple(made.theirs.config.id2label.values())


TIED = ("gpt2-lm", "openai_gpt-double", "llama-tied", "bert-mask", "bert-pretrain", "roberta-mask", "distilbert-mask")
TIED += ("bert-lm", "xlm_roberta-lm")


@pytest.mark.parametrize("name", TIED)
def test_a_tied_matrix_is_one(tiny, name: str):
    tied = load(tiny(name).folder, "float32")
    assert isinstance(tied.head, FillMask if head(name) == "mask" else PredictNext)
    assert tied.head.output.weight is tied.backbone.token_embedding.weight
    assert "output.weight" not in tied.head.own()


@pytest.mark.parametrize(
    "name", ["gpt2-untied", "bert-lm_untied", "bert-mask_untied", "roberta-mask_untied", "distilbert-mask_untied"]
)
def test_an_untied_matrix_is_another(tiny, name: str):
    untied = load(tiny(name).folder, "float32")
    assert not torch.equal(untied.head.output.weight, untied.backbone.token_embedding.weight)


@pytest.mark.parametrize(
    ("name", "spare"),
    [
        ("bert-pretrain", {"dense", "next_sentence"}),
        ("bert-pretrain_untied", {"dense", "next_sentence", "bias"}),
        ("bert-mask_untied", {"bias"}),
        ("bert-mask", set()),
        ("gpt2-double", {"summary"}),
        ("gpt2-double_untied", {"summary"}),
        ("openai_gpt-double", {"summary"}),
    ],
)
def test_what_a_class_has_beside_its_head_is_kept(tiny, name: str, spare: set[str]):
    assert {tensor.partition(".")[0] for tensor in load(tiny(name).folder, "float32").spare} == spare


def test_an_untied_double_head_of_gpt1_is_refused(tiny):
    with pytest.raises(ModelError, match=r"tensors given twice \(1\): lm_head.weight"):
        load(tiny("openai_gpt-double", tie_word_embeddings=False).folder, "float32")


def test_a_new_head_takes_the_pooler_of_pretraining(tiny, tmp_path: Path):
    made = tiny("bert-pretrain")
    model = load(made.folder, "float32")
    model.graft("choose")
    assert torch.equal(model.head.dense.weight, made.theirs.bert.pooler.dense.weight)
    saved = load_file(model.save(tmp_path / "out") / "model.safetensors")
    assert "bert.pooler.dense.weight" in saved
    assert not any("seq_relationship" in name for name in saved)


FRESH = [
    ("bert", "mask", "BertForMaskedLM"),
    ("bert", "choose", "BertForMultipleChoice"),
    ("roberta", "mask", "RobertaForMaskedLM"),
    ("roberta", "choose", "RobertaForMultipleChoice"),
    ("distilbert", "mask", "DistilBertForMaskedLM"),
    ("distilbert", "choose", "DistilBertForMultipleChoice"),
    ("gpt2", "next", "GPT2LMHeadModel"),
    ("llama", "span", "LlamaForQuestionAnswering"),
    ("mixtral", "tag", "MixtralForTokenClassification"),
    ("xlnet", "choose", "XLNetForMultipleChoice"),
    ("xlnet", "span", "XLNetForQuestionAnsweringSimple"),
    ("xlnet", "tag", "XLNetForTokenClassification"),
    ("bert", "tag", "BertForTokenClassification"),
    ("bert", "span", "BertForQuestionAnswering"),
]


@pytest.mark.parametrize(("name", "kind", "published"), FRESH)
def test_a_fresh_head_opens_in_transformers(tiny, tmp_path: Path, name: str, kind: str, published: str):
    import transformers

    model = load(tiny(name).folder, "float32")
    model.graft(kind, **({"labels": ("cold", "warm")} if kind == "tag" else {}))
    out = model.save(tmp_path / "out")
    theirs, report = getattr(transformers, published).from_pretrained(out, output_loading_info=True)
    assert {what: names for what, names in report.items() if names} == {}
    assert kind != "tag" or theirs.config.id2label == {0: "cold", 1: "warm"}
    ids = draw((12,), 96)[0]
    [ours] = model.logits([ids])
    assert worst(ours, numbers(alone(theirs.eval(), ids)).reshape(ours.shape)) < 1e-5
    again = load(out, "float32")
    assert worst(again.logits([ids])[0], ours) < 1e-6  # files may lie at other addresses


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("bert", "next", "is_decoder is False, only True"),
        ("roberta", "next", "is_decoder is False, only True"),
        ("bert-lm", "mask", "is_decoder is True, only False"),
        ("bert-lm", "classify", "is_decoder is True, only False"),
    ],
)
def test_what_sees_both_ways_does_not_predict_the_next_token(tiny, name: str, kind: str, message: str):
    with pytest.raises(ModelError, match=f"this model cannot be a [A-Za-z]+: .*{message}"):
        load(tiny(name).folder, "float32").graft(kind, labels=("cold", "warm"))


def test_a_fresh_tied_head_leaves_the_embedding(tiny):
    made = tiny("gpt2")
    model = load(made.folder, "float32")
    model.graft("next")
    assert torch.equal(model.backbone.token_embedding.weight, made.theirs.wte.weight)
    assert model.head.output.weight is model.backbone.token_embedding.weight

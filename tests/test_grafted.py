"""Models: answers, vectors, new heads, golden inputs, and every way to ask for what cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from graft.batch import pack
from graft.errors import DataError, GraftError, HubError, ModelError, StorageError, UsageError
from graft.grafted import Model
from graft.heads import Answer, Classify, Embed, Regress
from graft.loading import load
from graft.sealed import NAME, Settings

TEXTS = ["where is my parcel?", "no", ("it broke", "send it back"), "thanks a lot " * 8]
HEADED = ("bert-classify", "bert-multi", "bert-regress", "gpt2-classify")


def copied(folder: Path, to: Path, **files: Any) -> Path:
    shutil.copytree(folder, to)
    for name, content in files.items():
        path = to / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(content))
    return to


def theirs(made: Any, model: Model, text: Any) -> torch.Tensor:
    """The logits of transformers for one text as Graft's tokenizer reads it."""
    [encoding] = model.encode([text])
    types = {} if encoding.types is None else {"token_type_ids": torch.tensor([encoding.types])}
    with torch.inference_mode():
        return made.theirs(input_ids=torch.tensor([encoding.ids]), **types).logits[0]


# Answers


@pytest.mark.parametrize("name", HEADED)
def test_answers_are_those_of_the_published_model(tiny, name: str):
    made = tiny(name)
    model = load(made.folder, "float32")
    texts = TEXTS if name.startswith("bert") else [text for text in TEXTS if isinstance(text, str)]
    answers = model(texts)
    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        logits = theirs(made, model, text)
        if name == "bert-regress":
            assert answer.score == pytest.approx(logits.item(), abs=1e-5)
            continue
        chances = torch.sigmoid(logits) if name == "bert-multi" else torch.softmax(logits, -1)
        expected = dict(zip(("no", "yes", "maybe"), chances.tolist(), strict=True))
        assert answer.probabilities == pytest.approx(expected, abs=1e-5)
        assert answer.label == max(expected, key=expected.__getitem__)
        assert answer.probability == answer.probabilities[answer.label]
        if name == "bert-multi":
            assert answer.labels == tuple(label for label, chance in expected.items() if chance >= 0.5)


def test_one_text_a_pair_or_a_list(tiny):
    model = load(tiny("bert-classify").folder, "float32")
    alone, pair, several = model("no"), model(("it broke", "send it")), model(["no", ("it broke", "send it")])
    assert isinstance(alone, Answer)
    assert isinstance(pair, Answer)
    assert [one.label for one in several] == [alone.label, pair.label]
    assert several[0].probability == pytest.approx(alone.probability, abs=1e-6)
    assert model([]) == []


def test_truncated_tokens_are_told(tiny, tmp_path: Path):
    folder = tiny("bert-classify").folder
    model = load(folder, "float32")
    text = "a " * 50
    assert [one.truncated_tokens for one in model([text, "a", "a " * 38])] == [12, 0, 0]
    shorter = load(copied(folder, tmp_path / "m", graft={"graft": 1, "limit": 10}), "float32")
    assert (shorter.limit, shorter(text).truncated_tokens) == (10, 42)
    assert shorter(text).probabilities == pytest.approx(model("a " * 8).probabilities, abs=1e-6)
    (tmp_path / "m" / NAME).write_text(json.dumps({"graft": 1, "limit": 10, "overflow": "error"}))
    with pytest.raises(DataError, match=r"text 1 .* has 52 tokens with its special tokens, the limit is 10"):
        load(tmp_path / "m", "float32")(["a", text])


def test_many_texts_are_answered_in_their_order_and_progress_is_told(tiny):
    model = load(tiny("bert-classify").folder, "float32")
    texts = ["abcdefghij"[: 1 + number % 10] * (1 + number % 3) for number in range(300)]
    told: list[int] = []
    found = model.answer(texts, told.append)
    assert sum(told) == 300
    assert len(told) > 3  # more than one batch
    distinct = {text: model(text).probability for text in set(texts)}
    assert [one.probability for one in found] == pytest.approx([distinct[text] for text in texts], abs=2e-6)


# Vectors


def test_embed_is_the_mean_of_the_tokens(tiny):
    model = load(tiny("bert").folder, "float32")
    texts = ["where is my parcel", "no"]
    found = model.embed(texts)
    assert (found.dtype, found.shape) == (np.float32, (2, 32))
    for row, encoding in zip(found, model.encode(texts), strict=True):
        mean = model.hidden_states([encoding.ids])[0].mean(0)
        np.testing.assert_allclose(row, (mean / mean.norm()).numpy(), atol=1e-6)
    assert model.embed([]).shape == (0, 32)


@pytest.mark.parametrize(
    ("pooling", "kinds", "how", "normalize"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "TPN", "mean", True),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "TP", "first", False),
        ({"pooling_mode_lasttoken": True}, "TPN", "last", True),
        ({"pooling_mode": "mean"}, "TP", "mean", False),
        (None, "TPN", "mean", True),
    ],
)
def test_a_sentence_transformers_folder(tiny, tmp_path: Path, pooling: Any, kinds: str, how: str, normalize: bool):
    names = {"T": "Transformer", "P": "Pooling", "N": "Normalize"}
    modules = [{"idx": n, "type": f"sentence_transformers.models.{names[kind]}"} for n, kind in enumerate(kinds)]
    files = {"modules": modules, "sentence_bert_config": {"max_seq_length": 12}}
    files |= {} if pooling is None else {"1_Pooling__config": pooling}
    model = load(copied(tiny("bert").folder, tmp_path / "m", **files), "float32")
    assert isinstance(model.head, Embed)
    assert (model.head.pool, model.head.normalize, model.limit) == (how, normalize, 12)
    states = model.hidden_states([model.encode(["it broke"])[0].ids])[0]
    row = {"mean": states.mean(0), "first": states[0], "last": states[-1]}[how]
    expected = row / row.norm() if normalize else row
    np.testing.assert_allclose(model.embed(["it broke"])[0], expected.numpy(), atol=1e-5)
    assert model("it broke").embedding == pytest.approx(expected.tolist(), abs=1e-5)
    again = load(model.save(tmp_path / "out"), "float32")
    assert (again.head.options(), again.limit) == (model.head.options(), 12)
    assert (
        load_file(tmp_path / "out" / "model.safetensors").keys()
        == load_file(tmp_path / "m" / "model.safetensors").keys()
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"modules": [{"type": "x.Transformer"}, {"type": "x.Pooling"}, {"type": "x.Dense"}]},
            "Transformer, Pooling, Dense;",
        ),
        ({"modules": []}, "the text goes through nothing"),
        ({"modules": [1, None]}, "the text goes through None, None"),
        ({"modules": {}}, "expected a JSON array, found dict"),
        (
            {"1_Pooling__config": {"pooling_mode_max_tokens": True}},
            r"pools by \['pooling_mode_max_tokens'\]; Graft pools by",
        ),
        ({"1_Pooling__config": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}}, "pools by"),
        ({"1_Pooling__config": {"pooling_mode": ["mean"]}}, "pools by"),
        ({"1_Pooling__config": {}}, r"pools by \[\]"),
        ({"1_Pooling__config": []}, "expected a JSON object, found list"),
        ({"sentence_bert_config": []}, "expected a JSON object, found list"),
    ],
)
def test_a_sentence_transformers_folder_graft_cannot_follow(tiny, tmp_path: Path, files: dict[str, Any], message: str):
    modules = [{"type": "x.Transformer"}, {"type": "x.Pooling"}]
    folder = copied(tiny("bert").folder, tmp_path / "m", **{"modules": modules, **files})
    with pytest.raises(ModelError, match=message):
        load(folder, "float32")


# New heads


def test_a_new_head_takes_over_the_pooler(tiny):
    made = tiny("bert")
    model = load(made.folder, "float32")
    model.graft("classify", labels=("a", "b"), problem="multi")
    assert isinstance(model.head, Classify)
    assert torch.equal(model.head.dense.weight, made.theirs.pooler.dense.weight)
    assert (model.head.labels, model.head.problem, model.head.training) == (("a", "b"), "multi", False)
    assert model.head.dropout.rate == 0.1
    with torch.no_grad():
        model.head.dense.weight.fill_(0.5)
    model.graft("regress")
    assert isinstance(model.head, Regress)
    assert float(model.head.dense.weight.detach().min()) == 0.5
    assert not model.head.output.bias.any()
    assert float(model.head.output.weight.detach().std()) == pytest.approx(0.02, rel=0.5)


def test_a_new_head_of_a_classifier_keeps_its_pooler(tiny, tmp_path: Path):
    made = tiny("bert-classify")
    model = load(made.folder, "bfloat16")
    model.train()
    model.graft("classify", labels=tuple("abcd"))
    assert torch.equal(model.head.dense.weight, made.theirs.bert.pooler.dense.weight.bfloat16())
    assert ({p.dtype for p in model.head.parameters()}, model.head.training) == ({torch.bfloat16}, True)
    model.graft("embed", pool="first", normalize=False)
    saved = load_file(model.save(tmp_path / "out") / "model.safetensors")
    assert torch.equal(saved["pooler.dense.weight"], made.theirs.bert.pooler.dense.weight.bfloat16())


def test_a_new_head_on_gpt2(tiny, tmp_path: Path):
    model = load(tiny("gpt2").folder, "float32")
    model.graft("classify", labels=("a", "b"))
    assert (model.head.pool, model.head.dense, model.head.output.bias) == ("last", None, None)
    again = load(model.save(tmp_path / "out"), "float32")
    assert torch.equal(again.logits([[1, 2, 3]])[0], model.logits([[1, 2, 3]])[0])


def test_heads_a_family_does_not_have(tiny):
    model = load(tiny("bert").folder, "float32")
    with pytest.raises(ModelError, match="bert models have no 'beam' head; this family has:"):
        model.graft("beam")


# Golden inputs

INPUTS = ("where is my parcel", ("it broke", "send it back"), "thanks")
SEALED = ("bert-classify", "bert-regress", "bert-multi", "bert", "gpt2-classify", "gpt2-lm", "gpt2-untied", "gpt2")
SEALED += ("bert-mask", "bert-tag", "bert-span", "bert-choose", "bert-pretrain", "bert-lm", "xlnet-beam", "t5-span")


def seal(made: Any, to: Path, dtype: str = "float32") -> Path:
    model = load(made.folder, dtype)
    inputs = INPUTS if model.family.name == "bert" else tuple(text for text in INPUTS if isinstance(text, str))
    model.seal(inputs, Settings(task="classify", limit=30, made={"seed": 3}))
    model.verify()
    return model.save(to)


@pytest.mark.parametrize("name", SEALED)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_golden_inputs_prove_a_folder(tiny, tmp_path: Path, name: str, dtype: str):
    out = seal(tiny(name), tmp_path / "out")
    model = load(out, dtype, verify=True)
    assert (model.settings.task, model.settings.limit, model.settings.made) == ("classify", 30, {"seed": 3})
    load(model.save(tmp_path / "second"), dtype, verify=True)


CHANGED = {
    "bert-classify": ("bert.embeddings.word_embeddings.weight", "bert.pooler.dense.bias", "classifier.weight"),
    "gpt2-untied": ("transformer.h.1.mlp.c_fc.weight", "transformer.ln_f.weight", "lm_head.weight"),
    "bert": ("encoder.layer.2.output.dense.weight",),
}


@pytest.mark.parametrize(
    ("name", "tensor"), [(name, tensor) for name, tensors in CHANGED.items() for tensor in tensors]
)
@pytest.mark.parametrize("change", ["noise", "nan"])
def test_golden_inputs_notice_a_changed_weight(tiny, tmp_path: Path, name: str, tensor: str, change: str):
    out = seal(tiny(name), tmp_path / "out")
    tensors = load_file(out / "model.safetensors")
    tensors[tensor] += 0.3 * torch.randn(tensors[tensor].shape) if change == "noise" else float("nan")
    save_file(tensors, out / "model.safetensors")
    load(out, "float32")
    for dtype in ("float32", "bfloat16") if change == "nan" else ("float32",):
        with pytest.raises(ModelError, match="golden inputs give another output than when the model was saved"):
            load(out, dtype, verify=True)


def test_nothing_to_prove(tiny):
    with pytest.raises(ModelError, match=r"graft\.json holds no golden inputs to replay"):
        load(tiny("bert").folder, verify=True)


# Ids


def test_hidden_states_and_logits_of_ids(tiny):
    model = load(tiny("gpt2-lm").folder, "float32")
    sequences = [[1, 2, 3], [4], (5, 6), np.array([7, 8, 9, 10])]
    states, logits = model.hidden_states(sequences), model.logits(sequences)
    assert [tuple(one.shape) for one in states] == [(3, 32), (1, 32), (2, 32), (4, 32)]
    assert [tuple(one.shape) for one in logits] == [(3, 260), (1, 260), (2, 260), (4, 260)]
    assert [tuple(one.shape) for one in model.logits([[1], [2]])] == [(1, 260), (1, 260)]
    batch = pack([[1, 2, 3]])
    with torch.inference_mode():
        torch.testing.assert_close(model(batch), logits[0], rtol=0, atol=1e-5)
    bare = load(tiny("gpt2").folder, "float32")
    with torch.inference_mode():
        torch.testing.assert_close(bare(batch), bare.hidden_states([[1, 2, 3]])[0])


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([[1], [260]], r"sequence 1 has ids from 260 to 260, expected at least one, each from 0 to 259"),
        ([[3, -1]], "sequence 0 has ids from -1 to 3"),
        ([[1], []], "sequence 1 has no ids"),
        ([[1.5]], "token ids must be whole numbers"),
        (["hello"], "sequence 0 is text, expected token ids"),
        ([list(range(41))], "sequence 0 has 41 tokens, the model holds at most 40"),
    ],
)
def test_wrong_ids(tiny, sequences: list[Any], message: str):
    model = load(tiny("gpt2-lm").folder, "float32")
    for ask in (model.hidden_states, model.logits):
        with pytest.raises(DataError, match=message):
            ask(sequences)


# What cannot be


def test_no_head(tiny):
    model = load(tiny("bert").folder, "float32")
    with pytest.raises(ModelError, match="this model has no head and cannot answer; adapt it with `graft finetune`"):
        model("no")
    with pytest.raises(ModelError, match="has no head and cannot give logits"):
        model.logits([[1]])
    with pytest.raises(UsageError, match="a 'next' head does not answer"):
        load(tiny("gpt2-lm").folder, "float32")("no")


def test_no_tokenizer(tiny, tmp_path: Path):
    folder = copied(tiny("bert-classify").folder, tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    model = load(folder, "float32")
    with pytest.raises(ModelError, match="no tokenizer. Looked for tokenizer.json"):
        model("no")
    assert len(model.logits([[1, 2]])) == 1
    assert not (model.save(tmp_path / "out") / "tokenizer.json").exists()


@pytest.mark.parametrize(
    ("name", "changes", "texts", "error", "message"),
    [
        (
            "bert-classify",
            {"vocab_size": 30},
            ["zz"],
            ModelError,
            "the tokenizer gives token .*, the model knows 30 tokens",
        ),
        ("bert-classify", {"type_vocab_size": 1}, [("a", "b")], ModelError, "tells no second text from the first"),
        ("gpt2-classify", {}, ["a", ""], DataError, r"text 1 \(counting from 0\) is empty"),
        ("bert-classify", {}, [1], DataError, "text 0 .* is int"),
        ("bert-classify", {}, [None, "a"], DataError, "text 0 .* is NoneType"),
    ],
)
def test_texts_that_cannot_be_read(
    tiny, name: str, changes: dict[str, Any], texts: list[Any], error: type[GraftError], message: str
):
    model = load(tiny(name, **changes).folder, "float32")
    with pytest.raises(error, match=message):
        model(texts)


def test_a_single_text_is_not_a_list(tiny):
    with pytest.raises(DataError, match=r"embed takes a list of texts, found a single one; write embed\(\[text\]\)"):
        load(tiny("bert").folder, "float32").embed("no")


@pytest.mark.parametrize("device", ["bogus", "", "cuda:99"])
def test_a_device_that_is_not_here(tiny, device: str):
    with pytest.raises(UsageError, match=f"device '{device}' cannot be used here: .* Choose auto, cpu, cuda"):
        load(tiny("bert").folder, device=device)


def test_devices_and_dtypes_that_are(tiny):
    model = load(tiny("bert").folder, "float32", device="cpu")
    assert (model.device.type, model.dtype, model.training) == ("cpu", torch.float32, False)
    assert load(tiny("bert").folder).device.type in ("cpu", "cuda")


def test_no_such_folder(tmp_path: Path):
    with pytest.raises(HubError, match="no such folder"):
        load(tmp_path / "absent")


def test_saving_takes_the_place_of_a_model_and_of_nothing_else(tiny, tmp_path: Path):
    model = load(tiny("bert").folder, "float32")
    out = model.save(tmp_path / "out", {"README.md": "# Mine\n"})
    assert (out / "README.md").read_text() == "# Mine\n"
    model.save(out)
    assert not (out / "README.md").exists()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"holds 1 files Graft did not write, such as notes\.txt"):
        model.save(out)
    assert (out / "notes.txt").read_text() == "mine"
    with pytest.raises(StorageError, match="is a file; a model is saved to a folder"):
        model.save(out / "notes.txt")

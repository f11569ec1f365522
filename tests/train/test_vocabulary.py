"""Input transformations: new tokens in vocabulary and embedding, which other tools open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from graft import tasks
from graft.grafted import Model
from graft.loading import load
from graft.recipes.adapt import Plan, adapt
from graft.recipes.watch import Watch
from graft.tasks import Row
from graft.train.objectives import language
from graft.train.vocabulary import grow

TOKENS = ["_start_", "_delimiter_", "_classify_"]
PAIRS = [Row((pair,), label, n) for n, (pair, label) in enumerate([(("ab", "c"), "x"), (("b", "ca"), "y")] * 4, 1)]


def adapted(folder: Any, task: str = "pair", strategy: str = "full") -> Model:
    model = load(folder, "float32")
    plan = Plan(epochs=1, batch_size=4, dtype="float32", strategy=strategy)
    adapt(model, tasks.find(task), PAIRS, plan, Watch(quiet=True))
    return model


@pytest.mark.parametrize("vocab_size", [257, 258, 260, 300])
def test_new_rows_for_new_tokens(tiny: Callable[..., Any], vocab_size: int):
    """Rows beyond the vocabulary are taken first; all others stay to the last bit."""
    folder = tiny("gpt2-lm", vocab_size=vocab_size).folder
    model, before = load(folder, "float32"), load(folder, "float32")
    assert grow(model) == 3
    weight, old = model.backbone.token_embedding.weight, before.backbone.token_embedding.weight
    assert len(weight) == model.backbone.config.vocab_size == max(vocab_size, 260)
    assert torch.equal(weight[:257], old[:257])
    ids = [model.tokenizer.token_id(name) for name in TOKENS]
    assert ids == [257, 258, 259]
    assert weight[257:260].std().item() == pytest.approx(0.02, rel=0.4)
    inner = before.encode(["ab"])[0].ids
    assert model.encode(["ab", ("ab", "ab")])[0].ids == [257, *inner, 259]
    assert model.encode([("ab", "ab")])[0].ids == [257, *inner, 258, *inner, 259]
    assert grow(model) == 0
    assert load(folder, "float32").encode([("ab", "ab")])[0].ids == [*inner, *inner], "a plain model reads as before"


@pytest.mark.parametrize("name", ["gpt2", "gpt2-untied", "openai_gpt-lm", "llama"])
def test_an_adapted_decoder_opens_in_transformers(tiny: Callable[..., Any], tmp_path: Any, name: str):
    import transformers

    more = {"vocab_size": 258} if "gpt" in name else {"vocab_size": 96}
    model = adapted(tiny(name, **more).folder)
    model.save(tmp_path / "m")
    again = load(tmp_path / "m", "float32")
    pair = ("ab", "c a")
    assert again.encode([pair])[0].ids == model.encode([pair])[0].ids
    assert again(pair).probabilities == pytest.approx(model(pair).probabilities, abs=1e-5)  # type: ignore[union-attr]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "m").eval()
    given = tokenizer(*pair, return_tensors="pt")
    assert given["input_ids"][0].tolist() == model.encode([pair])[0].ids
    assert theirs.config.vocab_size == model.backbone.config.vocab_size
    with torch.no_grad():
        logits = theirs(**given).logits[0]
    torch.testing.assert_close(logits, model.logits([model.encode([pair])[0].ids])[0], atol=1e-5, rtol=1e-5)


def test_the_new_embeddings_learn(tiny: Callable[..., Any]):
    folder = tiny("gpt2", vocab_size=258).folder
    torch.manual_seed(0)
    fresh = load(folder, "float32")
    grow(fresh)
    learned = adapted(folder)
    assert [learned.tokenizer.token_id(name) for name in TOKENS] == [257, 258, 259]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        other = load(folder, "float32")
        grow(other)
    moved = (learned.backbone.token_embedding.weight - other.backbone.token_embedding.weight).abs().sum(1)
    assert (moved[257:260] > 0).all()


@pytest.mark.parametrize(("name", "strategy", "task"), [("bert", "full", "pair"), ("gpt2", "probe", "pair")])
def test_who_keeps_the_frame_there_is(tiny: Callable[..., Any], name: str, strategy: str, task: str):
    """Encoders have special tokens; a probe learns no embedding."""
    folder = tiny(name).folder
    model, before = adapted(folder, task, strategy), load(folder, "float32")
    assert model.encode([("ab", "c")])[0].ids == before.encode([("ab", "c")])[0].ids
    assert model.backbone.config.vocab_size == before.backbone.config.vocab_size


def test_a_language_head_of_its_own_grows_along(tiny: Callable[..., Any]):
    model = load(tiny("gpt2-untied", vocab_size=258).folder, "float32")
    published = model.head
    assert published is not None
    old = published.own()["output.weight"]
    grow(model)
    head = language(model, 0.5).head
    assert head.output.weight.shape[0] == 260
    assert torch.equal(head.output.weight[:258], old)

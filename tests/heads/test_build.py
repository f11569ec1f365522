"""Building heads: as asked, again from what they tell, with fresh weights; and what cannot be built or asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graft.batch import pack
from graft.errors import ModelError, UsageError
from graft.heads import (
    HEADS,
    Beam,
    Choose,
    Classify,
    Embed,
    FillMask,
    Head,
    PredictNext,
    Regress,
    Span,
    Tag,
    check_shapes,
    initialize,
    make,
)
from graft.model.config import Config

BATCH = pack([[1, 2, 3], [4], [5, 6]])
EMBEDDING = nn.Embedding(11, 4)
LOGITS = torch.zeros(2, 3)
CONFIG = Config(vocab_size=11, hidden_size=4, layers=1, heads=1, feed_forward_size=4, positions=8)


@pytest.mark.parametrize(
    ("kind", "options", "made"),
    [
        ("classify", {"labels": ("a", "b"), "problem": "multi", "dense": "tanh"}, Classify),
        ("classify", {"labels": ("score",), "problem": "regression"}, Regress),
        ("regress", {"labels": ("points",), "pool": "mean"}, Regress),
        ("regress", {}, Regress),
        ("embed", {"pool": "first", "normalize": False}, Embed),
        ("next", {"tied": True}, PredictNext),
        ("next", {"tied": False}, PredictNext),
        ("mask", {"tied": True}, FillMask),
        ("mask", {"tied": False}, FillMask),
        ("tag", {"labels": ("a", "b")}, Tag),
        ("span", {}, Span),
        ("beam", {"starts": 3, "ends": 2}, Beam),
        ("choose", {}, Choose),
    ],
)
def test_made_as_asked_and_again_from_its_options(kind: str, options: dict[str, Any], made: type[Head]):
    head = make(kind, options, EMBEDDING)
    assert type(head) is made
    told = head.options()
    assert options.items() <= ({**options, **told} if made is not Embed else told).items()
    again = make("classify" if kind == "regress" else kind, told, EMBEDDING)
    assert (type(again), again.options()) == (made, told)


def test_a_tied_head_shares_and_an_untied_does_not():
    for kind in ("next", "mask"):
        assert make(kind, {"tied": True}, EMBEDDING).output.weight is EMBEDDING.weight
        assert make(kind, {"tied": False}, EMBEDDING).output.weight is not EMBEDDING.weight


def test_an_unknown_head():
    with pytest.raises(ModelError, match="unknown head 'clasify': did you mean 'classify'"):
        make("clasify", {}, EMBEDDING)
    assert sorted(HEADS) == ["beam", "choose", "classify", "embed", "mask", "next", "regress", "span", "tag"]
    assert all(head.kind == kind for kind, head in HEADS.items())


def test_a_regression_of_several_numbers():
    with pytest.raises(ModelError, match="a regression gives one number, found 2 labels"):
        make("regress", {"labels": ("a", "b")}, EMBEDDING)


def test_a_head_that_does_not_say():
    class Mute(Head):
        kind = "mute"

    with pytest.raises(UsageError, match="a 'mute' head has nothing to learn from targets"):
        Mute().loss(LOGITS, LOGITS)
    with pytest.raises(UsageError, match="a 'mute' head does not answer; ask for logits or hidden states"):
        Mute().decode(LOGITS, [0, 0])
    with pytest.raises(NotImplementedError):
        Mute()(torch.zeros(6, 4), BATCH)
    assert Mute().options() == {}


def test_initialize():
    torch.manual_seed(2)
    head = Classify(200, labels=[str(n) for n in range(300)], dense="tanh")
    initialize(head, "classify", CONFIG, {})
    for layer in (head.dense, head.output):
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
        assert abs(float(layer.weight.detach().mean())) < 0.001
        assert not layer.bias.any()
    bare = Classify(4, labels="ab", bias=False)
    initialize(bare, "classify", CONFIG, {})
    assert bare.output.bias is None


def test_initialize_as_a_family_says():
    head = make("mask", {"tied": False}, EMBEDDING)
    own = {"^other": 5.0, "transform": 0.0, r"output\.bias": lambda x: nn.init.constant_(x, 2.0), "mask": 9.0}
    kept = head.output.weight.detach().clone()
    nn.init.normal_(head.norm.weight)
    nn.init.normal_(head.norm.bias)
    initialize(head, "mask", CONFIG, own, [head.output.weight])
    assert torch.equal(head.output.weight, kept)
    assert torch.equal(head.output.bias, torch.full((11,), 2.0))
    assert not head.transform.weight.any()
    assert torch.equal(head.norm.weight, torch.ones(4))
    assert float(head.norm.bias.detach().abs().max()) > 1  # the first pattern found holds


@pytest.mark.parametrize("kind", ["next", "mask"])
def test_a_shared_matrix_stays_as_it_is(kind: str):
    before = EMBEDDING.weight.detach().clone()
    tied = make(kind, {"tied": True}, EMBEDDING)
    initialize(tied, kind, CONFIG, {}, tied.aliases().values())
    assert torch.equal(EMBEDDING.weight, before)
    untied = make(kind, {"tied": False}, EMBEDDING)
    initialize(untied, kind, CONFIG, {"output": 1e-9}, untied.aliases().values())
    assert float(untied.output.weight.detach().abs().max()) < 1e-6


def test_shapes_that_do_not_fit_are_named_at_once():
    own = {"a": torch.zeros(2), "b": torch.zeros(3, 1), "c": torch.zeros(1)}
    given = {"a": torch.zeros(2), "b": torch.zeros(1, 3), "c": torch.zeros(2)}
    check_shapes(Path("m"), own, {"a": torch.zeros(2)})
    message = r"m: .*do not fit.*: x; b has shape \[1, 3\], config.json asks for \[3, 1\]; c has shape"
    with pytest.raises(ModelError, match=message):
        check_shapes(Path("m"), own, given, ["x"])

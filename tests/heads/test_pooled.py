"""Heads: pooling, losses and answers, each against the formula, and what cannot be built or asked."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graft.batch import pack
from graft.errors import ModelError, UsageError
from graft.heads import HEADS, Answer, Classify, Embed, Head, PredictNext, Regress, initialize, make, pool

EMBEDDING = nn.Embedding(11, 4)
BATCH = pack([[1, 2, 3], [4], [5, 6]])


def hidden() -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("first", lambda x: [x[0], x[3], x[4]]),
        ("last", lambda x: [x[2], x[3], x[5]]),
        ("mean", lambda x: [x[:3].float().mean(0), x[3].float(), x[4:].float().mean(0)]),
    ],
)
def test_pool(how: Any, expected: Any, dtype: torch.dtype):
    x = hidden().to(dtype)
    torch.testing.assert_close(pool(x, BATCH, how), torch.stack(expected(x)))


@pytest.mark.parametrize("options", [{}, {"dense": "tanh"}, {"pool": "last", "bias": False}, {"pool": "mean"}])
def test_pooled_heads(options: dict[str, Any]):
    head = Classify(4, labels="abc", **options).eval()
    x = pool(hidden(), BATCH, options.get("pool", "first"))
    if options.get("dense"):
        x = torch.tanh(head.dense(x))
    torch.testing.assert_close(head(hidden(), BATCH), F.linear(x, head.output.weight, head.output.bias))
    assert (head.output.bias is None) == (options.get("bias") is False)


@pytest.mark.parametrize("head", [Classify(4, labels="ab", pool="mean"), Regress(4, dense="tanh"), Embed()])
def test_outputs_are_float32_whatever_the_weights(head: Head):
    x = hidden().to(torch.bfloat16)
    assert head.to(torch.bfloat16)(x, BATCH).dtype == torch.float32


def test_dropout_acts_in_training_alone():
    head = Classify(4, labels="ab", dropout=0.5)
    assert not torch.equal(head(torch.ones(6, 4), BATCH), head(torch.ones(6, 4), BATCH))
    assert torch.equal(head.eval()(hidden(), BATCH), head(hidden(), BATCH))


# Losses

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])


def test_losses_are_their_formulas():
    single, multi, regress = Classify(4, labels="abc"), Classify(4, labels="abc", problem="multi"), Regress(4)
    rows = torch.log_softmax(LOGITS, 1)
    assert single.loss(LOGITS, torch.tensor([2, 1])).item() == pytest.approx(-(rows[0, 2] + rows[1, 1]).item() / 2)
    target = torch.tensor([[1, 0, 1], [0, 0, 1]])
    chances = torch.sigmoid(LOGITS)
    expected = -(target * chances.log() + (1 - target) * (1 - chances).log()).mean()
    assert multi.loss(LOGITS, target).item() == pytest.approx(expected.item())
    assert regress.loss(LOGITS[:, :1], torch.tensor([3, 1])).item() == pytest.approx((4 + 1) / 2)
    assert PredictNext(EMBEDDING).loss(LOGITS, torch.tensor([2, 1])).item() == pytest.approx(
        single.loss(LOGITS, torch.tensor([2, 1])).item()
    )
    pairs = torch.tensor([[3.0, 4.0], [4.0, 3.0], [1.0, 0.0], [0.0, 2.0]])
    assert Embed().loss(pairs, torch.tensor([1, 0])).item() == pytest.approx((0.96 - 1) ** 2 / 2, rel=1e-4)


def test_class_weights():
    weights = torch.tensor([1.0, 0.0, 4.0])
    single, multi = Classify(4, labels="abc"), Classify(4, labels="abc", problem="multi")
    single.class_weights = multi.class_weights = weights
    rows = torch.log_softmax(LOGITS, 1)
    expected = -(4 * rows[0, 2] + 1 * rows[1, 0]) / 5
    assert single.loss(LOGITS, torch.tensor([2, 0])).item() == pytest.approx(expected.item())
    target = torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    each = F.binary_cross_entropy_with_logits(LOGITS, target, reduction="none")
    assert multi.loss(LOGITS, target).item() == pytest.approx((each * weights).mean().item())


# Answers


def test_a_single_label():
    first, second = Classify(4, labels=("no", "yes", "maybe")).decode(LOGITS, [0, 7])
    assert (first.label, second.label) == ("no", "yes")
    assert first.probabilities == pytest.approx(
        dict(zip(("no", "yes", "maybe"), LOGITS[0].softmax(0).tolist(), strict=True))
    )
    assert first.probability == first.probabilities["no"]
    assert math.isclose(sum(first.probabilities.values()), 1, rel_tol=1e-6)
    assert (first.labels, first.truncated_tokens, second.truncated_tokens) == (None, 0, 7)


def test_several_labels():
    logits = torch.tensor([[1.0, -2.0, 0.5], [-1.0, -3.0, -1.5], [0.0, -1.0, -1.0]])
    first, second, third = Classify(4, labels="abc", problem="multi").decode(logits, [0, 0, 0])
    assert (first.labels, second.labels, third.labels) == (("a", "c"), (), ("a",))
    assert first.label == second.label == "a"
    assert first.probabilities == pytest.approx(dict(zip("abc", torch.sigmoid(logits[0]).tolist(), strict=True)))


def test_numbers_and_vectors():
    [one, two] = Regress(4).decode(torch.tensor([[0.5], [-2.0]]), [0, 3])
    assert one.as_dict() == {"score": 0.5, "truncated_tokens": 0}
    assert two == Answer(score=-2.0, truncated_tokens=3)
    head = Embed(pool="last")
    output = head(hidden(), BATCH)
    [vector, _, _] = head.decode(output, [1, 2, 3])
    assert vector.embedding == tuple(output[0].tolist())
    assert sum(value**2 for value in vector.embedding) == pytest.approx(1, abs=1e-6)
    plain = Embed(pool="last", normalize=False)(hidden(), BATCH)
    torch.testing.assert_close(plain, hidden()[[2, 3, 5]])
    torch.testing.assert_close(F.normalize(plain, dim=-1), output)


def test_as_dict_leaves_out_what_does_not_apply():
    assert Answer(label="a", probability=0.9, probabilities={"a": 0.9}).as_dict() == {
        "label": "a",
        "probability": 0.9,
        "probabilities": {"a": 0.9},
        "truncated_tokens": 0,
    }


# Building


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
    assert make("next", {"tied": True}, EMBEDDING).output.weight is EMBEDDING.weight
    assert make("next", {"tied": False}, EMBEDDING).output.weight is not EMBEDDING.weight


def test_an_unknown_head():
    with pytest.raises(ModelError, match="unknown head 'clasify': did you mean 'classify'"):
        make("clasify", {}, EMBEDDING)
    assert sorted(HEADS) == ["classify", "embed", "next", "regress"]
    assert all(head.kind == kind for kind, head in HEADS.items())


def test_a_regression_of_several_numbers():
    with pytest.raises(ModelError, match="a regression gives one number, found 2 labels"):
        make("regress", {"labels": ("a", "b")}, EMBEDDING)


def test_a_head_that_does_not_say():
    class Mute(Head):
        kind = "mute"

    with pytest.raises(UsageError, match="a 'mute' head has nothing to learn from targets"):
        Mute().loss(LOGITS, LOGITS)
    with pytest.raises(UsageError, match="a 'next' head does not answer; ask for logits or hidden states"):
        PredictNext(EMBEDDING).decode(LOGITS, [0, 0])
    with pytest.raises(NotImplementedError):
        Mute()(hidden(), BATCH)
    assert Mute().options() == {}


def test_initialize():
    torch.manual_seed(2)
    head = Classify(200, labels=[str(n) for n in range(300)], dense="tanh")
    initialize(head, 0.02)
    for layer in (head.dense, head.output):
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
        assert abs(float(layer.weight.detach().mean())) < 0.001
        assert not layer.bias.any()
    bare = Classify(4, labels="ab", bias=False)
    initialize(bare, 0.02)
    assert bare.output.bias is None

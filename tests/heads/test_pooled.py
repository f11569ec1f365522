"""Heads over sequences: pooling, losses and answers, each against the formula."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from graft.batch import pack
from graft.errors import UsageError
from graft.heads import Answer, Choose, Classify, Embed, Head, Regress, pool

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


# Multiple choice

SCORES = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, -1.0])


def test_choices_get_one_number_each():
    head = Choose(4, dense="tanh").eval()
    x = torch.tanh(head.dense(pool(hidden(), BATCH, "first")))
    output = head(hidden(), BATCH)
    torch.testing.assert_close(output, F.linear(x, head.output.weight, head.output.bias)[:, 0])
    assert head.decode(output, [0, 4, 0])[1] == Answer(score=output[1].item(), truncated_tokens=4)


@pytest.mark.parametrize(
    ("choices", "right", "expected"),
    [
        ((2, 3, 1), [0, 1, 0], [(0, 0, 2), (3, 2, 5), (5, 5, 6)]),
        ((3, 3), [2, 0], [(2, 0, 3), (3, 3, 6)]),
        ((), [2, 0], [(2, 0, 3), (3, 3, 6)]),
        ((), [1, 0, 0], [(1, 0, 2), (2, 2, 4), (4, 4, 6)]),
    ],
)
def test_choices_of_a_row_compete(choices: tuple[int, ...], right: list[int], expected: list[tuple[int, int, int]]):
    scores = SCORES.clone().requires_grad_()
    loss = Choose(4).loss(scores, torch.tensor(right), choices)
    each = [-torch.log_softmax(SCORES[start:end], 0)[place - start] for place, start, end in expected]
    assert loss.item() == pytest.approx(sum(each).item() / len(each))
    loss.backward()
    assert scores.grad.isfinite().all()


def test_probabilities_of_choices():
    first, second, third = Choose(4).probabilities(SCORES, (2, 3, 1))
    torch.testing.assert_close(first, SCORES[:2].softmax(0))
    torch.testing.assert_close(second, SCORES[2:5].softmax(0))
    assert third.tolist() == [1.0]


@pytest.mark.parametrize("choices", [(2, 3), (2, 3, 2), (6, 0), (7, -1)])
def test_choices_that_do_not_add_up(choices: tuple[int, ...]):
    with pytest.raises(UsageError, match=r"groups of \d, .* rows for 6 scores; state how many rows"):
        Choose(4).loss(SCORES, torch.tensor([0] * len(choices)), choices)


def test_choices_that_cannot_be_equally_many():
    with pytest.raises(UsageError, match="groups of 1, 1, 1, 1 rows for 6 scores"):
        Choose(4).loss(SCORES, torch.tensor([0, 0, 0, 0]))
    with pytest.raises(UsageError, match="groups of no rows for 6 scores"):
        Choose(4).loss(SCORES, torch.tensor([], dtype=torch.long))

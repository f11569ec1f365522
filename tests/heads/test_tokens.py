"""Heads over tokens: what they compute, losses of the rows given, and what they leave to those who know characters."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graft.batch import pack
from graft.errors import UsageError
from graft.heads import FillMask, Head, PredictNext, Span, Tag
from graft.model.layers import ACTIVATIONS

BATCH = pack([[1, 2, 3], [4], [5, 6]])


def hidden() -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


def every() -> list[Head]:
    return [Tag(4, labels="abc"), Span(4), PredictNext(nn.Embedding(11, 4)), FillMask(nn.Embedding(11, 4), apart=True)]


@pytest.mark.parametrize(("number", "width"), [(0, 3), (1, 2), (2, 11), (3, 11)])
def test_a_row_for_each_token_whatever_the_weights(number: int, width: int):
    head = every()[number].to(torch.bfloat16).eval()
    assert head.per_token
    output = head(hidden(), BATCH)
    assert (output.dtype, tuple(output.shape)) == (torch.float32, (6, width))
    rows = torch.tensor([4, 0])
    assert torch.equal(head(hidden()[rows], BATCH), output[rows])


def test_one_linear_layer():
    for head in (Tag(4, labels="abc", dropout=0.5), Span(4, dropout=0.5)):
        expected = F.linear(hidden(), head.output.weight, head.output.bias)
        assert not torch.equal(head(hidden(), BATCH), expected)
        torch.testing.assert_close(head.eval()(hidden(), BATCH), expected)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_a_mask_is_filled_by_its_formula(tied: bool, apart: bool, activation: str):
    embedding = nn.Embedding(11, 4)
    head = FillMask(embedding, tied=tied, apart=apart, activation=activation, norm_eps=0.5)
    bias = head.bias if apart else head.output.bias
    for parameter in (bias, head.norm.weight, head.norm.bias):
        nn.init.normal_(parameter)
    x = ACTIVATIONS[activation](F.linear(hidden(), head.transform.weight, head.transform.bias))
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 0.5).sqrt()
    matrix = embedding.weight if tied else head.output.weight
    expected = (x * head.norm.weight + head.norm.bias) @ matrix.t() + bias
    torch.testing.assert_close(head(hidden(), BATCH), expected)
    assert (head.output.weight is embedding.weight) == tied
    shared = {name for name, is_one in (("output.weight", tied), ("output.bias", apart)) if is_one}
    assert set(head.aliases()) == shared
    assert not shared & head.own().keys()


# Losses

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])


@pytest.mark.parametrize("number", [0, 2, 3])
def test_the_rows_given_are_all_that_count(number: int):
    rows = torch.log_softmax(LOGITS, 1)
    expected = -(rows[0, 2] + rows[1, 1]).item() / 2
    assert every()[number].loss(LOGITS, torch.tensor([2, 1])).item() == pytest.approx(expected)


def test_start_and_end_each_among_their_sequence():
    output = torch.randn(6, 2, generator=torch.Generator().manual_seed(3), requires_grad=True)
    loss = Span(4).loss(output, torch.tensor([[0, 2], [0, 0], [1, 1]]), BATCH.lengths)
    sides = output.detach()
    each = []
    for (start, end), (first, last) in zip([(0, 3), (3, 4), (4, 6)], [(0, 2), (0, 0), (1, 1)], strict=True):
        each += [-torch.log_softmax(sides[start:end, 0], 0)[first], -torch.log_softmax(sides[start:end, 1], 0)[last]]
    assert loss.item() == pytest.approx(sum(each).item() / 6)
    loss.backward()
    assert output.grad.isfinite().all()


@pytest.mark.parametrize("lengths", [(), (3, 2), (3, 0, 3), (6, 1)])
def test_a_span_needs_to_know_the_sequences(lengths: tuple[int, ...]):
    with pytest.raises(UsageError, match="rows for 6 scores; state how many rows, at least one, belong to each"):
        Span(4).loss(torch.zeros(6, 2), torch.zeros(len(lengths), 2, dtype=torch.long), lengths)


# Answers


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (0, "a 'tag' head labels tokens, not texts; ask for logits"),
        (1, "a 'span' head points at tokens, not at text; ask for logits"),
        (2, "a 'next' head does not answer; ask for logits or hidden states"),
        (3, "a 'mask' head does not answer; ask for logits or hidden states"),
    ],
)
def test_answers_need_characters(number: int, message: str):
    with pytest.raises(UsageError, match=message):
        every()[number].decode(LOGITS, [0, 0])

"""Groups of rows and the loss of their pairs."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from side_by_side import draw
from torch.nn import functional as F

from graft.errors import DataError
from graft.loading import load
from graft.train.contrast import groups, pair_loss
from graft.train.example import Example


def rows(labels: list[int]) -> list[Example]:
    sequences = draw([4 + number % 5 for number in range(len(labels))], 96, seed=2)
    return [
        Example((tuple(ids),), (None,), torch.tensor(label), line)
        for line, (ids, label) in enumerate(zip(sequences, labels, strict=True))
    ]


def test_in_groups_rows_take_turns_and_every_label_has_a_partner():
    examples = rows([number % 10 for number in range(80)])
    drawn = groups(examples, 16, 40, seed=1)
    assert {len(one.sequences) for one in drawn} == {16}
    for one in drawn:
        assert set(Counter(one.target.tolist()).values()) == {2}
    seen = Counter(ids for one in drawn for ids in one.sequences)
    assert len(seen) == 80
    assert max(seen.values()) - min(seen.values()) <= 3
    label = {row.sequences[0]: int(row.target) for row in examples}
    assert all([label[ids] for ids in one.sequences] == one.target.tolist() for one in drawn)
    again, other = groups(examples, 16, 40, seed=1), groups(examples, 16, 40, seed=2)
    assert [one.sequences for one in again] == [one.sequences for one in drawn] != [one.sequences for one in other]


@pytest.mark.parametrize(("labels", "size", "lengths"), [([0, 0, 0, 1], 32, {4}), ([0, 1, 2] * 5, 1, {4})])
def test_groups_of_few_rows_or_little_room(labels: list[int], size: int, lengths: set[int]):
    drawn = groups(rows(labels), size, 3, seed=0)
    assert {len(one.sequences) for one in drawn} == lengths
    assert all(len(set(one.sequences)) == len(one.sequences) for one in drawn)


def test_the_loss_is_that_of_all_pairs_written_out(tiny):
    model = load(tiny("bert").folder, "float32")
    model.graft("classify", labels=("a", "b", "c"))
    one, two = groups(rows([0, 0, 1, 1, 2, 2, 2]), 6, 2, seed=0)
    vectors = model.hidden_states([list(ids) for ids in one.sequences])
    mean, labels = [vector.mean(0) for vector in vectors], one.target.tolist()
    losses = []
    for first, vector in enumerate(mean):
        others = [number for number in range(len(mean)) if number != first]
        cosines = {n: math.exp(float(F.cosine_similarity(vector, mean[n], dim=0)) / 0.5) for n in others}
        partners = [n for n in others if labels[n] == labels[first]]
        losses.append(sum(-math.log(cosines[n] / sum(cosines.values())) for n in partners) / len(partners))
    expected = torch.tensor(sum(losses) / len(losses))
    torch.testing.assert_close(pair_loss(model, [one], 0.5).detach(), expected, atol=1e-5, rtol=0)
    both = pair_loss(model, [one, two])
    torch.testing.assert_close(both, (pair_loss(model, [one]) + pair_loss(model, [two])) / 2, atol=1e-6, rtol=0)


def test_a_row_without_a_partner_is_seen_by_the_others_alone(tiny):
    model = load(tiny("bert").folder, "float32")
    model.graft("classify", labels=("a", "b"))
    (drawn,) = groups(rows([0, 0, 0, 1]), 8, 1, seed=0)
    loss = pair_loss(model, [drawn])
    loss.backward()
    assert loss.item() > 0
    assert torch.isfinite(model.backbone.token_embedding.weight.grad).all()


def test_labels_of_one_row_each_teach_nothing():
    with pytest.raises(DataError, match="no label has two rows"):
        groups(rows([0, 1, 2]), 8, 1, seed=0)

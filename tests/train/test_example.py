"""The loss of rows, whatever head reads them: as one batch, the same as by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from graft.batch import pack
from graft.loading import load
from graft.train.example import Example, task_loss
from graft.train.loop import Schedule, train
from graft.train.optimizer import AdamW
from graft.transfer.full import Full

FIRST, SECOND = [5, 9, 7, 3], [8, 4, 6, 2, 11, 10]


def example(*sequences: list[int], target: Tensor, **more: object) -> Example:
    return Example(sequences, (None,) * len(sequences), target, 1, **more)  # type: ignore[arg-type]


def test_tokens_with_a_target_are_picked_through_all_rows(tiny):
    model = load(tiny("bert-tag").folder, "float32")
    rows = [
        example(FIRST, target=torch.tensor([1, 0]), places=(1, 3)),
        example(SECOND, target=torch.tensor([2]), places=(4,)),
    ]
    output = model(pack([FIRST, SECOND]))
    expected = F.cross_entropy(output[[1, 3, 8]], torch.tensor([1, 0, 2]))
    assert task_loss(model, rows).item() == pytest.approx(expected.item(), rel=1e-5)
    assert [row.targets for row in rows] == [2, 1]


def test_choices_of_one_row_compete(tiny):
    model = load(tiny("bert-choose").folder, "float32")
    rows = [
        example(FIRST, SECOND, FIRST[:2], target=torch.tensor(1)),
        example(SECOND[:3], FIRST, target=torch.tensor(0)),
    ]
    scores = model(pack([FIRST, SECOND, FIRST[:2], SECOND[:3], FIRST]))
    expected = -(torch.log_softmax(scores[:3], 0)[1] + torch.log_softmax(scores[3:], 0)[0]) / 2
    assert task_loss(model, rows).item() == pytest.approx(expected.item(), rel=1e-5)


def test_ends_of_an_answer_compete_within_their_sequence(tiny):
    model = load(tiny("bert-span").folder, "float32")
    rows = [example(FIRST, target=torch.tensor([0, 2])), example(SECOND, target=torch.tensor([3, 4]))]
    output = model(pack([FIRST, SECOND]))
    ends = [(output[:4], (0, 2)), (output[4:], (3, 4))]
    each = [-torch.log_softmax(part[:, side], 0)[place[side]] for part, place in ends for side in (0, 1)]
    assert task_loss(model, rows).item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)


def test_a_decoder_reads_beside_its_sequence(tiny):
    model = load(tiny("t5-lm").folder, "float32")
    rows = [
        example(FIRST, target=torch.tensor([7, 1]), places=(0, 1), decoder=([0, 7],)),
        example(SECOND, target=torch.tensor([3]), places=(1,), decoder=([0, 2],)),
    ]
    logits = model.logits([FIRST, SECOND], decoder=[[0, 7], [0, 2]])
    expected = F.cross_entropy(torch.cat([logits[0], logits[1][1:]]), torch.tensor([7, 1, 3]))
    assert task_loss(model, rows).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["bert-tag", "bert-choose"])
def test_a_step_in_parts_is_the_same_step(tiny, name: str):
    """Rows count by their targets: three tagged tokens weigh three times as much as one."""
    reached = []
    for tokens in (1, 100):
        model = load(tiny(name).folder, "float32")
        for layer in model.modules():
            if hasattr(layer, "rate"):
                layer.rate = 0.0
        if name == "bert-tag":
            rows = [
                example(FIRST, target=torch.tensor([1, 0, 2]), places=(0, 1, 3)),
                example(SECOND, target=torch.tensor([2]), places=(4,)),
            ]
        else:
            rows = [example(FIRST, SECOND, target=torch.tensor(1)), example(SECOND[:3], FIRST, target=torch.tensor(0))]
        schedule = Schedule(epochs=1, batch_size=2, tokens=tokens)
        steps = list(train(model, rows, AdamW(Full().begin(model)), schedule))
        reached.append((steps[0].loss, steps[0].gradient_norm))
    assert reached[0] == pytest.approx(reached[1], rel=1e-4)

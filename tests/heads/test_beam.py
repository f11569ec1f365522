"""Spans by their starts: what is left out, what is refused, and rows for sequences shorter than the starts."""

from __future__ import annotations

import pytest
import torch

from graft.batch import pack
from graft.errors import ModelError, UsageError
from graft.heads import Beam

BATCH = pack([[1, 2, 3, 4], [4], [5, 6]])


def hidden() -> torch.Tensor:
    return torch.randn(7, 4, generator=torch.Generator().manual_seed(1))


def output(starts: list[float], none: float, ends: list[list[float]]) -> torch.Tensor:
    """Of one sequence, (L, 2 + starts): ends of each start that is looked at."""
    return torch.cat([torch.tensor([starts]), torch.full((1, len(starts)), none), torch.tensor(ends)]).t()


def test_spans_by_hand():
    head = Beam(4, starts=2, ends=2)
    rows = output([0.0, 2.0, 1.0], -3.0, [[0.0, 0.0, 1.0], [5.0, 0.0, 1.0]])
    [found] = head.spans(rows, [3])
    start, first, second = (torch.softmax(rows[:, column], 0) for column in (0, 2, 3))
    expected = [(1, 2, start[1] * first[2]), (2, 2, start[2] * second[2])]  # of the others one ends before it starts
    assert {(a, b) for a, b, _ in found.spans} >= {(a, b) for a, b, _ in expected}
    assert all(end >= begin for begin, end, _ in found.spans)
    values = {(a, b): value for a, b, value in found.spans}
    assert all(values[a, b] == pytest.approx(float(value)) for a, b, value in expected)
    assert found.none == pytest.approx(float(torch.tensor(-3.0).sigmoid()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_short_sequence_lacks_is_minus_infinity(dtype: torch.dtype):
    head = Beam(4, starts=3).to(dtype)
    rows = head(hidden().to(dtype), BATCH)
    assert (rows.dtype, tuple(rows.shape)) == (torch.float32, (7, 5))
    assert torch.isinf(rows[:, 2:]).sum(1).tolist() == [0, 0, 0, 0, 2, 1, 1]
    assert torch.isfinite(rows[:, :2]).all()
    assert len(set(rows[:4, 1].tolist())) == 1
    assert [len(found.spans) > 0 for found in head.spans(rows, BATCH.lengths)] == [True] * 3


def test_equal_starts_are_taken_in_order():
    head = Beam(4, starts=2)
    torch.nn.init.zeros_(head.start.weight)
    rows = head(hidden(), BATCH)
    alone = head(hidden()[:4], pack([[1, 2, 3, 4]]))
    torch.testing.assert_close(rows[:4], alone)
    assert {start for start, _, _ in head.spans(alone, [4])[0].spans} <= {0, 1}


def test_ends_of_likely_starts_teach_nothing():
    head = Beam(4)
    rows = head(hidden(), BATCH)
    with pytest.raises(UsageError, match=r"those of likely starts; give the head the right ones: target\[:, 0\]"):
        head.loss(rows, torch.tensor([[0, 1], [0, 0], [1, 1]]), BATCH.lengths)
    with pytest.raises(UsageError, match="groups of 4, 1 rows for 7 scores"):
        head.spans(rows, [4, 1])
    with pytest.raises(UsageError, match="a 'beam' head does not answer; ask for logits"):
        head.decode(rows, [0, 0, 0])


@pytest.mark.parametrize("count", [0, 1025, 2.0, True, None])
def test_numbers_of_ends_that_make_no_sense(count: object):
    with pytest.raises(ModelError, match="end_n_top is .*, expected a whole number from 1 to 1024"):
        Beam(4, ends=count)  # type: ignore[arg-type]

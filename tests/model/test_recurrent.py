"""The recurrence: gradients, torch's own LSTM where it can do the same, and what a state keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graft.batch import Packed, pack
from graft.model.recurrent import LSTM, State, Steps

LENGTHS = (3, 1, 5, 2)


def batch_of(lengths: tuple[int, ...] = LENGTHS) -> Packed:
    return pack([[0] * length for length in lengths])


def made(**options: Any) -> LSTM:
    torch.manual_seed(3)
    lstm = LSTM(**{"size": 3, "cells": 5, "place": (0, False), **options}).double()
    torch.nn.init.normal_(lstm.input.bias)
    return lstm


def inputs(lengths: tuple[int, ...] = LENGTHS) -> torch.Tensor:
    return torch.randn(sum(lengths), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def run(lstm: LSTM, x: torch.Tensor, lengths: tuple[int, ...] = LENGTHS, state: State | None = None) -> torch.Tensor:
    return lstm(x, Steps.of(batch_of(lengths), state))


@pytest.mark.parametrize("backwards", [False, True])
def test_as_torch_has_it(backwards: bool):
    """torch's LSTM projects but does not clip, orders the gates i, f, j, o, and has no 1 beside the forget gate."""
    lstm = made(place=(0, backwards))
    theirs = torch.nn.LSTM(3, 5, proj_size=3).double()
    order = torch.cat([torch.arange(5) + 5 * gate for gate in (0, 2, 1, 3)])
    forget = torch.cat([torch.zeros(5), torch.ones(5), torch.zeros(10)])
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(lstm.input.weight[order])
        theirs.weight_hh_l0.copy_(lstm.recurrent.weight[order])
        theirs.bias_ih_l0.copy_(lstm.input.bias[order] + forget)
        theirs.bias_hh_l0.zero_()
        theirs.weight_hr_l0.copy_(lstm.projection.weight)
    x = inputs()
    for found, part in zip(run(lstm, x).split(LENGTHS), x.split(LENGTHS), strict=True):
        expected = theirs(part.flip(0))[0].flip(0) if backwards else theirs(part)[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"place": (0, True)}, {"cells": 3}, {"cell_clip": 50.0, "output_clip": 50.0}])
def test_gradients(options: dict[str, Any]):
    lstm = made(**options)
    names = [name for name, _ in lstm.named_parameters()]

    def outputs(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        given = (x, Steps.of(batch_of(), None))
        return torch.func.functional_call(lstm, dict(zip(names, weights, strict=True)), given)

    assert torch.autograd.gradcheck(outputs, (inputs().requires_grad_(), *lstm.parameters()))


def test_clipping():
    wild = made(cell_clip=0.1)
    cells = wild.step(10 * torch.ones(1, 20, dtype=torch.float64), torch.ones(1, 3).double(), torch.ones(1, 5).double())
    assert cells[1].abs().max() == 0.1
    assert run(made(output_clip=0.05), inputs()).abs().max() == 0.05
    assert run(made(), inputs()).abs().max() > 0.05


@pytest.mark.parametrize("backwards", [False, True])
def test_a_state_goes_on_where_each_slot_ended(backwards: bool):
    """Two batches with a state are one of joined sequences; read backwards, the second batch comes first."""
    lstm, state = made(place=(0, backwards), cell_clip=0.4, output_clip=0.3), State()
    x = inputs()
    first = run(lstm, x, LENGTHS, state).split(LENGTHS)
    second = run(lstm, x, LENGTHS, state).split(LENGTHS)
    for one, two, part in zip(first, second, x.split(LENGTHS), strict=True):
        halves = (two, one) if backwards else (one, two)
        joined = run(lstm, torch.cat([part, part]), (2 * len(part),))
        torch.testing.assert_close(torch.cat(halves), joined, rtol=0, atol=1e-12)


def test_slots_beyond_a_batch_stay_and_new_ones_begin_at_zero():
    lstm, state = made(), State()
    x = inputs()
    fresh = run(lstm, x)
    run(lstm, x[:3], (3,), state)
    wider = run(lstm, x, LENGTHS, state)
    assert not torch.allclose(wider[:3], fresh[:3])
    torch.testing.assert_close(wider[3:], fresh[3:], rtol=0, atol=1e-12)
    kept = state.slots((0, False), 4)
    run(lstm, x[:3], (3,), state)
    after = state.slots((0, False), 4)
    for before, now in zip(kept, after, strict=True):
        assert not torch.equal(before[0], now[0])
        assert torch.equal(before[1:], now[1:])
    state.reset()
    torch.testing.assert_close(run(lstm, x, LENGTHS, state), fresh, rtol=0, atol=1e-12)


def test_layers_and_directions_keep_apart():
    state = State()
    left, right, above = (made(place=place) for place in ((0, False), (0, True), (1, False)))
    alone = [run(lstm, inputs()) for lstm in (left, right, above)]
    for lstm, expected in zip((left, right, above), alone, strict=True):
        assert torch.equal(run(lstm, inputs(), LENGTHS, state), expected)

"""The most probable spans over windows, against every span counted by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from graft.heads.spans import Part, Ranked, rank

Windowed = tuple[list[torch.Tensor], list[Part]]


def windowed(seed: int, bounds: list[tuple[int, int]]) -> Windowed:
    """Random logits for windows over these tokens, each with two tokens before its part and one after."""
    draw = torch.Generator().manual_seed(seed)
    outputs = [torch.randn(end - start + 3, 2, generator=draw) * 3 for start, end in bounds]
    return outputs, [Part(2, start, end, 0) for start, end in bounds]


def by_hand(outputs: list[torch.Tensor], parts: list[Part], longest: int) -> tuple[list[Ranked], float]:
    scores: dict[tuple[int, int], float] = {}
    for output, part in zip(outputs, parts, strict=True):
        for first, last in itertools.product(range(part.start, part.end), repeat=2):
            if first <= last < first + longest:
                places = first - part.start + part.first, last - part.start + part.first
                score = float(output[places[0], 0].double() + output[places[1], 1].double())
                scores[first, last] = max(score, scores.get((first, last), -math.inf))
    none = min(float(output[part.none].double().sum()) for output, part in zip(outputs, parts, strict=True))
    total = math.fsum(math.exp(score) for score in [*scores.values(), none])
    ordered = sorted(scores.items(), key=lambda pair: -pair[1])
    return [Ranked(*span, math.exp(score) / total) for span, score in ordered], math.exp(none) / total


@pytest.mark.parametrize("longest", [1, 3, 30])
@pytest.mark.parametrize("bounds", [[(0, 1)], [(0, 7)], [(0, 6), (3, 9)], [(0, 4), (2, 6), (4, 8), (5, 9)]])
def test_it_is_every_span_counted_by_hand(bounds: list[tuple[int, int]], longest: int):
    outputs, parts = windowed(len(bounds) + longest, bounds)
    expected, none = by_hand(outputs, parts, longest)
    found, chance = rank(outputs, parts, longest=longest, n=1000)
    assert [(one.first, one.last) for one in found] == [(one.first, one.last) for one in expected]
    assert [one.probability for one in found] == pytest.approx([one.probability for one in expected])
    assert chance == pytest.approx(none)
    assert sum(one.probability for one in found) + chance == pytest.approx(1)
    best, _ = rank(outputs, parts, longest=longest, n=2)
    assert best == found[:2]


def test_only_tokens_of_the_text_are_chosen():
    outputs, parts = windowed(1, [(0, 5)])
    outputs[0][[0, 1, -1]] = 50.0
    found, none = rank(outputs, parts, longest=5, n=1)
    assert 0 <= found[0].first <= found[0].last < 5
    assert none > 0.99


def test_one_window_with_the_answer_is_enough():
    outputs, parts = windowed(2, [(0, 5), (5, 9)])
    for output in outputs:
        output[:] = 0.0
    outputs[0][0] = 20.0  # this window holds none
    outputs[1][3] = 20.0
    found, none = rank(outputs, parts, longest=3, n=1)
    assert (found[0].first, found[0].last) == (6, 6)
    assert found[0].probability > 0.99 > none


def test_extreme_logits_stay_finite():
    outputs, parts = windowed(3, [(0, 4)])
    outputs[0][0], outputs[0][3] = 3000.0, -3000.0
    found, none = rank(outputs, parts, longest=4, n=1)
    assert none == pytest.approx(1)
    assert len(found) == 1
    assert found[0].probability == 0


def test_a_logit_that_is_no_number_is_not_hidden():
    outputs, parts = windowed(4, [(0, 4)])
    outputs[0][2, 0] = math.nan
    found, none = rank(outputs, parts, longest=4, n=1)
    assert math.isnan(none)
    assert math.isnan(found[0].probability)

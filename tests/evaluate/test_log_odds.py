"""Log-odds ratios with an informative prior, beside the formulas of the paper put down in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from graft.evaluate.log_odds import log_odds

COUNTS = some.dictionaries(some.sampled_from("abcdefgh"), some.integers(1, 500), min_size=2)


def reference(first: np.ndarray, second: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Monroe, Colaresi & Quinn 2008: equations 16, 20 and 22."""
    n_i, n_j, a_0 = first.sum(), second.sum(), alpha.sum()
    omega_i = (first + alpha) / (n_i + a_0 - first - alpha)
    omega_j = (second + alpha) / (n_j + a_0 - second - alpha)
    delta = np.log(omega_i) - np.log(omega_j)
    variance = 1 / (first + alpha) + 1 / (second + alpha)
    return delta, delta / np.sqrt(variance)


@settings(max_examples=60, deadline=None)
@given(COUNTS, COUNTS, some.floats(0.5, 5000))
def test_scores_are_those_of_the_paper(first: dict[str, int], second: dict[str, int], size: float):
    words = sorted({*first, *second})
    prior = {word: 1.0 + 3 * number for number, word in enumerate("abcdefgh")}
    shares = np.array([prior[word] for word in words])
    y_i, y_j = (np.array([side.get(word, 0) for word in words], dtype=float) for side in (first, second))
    delta, z = reference(y_i, y_j, size * shares / shares.sum())
    found = {one.word: one for one in log_odds(first, second, prior, size)}
    assert [found[word].log_odds for word in words] == pytest.approx(delta.tolist(), abs=1e-9)
    assert [found[word].z for word in words] == pytest.approx(z.tolist(), abs=1e-9)
    assert [found[word].counts for word in words] == [(first.get(word, 0), second.get(word, 0)) for word in words]


def test_the_order_and_what_is_told_of_each():
    found = log_odds({"good": 30, "the": 100}, {"bad": 20, "the": 100}, {"good": 1, "bad": 1, "the": 8}, 10)
    assert [one.word for one in found] == ["good", "the", "bad"]
    assert found[0].per_million == pytest.approx((30 / 130 * 1e6, 0.0))
    assert found[0].deviation == pytest.approx(found[0].log_odds / found[0].z)
    swapped = log_odds({"bad": 20, "the": 100}, {"good": 30, "the": 100}, {"good": 1, "bad": 1, "the": 8}, 10)
    assert [one.z for one in swapped] == pytest.approx([-one.z for one in reversed(found)])


def test_a_larger_prior_shrinks_rare_words():
    first, second = {"rare": 3, "the": 500}, {"the": 500}
    small, large = (log_odds(first, second, {"rare": 3, "the": 1000}, size)[0] for size in (1, 5000))
    assert small.word == large.word == "rare"
    assert small.log_odds > large.log_odds > 0

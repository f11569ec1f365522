"""Intervals hold what they promise: coverage in simulations, honest width where data say little."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from graft.errors import DataError, UsageError
from graft.evaluate.intervals import CELLS, Floats, Interval, bootstrap, percentile, resample, unseen_share, wilson


def mean_of(values: Floats):
    return lambda counts: {"mean": counts @ values / counts.sum(1)}


@pytest.mark.parametrize(("right", "n"), [(81, 263), (0, 9), (9, 9), (1, 1), (4999, 5000)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_agrees_with_scipy(right, n, level):
    expected = binomtest(right, n).proportion_ci(confidence_level=level, method="wilson")
    found = wilson(right, n, level=level)
    assert (found.low, found.value, found.high) == pytest.approx((expected.low, right / n, expected.high), abs=1e-12)


@pytest.mark.parametrize("truth", [0.5, 0.9, 0.98])
def test_wilson_covers_the_truth_as_often_as_it_says(truth):
    drawn = np.random.default_rng(7).binomial(120, truth, size=500)
    held = [wilson(int(right), 120) for right in drawn]
    assert 0.92 <= np.mean([one.low <= truth <= one.high for one in held]) <= 0.985


def test_the_bootstrap_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(8)
    held = []
    for seed in range(500):
        values = generator.exponential(size=150)
        found = bootstrap(mean_of(values), 150, bounds={"mean": (0.0, 99.0)}, resamples=300, seed=seed)["mean"]
        held.append(found.low <= 1.0 <= found.high)
    assert 0.90 <= np.mean(held) <= 0.98


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(9).normal(size=2000)
    found = bootstrap(mean_of(values), 2000, bounds={"mean": (-9.0, 9.0)}, resamples=4000)["mean"]
    expected = 2 * 1.96 * values.std() / math.sqrt(2000)
    assert found.high - found.low == pytest.approx(expected, rel=0.05)


def test_a_higher_level_is_wider_and_the_seed_decides():
    values = np.random.default_rng(10).normal(size=200)
    narrow, wide, other = (
        bootstrap(mean_of(values), 200, bounds={"mean": (-9.0, 9.0)}, level=level, seed=seed)["mean"]
        for level, seed in ((0.8, 0), (0.99, 0), (0.8, 1))
    )
    assert wide.low < narrow.low < narrow.high < wide.high
    assert narrow.low != other.low
    assert narrow == bootstrap(mean_of(values), 200, bounds={"mean": (-9.0, 9.0)}, level=0.8)["mean"]


def test_samples_drawn_in_parts_are_all_there():
    n = CELLS // 3
    totals = resample(lambda counts: {"rows": counts.sum(1)}, n, resamples=7, seed=0)["rows"]
    assert totals.tolist() == [n] * 7


@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_rows_that_all_behave_alike_do_not_claim_certainty(n):
    found = bootstrap(mean_of(np.ones(n)), n, bounds={"mean": (0.0, 1.0)}, resamples=50)["mean"]
    assert found.low == pytest.approx(wilson(n, n).low)
    assert found.high == 1.0
    assert unseen_share(n) == pytest.approx(1.959964**2 / (n + 1.959964**2), rel=1e-5)


def test_one_row_gives_the_widest_interval():
    found = bootstrap(mean_of(np.array([0.3])), 1, bounds={"mean": (0.0, 36.0)}, resamples=20)["mean"]
    assert found.low < 0.1
    assert found.high > 28


def test_undefined_draws_are_left_out_and_undefined_values_are_no_score():
    draws = np.array([0.4, np.nan, 0.6, 0.5, np.nan])
    assert percentile(0.5, draws, n=5, bounds=(0.0, 1.0)).low == pytest.approx(0.405)
    assert percentile(0.5, np.full(3, np.nan), n=5, bounds=(0.0, 1.0)).low < 0.5
    found = bootstrap(lambda counts: {"none": counts[:, 0] * np.nan}, 3, bounds={"none": (0.0, 1.0)}, resamples=5)
    assert found == {}


def test_a_leaning_score_keeps_its_value_inside():
    draws = np.random.default_rng(0).normal(0.3, 0.01, size=1000)
    found = percentile(0.5, draws, n=100, bounds=(0.0, 1.0))
    assert found.low == pytest.approx(0.48, abs=0.005)
    assert found.high == pytest.approx(0.52, abs=0.005)


@given(
    value=st.floats(0, 1),
    draws=st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=1, max_size=30),
    n=st.integers(1, 50),
)
@settings(deadline=None)
def test_an_interval_always_holds_its_value_within_bounds(value, draws, n):
    found = percentile(value, np.array(draws), n=n, bounds=(0.0, 1.0))
    assert 0 <= found.low <= found.value == value <= found.high <= 1


def test_intervals_are_fit_for_json():
    assert json.loads(json.dumps(wilson(2, 3).as_dict(), allow_nan=False)) == wilson(2, 3).as_dict()
    assert str(Interval(value=0.5, low=0.25, high=0.75)) == "0.500 [0.250, 0.750]"


@pytest.mark.parametrize("numbers", [(math.nan, 0.0, 1.0), (0.5, 0.6, 0.7), (0.5, 0.1, 0.2), (0.5, 0.1, math.inf)])
def test_numbers_that_are_no_interval_are_refused(numbers):
    value, low, high = numbers
    with pytest.raises(DataError, match="low <= value <= high"):
        Interval(value=value, low=low, high=high)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(DataError, match="no rows to score"):
        wilson(0, 0)
    with pytest.raises(UsageError, match="resamples must be at least 1, found 0"):
        bootstrap(mean_of(np.ones(3)), 3, bounds={"mean": (0.0, 1.0)}, resamples=0)
    with pytest.raises(UsageError, match="level must lie between 0 and 1, found 95"):
        wilson(1, 2, level=95)

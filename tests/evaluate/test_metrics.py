"""Scores agree with scikit-learn and scipy to the last digits, and stay honest where they are not defined."""

from __future__ import annotations

import json
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from graft.errors import DataError, UsageError
from graft.evaluate import metrics
from graft.evaluate.intervals import resample
from graft.evaluate.metrics import Interval
from graft.evaluate.row_statistics import regression_measure


def sample(n: int, n_labels: int, *, seed: int = 0, strength: float = 2.0, sharpness: float = 1.0):
    """Target and probabilities of a classifier that is often right."""
    generator = np.random.default_rng(seed)
    target = generator.integers(0, n_labels, n)
    logits = generator.normal(size=(n, n_labels))
    logits[np.arange(n), target] += strength
    weights = np.exp(sharpness * logits)
    return target, weights / weights.sum(1, keepdims=True)


def values(scores: dict[str, Interval]) -> dict[str, float]:
    return {name: score.value for name, score in scores.items()}


@pytest.mark.parametrize(("n", "n_labels"), [(400, 2), (500, 5), (300, 77), (3, 3)])
def test_classification_agrees_with_scikit_learn(n, n_labels):
    target, probability = sample(n, n_labels)
    found = values(metrics.classification(target, probability, resamples=20))
    predicted, labels = probability.argmax(1), list(range(n_labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a label that is predicted but never true
        expected = {
            "accuracy": reference.accuracy_score(target, predicted),
            "macro_f1": reference.f1_score(target, predicted, average="macro"),
            "balanced_accuracy": reference.balanced_accuracy_score(target, predicted),
            "matthews": reference.matthews_corrcoef(target, predicted),
            "nll": reference.log_loss(target, probability, labels=labels),
            "brier": reference.brier_score_loss(
                target, probability if n_labels > 2 else probability[:, 1], labels=labels
            ),
        }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_ece_follows_its_definition():
    target, probability = sample(700, 4)
    confidence, right = probability.max(1), probability.argmax(1) == target
    edges, expected = np.linspace(0, 1, 16), 0.0
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert metrics.classification(target, probability, resamples=5)["ece"].value == pytest.approx(expected, abs=1e-12)


def test_ece_by_hand():
    probability = np.array([[0.8, 0.2]] * 10)
    target = np.array([0] * 6 + [1] * 4)
    assert metrics.classification(target, probability, resamples=5)["ece"].value == pytest.approx(0.2)
    only = metrics.calibration(target, probability)
    assert len(only) == 1
    assert (only[0].confidence, only[0].accuracy, only[0].count) == (pytest.approx(0.8), pytest.approx(0.6), 10)
    assert only[0].low < 0.8 <= only[0].high


@pytest.mark.parametrize(("shift", "n"), [(0.0, 100), (0.0, 1000), (0.05, 1000), (0.15, 200)])
def test_the_interval_of_ece_covers_the_truth(shift, n):
    generator = np.random.default_rng(3)
    held = []
    many = generator.beta(5, 2, 400_000) / 2 + 0.5
    place = np.clip(np.ceil(many * 15).astype(int) - 1, 0, 14)
    truth = np.abs(np.bincount(place, many - np.clip(many - shift, 0, 1))).sum() / len(many)
    for seed in range(200):
        confidence = generator.beta(5, 2, n) / 2 + 0.5
        target = (generator.random(n) >= np.clip(confidence - shift, 0, 1)).astype(int)
        probability = np.column_stack([confidence, 1 - confidence])
        found = metrics.classification(target, probability, resamples=200, seed=seed)["ece"]
        held.append(found.low <= truth + 1e-12 and truth <= found.high)
    assert np.mean(held) >= 0.88


def test_the_intervals_of_classification_cover_the_truth():
    everything = sample(200_000, 5, seed=99)
    truth = values(metrics.classification(*everything, resamples=1))
    names = ["accuracy", "macro_f1", "balanced_accuracy", "matthews", "nll", "brier"]
    held = []
    for seed in range(200):
        found = metrics.classification(*sample(300, 5, seed=seed), resamples=200, seed=seed)
        held.append([found[name].low <= truth[name] <= found[name].high for name in names])
    share = dict(zip(names, np.mean(held, axis=0).tolist(), strict=True))
    assert all(0.90 <= one <= 0.99 for one in share.values()), share


def test_accuracy_of_one_hundred_percent_is_not_certain():
    target = np.arange(20) % 3
    found = metrics.classification(target, np.eye(3)[target] * 0.97 + 0.01)
    assert found["accuracy"].high == found["macro_f1"].high == 1.0
    assert found["accuracy"].low == pytest.approx(0.8389, abs=1e-4)
    assert all(score.low < score.high for score in found.values())


@pytest.mark.parametrize("n_labels", [1, 2, 3])
def test_one_row_is_scored_with_wide_intervals(n_labels):
    probability = np.full((1, n_labels), 1 / n_labels)
    found = metrics.classification(np.array([0]), probability)
    assert json.dumps({name: score.as_dict() for name, score in found.items()}, allow_nan=False)
    assert found["accuracy"].low < 0.25
    assert found["macro_f1"].low < 0.25
    assert all(score.high - score.low > 0.2 for score in found.values())


def test_the_answer_is_the_first_of_equal_probabilities():
    found = metrics.classification(np.array([0, 1]), np.full((2, 2), 0.5), resamples=5)
    assert found["accuracy"].value == 0.5


def test_matthews_without_variation_is_zero():
    found = metrics.classification(np.zeros(5, dtype=int), np.array([[0.9, 0.1]] * 5), resamples=20)
    assert found["matthews"].value == 0.0


def test_a_certain_mistake_has_a_finite_likelihood():
    found = metrics.classification(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]), resamples=20)
    assert found["nll"].value == pytest.approx(-np.log(np.finfo(float).eps) / 2)


def test_half_precision_probabilities_are_accepted():
    target, probability = sample(50, 4)
    metrics.classification(target, probability.astype(np.float16), resamples=5)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 10_000))
@settings(deadline=None, max_examples=50)
def test_classification_stays_in_bounds_and_ignores_the_order_of_rows_and_labels(n, n_labels, seed):
    target, probability = sample(n, n_labels, seed=seed)
    found = metrics.classification(target, probability, resamples=30)
    for name, score in found.items():
        low, high = metrics.BOUNDS[name]
        assert low <= score.low <= score.value <= score.high <= high
    generator = np.random.default_rng(seed)
    rows, labels = generator.permutation(n), generator.permutation(n_labels)
    place = np.argsort(labels)
    again = metrics.classification(place[target[rows]], probability[rows][:, labels], resamples=1)
    assert values(again) == pytest.approx(values(found), abs=1e-9)


def test_results_repeat_and_resampling_is_seeded():
    target, probability = sample(200, 3)
    first = metrics.classification(target, probability, seed=1)
    assert first == metrics.classification(target, probability, seed=1)
    assert first != metrics.classification(target, probability, seed=2)


@pytest.mark.slow
def test_a_thousand_resamples_of_ten_thousand_rows_and_77_labels_take_about_two_seconds():
    target, probability = sample(10_000, 77)
    started = time.perf_counter()
    metrics.classification(target, probability)
    assert time.perf_counter() - started < 5


def test_paired_differences_see_what_separate_intervals_hide():
    target, probability = sample(1500, 3, strength=1.0)
    worse, spoiled = probability.copy(), np.flatnonzero(probability.argmax(1) == target)[:15]
    worse[spoiled] = np.roll(worse[spoiled], 1, axis=1)
    found = metrics.paired_difference(target, probability, worse)
    apart = [metrics.classification(target, one)["accuracy"] for one in (probability, worse)]
    assert found["accuracy"].value == pytest.approx(15 / 1500)
    assert apart[1].high > apart[0].low
    assert found["accuracy"].low > 0
    assert found["nll"].high - found["nll"].low < 0.2


def test_a_model_does_not_differ_from_itself():
    target, probability = sample(100, 3)
    for score in metrics.paired_difference(target, probability, probability, resamples=50).values():
        assert score.value == 0
        assert score.low < 0 < score.high


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_multi_label_agrees_with_scikit_learn(threshold):
    generator = np.random.default_rng(0)
    target = generator.random((400, 6)) < [0.5, 0.3, 0.1, 0.05, 0.2, 0.0]
    probability = np.clip(target * 0.4 + generator.random((400, 6)) * 0.6, 0, 1)
    probability[:, 5] = 0.0
    given = probability >= threshold
    found = values(metrics.multi_label(target, probability, threshold=threshold, resamples=20))
    expected = {
        "micro_f1": reference.f1_score(target, given, average="micro"),
        "macro_f1": reference.f1_score(target, given, average="macro", zero_division=np.nan),
        "exact_match": reference.accuracy_score(target, given),
    }
    assert found == pytest.approx(expected, abs=1e-12)


def test_multi_label_without_any_label_has_no_f1():
    found = metrics.multi_label(np.zeros((4, 2), dtype=bool), np.full((4, 2), 0.1), resamples=10)
    assert set(found) == {"exact_match"}
    assert found["exact_match"].value == 1.0


def test_regression_agrees_with_scipy_and_scikit_learn():
    generator = np.random.default_rng(1)
    target = generator.integers(0, 11, 300) / 2.0
    prediction = target + generator.normal(size=300).round(1)
    found = values(metrics.regression(target, prediction, resamples=20))
    expected = {
        "pearson": stats.pearsonr(target, prediction).statistic,
        "spearman": stats.spearmanr(target, prediction).statistic,
        "mse": reference.mean_squared_error(target, prediction),
        "rmse": reference.root_mean_squared_error(target, prediction),
        "mae": reference.mean_absolute_error(target, prediction),
    }
    assert found == pytest.approx(expected, abs=1e-12)


def test_every_resample_of_a_correlation_is_what_scipy_gives():
    generator = np.random.default_rng(2)
    target, prediction = generator.integers(0, 4, 25).astype(float), generator.normal(size=25).round(1) * 1e6
    found = resample(regression_measure(target, prediction), 25, resamples=40, seed=5)
    drawn = np.random.default_rng(5).integers(0, 25, size=(40, 25))
    for place, rows in enumerate(drawn):
        pearson = stats.pearsonr(target[rows], prediction[rows]).statistic
        spearman = stats.spearmanr(target[rows], prediction[rows]).statistic
        assert found["pearson"][place] == pytest.approx(pearson, abs=1e-9)
        assert found["spearman"][place] == pytest.approx(spearman, abs=1e-9)


def test_a_constant_prediction_correlates_with_nothing():
    found = metrics.regression(np.arange(6.0), np.full(6, 2.5), resamples=50)
    for name in ("pearson", "spearman"):
        assert found[name] == Interval(value=0.0, low=-1.0, high=1.0)


def test_a_constant_target_has_no_correlation():
    found = metrics.regression(np.full(6, 3.0), np.arange(6.0), resamples=50)
    assert set(found) == {"mse", "rmse", "mae"}


def test_a_perfect_prediction_and_two_rows_stay_uncertain():
    perfect = metrics.regression(np.arange(9.0), np.arange(9.0))
    assert perfect["mae"].high > 0
    assert perfect["pearson"].low < 1
    two = metrics.regression(np.array([1.0, 2.0]), np.array([1.0, 3.0]))
    assert (two["pearson"].low, two["pearson"].high) == (-1.0, 1.0)
    assert two["pearson"].value == pytest.approx(1.0)


@given(st.integers(2, 40), st.integers(0, 10_000), st.floats(0.1, 1e6), st.floats(-1e6, 1e6))
@settings(deadline=None, max_examples=50)
def test_correlation_ignores_scale_and_order(n, seed, scale, offset):
    generator = np.random.default_rng(seed)
    target, prediction = generator.normal(size=n), generator.integers(0, 5, n).astype(float)
    found = metrics.regression(target, prediction, resamples=20)
    rows = generator.permutation(n)
    again = metrics.regression(target[rows] * scale + offset, prediction[rows], resamples=20)
    for name in ("pearson", "spearman"):
        assert -1 <= found[name].low <= found[name].value <= found[name].high <= 1
        assert again[name].value == pytest.approx(found[name].value, abs=1e-6)
    assert found["rmse"].value >= found["mae"].value - 1e-12


def test_labels_are_scored_as_scikit_learn_does():
    target, probability = sample(300, 6, strength=1.0)
    predicted = probability.argmax(1)
    predicted[predicted == 4] = 0
    expected = reference.precision_recall_fscore_support(target, predicted, labels=range(6), zero_division=0)
    found = metrics.per_label(target, predicted, [*"abcdef"])
    rows = [(one.precision, one.recall, one.f1, one.support) for one in found]
    assert np.array(rows) == pytest.approx(np.array(expected).T)
    assert [one.label for one in found] == [*"abcdef"]
    assert found[4].predicted == 0
    assert found == metrics.per_label(np.eye(6)[target] == 1, np.eye(6)[predicted], [*"abcdef"])


def test_confusion_agrees_with_scikit_learn():
    target, probability = sample(300, 5)
    found = metrics.confusion(target, probability.argmax(1), 5)
    assert found.tolist() == reference.confusion_matrix(target, probability.argmax(1), labels=range(5)).tolist()
    assert metrics.confusion(np.array([0]), np.array([1]), 3).shape == (3, 3)


def test_calibration_bins_hold_every_row():
    target, probability = sample(500, 3)
    found = metrics.calibration(target, probability, bins=10)
    assert sum(one.count for one in found) == 500
    assert all(one.low < one.confidence <= one.high and one.count > 0 for one in found)
    error = sum(one.count * abs(one.confidence - one.accuracy) for one in found) / 500
    expected = metrics.classification(target, probability, bins=10, resamples=2)["ece"].value
    assert error == pytest.approx(expected)


def test_the_method_is_stated():
    assert metrics.method(seed=3) == (
        "95% intervals: Wilson's for accuracy and exact match, otherwise bootstrap over rows (1,000 resamples, seed 3)"
    )


TWO = np.array([[0.5, 0.5], [0.4, 0.6]])


@pytest.mark.parametrize(
    ("target", "probability", "message"),
    [
        (np.array([], dtype=int), np.zeros((0, 2)), "no rows to score"),
        (np.array([0]), TWO, "as many answers as true labels, found 2 and 1"),
        (np.array([0, 2]), TWO, "label ids from 0 to 1, found 0 to 2"),
        (np.array([0, -1]), TWO, "label ids from 0 to 1, found -1 to 0"),
        (np.array([0.0, 1.0]), TWO, "one integer per row"),
        (np.array([0, 1]), TWO[0], "shape .rows, labels., found"),
        (np.array([0, 1]), TWO * np.nan, "not finite"),
        (np.array([0, 1]), TWO * 8 - 4, "Were these logits"),
        (np.array([0, 1]), TWO / 2, "sum to 1, found 0.5 in row 0"),
    ],
)
def test_classification_refuses_what_cannot_be_scored(target, probability, message):
    with pytest.raises(DataError, match=message):
        metrics.classification(target, probability)
    with pytest.raises(DataError, match=message):
        metrics.calibration(target, probability)


def test_the_others_refuse_what_cannot_be_scored():
    flags = np.zeros((2, 2), dtype=bool)
    with pytest.raises(DataError, match="no rows"):
        metrics.multi_label(np.zeros((0, 3), dtype=bool), np.zeros((0, 3)))
    with pytest.raises(DataError, match="one shape"):
        metrics.multi_label(flags, np.zeros((2, 3)))
    with pytest.raises(DataError, match="flags"):
        metrics.multi_label(np.full((2, 2), 0.3), np.zeros((2, 2)))
    with pytest.raises(UsageError, match="threshold must lie between 0 and 1, found 50"):
        metrics.multi_label(flags, np.zeros((2, 2)), threshold=50)
    with pytest.raises(UsageError, match="bins must be at least 1"):
        metrics.calibration(np.array([0, 1]), TWO, bins=0)
    with pytest.raises(UsageError, match="bins must be at least 1"):
        metrics.classification(np.array([0, 1]), TWO, bins=0)
    with pytest.raises(DataError, match="at least 2 rows"):
        metrics.regression(np.array([1.0]), np.array([1.0]))
    with pytest.raises(DataError, match="one number per row"):
        metrics.regression(np.zeros(3), np.zeros((3, 1)))
    with pytest.raises(DataError, match="not finite"):
        metrics.regression(np.zeros(2), np.array([1.0, np.inf]))
    with pytest.raises(DataError, match="shape"):
        metrics.per_label(flags, flags, ["a", "b", "c"])
    with pytest.raises(DataError, match="no rows"):
        metrics.confusion(np.array([], dtype=int), np.array([], dtype=int), 2)

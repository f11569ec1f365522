"""scikit-learn manners: a text classifier that works inside cross_val_score, Pipeline and GridSearchCV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from graft import hub, tasks
from graft.checkpoint import choose_dtype
from graft.errors import DataError
from graft.grafted import Model
from graft.heads import Classify
from graft.inference import computing
from graft.loading import load
from graft.recipes.adapt import Plan, adapt
from graft.recipes.watch import Watch
from graft.sealed import Settings
from graft.tasks import Row


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A pretrained model adapted to labelled texts.

    >>> from graft import Classifier
    >>> Classifier(strategy="probe", seed=3).get_params()["seed"]
    3

    Args:
        model: the pretrained encoder or decoder: a folder or a name.
        strategy: a name from graft.transfer: "probe" (seconds), "full" (best), "bitfit", "partial", "gradual", ...
        settings: the strategy's own, by name, as in {"blocks": 3}.
        epochs: times through the data; None leaves it to Graft.
        batch_size: rows to a step.
        learning_rate: highest rate; None: the strategy's own.
        seed: of everything random.
        dtype: what to compute in.
        class_weight: "balanced" weighs labels inversely to how often they occur.
        limit: longest input in tokens; None: what the model allows.
        verbose: show progress on standard error.

    Attributes:
        classes_: the labels, sorted, as numpy sorts them.
        model_: the adapted model; `model_.save(folder)` keeps it.
        truncated_tokens_: tokens of the training texts that did not fit.
    """

    def __init__(
        self,
        model: str = hub.ENCODER,
        *,
        strategy: str = "probe",
        settings: Mapping[str, Any] | None = None,
        epochs: int | None = None,
        batch_size: int = 32,
        learning_rate: float | None = None,
        seed: int = 0,
        dtype: str = "auto",
        class_weight: str | None = None,
        limit: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.strategy = strategy
        self.settings = settings
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed
        self.dtype = dtype
        self.class_weight = class_weight
        self.limit = limit
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, True, False
        return tags

    def fit(self, X: Iterable[str], y: Iterable[Any]) -> Classifier:
        """Adapt the model to texts and labels.

        Args:
            X: the texts.
            y: a label for each, of any type numpy can sort.

        Raises:
            DataError: not text, or texts and labels of different number, or fewer than two labels.
        """
        texts = as_texts(X)
        self.classes_, numbers = np.unique(np.asarray(y), return_inverse=True)
        if len(texts) != len(numbers):
            raise DataError(f"{len(texts)} texts and {len(numbers)} labels; expected one label for each text")
        names = [str(label) for label in self.classes_.tolist()]
        names = names if len(set(names)) == len(names) else [repr(label) for label in self.classes_.tolist()]
        model = load(self.model, dtype="float32")
        model.settings = Settings(limit=self.limit or model.limit)
        rows = [
            Row((text,), names[number], line) for line, (text, number) in enumerate(zip(texts, numbers, strict=True))
        ]
        plan = Plan(
            strategy=self.strategy,
            settings=self.settings or {},
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            dtype=self.dtype,
            class_weights=self.class_weight,
            calibrate=False,  # every row given is learned from; scikit-learn has calibrators of its own
        )
        done = adapt(model, tasks.find("classify"), rows, plan, Watch(quiet=not self.verbose))
        assert isinstance(model.head, Classify)
        self._order = [model.head.labels.index(name) for name in names]
        self.model_: Model = model
        self.truncated_tokens_ = done.truncated_tokens
        return self

    def predict_proba(self, X: Iterable[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Probability of each label, (n, C), columns in the order of `classes_`."""
        check_is_fitted(self)
        texts = as_texts(X)
        if not texts:
            return np.zeros((0, len(self.classes_)))
        with computing(self.model_, choose_dtype(self.dtype)):
            answers = self.model_.answer(texts)
        assert isinstance(answers, list)
        rows = np.array([list((answer.probabilities or {}).values()) for answer in answers])
        return rows[:, self._order]

    def predict(self, X: Iterable[str]) -> np.ndarray[Any, Any]:
        """The most probable label of each text."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]  # type: ignore[no-any-return]


def as_texts(given: Iterable[str]) -> list[str]:
    """Texts from a list, array or column.

    Raises:
        DataError: a single string, or something in it that is not text.
    """
    if isinstance(given, str):
        raise DataError("expected a list of texts, found a single one; write [text]")
    texts = list(given)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"text {number} is a {type(text).__name__} ({text!r:.40}), expected str")
    return [str(text) for text in texts]

"""sentence-transformers' vectors with scikit-learn's regressions, and setfit: the peers of probing and of few rows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import read
from lessons import Done, Lesson, Run

PAIRS = 20  # setfit's num_iterations: pairs of either kind for each row (Tunstall et al. 2022, section 4)


def sklearn_probe(dtype: str) -> Run:
    """One text: its vector. A pair: both vectors, |u - v| and u * v (Conneau et al. 2017, section 3.1)."""

    def run(lesson: Lesson) -> Done:
        from sentence_transformers import SentenceTransformer
        from sklearn.linear_model import LogisticRegression, RidgeCV

        start = time.perf_counter()
        arguments = {"model_kwargs": {"dtype": dtype}} if dtype != "float32" else {}
        model = SentenceTransformer(str(lesson.folder), device="cpu", **arguments)
        inputs, targets = read(lesson.data, lesson.train)
        began = time.perf_counter()
        number = lesson.data.task == "similarity"
        probe = RidgeCV() if number else LogisticRegression(max_iter=1000, random_state=lesson.seed)
        probe.fit(_features(model, inputs), targets)
        training = time.perf_counter() - began
        asked, _ = read(lesson.data, lesson.test)
        answers = probe.predict(_features(model, asked)).tolist()
        return Done(
            answers=answers,
            training_seconds=training,
            whole_seconds=time.perf_counter() - start,
            rows_seen=len(inputs),
        )

    return run


def _features(model: Any, inputs: Sequence[Any]) -> np.ndarray:
    if not isinstance(inputs[0], tuple):
        return _encode(model, list(inputs))
    first, second = (_encode(model, list(side)) for side in zip(*inputs, strict=True))
    return np.concatenate([first, second, np.abs(first - second), first * second], axis=1)


def _encode(model: Any, texts: list[str]) -> np.ndarray:
    return model.encode(texts, show_progress_bar=False)


def setfit(lesson: Lesson) -> Done:
    """setfit as its paper uses it: `PAIRS` rounds of pairs, one epoch, then a logistic regression; batches of 16."""
    from datasets import Dataset, disable_progress_bars
    from setfit import SetFitModel, Trainer, TrainingArguments

    disable_progress_bars()
    start = time.perf_counter()
    inputs, targets = read(lesson.data, lesson.train)
    model = SetFitModel.from_pretrained(str(lesson.folder), labels=sorted(set(targets)), device="cpu")
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out,
            num_iterations=PAIRS,
            num_epochs=1 if lesson.epochs is None else lesson.epochs,
            seed=lesson.seed,
            show_progress_bar=False,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
        )
        rows = Dataset.from_dict({"text": inputs, "label": targets})
        learner = Trainer(model=model, args=arguments, train_dataset=rows)
        began = time.perf_counter()
        learner.train()
        training = time.perf_counter() - began
        asked, _ = read(lesson.data, lesson.test)
        answers = [str(one) for one in model.predict(asked, show_progress_bar=False)]
        model.save_pretrained(str(Path(out) / "model"))
    return Done(
        answers=answers,
        training_seconds=training,
        whole_seconds=time.perf_counter() - start,
        rows_seen=len(inputs) * PAIRS * 2 * 2,  # pairs, alike and not, of two texts
    )

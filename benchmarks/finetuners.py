"""The systems benchmarks/finetune.py compares, each the main program of one worker process.

    python benchmarks/finetuners.py SYSTEM MODEL_FOLDER TRAIN_CSV DEV_CSV        (started by finetune.py)

Handlers: `load` (imports, and a warm-up on a few rows) and `run` (once from the files to an accuracy). A reply has

- `training_seconds`: from the first batch to the last update, by the system's own clock (Trainer's `train_runtime`,
  Graft's `adapted.seconds`); for a probe: embedding the training rows and fitting;
- `whole_seconds`: from the files (model, csv) to saved weights and an accuracy, tokenising and all;
- `accuracy` on the dev rows.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rounds import serve

LIMIT = 256  # tokens; no row of SST-2 is longer
Run = Callable[[Path, Path, Path, int, int], dict[str, Any]]  # model, train, dev, seed, epochs


def read(path: Path) -> tuple[list[str], list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def accuracy(predicted: list[Any], expected: list[Any]) -> float:
    return sum(a == b for a, b in zip(predicted, expected, strict=True)) / len(expected)


def trainer(*, bf16: bool) -> Run:
    """transformers' Trainer with its defaults; nothing logged, nothing evaluated or written on the way."""

    def run(folder: Path, train: Path, dev: Path, seed: int, epochs: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as out:
            return train_once(out, folder, train, dev, seed, epochs)

    def train_once(out: str, folder: Path, train: Path, dev: Path, seed: int, epochs: int) -> dict[str, Any]:
        import transformers as hf

        start = time.perf_counter()
        hf.set_seed(seed)
        texts, labels = read(train)
        names = sorted(set(labels))
        tokenizer = hf.AutoTokenizer.from_pretrained(folder)
        model = hf.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(names))
        learner = hf.Trainer(
            model,
            _arguments(hf, out, seed, epochs, bf16),
            train_dataset=_dataset(tokenizer, texts, [names.index(label) for label in labels]),
            data_collator=hf.DataCollatorWithPadding(tokenizer),
        )
        done = learner.train()
        dev_texts, dev_labels = read(dev)
        dataset = _dataset(tokenizer, dev_texts, [names.index(label) for label in dev_labels])
        predicted = learner.predict(dataset).predictions.argmax(1)
        learner.save_model(out)
        return {
            "whole_seconds": time.perf_counter() - start,
            "training_seconds": done.metrics["train_runtime"],
            "accuracy": accuracy([names[index] for index in predicted], dev_labels),
            "rows_seen": len(texts) * epochs,
            "loss": done.training_loss,
        }

    return run


def _arguments(hf: Any, out: str, seed: int, epochs: int, bf16: bool) -> Any:
    return hf.TrainingArguments(
        out,
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        learning_rate=5e-5,
        seed=seed,
        bf16=bf16,
        use_cpu=True,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )


def _dataset(tokenizer: Any, texts: list[str], labels: list[int]) -> list[dict[str, Any]]:
    """Rows in memory: nothing to decode while training, which is the quickest way to feed a Trainer."""
    encoded = tokenizer(texts, truncation=True, max_length=LIMIT)
    return [
        {**{name: column[index] for name, column in encoded.items()}, "labels": label}
        for index, label in enumerate(labels)
    ]


def sklearn_probe(dtype: str) -> Run:
    """sentence-transformers' vectors into scikit-learn's logistic regression."""

    def run(folder: Path, train: Path, dev: Path, seed: int, epochs: int) -> dict[str, Any]:
        from sentence_transformers import SentenceTransformer
        from sklearn.linear_model import LogisticRegression

        start = time.perf_counter()
        arguments = {"model_kwargs": {"dtype": dtype}} if dtype != "float32" else {}
        model = SentenceTransformer(str(folder), device="cpu", **arguments)
        texts, labels = read(train)
        began = time.perf_counter()
        probe = LogisticRegression(max_iter=1000, random_state=seed).fit(_encode(model, texts), labels)
        training = time.perf_counter() - began
        dev_texts, dev_labels = read(dev)
        predicted = probe.predict(_encode(model, dev_texts))
        return {
            "whole_seconds": time.perf_counter() - start,
            "training_seconds": training,
            "accuracy": accuracy(list(predicted), dev_labels),
            "rows_seen": len(texts),
        }

    return run


def _encode(model: Any, texts: list[str]) -> np.ndarray:
    return model.encode(texts, show_progress_bar=False)


def graft(strategy: str) -> Run:
    """Graft, from the same files. The accuracy is what the saved folder answers when it is opened again."""

    def run(folder: Path, train: Path, dev: Path, seed: int, epochs: int) -> dict[str, Any]:
        import graft

        plan = {"epochs": epochs, "batch_size": 32, "learning_rate": 5e-5} if strategy == "full" else {}
        with tempfile.TemporaryDirectory() as out:
            start = time.perf_counter()
            options = {"task": "classify", "model": str(folder), "eval": dev, "out": out, "seed": seed}
            result = graft.finetune(train, strategy=strategy, **options, **plan)
            whole = time.perf_counter() - start
            dev_texts, dev_labels = read(dev)
            answers = graft.load(out)(dev_texts)
        return {
            "whole_seconds": whole,
            "training_seconds": result.adapted.seconds,
            "accuracy": accuracy([answer.label for answer in answers], dev_labels),
            "accuracy_it_reports": result.record["metrics"]["accuracy"]["value"],
            "rows_seen": result.adapted.rows * (epochs if strategy == "full" else 1),
        }

    return run


FULL: dict[str, Run] = {
    "transformers Trainer float32": trainer(bf16=False),
    "transformers Trainer bf16": trainer(bf16=True),
    "graft full": graft("full"),
}
PROBE: dict[str, Run] = {
    "sentence-transformers float32 + sklearn": sklearn_probe("float32"),
    "sentence-transformers bf16 + sklearn": sklearn_probe("bfloat16"),
    "graft probe": graft("probe"),
}


def main(system: str, folder: Path, train: Path, dev: Path) -> None:
    measured = {**FULL, **PROBE}[system]

    def load() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as scratch:
            few = Path(scratch) / "few.csv"
            lines = list(csv.reader(train.open(encoding="utf-8", newline="")))
            with few.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(lines[:129])
            measured(folder, few, few, 0, 1)
        return {}

    def run(seed: int, epochs: int) -> dict[str, Any]:
        reply = measured(folder, train, dev, seed, epochs)
        return {**reply, "rows_per_second": reply["rows_seen"] / reply["training_seconds"]}

    serve({"load": load, "run": run})


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))

"""Pages that use every section, from seeded random data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from graft.evaluate import metrics, report
from graft.evaluate.report import Candidate, DataSummary, Page, Prediction

WORDS = [
    "my",
    "parcel",
    "card",
    "payment",
    "is",
    "late",
    "broken",
    "lost",
    "again",
    "please",
    "refund",
    "the",
    "account",
]
WORDS += ["was", "charged", "twice", "help", "today"]
LONG_NAMES = [
    "card_payment_wrong_exchange_rate",
    "Why is my top-up still pending?",
    "Überweisung fehlgeschlagen",
    "受け取りの問題",
    "مشكلة في الدفع",
]


def sentences(n: int, generator: np.random.Generator) -> list[str]:
    return [" ".join(generator.choice(WORDS, generator.integers(3, 28))).capitalize() + "." for _ in range(n)]


def answers(n: int, n_labels: int, generator: np.random.Generator):
    target = generator.integers(0, n_labels, n)
    logits = generator.normal(size=(n, n_labels))
    logits[np.arange(n), target] += 2.2 + np.log(n_labels) / 2
    logits[np.arange(n), (target + 1) % n_labels] += generator.normal(0.6, 0.6, n)
    weights = np.exp(1.6 * logits)
    return target, weights / weights.sum(1, keepdims=True)


def candidates(names: Sequence[str], target, probability, generator: np.random.Generator) -> list[Candidate]:
    built = []
    for place, name in enumerate(names):
        noise = generator.random(probability.shape) ** 2
        mixed = probability + noise * (1.1, 0.62, 0.3, 0.28, 0.4)[place]
        scores = metrics.classification(target, mixed / mixed.sum(1, keepdims=True), resamples=40)
        shown = {key: scores[key] for key in ("macro_f1", "accuracy", "nll", "ece")}
        seconds = None if place == 0 else 3.0 * 4.1 ** min(place, 3)
        note = "no training" if place == 0 else ""
        speed = 410.0 / (1 + place / 3)
        built.append(
            Candidate(
                name=name,
                scores=shown,
                seconds=seconds,
                rows_per_second=speed,
                chosen=place == 2,
                note=note,
            )
        )
    return built


def data_summary(labels: Sequence[str], target, column: str) -> DataSummary:
    counts = {label: int((target == place).sum()) for place, label in enumerate(labels)}
    return DataSummary(
        read=len(target) + 7,
        kept=len(target),
        rejected=7,
        columns={"text": column, "label": "queue"},
        splits={"train": len(target) * 8 // 10, "dev": len(target) // 10, "test": len(target) // 10},
        labels=counts,
        duplicates=12,
        conflicts=3,
        leaks=2,
        truncated_rows=4,
        truncated_tokens=219,
        rejects_file="rejects.csv",
        notes=["The text column was recognized by its name."],
    )


def training(generator: np.random.Generator):
    steps = np.arange(1, 1201)
    loss = 1.9 * np.exp(-steps / 260) + 0.18 + generator.normal(0, 0.07, 1200).clip(-0.15)
    marks = range(100, 1201, 100)
    dev = {"macro_f1": [(step, 0.93 - 0.6 * 2 ** (-step / 160) - (step > 900) * 0.012) for step in marks]}
    dev["accuracy"] = [(step, value + 0.02) for step, value in dev["macro_f1"]]
    return report.training_section(
        list(zip(steps.tolist(), loss.tolist(), strict=True)), dev, best_step=900, note="Three epochs, seed 0."
    )


def build(labels: Sequence[str], *, n: int = 300, texts: Sequence[str] = (), seed: int = 0) -> Page:
    generator = np.random.default_rng(seed)
    target, probability = answers(n, len(labels), generator)
    rows = [*texts, *sentences(n, generator)][:n]
    predicted, scores = probability.argmax(1), metrics.classification(target, probability, resamples=60)
    first = texts[0] if texts else ""
    names = ["prompt, zero-shot", "probe", "lora · all-MiniLM-L6-v2", "full · all-MiniLM-L6-v2", f"gradual {first}"]
    numbers = generator.normal(2.5, 1.2, n)
    news = [
        Prediction(
            text=text, answer=labels[place % len(labels)], probability=0.99 - place / 20, truncated_tokens=place // 3
        )
        for place, text in enumerate(rows[:5])
    ]
    sections = [
        report.comparison(
            candidates(names, target, probability, generator),
            reason="LoRA is within the interval of full fine-tuning and trains in a quarter of its time.",
        ),
        report.scores_section(scores, rows=n, note=metrics.method(resamples=60)),
        report.per_label_section(metrics.per_label(target, predicted, labels)),
        report.confusion_section(metrics.confusion(target, predicted, len(labels)), labels),
        report.calibration_section(metrics.calibration(target, probability), ece=scores["ece"]),
        report.mistakes_section(
            report.worst_mistakes(rows, target, probability, labels, limit=8), total=int((predicted != target).sum())
        ),
        report.predictions_section(news, total=40),
        report.data_section(data_summary(labels, target, f"body {first}")),
        training(generator),
        report.regression_section(numbers, numbers * 0.9 + generator.normal(0.2, 0.4, n)),
    ]
    accuracy = scores["accuracy"]
    summary = {
        "Task": "classify",
        "Chosen": "lora",
        "Accuracy": f"{accuracy.value:.1%}",
        "Macro F1": f"{scores['macro_f1'].value:.3f}",
        "Test rows": f"{n:,}",
        "Labels": str(len(labels)),
        "Trained in": "3 min 21 s",
        "Model": f"all-MiniLM-L6-v2 {first}",
    }
    return Page(
        title=f"Support tickets {first}".strip(),
        lead=f"LoRA answers {accuracy.value:.0%} of new tickets rightly, as full fine-tuning does, in less time.",
        summary=summary,
        sections=sections,
        footer=[metrics.method(resamples=60)],
    )


@pytest.fixture(scope="session")
def build_page() -> Callable[..., Page]:
    """Make a page with every section: ``build_page(labels, n=..., texts=..., seed=...)``."""
    return build

"""The main job: one real encoder, one CSV of support messages, three ways to classify them, and proof of which is best.

    scripts/demo            # or: .venv/bin/python examples/demo.py

Zero-shot uses label names alone; the probe learns a linear layer on frozen features; full fine-tuning adapts every
weight. All three are measured on the same held-out messages. Leaves two models and a report in runs/demo.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from graft import load, run, tasks
from graft.evaluate import metrics, report
from graft.recipes.finetune import finetune
from graft.recipes.rows import load_rows
from graft.recipes.watch import Watch

HERE = Path(__file__).resolve().parent
DATA, NEW, OUT = HERE / "tickets.csv", HERE / "new_messages.txt", Path("runs/demo")
TEMPLATE = "A customer writes to support about {}."


def main() -> None:
    """Run everything and print what came out."""
    began = time.perf_counter()
    watch = Watch()
    loaded = load_rows(tasks.find("classify"), DATA, watch=watch)
    held = [row for row, side in zip(loaded.rows, loaded.sides or [], strict=True) if side == "test"]
    texts, labels = [str(row.inputs[0]) for row in held], sorted({str(row.target) for row in loaded.rows})
    target = np.array([labels.index(str(row.target)) for row in held])

    candidates, probabilities, scores, asked = [], {}, {}, {}
    for name in ("zero-shot", "probe", "full"):
        watch.note(f"--- {name}")
        learning = None
        if name == "zero-shot":
            encoder = load("sentence-transformers/all-MiniLM-L6-v2")
            asked[name] = partial(run, "classify", model=encoder, labels=labels, template=TEMPLATE)
        else:
            done = finetune(DATA, strategy=name, out=OUT / name, learning_rate=1e-4, watch=watch)
            asked[name], learning = load(OUT / name, verify=True).answer, done.adapted.seconds
        asked[name](texts[:32])
        started = time.perf_counter()
        answers = asked[name](texts)
        speed = len(texts) / (time.perf_counter() - started)
        probabilities[name] = np.array([[one.probabilities[label] for label in labels] for one in answers])
        scores[name] = metrics.classification(target, probabilities[name])
        shown = {key: scores[name][key] for key in ("accuracy", "macro_f1")}
        candidates.append(report.Candidate(name=name, scores=shown, seconds=learning, rows_per_second=speed))

    best = max(candidates, key=lambda one: one.scores["macro_f1"].value).name
    messages = NEW.read_text(encoding="utf-8").splitlines()
    answers = asked[best](messages)
    print_table(candidates)
    print_answers(messages, answers, best)
    sections = [
        report.comparison(candidates, reason=f"{best} has the highest macro-F1 on the held-out messages."),
        *report.classified_sections(texts, target, probabilities[best], labels, scores[best]),
        answers_section(messages, answers),
    ]
    summary = {"Messages": f"{len(loaded.rows):,}", "Labels": str(len(labels)), "Held out": f"{len(held):,}"}
    page = report.Page(title="Support messages: how much adapting is enough?", summary=summary, sections=sections)
    report.write_report(OUT / "report.html", page)
    seconds = time.perf_counter() - began
    Console().print(
        f"Report: {OUT}/report.html   Models: {OUT}/probe {OUT}/full   All in {seconds:.0f} s", highlight=False
    )


def answers_section(messages: list[str], answers: list) -> report.Section:
    """The new messages with their answers."""
    pairs = zip(messages, answers, strict=True)
    predictions = [report.Prediction(text=text, answer=str(a.label), probability=a.probability) for text, a in pairs]
    return report.predictions_section(predictions)


def print_table(candidates: list[report.Candidate]) -> None:
    """Accuracy and macro-F1 with 95 % intervals, training seconds, answers a second."""
    table = Table(title="On the held-out messages (95 % intervals)")
    for column in ("strategy", "accuracy", "macro-F1", "training", "answers"):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    for one in candidates:
        cells = [f"{s.value:.3f} ({s.low:.3f}-{s.high:.3f})" for s in one.scores.values()]
        learning = "none" if one.seconds is None else f"{one.seconds:.1f} s"
        table.add_row(one.name, *cells, learning, f"{one.rows_per_second:,.0f}/s")
    Console(width=100).print(table)


def print_answers(messages: list[str], answers: list, best: str) -> None:
    """The new messages with what the best model says."""
    table = Table(title=f"New messages, answered by {best}")
    for column in ("message", "label", "probability"):
        table.add_column(column, justify="right" if column == "probability" else "left")
    for text, one in zip(messages, answers, strict=True):
        table.add_row(text, one.label, f"{one.probability:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()

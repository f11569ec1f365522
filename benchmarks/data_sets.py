"""The data sets transfer.py adapts to: where they lie, how they are read, how both sides learn them, how they score.

Rows are kept as their file has them (`Raw`); `row` makes input and target of one. Everything that is learned from or
measured on is written anew by `store`: both sides read one and the same file, whether it holds all rows or some.
"""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Raw = Any  # csv: a dict; CoNLL: a list of (word, tag); SQuAD: a question with its context


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set.

    Attributes:
        task: what it is called in Graft: classify, pair, similarity, tag, ask.
        train: file to learn from.
        test: files to measure on, joined.
        metric: a name in scores.METRICS.
        texts: columns of csv files that are read.
        target: column of csv files that is learned.
        limit: longest input in tokens; longer ones are cut, or read in windows where the task does that.
        epochs: times through the rows.
        rate: highest learning rate of full fine-tuning.
    """

    task: str
    train: str
    test: tuple[str, ...]
    metric: str
    texts: tuple[str, ...] = ("text",)
    target: str = "label"
    limit: int = 256
    epochs: int = 3
    rate: float = 5e-5


RELATION = ("premise", "hypothesis")
DATA_SETS = {
    "sst2": DataSet(task="classify", train="sst2/train.csv", test=("sst2/dev.csv",), metric="accuracy"),
    "cola": DataSet(
        task="classify",
        train="cola/train.csv",
        test=("cola/dev.csv", "cola/dev_out_of_domain.csv"),  # together they are GLUE's development rows
        metric="matthews",
    ),
    "stsb": DataSet(
        task="similarity",
        train="stsb/train.csv",
        test=("stsb/dev.csv",),
        metric="spearman",
        texts=("sentence1", "sentence2"),
        target="score",
    ),
    "snli": DataSet(task="pair", train="snli/train.csv", test=("snli/test.csv",), metric="accuracy", texts=RELATION),
    "rte": DataSet(
        task="pair", train="rte/train.csv", test=("rte/dev.csv",), metric="accuracy", texts=RELATION, epochs=5
    ),
    "banking77": DataSet(
        task="classify",
        train="banking77/train.csv",
        test=("banking77/test.csv",),
        metric="accuracy",
        epochs=5,
        rate=1e-4,
    ),
    "conll": DataSet(
        task="tag", train="conll2003/train.txt", test=("conll2003/test.txt",), metric="entities", rate=1e-4
    ),
    "squad": DataSet(
        task="ask",
        train="squad/train.json",
        test=("squad/test.json",),
        metric="answers",
        limit=384,
        epochs=2,
        rate=1e-4,
    ),
}


def row(data: DataSet, raw: Raw) -> tuple[Any, Any]:
    """Input and target: a text or pair with a label or number; words with tags; (question, context) with answers."""
    if data.task == "tag":
        return [word for word, _ in raw], [tag for _, tag in raw]
    if data.task == "ask":
        return (raw["question"], raw["context"]), raw["answers"]
    texts, target = tuple(raw[name] for name in data.texts), raw[data.target]
    return texts if len(texts) > 1 else texts[0], float(target) if data.task == "similarity" else target


def read(data: DataSet, *paths: Path) -> tuple[list[Any], list[Any]]:
    """All inputs, and all targets."""
    inputs, targets = zip(*(row(data, raw) for path in paths for raw in load(path)), strict=True)
    return list(inputs), list(targets)


def load(path: Path) -> list[Raw]:
    return _FORMATS[path.suffix][0](path)


def store(raws: Sequence[Raw], path: Path) -> Path:
    _FORMATS[path.suffix][1](raws, path)
    return path


def draw(data: DataSet, raws: Sequence[Raw], count: int, seed: int) -> list[Raw]:
    """So many rows at random; of every label at least one, so that all sides know all of them."""
    mixed = random.Random(seed).sample(list(raws), len(raws))  # noqa: S311
    if data.task in ("classify", "pair"):
        seen: set[str] = set()
        again = [label in seen or seen.add(label) is not None for label in (row(data, raw)[1] for raw in mixed)]
        mixed = [raw for _, raw in sorted(zip(again, mixed, strict=True), key=lambda pair: pair[0])]
    return mixed[:count]


def draw_each(data: DataSet, raws: Sequence[Raw], count: int, seed: int) -> list[Raw]:
    """So many rows of each label, label after label."""
    had: Counter[str] = Counter()
    kept = []
    for raw in random.Random(seed).sample(list(raws), len(raws)):  # noqa: S311
        label = row(data, raw)[1]
        had[label] += 1
        if had[label] <= count:
            kept.append((label, raw))
    return [raw for _, raw in sorted(kept, key=lambda pair: pair[0])]


def _load_csv(path: Path) -> list[Raw]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _store_csv(raws: Sequence[Raw], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(raws[0]))
        writer.writeheader()
        writer.writerows(raws)


def _load_conll(path: Path) -> list[Raw]:
    """Lines `word tag ...`, a blank line between sentences."""
    blocks = path.read_text(encoding="utf-8").split("\n\n")
    found = [[tuple(line.split(" ")[:2]) for line in block.splitlines() if line.strip()] for block in blocks]
    return [sentence for sentence in found if sentence]


def _store_conll(raws: Sequence[Raw], path: Path) -> None:
    blocks = ["".join(f"{word} {tag}\n" for word, tag in sentence) for sentence in raws]
    path.write_text("\n".join(blocks), encoding="utf-8")


def _load_squad(path: Path) -> list[Raw]:
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    return [
        {
            "id": question["id"],
            "question": question["question"],
            "context": paragraph["context"],
            "answers": question["answers"],
        }
        for article in articles
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def _store_squad(raws: Sequence[Raw], path: Path) -> None:
    paragraphs = [
        {"context": raw["context"], "qas": [{name: raw[name] for name in ("id", "question", "answers")}]}
        for raw in raws
    ]
    content = {"version": "1.1", "data": [{"title": "rows", "paragraphs": paragraphs}]}
    path.write_text(json.dumps(content), encoding="utf-8")


_FORMATS: dict[str, tuple[Callable[[Path], list[Raw]], Callable[[Sequence[Raw], Path], None]]] = {
    ".csv": (_load_csv, _store_csv),
    ".txt": (_load_conll, _store_conll),
    ".json": (_load_squad, _store_squad),
}

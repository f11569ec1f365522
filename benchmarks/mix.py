"""The texts that benchmarks/embed.py embeds: many short ones, some long ones, as a search index has them.

45 % SST-2 sentences, 40 % Banking77 questions, 12 % SQuAD paragraphs, 3 % IMDb reviews, in random order.
About 42 word pieces a text on average; half the texts have fewer than 24, a few fill the model's 256.
"""

from __future__ import annotations

import csv
import json
import lzma
import random
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
SHARES = {"sst2": 0.45, "banking77": 0.40, "squad": 0.12, "imdb": 0.03}
DESCRIPTION = "45 % SST-2 sentences, 40 % Banking77 questions, 12 % SQuAD paragraphs, 3 % IMDb reviews"


def mixed_texts(data: Path = DATA, count: int = 2000, seed: int = 0) -> tuple[list[str], str]:
    """Draw ``count`` different texts; returns them with a line that says what they are."""
    if not data.is_dir():
        return _from_documentation(count, seed), f"made from this repository's own pages ({data} is not here)"
    draw = random.Random(seed)  # noqa: S311
    chosen: list[str] = []
    for name, share in SHARES.items():
        chosen += draw.sample(_distinct(_SOURCES[name](data)), round(count * share))
    draw.shuffle(chosen)
    return chosen, DESCRIPTION


def _distinct(texts: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text.strip()))


def _column(path: Path, column: str) -> Iterator[str]:
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row[column]


def _paragraphs(path: Path) -> Iterator[str]:
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    return (paragraph["context"] for article in articles for paragraph in article["paragraphs"])


_SOURCES = {
    "sst2": lambda data: _column(data / "sst2" / "train.csv", "text"),
    "banking77": lambda data: _column(data / "banking77" / "train.csv", "text"),
    "squad": lambda data: _paragraphs(data / "squad" / "train.json"),
    "imdb": lambda data: _column(data / "imdb" / "train.csv.xz", "text"),
}


def _from_documentation(count: int, seed: int) -> list[str]:
    """Runs of words from the repository's pages, with the lengths of the real mix."""
    pages = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
    words = " ".join(page.read_text(encoding="utf-8") for page in pages).split()
    draw = random.Random(seed)  # noqa: S311
    texts = []
    for _ in range(count):
        length = (
            draw.randint(60, 180) if draw.random() < 1 - SHARES["sst2"] - SHARES["banking77"] else draw.randint(5, 24)
        )
        start = draw.randrange(max(1, len(words) - length))
        texts.append(" ".join(words[start : start + length]))
    return texts

"""Corrected words of Norvig's two lists of misspellings, what is left alone in running text, and words per second.

    python benchmarks/spelling.py LISTS [--text FILE] [--words LIST] [--model REF]

LISTS is a folder with spell-testset1.txt and spell-testset2.txt (norvig.com/spell-correct.html). The first was looked
at while the costs of edits were set, the second was not. His own program got 75 % and 68 %, without ever leaving an
unknown word as it is: beside what `graft run correct` answers, "always changed" is what it takes for most probable
among other words than the one typed. FILE is text without mistakes, a paragraph on each line (.txt, or a .csv.xz with a
column "document"): what is changed in it is changed wrongly.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import lzma
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import graft
from graft.text.word_list import find, spans


def pairs(path: Path) -> list[tuple[str, str]]:
    """(right, typed), from a file that assigns a Python dictionary."""
    text = path.read_text(encoding="utf-8")
    table: dict[str, str] = ast.literal_eval(text[text.index("{") : text.rindex("}") + 1])
    return [(right, typed) for right, many in table.items() for typed in many.split()]


def paragraphs(path: Path, most: int) -> list[str]:
    if path.name.endswith(".csv.xz"):
        csv.field_size_limit(2**24)
        with lzma.open(path, "rt", encoding="utf-8", newline="") as file:
            texts = [row["document"] for row in csv.DictReader(file)]
    else:
        texts = path.read_text(encoding="utf-8").splitlines()
    return [text for text in texts if text.strip()][:most]


def other(answer: Any, typed: str) -> str:
    """The most probable word that is not the one typed."""
    found = [name for one in answer.corrections for name in one.candidates if name != one.text]
    return found[0] if found else typed


def share(right: Sequence[bool]) -> float:
    return round(sum(right) / len(right), 4)


def on_list(path: Path, words: str, model: Any) -> dict[str, Any]:
    rows = pairs(path)
    known = find(words)
    start = time.perf_counter()
    answers = graft.run("correct", [typed for _, typed in rows], model=model, words=words)
    seconds = time.perf_counter() - start
    wanted = [right.lower() for right, _ in rows]
    return {
        "list": path.name,
        "misspellings": len(rows),
        "corrected": share([one.text.lower() == right for one, right in zip(answers, wanted, strict=True)]),
        "always_changed": share(
            [other(one, typed).lower() == right for one, right, (_, typed) in zip(answers, wanted, rows, strict=True)]
        ),
        "right_word_not_in_list": sum(right not in known for right, _ in rows),
        "misspelling_in_list": sum(typed in known for _, typed in rows),
        "misspellings_per_second": round(len(rows) / seconds),
    }


def on_text(path: Path, words: str, model: Any, most: int) -> dict[str, Any]:
    texts = paragraphs(path, most)
    start = time.perf_counter()
    answers = graft.run("correct", texts, model=model, words=words)
    seconds = time.perf_counter() - start
    count = sum(len(spans(text)) for text in texts)
    unknown = [one for answer in answers for one in answer.corrections or ()]
    changed = [(one.text, one.replacement) for one in unknown if one.text != one.replacement]
    return {
        "text": path.name,
        "words": count,
        "not_in_list": len(unknown),
        "changed_wrongly": len(changed),
        "changed_per_1000_words": round(1000 * len(changed) / count, 2),
        "words_per_second": round(count / seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lists", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--words", default="english")
    parser.add_argument("--model")
    given = parser.parse_args()
    model = graft.load(given.model) if given.model else None
    graft.run("correct", ["warmm"], words=given.words)  # the list is read once
    for name in ("spell-testset1.txt", "spell-testset2.txt"):
        print(json.dumps(on_list(given.lists / name, given.words, model)), flush=True)
    if given.text is not None:
        print(json.dumps(on_text(given.text, given.words, model, given.texts)))


if __name__ == "__main__":
    main()

"""Corpus: labelled texts written by a model from what texts of each label begin with."""

from __future__ import annotations

import csv
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graft import tasks
from graft.errors import DataError, UsageError, nearest
from graft.files import replacing
from graft.grafted import Model
from graft.heads import Answer
from graft.loading import load
from graft.recipes.run import run
from graft.recipes.watch import Watch
from graft.writing.length import check_number

COLUMNS = ("text", "label", "seed")
KINDS = (".csv", ".tsv", ".jsonl")

ROUNDS = 4
"""Times that texts are drawn, as long as some are empty or the same as others."""

AT_ONCE = 64
"""Texts between two looks at the bar."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What was written.

    Attributes:
        texts: how many of each label.
        prefixes: what they go on from.
        settings: how they were drawn.
        seed: of the first text; every text has its own, one more than the one before, kept beside it.
        left_out: texts that were empty, or the same as another, and were drawn anew.
    """

    texts: dict[str, int]
    prefixes: dict[str, list[str]]
    settings: dict[str, Any]
    seed: int
    left_out: int

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def corpus(
    out: str | Path,
    prefixes: Mapping[str, Sequence[str]],
    *,
    model: str | Path | Model,
    n: int = 10,
    dtype: str = "auto",
    watch: Watch | None = None,
    **settings: Any,
) -> Corpus:
    """Write n different texts for each label to a file with the columns text, label and seed.

    The text is what the model wrote, without the prefix: that is the same in all texts of a label, and would give the
    label away to whatever learns from them. A label's prefixes take turns. `graft.run("generate", [prefix],
    seed=SEED)` with the same settings gives a row again.

    Args:
        out: a .csv, .tsv or .jsonl file.
        prefixes: for each label what its texts go on from.
        model: a folder, a name, or a loaded model that writes.
        n: texts for each label.
        dtype: what to compute in.
        watch: where progress goes.
        **settings: as of `graft.run("generate", ...)`.

    Raises:
        UsageError: no labels, an empty prefix, a file of another kind, or a setting that there is not.
        DataError: the model does not write so many different texts.
    """
    watch, target = watch or Watch(quiet=True), Path(out)
    _check(target, prefixes, n, settings)
    opened = model if isinstance(model, Model) else load(model, dtype=dtype)
    seed = settings.pop("seed", None)
    first = secrets.randbelow(2**31) if seed is None else seed
    rows: list[tuple[str, str, int]] = []
    left_out, number = 0, first
    with watch.bar("generate", n * len(prefixes), "texts") as bar:
        for label, starts in prefixes.items():
            made, tried = _different(opened, starts, n, number, settings, bar.advance)
            if len(made) < n:
                raise DataError(
                    f"label {label!r}: {tried} texts were drawn, {len(made)} of them different and not empty, and {n} "
                    "are asked for; raise the temperature or max_tokens, or give more prefixes"
                )
            rows += [(text, label, own) for text, own in made]
            left_out, number = left_out + tried - n, number + tried
    _write(target, rows)
    counted = {label: sum(one == label for _, one, _ in rows) for label in prefixes}
    listed = {label: list(starts) for label, starts in prefixes.items()}
    return Corpus(texts=counted, prefixes=listed, settings=settings, seed=first, left_out=left_out)


def _check(target: Path, prefixes: Mapping[str, Sequence[str]], n: int, settings: Mapping[str, Any]) -> None:
    if target.suffix.lower() not in KINDS:
        raise UsageError(f"--dataset {target}: {nearest(target.suffix, KINDS)}")
    if not prefixes:
        raise UsageError('a corpus needs labels: --positive "..." --negative "...", or --prefix label="..." for each')
    for label, starts in prefixes.items():
        if not starts or not all(isinstance(one, str) and one.strip() for one in starts):
            raise UsageError(f"the prefix of label {label!r} is empty; give what its texts go on from")
    check_number("n", n)
    options = tasks.find("generate").options
    for name in settings:
        if name not in options or name in ("n", "on_text"):
            raise UsageError(f"generate has no setting {name!r}: {nearest(name, options)}")


def _different(
    model: Model, prefixes: Sequence[str], n: int, seed: int, settings: Mapping[str, Any], progress: Any
) -> tuple[list[tuple[str, int]], int]:
    """So many different texts, each with its seed, and how many were drawn."""
    found: dict[str, int] = {}
    tried = 0
    for _ in range(ROUNDS):
        for _ in range(0, n - len(found), AT_ONCE):
            wanted = min(AT_ONCE, n - len(found))
            for text, own in _drawn(model, prefixes, seed + tried, wanted, settings):
                if text and text not in found:
                    found[text] = own
                    progress(1)
            tried += wanted
    return list(found.items()), tried


def _drawn(
    model: Model, prefixes: Sequence[str], seed: int, count: int, settings: Mapping[str, Any]
) -> Iterator[tuple[str, int]]:
    """So many texts, the prefixes in turn, each with a seed of its own."""
    seeds = [seed + place for place in range(count)]
    given = [prefixes[own % len(prefixes)] for own in seeds]
    answers: list[Answer] = run("generate", given, model=model, seeds=seeds, **settings)
    for answer, own in zip(answers, seeds, strict=True):
        yield (answer.text or "").strip(), own


def _write(target: Path, rows: Sequence[tuple[str, str, int]]) -> None:
    with replacing(target) as new, new.open("w", encoding="utf-8", newline="") as file:
        if target.suffix.lower() == ".jsonl":
            for row in rows:
                file.write(f"{json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False)}\n")
            return
        table = csv.writer(file, delimiter="\t" if target.suffix.lower() == ".tsv" else ",", lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows)

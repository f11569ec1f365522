"""How the answers of ``graft run`` are printed, or written to a file."""

from __future__ import annotations

import contextlib
import csv
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from graft.cli import asked, corrected, scored, writing
from graft.cli.output import as_json as json_line
from graft.cli.output import bar, one_line, shortened, write, write_columns, write_json
from graft.errors import ModelError, UsageError, nearest
from graft.files import replacing

if TYPE_CHECKING:
    from graft.cli.texts import Item
    from graft.heads import Answer, Entity
    from graft.recipes.watch import Watch

ABSTAINED = "abstained: less sure than the model was told to be; the first label is its guess"

SHOWN = 12
"""Labels shown of one answer."""

DELIMITERS = {".csv": ",", ".tsv": "\t"}

PARTS = ("question", "context")
"""The two texts of a choice."""


class Sink:
    """Where answers go; counts them, and what was not read of their texts."""

    def __init__(self) -> None:
        self.texts = self.truncated_texts = self.truncated_tokens = self.examples_left_out = 0
        self.windows = self.windowed = self.abstained = self.unscored = 0
        self.notes: Counter[str] = Counter()
        self.streamed = False

    def add(self, items: Sequence[Item], answers: Sequence[Answer], *, single: bool) -> None:
        """Take the answers to a chunk of texts.

        Raises:
            ModelError: an answer is no finite number.
        """
        for item, answer in sorted(zip(items, answers, strict=True), key=lambda pair: pair[1].rank or 0):
            _check_finite(item, answer)
            self.texts += 1
            self.truncated_texts += answer.truncated_tokens > 0
            self.truncated_tokens += answer.truncated_tokens
            self.examples_left_out += answer.examples_left_out or 0
            several = answer.windows is not None and answer.windows > 1
            self.windowed, self.windows = self.windowed + several, self.windows + several * (answer.windows or 0)
            self.abstained += answer.abstained is True
            self.unscored += (answer.unscored or 0) > 0
            self.notes.update(answer.notes or ())
            self.one(item, answer, single)
        self.flush()

    def one(self, item: Item, answer: Answer, single: bool) -> None:
        """Take one answer."""
        raise NotImplementedError

    def flush(self) -> None:
        """Hand over what has come so far."""


class Json(Sink):
    """Lines of JSON; for a single text only the answer, for others with the text."""

    def one(self, item: Item, answer: Answer, single: bool) -> None:
        """Print one line."""
        write_json(fields(answer) if single else beside(item, answer))

    def flush(self) -> None:
        """Let a reader see the answers at once."""
        sys.stdout.flush()


class Plain(Json):
    """For people: a table of labels for a single text, a line for each of several."""

    def one(self, item: Item, answer: Answer, single: bool) -> None:
        """Print one answer."""
        if answer.entities is not None:
            _show_entities(joined(item), answer.entities, single)
            return
        show = _in_its_text(item, answer) if single else None
        if show is not None:
            show()
            return
        if answer.log_probability is not None or answer.insert is not None:
            scored.show(joined(item), answer, single=single)
            return
        if answer.finish_reason is not None or answer.spans is not None:
            writing.show(joined(item), answer, single=single, streamed=self.streamed)
            return
        if not single or answer.probabilities is None:
            line = brief(answer)
            write(line if single else f"{line}  {shortened(joined(item), len(line) + 2)}")
            return
        _ranked(answer)


def _ranked(answer: Answer) -> None:
    """The labels of one text, the most probable first."""
    if answer.labels is not None:
        write(f"labels: {', '.join(map(one_line, answer.labels)) or 'none'}")
    ranked = sorted((answer.probabilities or {}).items(), key=lambda pair: -pair[1])
    write_columns([[one_line(name), f"{p:.3f}", bar(p)] for name, p in ranked[:SHOWN]])
    if answer.abstained:
        write(ABSTAINED)
    if len(ranked) > SHOWN:
        write(f"and {len(ranked) - SHOWN} more; --json has all")


def _show_entities(text: str, entities: Sequence[Entity], single: bool) -> None:
    line = marked(text, entities)
    write(one_line(line) if single else shortened(line))
    if single:
        write_columns([[one_line(one.text), one.label, f"{one.score:.3f}"] for one in entities])


def _in_its_text(item: Item, answer: Answer) -> Callable[[], None] | None:
    """How an answer that stands in its text is shown; None for others."""
    if answer.corrections is not None:
        return lambda: corrected.show(joined(item), answer)
    return (lambda: asked.show(str(item.text[1]), answer)) if answer.no_answer is not None else None


class Lines(Sink):
    """A file of JSON lines."""

    def __init__(self, file: IO[str]) -> None:
        super().__init__()
        self.file = file

    def one(self, item: Item, answer: Answer, single: bool) -> None:
        """Write one line."""
        self.file.write(f"{json_line(beside(item, answer))}\n")


class Cells(Lines):
    """A file of delimited cells."""

    def __init__(self, file: IO[str], delimiter: str) -> None:
        super().__init__(file)
        self.writer: csv.DictWriter[str] | None = None
        self.delimiter = delimiter

    def one(self, item: Item, answer: Answer, single: bool) -> None:
        """Write one row, and before the first the column names."""
        if answer.finish_reason is not None or answer.spans is not None:
            for row in writing.cells(beside(item, answer), answer):
                self.row(row)
            return
        row = beside(item, answer)
        for name in ("probabilities", "tagged", *(() if "insert" in row else ("alternatives",))):
            row.pop(name, None)
        for name in {"entities", "pieces", "alternatives", "corrections"} & set(row):
            row[name] = json_line(row[name])
        if "labels" in row:
            row["labels"] = "|".join(row["labels"])
        self.row(row)

    def row(self, row: dict[str, Any]) -> None:
        """Write cells; the first ones name the columns."""
        if self.writer is None:
            self.writer = csv.DictWriter(self.file, list(row), delimiter=self.delimiter, lineterminator="\n")
            self.writer.writeheader()
        self.writer.writerow(row)


@contextlib.contextmanager
def written(out: str | None, task: str, as_json: bool, watch: Watch) -> Iterator[Sink]:
    """Give the sink for one run; a file appears only when all answers are in it.

    Raises:
        UsageError: a file of a kind that is not written.
        StorageError: the file cannot be written.
    """
    if out is None:
        sink: Sink = Json() if as_json else Plain()
        yield sink
    else:
        kind = _kind(out, task)
        with replacing(Path(out)) as new, new.open("w", encoding="utf-8", newline="") as file:
            sink = Lines(file) if kind == ".jsonl" else Cells(file, DELIMITERS[kind])
            yield sink
        watch.note(f"{sink.texts:,} answers written to {out}")
        if as_json:
            counts = {"texts": sink.texts, "truncated_tokens": sink.truncated_tokens}
            write_json({"out": out, **counts, "windows": sink.windows, "abstained": sink.abstained})
    _say(sink, watch)


def _say(sink: Sink, watch: Watch) -> None:
    """What became of texts longer than the model, and which answers are not to be relied on."""
    if sink.truncated_tokens:
        watch.note(
            f"note: {sink.truncated_tokens:,} tokens of {sink.truncated_texts:,} of {sink.texts:,} texts did not fit "
            "the model and were not read"
        )
    if sink.examples_left_out:
        watch.note(f"note: {sink.examples_left_out:,} worked examples of the prompt did not fit and were left out")
    if sink.windows:
        watch.note(
            f"note: {sink.windowed:,} of {sink.texts:,} texts did not fit the model and were read in {sink.windows:,} "
            "windows"
        )
    if sink.unscored:
        watch.note(
            f"note: first token not scored in {sink.unscored:,} of {sink.texts:,} texts: nothing stands before it that "
            "this model could tell it from"
        )
    if sink.abstained:
        watch.note(f"note: {sink.abstained:,} of {sink.texts:,} answers are marked as abstained")
    for note, count in sink.notes.items():
        watch.note(f"note: {note}" if sink.texts == 1 else f"note: {count:,} of {sink.texts:,} answers: {note}")


def _kind(out: str, task: str) -> str:
    kind, valid = Path(out).suffix.lower(), [".jsonl", *([] if task == "embed" else DELIMITERS)]
    if kind not in valid:
        raise UsageError(f"--out {out}: cannot write {kind or 'a file without an extension'!r}: {nearest(kind, valid)}")
    return kind


def about(item: Item) -> dict[str, Any]:
    """The text of an answer, and its line."""
    if item.file:
        return {"file": item.file}
    line = {} if item.line is None else {"line": item.line}
    if item.choices:
        asked = {"question": item.text} if isinstance(item.text, str) else dict(zip(PARTS, item.text, strict=True))
        return {**line, **asked}
    if isinstance(item.text, tuple):
        return {**line, **{name: text for name, text in zip(item.names, item.text, strict=True) if name}}
    if item.names[0] == "question" and isinstance(item.text, str):
        return {**line, "question": item.text}
    return {**line, "text": item.text if isinstance(item.text, str) else " ".join(item.text)}


def beside(item: Item, answer: Answer) -> dict[str, Any]:
    """A text with its answer; where that is a text as well, what it was made from is called source."""
    given = about(item)
    if answer.text is not None and "text" in given:
        given = {("source" if name == "text" else name): value for name, value in given.items()}
    return {**given, **fields(answer)}


def fields(answer: Answer) -> dict[str, Any]:
    """An answer for JSON. Embeddings are float32: nine digits hold them exactly."""
    given = answer.as_dict()
    if answer.embedding is not None:
        given["embedding"] = [float(f"{value:.9g}") for value in answer.embedding]
    return given


def brief(answer: Answer) -> str:
    """An answer on one line."""
    if answer.text is not None:
        return one_line(answer.text)
    if answer.embedding is not None:
        return " ".join(f"{value:.6g}" for value in answer.embedding)
    if answer.no_answer is not None:
        return asked.brief(answer)
    if answer.score is not None:
        return f"{answer.score:.4f}"
    names = [answer.label or ""] if answer.labels is None else answer.labels
    width = max((len(name) for name in answer.probabilities or ()), default=0)
    mark = "  abstained" if answer.abstained else " " * len("  abstained") if answer.abstained is False else ""
    return f"{one_line(', '.join(names) or 'none'):<{width}}  {answer.probability or 0:.3f}{mark}"


def marked(text: str, entities: Sequence[Entity]) -> str:
    """A text with its entities in brackets.

    >>> from graft.heads import Entity
    >>> marked("In Paris.", [Entity(text="Paris", label="LOC", score=0.9, start=3, end=8, words=(1, 2))])
    'In [Paris LOC].'
    """
    parts, place = [], 0
    for one in entities:
        parts.append(f"{text[place : one.start]}[{one.text} {one.label}]")
        place = one.end
    return "".join(parts) + text[place:]


def joined(item: Item) -> str:
    """A pair, or words, as one text."""
    return " | ".join(value for name, value in about(item).items() if name != "line")


def _check_finite(item: Item, answer: Answer) -> None:
    numbers = [answer.probability, answer.score, answer.no_answer, answer.log_probability, answer.perplexity]
    numbers += [*(answer.embedding or ())]
    if not all(number is None or math.isfinite(number) for number in numbers):
        where = "" if item.line is None else f" (line {item.line})"
        raise ModelError(
            f"the model's answer to {joined(item)[:60]!r}{where} is no finite number: its weights are damaged, "
            "or too large for this --dtype; try --dtype float32"
        )

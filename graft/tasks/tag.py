"""Tag: every word gets a label, and labels spell entities: names of people, places and organizations, or anything else.

A sentence is a list of words, a row of CoNLL files or of columns `tokens` and `ner_tags`; raw text is split into words
by the rule of graft.text.words. A word is labelled at its first token (Devlin et al. 2019, section 5.3), long sentences
are read in overlapping windows, and what is answered is always a legal sequence of the model's scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from graft.data.columns import Role
from graft.data.table import Reject, Table
from graft.data.tags import fault, of_one_scheme
from graft.errors import DataError, ModelError, UsageError, nearest
from graft.grafted import Model
from graft.heads import Answer, Entity, Head, Tag, Word, chain
from graft.inference import Progress, check_encodings
from graft.sealed import Text
from graft.tasks import Outputs, Row, Task
from graft.text import Encoding, tag_schemes, words
from graft.text.tag_schemes import Scheme, Span
from graft.text.words import Windows
from graft.train.example import Example

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval
    from graft.evaluate.report import Section

NOTHING = 0.1
"""Probability, shared among all labels, that a word the tokenizer makes nothing of is part of an entity."""


@dataclass(frozen=True)
class Sentence:
    """A text as words.

    Attributes:
        text: the text.
        words: characters (first, last + 1) of each word.
    """

    text: str
    words: list[tuple[int, int]]

    def tokens(self) -> list[str]:
        """The words themselves."""
        return [self.text[first:end] for first, end in self.words]


class TagTask(Task):
    """Named entities, and other labels on words."""

    name = "tag"
    head = "tag"
    primary = "f1"
    windows = True
    roles = (
        Role(name="tokens", aliases=("words",)),
        Role(name="ner_tags", aliases=("tags", "ner", "labels", "pos_tags", "pos", "upos", "chunk_tags")),
    )

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Rows with words and as many tags, all of one scheme."""
        good, rejected = [], []
        for line, values in zip(table.lines, table.rows, strict=True):
            tokens, tags = (values.get(columns[role]) if role in columns else None for role in ("tokens", "ner_tags"))
            reason = fault(tokens, tags, columns)
            if reason:
                rejected.append(Reject(line=line, reason=reason, text=str(tokens or "")))
            else:
                good.append((line, list(tokens or ()), list(tags or ())))
        if "ner_tags" not in columns:
            return [Row(tuple(tokens), None, line) for line, tokens, _ in good], rejected
        kept, broken = of_one_scheme(good, apart=table.format.startswith("conll"))
        return [Row(tuple(tokens), tags, line) for line, tokens, tags in kept], [*rejected, *broken]

    def said(self, rows: Sequence[Row]) -> str:
        """The scheme the tags are in."""
        found = next((row.target.scheme for row in rows if row.target is not None), "")
        more = {"IOB1": ", read as IOB2", "plain": " (no entities: every word has its own)", "IO": " (bare types)"}
        return f"tags {found}{more.get(found, '')}" if found else ""

    def sequences(self, row: Row) -> tuple[Text, ...]:
        """The sentence, its words with a space between."""
        return (" ".join(str(word) for word in row.inputs),)

    def learn(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Label names, every part of every type, so that no later sentence needs one that is missing.

        Raises:
            DataError: fewer than two labels.
        """
        found = {tag for row in rows for tag in row.target}
        labels = tag_schemes.complete(found)
        if len(found) < 2:
            named = ", ".join(sorted(found)) or "none"
            raise DataError(f"only {len(found)} tag in {len(rows)} sentences ({named}); a tagger needs at least two")
        return {"labels": labels}

    def target(self, row: Row, head: Head) -> Tensor:
        """The number of each word's label, (words,), in the model's own scheme.

        Raises:
            DataError: a label the model does not have.
        """
        assert isinstance(head, Tag)
        scheme, tags = _scheme(head.labels), list(row.target)
        if scheme.entities:
            tags = scheme.spell(row.target.spans(), len(tags))
        for word, tag in zip(row.inputs, tags, strict=True):
            if tag not in head.labels:
                valid = nearest(tag, head.labels)
                raise DataError(f"line {row.line}: {word!r:.40}: the model has no label {tag!r}: {valid}")
        return torch.tensor([head.labels.index(tag) for tag in tags])

    def examples(self, model: Model, rows: Sequence[Row]) -> tuple[list[Example], int]:
        """Sentences as windows, with a target at the first token of each word, where it has most context."""
        assert model.head is not None
        found = []
        for row, read in zip(rows, _read(model, [list(map(str, row.inputs)) for row in rows]), strict=True):
            starts = np.cumsum([0, *map(len, read.ids)]).tolist()
            placed = [number for number, place in enumerate(read.places) if place is not None]
            places = tuple(starts[place[0]] + place[1] for place in read.places if place is not None)
            if places:  # else no word has a token, and there is nothing to learn from
                target = self.target(row, model.head)[placed]
                found.append(Example(tuple(read.ids), tuple(read.types), target, row.line, places))
        return found, 0

    def outputs(self, model: Model, rows: Sequence[Row], progress: Progress | None = None) -> Outputs:
        """For each row the logarithms of its words' label probabilities, (words, C), before any rule."""
        found = _read(model, [list(map(str, row.inputs)) for row in rows])
        return Outputs(values=_logs(model, found, progress), truncated_tokens=0)

    def measure(self, head: Head, values: Any, rows: Sequence[Row]) -> dict[str, Interval]:
        """Precision, recall and F1 of entities, all together and by type, and the share of words tagged rightly."""
        from graft.evaluate.tagging import tagging  # scipy: only where something is scored

        assert isinstance(head, Tag)
        scheme = _scheme(head.labels)
        target = [self.target(row, head).tolist() for row in rows]
        return tagging(target, chain.best_of(values, scheme), scheme)

    def sections(self, head: Head, values: Any, rows: Sequence[Row], scores: Mapping[str, Interval]) -> list[Section]:
        """Types one by one, what is taken for what, and the sentences with most mistakes."""
        from graft.evaluate.tag_sections import tagged_sections

        assert isinstance(head, Tag)
        scheme = _scheme(head.labels)
        target = [self.target(row, head).tolist() for row in rows]
        sentences = [list(map(str, row.inputs)) for row in rows]
        return tagged_sections(sentences, target, chain.best_of(values, scheme), scheme, scores)

    def method(self) -> str:
        """The bootstrap alone, over sentences."""
        return "95% intervals: bootstrap over sentences (1,000 resamples, seed 0)"

    def answer(
        self, model: Model, inputs: Sequence[Text | list[str]], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """The entities of each text, and every word with its tag.

        Args:
            model: with a head that tags.
            inputs: texts; or lists of words, which then stand for the text in which a space is between them.
            progress: told how many are done.
            **options: none.

        Raises:
            UsageError: the model does not tag words, or an input is a pair of texts.
        """
        if not isinstance(model.head, Tag):
            raise UsageError(
                f"{model.folder}: this model does not tag words; adapt one with `graft finetune DATA --task tag`, or "
                "give one published for token classification"
            )
        sentences = [_sentence(given) for given in inputs]
        found = _read(model, [sentence.tokens() for sentence in sentences])
        logs = _logs(model, found, progress)
        answers = _answers(sentences, logs, _scheme(model.head.labels))
        return [replace(answer, windows=len(read.ids)) for answer, read in zip(answers, found, strict=True)]


@lru_cache(64)
def _scheme(labels: tuple[str, ...]) -> Scheme:
    return tag_schemes.of_labels(labels)


def _sentence(given: Text | list[str]) -> Sentence:
    """An input as text with its words.

    Raises:
        UsageError: it is a pair of texts.
        DataError: it is neither text nor words.
    """
    if isinstance(given, str):
        return Sentence(given, words.split(given))
    if isinstance(given, tuple):
        raise UsageError("tag reads single texts, found a pair")
    if not isinstance(given, list) or not all(isinstance(word, str) and word.strip() for word in given):
        raise DataError(f"expected a text or a list of words, none of them empty, found {given!r:.60}")
    ends = np.cumsum([len(word) + 1 for word in given]).tolist()
    return Sentence(" ".join(given), [(end - 1 - len(word), end - 1) for word, end in zip(given, ends, strict=True)])


def _read(model: Model, sentences: Sequence[Sequence[str]]) -> list[Windows]:
    """Words as token ids for this model."""
    found = list(words.encode(model.tokenizer, sentences, limit=model.limit, overflow=model.settings.overflow))
    every = [Encoding(*both) for read in found for both in zip(read.ids, read.types, strict=True)]
    check_encodings(every, model.backbone.config, model.folder)
    return found


def _logs(model: Model, found: Sequence[Windows], progress: Progress | None) -> list[chain.Floats]:
    """The logarithms of the label probabilities of each word, (words, C) for each sentence."""
    assert isinstance(model.head, Tag)
    ids, types = [one for read in found for one in read.ids], [one for read in found for one in read.types]
    rows = model.pooled(ids, types, model.head, _at_most(len(found), progress))
    unknown_C, logs, start = torch.from_numpy(_nothing(_scheme(model.head.labels).outside_C)), [], 0
    for read in found:
        own = [unknown_C if at is None else rows[start + at[0]][at[1]].double().log_softmax(-1) for at in read.places]
        logs.append(torch.stack(own).numpy() if own else np.zeros((0, len(unknown_C))))
        start += len(read.ids)
    if not all(np.isfinite(one).all() for one in logs):
        raise ModelError(
            f"{model.folder}: the model's outputs are no finite numbers: its weights are damaged, or too large for "
            "this --dtype; try --dtype float32"
        )
    return logs


def _nothing(outside_C: chain.Flags) -> chain.Floats:
    """What is known of a word without a token: most likely it lies outside, unless its neighbours say otherwise."""
    if outside_C.all() or not outside_C.any():
        return np.full(len(outside_C), -np.log(len(outside_C)))
    share_C = np.where(outside_C, (1 - NOTHING) / outside_C.sum(), NOTHING / (~outside_C).sum())
    return np.asarray(np.log(share_C))


def _at_most(total: int, progress: Progress | None) -> Callable[[int], None] | None:
    """Progress in sentences, where it comes in windows, of which there may be more."""
    if progress is None:
        return None
    left = [total]

    def step(done: int) -> None:
        now = min(done, left[0])
        left[0] -= now
        progress(now)

    return step


def _answers(sentences: Sequence[Sentence], logs: Sequence[chain.Floats], scheme: Scheme) -> list[Answer]:
    """The best legal tags of each sentence, how probable they are, and the entities they spell."""
    found = [Answer(entities=(), tagged=()) for _ in sentences]
    for numbers, logs_BNC in chain.alike(logs):
        paths, (forward, backward) = chain.best(logs_BNC, scheme), chain.sums(logs_BNC, scheme)
        sure_BNC = chain.marginals(forward, backward)
        for row, number in enumerate(numbers):
            sentence, path = sentences[number], paths[row].tolist()
            parts = logs_BNC[row], forward[row], backward[row], scheme
            scored = [(one, chain.entity(*parts, path[one.first : one.end], one.first)) for one in scheme.spans(path)]
            sure = sure_BNC[row, np.arange(len(path)), path].tolist()
            tags = [(scheme.labels[label], probability) for label, probability in zip(path, sure, strict=True)]
            found[number] = Answer(
                entities=tuple(_entity(sentence, *one) for one in scored), tagged=tuple(_words(sentence, tags))
            )
    return found


def _entity(sentence: Sentence, span: Span, score: float) -> Entity:
    start, end = sentence.words[span.first][0], sentence.words[span.end - 1][1]
    text, reach = sentence.text[start:end], (span.first, span.end)
    return Entity(text=text, label=span.label, score=score, start=start, end=end, words=reach)


def _words(sentence: Sentence, tags: Sequence[tuple[str, float]]) -> Iterator[Word]:
    for (start, end), (tag, probability) in zip(sentence.words, tags, strict=True):
        yield Word(text=sentence.text[start:end], tag=tag, probability=probability, start=start, end=end)


TASK = TagTask()

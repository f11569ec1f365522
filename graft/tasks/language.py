"""Language: pretraining goes on with the user's text, so that a model knows its words before it learns a task.

What is learned is what the model was pretrained with: decoders tell the next token, encoders with a mask head what
stood behind masks (drawn anew in every epoch), T5 the spans that sentinels replace.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from graft.data.columns import Role
from graft.data.table import Reject, Table
from graft.errors import DataError, ModelError, UsageError
from graft.grafted import Model
from graft.heads import Answer, Head
from graft.inference import Progress
from graft.prompting.laying import end_token, two_stacks
from graft.sealed import Text
from graft.tasks import Outputs, Row, Task
from graft.train.corrupt import SHARE, SPAN, Draw, Fresh, masked, sentinels, spans
from graft.train.example import Example, log_likelihoods

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval
    from graft.evaluate.report import Section

BLOCK = 1024
"""Most tokens of a block, whatever the model could hold; --limit makes blocks shorter."""


class LanguageTask(Task):
    """Language modelling: next tokens, masks or spans, whatever the model's head is for.

    The score is the perplexity, exp of the mean negative log-likelihood of the tokens asked for, in the model's own
    tokens: of every token for decoders, each read after what precedes it in its document, or in its part of a document
    longer than a block; of hidden tokens for the others, the same ones at every evaluation.
    """

    name = "language"
    head = "next"
    keeps_head = True
    primary = "perplexity"
    measures_before = True
    roles = (Role(name="text", aliases=("document", "content", "body", "sentence")),)

    def fits(self, kind: str | None) -> bool:
        """Heads that predict tokens."""
        return kind in ("next", "mask")

    def settings(
        self, model: Model, rows: Sequence[Row], columns: Mapping[str, str], template: str | None
    ) -> dict[str, Any]:
        """Nothing; but a model that cannot go on is refused before the work begins.

        Raises:
            ModelError: its head does not predict tokens, or its vocabulary lacks what hides them.
        """
        _Layout(model)
        return super().settings(model, rows, columns, template)

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Documents."""
        kept, rejected = [], []
        for line, values in zip(table.lines, table.rows, strict=True):
            text = values.get(columns["text"])
            if isinstance(text, str) and text.strip():
                kept.append(Row((text,), None, line))
            else:
                reason = f"{columns['text']!r} is empty or not text"
                rejected.append(Reject(line=line, reason=reason, text=str(text or "")))
        return kept, rejected

    def examples(self, model: Model, rows: Sequence[Row]) -> tuple[Sequence[Example], int]:
        """All documents one after the other, cut into blocks of the model's length.

        Only a last token that would be a block of its own, and has nothing before it to be told from, is left out.
        """
        layout = _Layout(model)
        stream, starts = layout.stream([(str(row.inputs[0]), row.line) for row in rows])
        blocks = list(layout.blocks(stream, starts))
        seed = int(torch.randint(2**31, ()).item())
        drawn: Sequence[Example] = Fresh(blocks, layout.example, seed)
        return (list(drawn) if layout.kind == "next" else drawn), 0

    def outputs(self, model: Model, rows: Sequence[Row], progress: Progress | None = None) -> Outputs:
        """For each document its log-likelihood and how many tokens that is of, float64 (B, 2)."""
        layout = _Layout(model)
        examples: list[Example] = []
        owners: list[int] = []
        for number, row in enumerate(rows):
            chance = random.Random(f"{row.line}")
            ids = layout.opened(model.tokenizer.encode([str(row.inputs[0])])[0].ids)
            for block, line in layout.blocks(ids, [(0, row.line)]):
                examples.append(layout.example(block, line, chance))
                owners.append(number)
        values = torch.zeros(len(rows), 2, dtype=torch.float64)
        found = log_likelihoods(model, examples)
        for owner, example, one in zip(owners, examples, found, strict=True):
            values[owner] += torch.tensor([one, example.targets], dtype=torch.float64)
        if progress is not None:
            progress(len(rows))
        return Outputs(values=values, truncated_tokens=0)

    def measure(self, head: Head, values: Tensor, rows: Sequence[Row]) -> dict[str, Interval]:
        """Perplexity, by a bootstrap over documents.

        Raises:
            DataError: no document has a token to be told.
        """
        from graft.evaluate.intervals import Floats, bootstrap

        sums, counts = values.numpy().T
        if not counts.any():
            raise DataError("no document has a token that could be told; they are a single token each")

        def perplexity(weights: Floats) -> dict[str, Floats]:
            told = weights @ counts
            mean = np.divide(weights @ -sums, told, out=np.full_like(told, np.nan), where=told > 0)
            return {"perplexity": np.exp(np.minimum(mean, 700.0))}

        worst = np.exp(min(700.0, float(np.max(-sums[counts > 0] / counts[counts > 0]))))
        return bootstrap(perplexity, len(rows), bounds={"perplexity": (1.0, worst)})

    def sections(
        self, head: Head, values: Tensor, rows: Sequence[Row], scores: Mapping[str, Interval]
    ) -> list[Section]:
        """The documents it knows least and best."""
        from graft.evaluate import report

        told = [n for n in range(len(rows)) if values[n, 1]]
        order = sorted(told, key=lambda n: float(values[n, 0] / values[n, 1]))
        shown = order[:6] + order[6:][-6:]
        texts = [
            (str(rows[n].inputs[0]), "", f"{_perplexity(*values[n].tolist()):,.1f} a token over {values[n, 1]:.0f}")
            for n in shown
        ]
        return [report.written_section(texts)]

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """The perplexity of each text, as its score.

        Raises:
            UsageError: an input is a pair.
            DataError: a text has no token that could be told.
        """
        plain = [text for text in inputs if isinstance(text, str)]
        if len(plain) != len(inputs):
            raise UsageError(f"{self.name} reads single texts, found pairs")
        found = self.outputs(model, [Row((text,), None, number) for number, text in enumerate(plain)], progress)
        for text, (_, told) in zip(plain, found.values.tolist(), strict=True):
            if not told:
                raise DataError(f"{text[:40]!r} has no token that could be told")
        return [Answer(score=_perplexity(total, told)) for total, told in found.values.tolist()]


class _Layout:
    """How text becomes blocks for one model."""

    def __init__(self, model: Model) -> None:
        kind = None if model.head is None else model.head.kind
        backbone = model.backbone
        if kind not in ("next", "mask") or (kind == "next" and not (two_stacks(model) or backbone.config.causal)):
            raise ModelError(
                f"{model.folder}: going on with pretraining needs a model with the head it was pretrained with: one "
                "that reads from left to right and tells the next token, one that fills masks, or a T5 with its decoder"
            )
        tokenizer = model.tokenizer
        self.model, self.kind = model, "span" if two_stacks(model) else kind
        self.start, self.end = ([tokenizer.token_id(name) for name in part] for part in _frame(model))
        named = {*tokenizer.special_tokens.values(), *tokenizer.frame.start, *tokenizer.frame.end}
        self.special = {tokenizer.token_id(name) for name in named}
        self.mask = tokenizer.token_id("mask_token") if kind == "mask" else -1
        self.room = min(model.limit or BLOCK, BLOCK)
        if self.kind != "next":
            self.room -= len(self.start) + len(self.end)
        count = round(max(1, round(SHARE * self.room)) / SPAN) + 1
        self.sentinels = sentinels(model, count) if self.kind == "span" else []
        if self.room < 2:
            raise UsageError(f"limit is {model.limit} tokens, too few for blocks of text")

    def opened(self, ids: list[int]) -> list[int]:
        """A text's own tokens, for decoders behind what a document begins after."""
        frame = self.model.tokenizer.frame
        own = ids[len(frame.start) : len(ids) - len(frame.end)]
        return [*(self.start or self.end), *own] if self.kind == "next" else own

    def stream(self, documents: Sequence[tuple[str, int]]) -> tuple[list[int], list[tuple[int, int]]]:
        """All documents as one row of tokens, and for each where it starts there and its line."""
        stream: list[int] = []
        starts = []
        encodings = self.model.tokenizer.encode([text for text, _ in documents])
        for encoding, (_, line) in zip(encodings, documents, strict=True):
            starts.append((len(stream), line))
            own = self.opened(encoding.ids)
            if stream and not (self.kind == "next" and not self.start):
                stream += self.end
            stream += own
        if self.kind == "next":
            stream += self.end
        return stream, starts

    def blocks(self, stream: Sequence[int], starts: Sequence[tuple[int, int]]) -> Iterator[tuple[list[int], int]]:
        """Parts of a row of tokens with the line of the document each starts in; a decoder's share a token."""
        more = 1 if self.kind == "next" else 0
        waiting, line = list(starts), starts[0][1] if starts else 0
        for place in range(0, max(len(stream) - more, 0), self.room):
            while waiting and waiting[0][0] <= place:
                line = waiting.pop(0)[1]
            block = list(stream[place : place + self.room + more])
            if len(block) > 1 or (self.kind == "mask" and not self.special.issuperset(block)):
                yield block, line

    def example(self, block: Sequence[int], line: int, chance: random.Random) -> Example:
        """What is read of a block, and what is to be told."""
        made: dict[str, Draw] = {"next": self._next, "mask": self._masked, "span": self._spans}
        return made[str(self.kind)](block, line, chance)

    def _next(self, block: Sequence[int], line: int, chance: random.Random) -> Example:
        places = tuple(range(len(block) - 1))
        return Example((list(block[:-1]),), (None,), torch.tensor(block[1:]), line, places)

    def _masked(self, block: Sequence[int], line: int, chance: random.Random) -> Example:
        ids = [*self.start, *block, *self.end]
        read, places = masked(ids, self.special, self.mask, self.model.backbone.config.vocab_size, chance)
        target = torch.tensor([ids[place] for place in places], dtype=torch.int64)
        return Example((read,), (None,), target, line, tuple(places))

    def _spans(self, block: Sequence[int], line: int, chance: random.Random) -> Example:
        read, written = spans(block, self.sentinels, chance)
        answer = [*written, *self.end]
        decoder = [self.model.backbone.config.start_token, *answer[:-1]]  # type: ignore[attr-defined]
        return Example(
            ([*read, *self.end],), (None,), torch.tensor(answer), line, tuple(range(len(answer))), (decoder,)
        )


def _frame(model: Model) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the tokens before and after a document."""
    frame = model.tokenizer.frame
    if model.head is not None and model.head.kind == "mask":
        return frame.start, frame.end
    if frame.end or "eos_token" not in model.tokenizer.special_tokens:
        return frame.start, frame.end
    end_token(model)
    return frame.start, ("eos_token",)


def _perplexity(total: float, told: float) -> float:
    return math.exp(min(700.0, -total / told)) if told else math.nan


TASK = LanguageTask()

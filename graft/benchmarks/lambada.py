"""LAMBADA (Paperno et al. 2016): the last word of a passage, which takes all of the passage to tell.

As lm-eval's `lambada_openai`: the passage without its last word is read with nothing before it, the last word follows
behind a space. `acc` is the share of rows whose last word is the most probable token at each step; `perplexity` is the
exponential of the mean surprisal of a last word, in nats, whatever the number of its tokens. A passage longer than the
model loses its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from graft.batch import Packed
from graft.benchmarks import Benchmark
from graft.data.columns import Role
from graft.data.table import Table
from graft.errors import DataError
from graft.generate.likelihood import start_tokens, tell
from graft.grafted import Model
from graft.heads import Head
from graft.inference import Progress, run_all
from graft.tasks import Outputs, Row

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval


class Lambada(Benchmark):
    """The last word of passages."""

    name = "lambada"
    primary = "acc"
    roles = (Role(name="context", aliases=("passage",)), Role(name="continuation", aliases=("target", "completion")))

    def reshape(self, table: Table) -> Table:
        """Whole passages as `text`, cut before their last word."""
        if "text" not in table.names or {"context", "continuation"} & set(table.names):
            return table
        rows = [{**row, **_cut(row.get("text"))} for row in table.rows]
        return replace(table, names=("context", "continuation", *table.names), rows=rows)

    def row(self, texts: Sequence[str], line: int) -> Row:
        """A passage and its last word."""
        return Row((texts[0],), texts[1], line)

    def outputs(self, model: Model, rows: Sequence[Row], progress: Progress | None = None) -> Outputs:
        """For each row the log-probability of its last word, and whether it is the most probable one, float64 (n, 2).

        Raises:
            ModelError: the model does not read from left to right.
        """
        self.check(model)
        read, cut = _encode(model, rows)
        values = torch.zeros(len(rows), 2, dtype=torch.float64)

        def keep(indices: list[int], batch: Packed) -> None:
            places, targets = [], []
            for index, last in zip(indices, batch.last_B.tolist(), strict=True):
                ids, wanted = read[index]
                places += list(range(last + 1 - len(wanted), last + 1))
                targets += wanted
            hidden_TD = model.backbone.read(batch, "next")
            logs, greedy = tell(model, hidden_TD[torch.tensor(places, device=hidden_TD.device)], targets)
            start = 0
            for index in indices:
                end = start + len(read[index][1])
                values[index] = torch.tensor([sum(logs[start:end]), all(greedy[start:end])], dtype=torch.float64)
                start = end

        run_all([ids for ids, _ in read], None, keep, model.backbone, progress)
        return Outputs(values=values, truncated_tokens=cut)

    def measure(self, head: Head, values: Tensor, rows: Sequence[Row]) -> dict[str, Interval]:
        """Accuracy (Wilson's interval) and perplexity (bootstrap over rows)."""
        from graft.evaluate.intervals import Floats, bootstrap, wilson

        logs, right = values.numpy().T

        def perplexity(weights: Floats) -> dict[str, Floats]:
            return {"perplexity": np.exp(np.minimum(weights @ -logs / weights.sum(-1), 700.0))}

        worst = float(np.exp(min(700.0, float(-logs.min()))))
        found = bootstrap(perplexity, len(rows), bounds={"perplexity": (1.0, worst)})
        return {"acc": wilson(int(right.sum()), len(rows)), **found}


def _cut(text: object) -> dict[str, object]:
    """A passage and its last word, at the last space."""
    if not isinstance(text, str):
        return {"context": text, "continuation": text}
    context, _, word = text.rpartition(" ")
    return {"context": context, "continuation": word}


def _encode(model: Model, rows: Sequence[Row]) -> tuple[list[tuple[list[int], list[int]]], int]:
    """For each row what is read, and the tokens of the last word, told by its end; and how many tokens did not fit."""
    limit, start, found, cut = model.limit, start_tokens(model), [], 0
    contexts = [str(row.inputs[0]).rstrip() for row in rows]
    spaces = [str(row.inputs[0])[len(context) :] for context, row in zip(contexts, rows, strict=True)]
    words = [f"{space or ' '}{str(row.target).lstrip(' ')}" for space, row in zip(spaces, rows, strict=True)]
    before = _own(model, contexts)
    whole = _own(model, [context + word for context, word in zip(contexts, words, strict=True)])
    for row, first, ids in zip(rows, before, whole, strict=True):
        wanted = ids[len(first) :]
        every = [*(first or start[-1:]), *wanted]
        read = every[:-1] if limit is None else every[-(limit + 1) : -1]
        if not wanted or len(read) < len(wanted):
            raise DataError(
                f"line {row.line}: {row.target!r:.40} leaves nothing to tell it from; give a passage before it"
            )
        cut += len(every) - 1 - len(read)
        found.append((read, wanted))
    return found, cut


def _own(model: Model, texts: Sequence[str]) -> list[list[int]]:
    """Texts as token ids without special tokens."""
    frame = model.tokenizer.frame
    encodings = model.tokenizer.encode(texts)
    return [one.ids[len(frame.start) : len(one.ids) - len(frame.end)] for one in encodings]


BENCHMARK = Lambada()

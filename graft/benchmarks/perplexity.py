"""Perplexity of text: by word, by byte and by token, with lm-eval's definitions.

Documents are read in rolling windows as its `loglikelihood_rolling` does: the first begins with the token that begins
texts (or ends them, where there is no other), the next ones with the last token of the window before, and the last one
reads as much as the model holds. With S the sum of surprisals in nats: `word_perplexity` is exp(S / words), words being
the parts between white space; `byte_perplexity` is exp(S / bytes of UTF-8); `bits_per_byte` is S / bytes / ln 2;
`perplexity` is exp(S / tokens), which compares models of one vocabulary alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from graft.benchmarks import Benchmark
from graft.errors import DataError
from graft.generate.likelihood import WINDOW, Likelihood, likelihoods
from graft.grafted import Model
from graft.heads import Head
from graft.inference import Progress
from graft.tasks import Outputs, Row

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval


PARTS = 32
"""Parts of a lone document, at least, where it has as many tokens."""


class Perplexity(Benchmark):
    """How well a model tells text; a .txt file is one document, in other files each row is one."""

    name = "perplexity"
    primary = "word_perplexity"
    whole_text = True

    def outputs(self, model: Model, rows: Sequence[Row], progress: Progress | None = None) -> Outputs:
        """For each document its log-likelihood and how many tokens, words and bytes that is of, float64 (n, 4).

        A lone document is told in parts, for its interval: of a window each, or smaller ones where those are few.

        Raises:
            ModelError: the model does not read from left to right.
        """
        self.check(model)
        limit, values, windows, alone = model.limit or WINDOW, [], 0, len(rows) == 1
        for row in rows:
            text = str(row.inputs[0])
            (found,) = likelihoods(model, [text], stride=limit)
            words, size = counted(text) if row.target is None else row.target
            windows += found.windows if found.windows > 1 else 0
            step = min(limit, -(-len(found.ids) // PARTS)) if alone else len(found.ids)
            values += _parts(found, step, words, size)
            if progress is not None:
                progress(1)
        return Outputs(values=torch.tensor(values, dtype=torch.float64), truncated_tokens=0, windows=windows)

    def measure(self, head: Head, values: Tensor, rows: Sequence[Row]) -> dict[str, Interval]:
        """The perplexities, with a bootstrap over documents, or over the parts of a lone one."""
        from graft.evaluate.intervals import Floats, bootstrap

        logs, *counts = values.numpy().T
        units = dict(zip(("perplexity", "word_perplexity", "byte_perplexity"), counts, strict=True))
        if not counts[0].any():
            raise DataError("no document has a token that could be told; they are a single token each")

        def measured(weights: Floats) -> dict[str, Floats]:
            mean = {name: weights @ -logs / np.maximum(weights @ unit, 1e-9) for name, unit in units.items()}
            found = {name: np.exp(np.minimum(one, 700.0)) for name, one in mean.items()}
            return found | {"bits_per_byte": mean["byte_perplexity"] / math.log(2)}

        worst = {name: float(np.max(-logs / np.maximum(unit, 1e-9))) for name, unit in units.items()}
        bounds = {name: (1.0, math.exp(min(700.0, one))) for name, one in worst.items()}
        bounds["bits_per_byte"] = (0.0, worst["byte_perplexity"] / math.log(2))
        found = bootstrap(measured, len(values), bounds=bounds)
        return {name: found[name] for name in ("word_perplexity", "byte_perplexity", "bits_per_byte", "perplexity")}


def counted(text: str) -> tuple[int, int]:
    """Words and bytes of a document; what white space separates is a word, be it empty.

    >>> counted("one two ")
    (3, 8)
    """
    return len(re.split(r"\s+", text)), len(text.encode())


def _parts(found: Likelihood, step: int, words: int, size: int) -> list[tuple[float, float, float, float]]:
    """Log-likelihood, tokens, words and bytes of each so many tokens; words and bytes by their share of the tokens."""
    parts = []
    for start in range(0, len(found.ids), step):
        logs = [log for log in found.logs[start : start + step] if not math.isnan(log)]
        share = len(found.ids[start : start + step]) / len(found.ids)
        parts.append((math.fsum(logs), float(len(logs)), words * share, size * share))
    return parts


BENCHMARK = Perplexity()

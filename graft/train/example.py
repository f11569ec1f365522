"""What a model learns from: rows as token ids with their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graft.batch import Packed, by_length, pack
from graft.grafted import Model
from graft.heads import Head

TOKENS = 1024
"""Tokens whose logits over the whole vocabulary are held at once."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training row.

    Attributes:
        sequences: token ids; one sequence, or several that are one row: choices, two texts to compare.
        types: token types of each, where the tokenizer gives them.
        target: what the head's loss wants for the row, stacked with those of other rows; with `places`, one number for
            each of them, joined with those of other rows.
        line: where the row starts in its file.
        places: the tokens that have a target, counted through all sequences of the row, or through what the decoder
            reads; None where the target is the whole row's.
        decoder: what a decoder reads with each sequence.
        windows: of how many examples its row consists; each then counts for that part of a row.
    """

    sequences: tuple[Sequence[int], ...]
    types: tuple[Sequence[int] | None, ...]
    target: Tensor
    line: int
    places: tuple[int, ...] | None = None
    decoder: tuple[Sequence[int], ...] = ()
    windows: int = 1

    @property
    def tokens(self) -> int:
        """Tokens of all its sequences."""
        return sum(len(sequence) for sequence in (*self.sequences, *self.decoder))

    @property
    def targets(self) -> float:
        """How much it counts in a mean over a batch."""
        return 1 / self.windows if self.places is None else len(self.places)


def by_row(examples: Sequence[Example]) -> list[Sequence[Example]]:
    """Examples as tasks give them, the windows of each row together."""
    rows, start = [], 0
    while start < len(examples):
        rows.append(examples[start : start + examples[start].windows])
        start += examples[start].windows
    return rows


def task_loss(model: Model, examples: Sequence[Example]) -> Tensor:
    """Mean loss of the model's head over some rows, run as one packed batch; a window counts for its part of a row."""
    assert model.head is not None
    batch, read = packed(model, examples)
    return head_loss(model, examples, model.backbone.read(batch, model.head.kind, read), read or batch)


def head_loss(model: Model, examples: Sequence[Example], hidden_TD: Tensor, batch: Packed) -> Tensor:
    """The same from hidden states: those of the decoder's batch, where there is one."""
    head = model.head
    assert head is not None
    if len({example.windows for example in examples}) > 1:
        return _weighted(head, head(hidden_TD, batch), examples, model.device)
    places = _places(examples)
    seen = hidden_TD if places is None else hidden_TD[places.to(model.device)]
    join = torch.stack if places is None else torch.cat
    target = join([example.target for example in examples]).to(model.device)
    sizes = batch.lengths if head.per_token else [len(example.sequences) for example in examples]
    return head.loss(head(seen, batch), target, sizes)


def log_likelihoods(model: Model, examples: Sequence[Example]) -> list[float]:
    """The log-probability of each row's targets, the sum over its places, for heads that predict tokens."""
    found = [0.0] * len(examples)
    for indices in by_length([example.tokens for example in examples], TOKENS):
        rows = [examples[index] for index in indices if examples[index].targets]
        if not rows:
            continue
        assert model.head is not None
        with torch.inference_mode():
            batch, read = packed(model, rows)
            places = _places(rows)
            assert places is not None
            hidden_ND = model.backbone.read(batch, model.head.kind, read)[places.to(model.device)]
            logs_NV = model.head(hidden_ND, read or batch).log_softmax(-1)
            target_N = torch.cat([row.target for row in rows]).to(model.device)
            sums = logs_NV[torch.arange(len(target_N)), target_N].double().cpu().split([row.targets for row in rows])
        for index, one in zip([index for index in indices if examples[index].targets], sums, strict=True):
            found[index] = float(one.sum())
    return found


def _weighted(head: Head, output: Tensor, examples: Sequence[Example], device: torch.device) -> Tensor:
    """The mean over rows, from the means over examples that count alike."""
    own = torch.tensor([example.windows for example in examples])
    row_of_output = torch.repeat_interleave(own, torch.tensor([len(example.sequences) for example in examples]))
    total, loss = sum(example.targets for example in examples), output.new_zeros(())
    for windows in sorted({example.windows for example in examples}):
        chosen = [example for example in examples if example.windows == windows]
        target = torch.stack([example.target for example in chosen]).to(device)
        sizes = [len(example.sequences) for example in chosen]
        part = head.loss(output[(row_of_output == windows).to(device)], target, sizes)
        loss = loss + part * (len(chosen) / windows / total)
    return loss


def packed(model: Model, examples: Sequence[Example]) -> tuple[Packed, Packed | None]:
    """The rows as one batch, and what a decoder reads with it."""
    sequences = [sequence for example in examples for sequence in example.sequences]
    types = [kinds for example in examples for kinds in example.types]
    read = [sequence for example in examples for sequence in example.decoder]
    return pack(sequences, types).to(model.device), pack(read).to(model.device) if read else None


def _places(examples: Sequence[Example]) -> Tensor | None:
    """Rows of the batch that have a target."""
    places: list[int] = []
    start = 0
    for example in examples:
        if example.places is None:
            return None
        places += [start + place for place in example.places]
        start += sum(map(len, example.decoder or example.sequences))
    return torch.tensor(places, dtype=torch.int64)

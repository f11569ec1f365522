"""Learning from which rows share a label: rows drawn into groups, and the loss of all pairs in a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from graft.errors import DataError
from graft.grafted import Model
from graft.heads import Embed
from graft.train.example import Example, packed
from graft.transfer.probe import pool_of


def groups(examples: Sequence[Example], size: int, count: int, seed: int) -> list[Example]:
    """Draw groups of rows: as many labels as there is room for with two rows each, and equally many rows of each.

    Labels take turns, and so do the rows of a label. A label with one row only is seen beside others, never beside
    itself.

    Args:
        examples: rows with a label number each.
        size: rows in a group, where there are so many; at least two labels with two rows each.
        count: groups.
        seed: of the draw.

    Raises:
        DataError: no label has two rows.

    Returns:
        For each group one example of several sequences, its target the labels of all of them.
    """
    draw = torch.Generator().manual_seed(seed)
    of_label: dict[int, list[Example]] = {}
    for example in examples:
        of_label.setdefault(int(example.target), []).append(example)
    if max(map(len, of_label.values())) < 2:
        raise DataError("no label has two rows, and pairs of one label are what contrastive learns from; add rows")
    labels = _endless(sorted(of_label), draw)
    rows = {label: _endless(own, draw) for label, own in of_label.items()}
    together = max(2, min(len(of_label), size // 2))
    each = max(2, size // together)
    found = []
    for _ in range(count):
        chosen: dict[int, None] = {}
        while len(chosen) < together:
            chosen.setdefault(next(labels))
        own = [next(rows[label]) for label in chosen for _ in range(min(each, len(of_label[label])))]
        found.append(_joined(own))
    return found


Choice = TypeVar("Choice")


def _endless(choices: Sequence[Choice], draw: torch.Generator) -> Iterator[Choice]:
    """The choices in a random order, then in another, and so on."""
    while True:
        yield from (choices[number] for number in torch.randperm(len(choices), generator=draw).tolist())


def _joined(rows: Sequence[Example]) -> Example:
    return Example(
        sequences=tuple(row.sequences[0] for row in rows),
        types=tuple(row.types[0] for row in rows),
        target=torch.stack([row.target for row in rows]),
        line=rows[0].line,
    )


def pair_loss(model: Model, examples: Sequence[Example], temperature: float = 0.1) -> Tensor:
    """Which rows of its group share a row's label, told by cosines (Khosla et al. 2020, equation 2).

    For each row the mean over its partners of -log softmax(cosine / temperature), the softmax over all other rows; then
    the mean over the rows that have a partner, and over the groups.
    """
    assert model.head is not None
    batch, _ = packed(model, examples)
    embed = Embed(pool=pool_of(model.head), normalize=True)
    vectors_BD = embed(model.backbone.read(batch, embed.kind), batch)
    parts = vectors_BD.split([len(example.sequences) for example in examples])
    losses = [_told(part, one.target.to(part.device), temperature) for part, one in zip(parts, examples, strict=True)]
    return torch.stack(losses).mean()


def _told(vectors_BD: Tensor, labels_B: Tensor, temperature: float) -> Tensor:
    itself = torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
    partners = (labels_B[:, None] == labels_B) & ~itself
    scores = (vectors_BD @ vectors_BD.T / temperature).masked_fill(itself, torch.finfo(vectors_BD.dtype).min)
    found_B = torch.log_softmax(scores, dim=-1).masked_fill(~partners, 0.0).sum(-1)
    counts_B = partners.sum(-1)
    return -(found_B / counts_B.clamp(min=1)).sum() / (counts_B > 0).sum().clamp(min=1)

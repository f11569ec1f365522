"""Learning from which rows share a label: rows drawn into groups, and the loss of all pairs in a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

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

    Returns:
        For each group one example of several sequences, its target the labels of all of them.
    """
    draw = torch.Generator().manual_seed(seed)
    of_label: dict[int, list[Example]] = {}
    for example in examples:
        of_label.setdefault(int(example.target), []).append(example)
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


def pair_loss(model: Model, examples: Sequence[Example]) -> Tensor:
    """Squared error of the cosine of every two rows of a group: 1 for one label, 0 for two (Tunstall et al. 2022).

    Pairs of one label and pairs of two count the same in sum, however many there are.
    """
    assert model.head is not None
    batch, _ = packed(model, examples)
    embed = Embed(pool=pool_of(model.head), normalize=True)
    vectors_BD = embed(model.backbone.read(batch, embed.kind), batch)
    losses = []
    for own_ND, example in zip(vectors_BD.split([len(one.sequences) for one in examples]), examples, strict=True):
        first, second = torch.triu_indices(len(own_ND), len(own_ND), offset=1, device=own_ND.device)
        labels = example.target.to(own_ND.device)
        same, cosine = labels[first] == labels[second], (own_ND @ own_ND.T)[first, second]
        parts = [part for part in ((1 - cosine[same]) ** 2, cosine[~same] ** 2) if len(part)]
        losses.append(torch.stack([part.mean() for part in parts]).mean())
    return torch.stack(losses).mean()

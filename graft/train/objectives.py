"""What training makes small: the task's loss, a language model's beside it, and how unevenly experts are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from graft.batch import Packed
from graft.errors import UsageError
from graft.grafted import Model
from graft.heads import PredictNext
from graft.model.mixture import balance_loss
from graft.train.example import Example, head_loss, packed
from graft.train.vocabulary import widened
from graft.transfer import Group

MASKED, REPLACED, KEPT = 0.15, 0.8, 0.1
"""Share of a text's tokens to be told; of those, the shares a mask replaces and that stay (Devlin et al. 2019)."""

CHUNK = 1024
"""Tokens whose logits over the whole vocabulary are held at a time."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Tokens a language model is to tell.

    Attributes:
        hidden_TD: hidden states, of the text or of a corrupted copy.
        rows_N: the tokens whose hidden states tell.
        targets_N: the tokens they are to tell.
        owner_N: which sequence each belongs to.
    """

    hidden_TD: Tensor
    rows_N: Tensor
    targets_N: Tensor
    owner_N: Tensor


class Language(nn.Module):
    """A language model's loss on the rows of a task, for the same backbone (Radford et al. 2018, section 3.2).

    Families that read from left to right tell the next token, from the hidden states the task's head reads as well.
    The others fill masks in a corrupted copy of the texts.
    """

    def __init__(self, head: PredictNext, weight: float, mask: int | None, special: Sequence[int]) -> None:
        """Put a head to work.

        Args:
            head: of a language model.
            weight: lambda, the factor on the loss.
            mask: the id of the mask; None where next tokens are told.
            special: ids that are never asked for.
        """
        super().__init__()
        self.head, self.weight, self.mask, self.special = head, weight, mask, list(special)

    def forward(self, model: Model, examples: Sequence[Example], batch: Packed, hidden_TD: Tensor) -> Tensor:
        """The mean over rows of the mean over their sequences of the mean over their tokens, a float32 scalar.

        Rows count as in the task's own mean, so that a step in parts is the same step.
        """
        asked = _next(batch, hidden_TD) if self.mask is None else self._masked(model, batch)
        counts_B = torch.bincount(asked.owner_N, minlength=len(batch.lengths)).clamp(min=1)
        every = sum(example.targets for example in examples)
        shares = [example.targets / every / len(example.sequences) for example in examples for _ in example.sequences]
        shares_B = torch.tensor(shares, device=hidden_TD.device) / counts_B
        hidden_ND = asked.hidden_TD[asked.rows_N]
        parts = list(zip(torch.split(hidden_ND, CHUNK), torch.split(asked.targets_N, CHUNK), strict=True))
        if len(parts) < 2:
            losses = [self._losses(*part, batch) for part in parts]
        else:  # the logits are computed again for the gradient, so that they never stand there all at once
            losses = [checkpoint(self._losses, *part, batch, use_reentrant=False) for part in parts]
        return (torch.cat(losses) * shares_B[asked.owner_N]).sum()

    def _losses(self, hidden_ND: Tensor, targets_N: Tensor, batch: Packed) -> Tensor:
        return F.cross_entropy(self.head(hidden_ND, batch), targets_N, reduction="none")

    def _masked(self, model: Model, batch: Packed) -> Asked:
        """Run a copy in which some tokens are masked, some replaced by others, and some to be told as they are."""
        rows_N = self._picked(batch)
        ids_T, targets_N = batch.ids_T.clone(), batch.ids_T[rows_N]
        draw_N = torch.rand(len(rows_N), device=ids_T.device)
        others_N = torch.randint(model.backbone.config.vocab_size, rows_N.shape, device=ids_T.device)
        others_N = torch.where(draw_N < 1 - KEPT, others_N, targets_N)
        ids_T[rows_N] = torch.where(draw_N < REPLACED, torch.full_like(targets_N, self.mask or 0), others_N)
        copy = Packed(ids_T, batch.lengths_B, batch.types_T)
        copy.__dict__["lengths"] = batch.lengths
        return Asked(model.backbone.read(copy, self.head.kind), rows_N, targets_N, batch.owner_T[rows_N])

    def _picked(self, batch: Packed) -> Tensor:
        """Of each sequence a share of the tokens that are not special, at least one, at random."""
        special_T = torch.isin(batch.ids_T, torch.tensor(self.special, device=batch.ids_T.device))
        draw_T = torch.rand(len(batch.ids_T), device=batch.ids_T.device, dtype=torch.float64)
        order_T = (batch.owner_T + (draw_T + special_T) / 2).argsort()  # special tokens last in each sequence
        place_T = torch.empty_like(order_T)
        place_T[order_T] = torch.arange(len(order_T), device=order_T.device)
        plain_B = torch.bincount(batch.owner_T[~special_T], minlength=len(batch.lengths))
        wanted_B = torch.minimum((MASKED * plain_B).round().clamp(min=1).long(), plain_B)
        return (place_T - batch.first_B[batch.owner_T] < wanted_B[batch.owner_T]).nonzero()[:, 0]

    def groups(self, model: Model) -> list[Group]:
        """What learns beyond the model: the head's own weights, which are not kept."""
        known = {id(parameter) for parameter in model.parameters()}
        own = [parameter for parameter in self.head.parameters() if id(parameter) not in known]
        return [Group(parameters=own)] if own else []


def _next(batch: Packed, hidden_TD: Tensor) -> Asked:
    last_T = torch.zeros_like(batch.ids_T, dtype=torch.bool).index_fill_(0, batch.last_B, True)
    rows_N = (~last_T).nonzero()[:, 0]
    return Asked(hidden_TD, rows_N, batch.ids_T[rows_N + 1], batch.owner_T[rows_N])


class Objective(nn.Module):
    """The task's loss; where there are experts, how unevenly they are used; and a language model's loss beside it."""

    def __init__(self, language: Language | None = None) -> None:
        super().__init__()
        self.language = language

    def forward(self, model: Model, examples: Sequence[Example]) -> Tensor:
        """The total for some rows, a float32 scalar."""
        assert model.head is not None
        batch, read = packed(model, examples)
        hidden_TD = model.backbone.read(batch, model.head.kind, read)
        total, experts = head_loss(model, examples, hidden_TD, read or batch), model.backbone.config.experts
        uneven = balance_loss(model.backbone) if experts and experts.balance else None
        if experts and uneven is not None:
            total = total + experts.balance * uneven
        if self.language is not None:
            total = total + self.language.weight * self.language(model, examples, batch, hidden_TD)
        return total

    @property
    def weight(self) -> float:
        """Of the language model's loss."""
        return 0.0 if self.language is None else self.language.weight

    def groups(self, model: Model) -> list[Group]:
        """What learns beyond the model."""
        return [] if self.language is None else self.language.groups(model)


def language(model: Model, weight: float) -> Language:
    """A language model on a model's backbone, its head the published one, else a fresh one that shares the embedding.

    The model is left with a head that waits for the task's to take its place.

    Args:
        model: whose backbone and tokenizer it shares, as it came or with a grown vocabulary.
        weight: factor on its loss.

    Raises:
        UsageError: the family neither reads from left to right nor fills masks, or there is no mask to fill.
    """
    family, kind = model.family, "next" if model.backbone.config.causal else "mask"
    if not any(grafting.kind == kind for grafting in family.heads.values()):
        raise UsageError(
            f"{family.name} models have no auxiliary language-model loss: they neither tell the next token nor fill "
            "masks here; leave auxiliary out"
        )
    frame, named = model.tokenizer.frame, model.tokenizer.special_tokens
    if kind == "mask" and "mask_token" not in named:
        raise UsageError(
            f"{model.folder}: the vocabulary has no mask for an auxiliary loss to fill; leave auxiliary out"
        )
    names = {*named.values(), *frame.start, *frame.between, *frame.end}
    mask = model.tokenizer.token_id("mask_token") if kind == "mask" else None
    return Language(_head(model, kind), weight, mask, sorted(model.tokenizer.token_id(name) for name in names))


def _head(model: Model, kind: str) -> PredictNext:
    """The published head if there is one, grown with the vocabulary; else a fresh one."""
    published = model.head if model.head is not None and model.head.kind == kind else None
    model.graft(kind, **({"tied": True} if published is None else published.options()))
    head = model.head
    assert isinstance(head, PredictNext)
    if published is not None:
        new = head.state_dict()
        head.load_state_dict({name: widened(old, new[name]) for name, old in published.own().items()}, strict=False)
    return head

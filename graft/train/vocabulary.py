"""New tokens: added to a model's vocabulary and to its embedding, where they are learned."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from graft.grafted import Model


def grow(model: Model) -> int:
    """Let a model read texts in its family's input transformations (Radford et al. 2018, section 3.3), in place.

    Tokens the vocabulary lacks get new rows of the token embedding, random as all fresh weights; rows beyond the
    vocabulary, which some published models have, are taken first. Heads that share the embedding must be built again.

    Returns:
        How many tokens are new.
    """
    before, backbone = model.tokenizer, model.backbone
    model.tokenizer = before.grown(model.family.adapted)
    frame = model.tokenizer.frame
    ids = {model.tokenizer.token_id(name) for name in (*frame.start, *frame.between, *frame.end)}
    fresh = sorted(one for one in ids if one >= before.vocab_size)
    old = backbone.token_embedding.weight.detach()
    rows = max(len(old), model.tokenizer.vocab_size)
    weight = old.new_empty(rows, old.shape[1])
    weight[: len(old)] = old
    nn.init.normal_(weight[fresh[0] :] if fresh else weight[:0], std=backbone.config.initializer_range)
    backbone.token_embedding = nn.Embedding(rows, old.shape[1], _weight=weight)
    backbone.config = dataclasses.replace(backbone.config, vocab_size=rows)
    return len(fresh)


def widened(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """A tensor with the first rows of an older one, and the others its own."""
    return torch.cat([old.to(new.dtype), new[len(old) :]])

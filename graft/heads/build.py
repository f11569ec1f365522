"""Building heads: by kind, with fresh weights, or for those a folder gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from graft.errors import ModelError, nearest
from graft.heads.beam import Beam
from graft.heads.head import Head
from graft.heads.pooled import Choose, Classify, Embed, Regress
from graft.heads.tokens import FillMask, PredictNext, PredictTransformed, Span, Tag

HEADS: dict[str, type[Head]] = {
    head.kind: head for head in (Classify, Regress, Choose, Embed, Tag, Span, Beam, PredictNext, FillMask)
}


def make(kind: str, options: Mapping[str, Any], embedding: nn.Embedding) -> Head:
    """Build a head.

    Args:
        kind: a name in HEADS.
        options: what the head takes; a classifier whose problem is "regression" is a Regress head, and one that
            predicts the next token by way of an activation a PredictTransformed.
        embedding: the backbone's token embedding, for sizes and tied weights.

    Raises:
        ModelError: there is no such head.
    """
    if kind not in HEADS:
        raise ModelError(f"unknown head {kind!r}: {nearest(kind, HEADS)}")
    given = dict(options)
    if kind == "embed":
        return Embed(**given)
    if given.get("problem") == "regression":
        kind = "regress"
    if kind == "regress":
        given.pop("problem", None)
    made: Callable[..., Head] = PredictTransformed if kind == "next" and "activation" in given else HEADS[kind]
    return made(embedding if kind in ("next", "mask") else embedding.embedding_dim, **given)


def initialize(head: Head, deviation: float) -> None:
    """Fresh linear layers: normal weights of the given standard deviation, biases zero (Devlin et al. 2019).

    A matrix shared with the backbone stays as it is.
    """
    shared = {id(tensor) for tensor in head.aliases().values()}
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            if id(layer.weight) not in shared:
                nn.init.normal_(layer.weight, std=deviation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_shapes(
    folder: Path, own: Mapping[str, Tensor], given: Mapping[str, Tensor], faults: Sequence[str] = ()
) -> None:
    """Compare the weights a folder gives with those a head has.

    Raises:
        ModelError: naming at once the faults handed in and every weight of another shape.
    """
    misshaped = [
        f"{name} has shape {list(given[name].shape)}, config.json asks for {list(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if faults or misshaped:
        raise ModelError(
            f"{folder}: the head's weights do not fit the configuration: {'; '.join([*faults, *misshaped])}"
        )

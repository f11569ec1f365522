"""Building heads: by kind, with fresh weights, or for those a folder gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from graft.errors import ModelError, nearest
from graft.families import Fresh
from graft.heads.beam import Beam
from graft.heads.head import Head
from graft.heads.pooled import Choose, Classify, Embed, Regress
from graft.heads.tokens import FillMask, PredictNext, PredictTransformed, Span, Tag
from graft.model.config import Config

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


def initialize(part: nn.Module, name: str, config: Config, own: Fresh, kept: Iterable[Tensor] = ()) -> None:
    """Fresh weights: normal ones of the standard deviation the configuration states, norms 1, biases 0.

    So Devlin et al. 2019 and most after them; normal, not cut off at two deviations, as transformers draws them. The
    padding token's row is drawn as any other: no batch of Graft has padding.

    Args:
        part: a backbone or a head.
        name: what its tensors' names begin with: "backbone", or the head's kind.
        config: of the backbone.
        own: what the family does otherwise.
        kept: tensors that are another part's as well, left as they are.
    """
    usual: Fresh = {r"\.bias$": nn.init.zeros_, "": config.initializer_range}
    table, others = {r"norm\.weight$": nn.init.ones_, **own, **usual}, set(map(id, kept))
    for full, tensor in part.named_parameters(prefix=name):
        if id(tensor) not in others:
            fill = next(fill for pattern, fill in table.items() if re.search(pattern, full))
            fill(tensor) if callable(fill) else nn.init.normal_(tensor, std=fill)


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

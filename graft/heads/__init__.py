"""Heads: what turns hidden states into answers. A head is grafted onto any backbone."""

from graft.heads.answers import Answer, Correction, Entity, Piece, Word
from graft.heads.beam import Beam, Spans
from graft.heads.build import HEADS, check_shapes, initialize, make
from graft.heads.head import Head
from graft.heads.pooled import Choose, Classify, Embed, Pool, Pooled, Regress, pool
from graft.heads.tokens import FillMask, PerToken, PredictNext, PredictTransformed, Span, Tag

__all__ = [
    "HEADS",
    "Answer",
    "Beam",
    "Choose",
    "Classify",
    "Correction",
    "Embed",
    "Entity",
    "FillMask",
    "Head",
    "PerToken",
    "Piece",
    "Pool",
    "Pooled",
    "PredictNext",
    "PredictTransformed",
    "Regress",
    "Span",
    "Spans",
    "Tag",
    "Word",
    "check_shapes",
    "initialize",
    "make",
    "pool",
]

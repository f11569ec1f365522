"""RoBERTa (Liu et al. 2019): BERT whose positions start behind the padding token's number, with heads of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

from graft import families
from graft.errors import ModelError
from graft.families import Grafting, Published, bert
from graft.model.config import Config
from graft.text import Frame
from graft.weights import Rule, linear


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """The rows of the position table up to the padding token's number serve no position."""
    padding, rows = published.get("pad_token_id", 1), values["positions"]
    if not isinstance(padding, int) or not isinstance(rows, int) or not 0 <= padding < rows - 1:
        raise ModelError(f"pad_token_id is {padding!r:.60} with {rows!r:.60} positions, expected a smaller one")
    return {"positions": rows - padding - 1, "position_offset": padding + 1, **bert.refine(published, values)}


def entries(config: Config) -> dict[str, Any]:
    """The whole table, and the token it starts behind."""
    return {
        "max_position_embeddings": config.positions + config.position_offset,
        "pad_token_id": config.position_offset - 1,
    }


MASK = [
    *linear("lm_head.dense", "head.transform"),
    *linear("lm_head.layer_norm", "head.norm"),
    *linear("lm_head.decoder", "head.output", optional=True),
    Rule("lm_head.bias", "head.bias", optional=True),
]


def mask_options(published: Published) -> dict[str, Any]:
    """As BERT, always with the exact GELU."""
    return bert.mask_options(published) | {"activation": "gelu"}


def choice_options(published: Published) -> dict[str, Any]:
    """As BERT, with the dropout of the hidden states."""
    return bert.pooled_options(published) | {"dropout": families.rate(published, "hidden_dropout_prob", 0.1)}


def heads(name: str) -> dict[str, Grafting]:
    """The heads such models are published with, by the beginning of their class names."""
    return {
        f"{name}ForMaskedLM": families.mask(mask_options, *MASK),
        f"{name}ForCausalLM": families.mask(mask_options, *MASK, kind="next"),
        f"{name}ForSequenceClassification": families.classifier(
            lambda published: bert.pooled_options(published) | {"twice": True},
            *linear("classifier.dense", "head.dense"),
            *linear("classifier.out_proj", "head.output"),
            *(Rule(f"pooler.dense.{part}", None) for part in ("weight", "bias")),
        ),
        f"{name}ForMultipleChoice": Grafting(kind="choose", rules=bert.OUTPUT, options=choice_options),
        f"{name}ForTokenClassification": families.tag("classifier", bert.dropout),
        f"{name}ForQuestionAnswering": families.span(),
    }


FAMILY = dataclasses.replace(
    bert.FAMILY,
    name="roberta",
    bare="RobertaModel",
    refine=refine,
    entries=entries,
    heads=heads("Roberta"),
    frame=Frame(start=("<s>",), between=("</s>", "</s>"), end=("</s>",)),
    prefix="roberta.",
)

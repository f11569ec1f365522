"""GPT-1 (Radford et al. 2018): a post-norm decoder with fused, transposed attention weights on disk."""

from __future__ import annotations

from typing import Any

from graft import families
from graft.families import Family, Grafting, Published, gpt2
from graft.text import GPT
from graft.weights import Rule, linear

_BLOCK = "backbone.blocks.{n}"
_QKV = tuple(f"{_BLOCK}.attention.{part}" for part in ("query", "key", "value"))

RULES = [
    Rule("tokens_embed.weight", "backbone.token_embedding.weight"),
    Rule("positions_embed.weight", "backbone.position_embedding.weight"),
    Rule("position_ids", None),
    *linear("h.{n}.attn.c_attn", _QKV, transposed=True),
    *linear("h.{n}.attn.c_proj", f"{_BLOCK}.attention.output", transposed=True),
    *linear("h.{n}.ln_1", f"{_BLOCK}.attention_norm"),
    *linear("h.{n}.mlp.c_fc", f"{_BLOCK}.feed_forward.up", transposed=True),
    *linear("h.{n}.mlp.c_proj", f"{_BLOCK}.feed_forward.down", transposed=True),
    *linear("h.{n}.ln_2", f"{_BLOCK}.feed_forward_norm"),
    Rule("h.{n}.attn.bias", None),
]


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """What GPT-1 calls gelu is the tanh approximation; the feed-forward layer is four times as wide."""
    size, name = values["hidden_size"], values["activation"]
    width = 4 * size if isinstance(size, int) else size
    return {"feed_forward_size": width, "activation": "gelu_tanh" if name == "gelu" else name}


FAMILY = Family(
    name="openai-gpt",
    bare="OpenAIGPTModel",
    keys={key: ours for key, ours in gpt2.KEYS.items() if key not in ("n_inner", "activation_function")}
    | {"afn": "activation"},
    defaults={**gpt2.DEFAULTS, "n_positions": 512, "afn": "gelu"},
    fixed={"causal": True},
    refine=refine,
    entries=lambda config: {"afn": "gelu"} if config.activation == "gelu_tanh" else {},
    rules=RULES,
    heads={
        "OpenAIGPTLMHeadModel": families.next_token(default=True),
        # Files of this class hold the tied matrix under the head's name alone; untied ones are refused: two for one.
        "OpenAIGPTDoubleHeadsModel": Grafting(
            kind="next",
            rules=[Rule("lm_head.weight", "backbone.token_embedding.weight"), *gpt2.SUMMARY],
            options=lambda published: {"tied": families.tied(published, True)},
            publish=families.publish_tied,
        ),
        "OpenAIGPTForSequenceClassification": families.LAST_TOKEN,
    },
    prefix="transformer.",
    adapted=GPT,
    symmetric=True,
    auxiliary=0.5,
)

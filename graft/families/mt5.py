"""mT5 (Xue et al. 2021): T5 1.1 over a vocabulary of a hundred languages."""

from __future__ import annotations

import dataclasses

from graft.families import t5

FAMILY = dataclasses.replace(
    t5.FAMILY,
    name="mt5",
    bare="MT5Model",
    encoder="MT5EncoderModel",
    defaults={**t5.DEFAULTS, "feed_forward_proj": "gated-gelu"},
    heads=t5.heads("MT5", lambda published: {}),
)

"""XLM-RoBERTa (Conneau et al. 2020): RoBERTa over a vocabulary of a hundred languages."""

from __future__ import annotations

import dataclasses

from graft.families import roberta

FAMILY = dataclasses.replace(
    roberta.FAMILY, name="xlm-roberta", bare="XLMRobertaModel", heads=roberta.heads("XLMRoberta")
)

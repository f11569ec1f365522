"""Recipes: the jobs people come for, composed of the parts below. One file each."""

from __future__ import annotations

from graft.recipes.evaluate import Evaluation, evaluate
from graft.recipes.finetune import Finetuned, finetune
from graft.recipes.run import run

__all__ = ["Evaluation", "Finetuned", "evaluate", "finetune", "run"]

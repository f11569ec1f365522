"""Graft puts any pretrained language model to work on your task.

Public names load on first use, so that ``import graft`` costs next to nothing (no torch, no numpy).

>>> import graft
>>> "load" in dir(graft)
True
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

from graft.version import __version__

_HOMES = {
    "Answer": "graft.heads",
    "Classifier": "graft.estimators",
    "GraftError": "graft.errors",
    "Model": "graft.grafted",
    "contrast": "graft.recipes.contrast",
    "evaluate": "graft.recipes.evaluate",
    "finetune": "graft.recipes.finetune",
    "load": "graft.loading",
    "run": "graft.recipes.run",
}

__all__ = [
    "Answer",
    "Classifier",
    "GraftError",
    "Model",
    "__version__",
    "contrast",
    "evaluate",
    "finetune",
    "load",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graft' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Names(types.ModuleType):
    """This package, in which ``evaluate`` stays the function once the sub-package of that name has been imported."""

    @property
    def evaluate(self) -> Any:
        return __getattr__("evaluate")

    @evaluate.setter
    def evaluate(self, package: types.ModuleType) -> None:
        """Python binds a sub-package to its parent when it is imported; ``import`` finds it without that."""


sys.modules[__name__].__class__ = _Names

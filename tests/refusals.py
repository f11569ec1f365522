"""How a bad model folder must be refused: in one line that names it, and at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graft.errors import GraftError, ModelError
from graft.loading import load

SECONDS = 1.0 if sys.gettrace() is None else 5.0
"""Processor time for one refusal; it takes some milliseconds, a slow machine may be slower, and scripts/coverage is."""

GONE = "<gone>"
"""As the value of an entry of config.json: without it."""


def opened(folder: Path) -> None:
    """Read all of a model: its configuration, its weights and its tokenizer."""
    model = load(folder, "float32", check_finite=True)
    model.encode(["a cab", ("bad", "ace!")])


def refused(
    folder: Path, error: type[GraftError] = ModelError, attempt: Callable[[Path], Any] = lambda it: load(it, "float32")
) -> str:
    """The message of a refusal."""
    start = time.process_time()
    with pytest.raises(GraftError) as caught:
        attempt(folder)
    assert time.process_time() - start < SECONDS
    message = str(caught.value)
    assert message.isprintable(), message
    assert message.startswith(str(folder)), message
    assert isinstance(caught.value, error), repr(caught.value)
    return message

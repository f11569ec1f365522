"""Model folders to be damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import GONE


@pytest.fixture
def broken(tiny, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a tiny model's folder, to be damaged, with some entries of its config.json changed."""

    def copy(name: str = "bert-classify", **changes: Any) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(tiny(name).folder, folder)
        config = json.loads((folder / "config.json").read_text()) | changes
        kept = {key: value for key, value in config.items() if value != GONE}
        (folder / "config.json").write_text(json.dumps(kept))
        return folder

    return copy

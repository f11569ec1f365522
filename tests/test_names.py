"""Public names: each is what it should be, whatever has been imported before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import graft

NAMES = ("contrast", "evaluate", "finetune", "load", "run")
BEFORE = {
    "nothing": "",
    "the sub-package of the same name": "import graft.evaluate.metrics",
    "a recipe that imports the others": "import graft.recipes.finetune",
    "the names themselves": "from graft import evaluate, finetune, load, run",
}


@pytest.mark.parametrize("before", BEFORE)
def test_functions_stay_functions(before: str):
    code = f"{BEFORE[before]}\nimport graft, types\n" + "\n".join(
        f"assert isinstance(graft.{name}, types.FunctionType), graft.{name}" for name in NAMES
    )
    code += "\nfrom graft.evaluate import metrics\nassert metrics.classification"
    done = subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", code], capture_output=True, timeout=180)
    assert done.returncode == 0, done.stderr.decode()


def test_every_public_name_is_there():
    assert [name for name in graft.__all__ if getattr(graft, name) is None] == []
    assert set(graft.__all__) == set(dir(graft))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'evalute'"):
        _ = graft.evalute

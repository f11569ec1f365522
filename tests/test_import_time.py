"""`import graft` and `graft --help` stay light: what takes seconds to import is not imported.

Times are measured in benchmarks/; here only the cause is watched, so that a slow machine cannot turn the test red.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "pyarrow", "sklearn", "matplotlib", "scipy", "transformers", "pandas")
NOT_FOR_NAMES = (
    *HEAVY,
    "numpy",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "pydantic",
    "typer",
    "rich",
    "jinja2",
    "yaml",
)

AFTERWARDS = "import json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"


def modules_after(code: str) -> set[str]:
    """Names of the modules that a fresh Python holds once it has run the code."""
    command = [sys.executable, "-c", f"{code}\n{AFTERWARDS}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


HELP = """
import sys
from graft.cli import main
sys.argv = ["graft", "--help"]
try:
    status = main()
except SystemExit as stop:
    status = stop.code
assert not status, status
"""


def test_import_graft_is_light():
    loaded = modules_after("import graft; dir(graft); graft.__version__")
    assert "graft" in loaded
    assert loaded.isdisjoint(NOT_FOR_NAMES), sorted(loaded.intersection(NOT_FOR_NAMES))


def test_errors_can_be_caught_without_torch():
    assert modules_after("from graft import GraftError").isdisjoint(NOT_FOR_NAMES)


def test_help_is_light():
    loaded = modules_after(HELP)
    assert "graft.cli" in loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded.intersection(HEAVY))


@pytest.mark.parametrize("verb", ["finetune", "evaluate", "run"])
def test_help_of_a_verb_is_light(verb: str):
    loaded = modules_after(HELP.replace('"--help"', f'"{verb}", "--help"'))
    assert loaded.isdisjoint(HEAVY), sorted(loaded.intersection(HEAVY))


def test_the_probe_sees_a_heavy_import():
    assert "sklearn" in modules_after("import sklearn")

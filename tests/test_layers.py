"""Who may import whom, and what no file of the package may call."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FORBIDDEN_MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "builtins.eval",
    "builtins.exec",
    "os.system",
    "os.popen",
    "torch.load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.serialization.load",
    "pandas.read_pickle",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
}
FORBIDDEN_ARGUMENTS = {"allow_pickle", "trust_remote_code", "shell"}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it stands for, so that ``import torch as t; t.load()`` is seen for what it is."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """``t.serialization.load`` in full; empty for what is no plain chain of names (``model().eval``)."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def unsafe(source: str) -> list[str]:
    """What in a source text unpickles, or runs text or files as code."""
    tree = ast.parse(source)
    names = imported_names(tree)
    found = [f"imports {module}" for module in imported_modules(tree) if module in FORBIDDEN_MODULES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if dotted(node.func, names) in FORBIDDEN_CALLS:
                found.append(f"line {node.lineno} calls {dotted(node.func, names)}")
            found += [
                f"line {node.lineno} passes {keyword.arg}"
                for keyword in node.keywords
                if keyword.arg in FORBIDDEN_ARGUMENTS
                and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
            ]
    return found


def test_layers_hold():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("line", ["import graft.cli", "def late():\n    from graft.recipes import finetune"])
def test_an_import_upwards_is_caught(tmp_path: Path, line: str):
    shutil.copytree(ROOT / "graft", tmp_path / "graft", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    lowest = tmp_path / "graft" / "errors.py"
    lowest.write_text(f"{lowest.read_text(encoding='utf-8')}\n\n{line}\n", encoding="utf-8")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    assert "graft.errors is not allowed to import graft." in result.stdout


def test_a_module_without_a_layer_is_caught(tmp_path: Path):
    shutil.copytree(ROOT / "graft", tmp_path / "graft", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "graft" / "stray.py").write_text('"""Belongs nowhere."""\n', encoding="utf-8")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    assert "stray" in result.stdout + result.stderr


FENCED = ROOT / "graft" / "recipes" / "pickle_worker.py"
"""The one program that reads pickles, in a process of its own (docs/decisions/0007)."""


def test_one_file_reads_pickles_and_takes_tensors_alone():
    source = FENCED.read_text(encoding="utf-8")
    assert [fault.partition("calls ")[2] for fault in unsafe(source)] == ["torch.load"]
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    (load,) = [call for call in calls if dotted(call.func, {}) == "torch.load"]
    (weights_only,) = [keyword.value for keyword in load.keywords if keyword.arg == "weights_only"]
    assert isinstance(weights_only, ast.Constant)
    assert weights_only.value is True
    users = [path.name for path in (ROOT / "graft").rglob("*.py") if FENCED.name in path.read_text(encoding="utf-8")]
    assert sorted(users) == ["convert.py", FENCED.name]


def test_nothing_unpickles_or_runs_text_as_code():
    files = sorted(path for path in (ROOT / "graft").rglob("*.py") if path != FENCED)
    assert len(files) > 10
    found = {str(path.relative_to(ROOT)): unsafe(path.read_text(encoding="utf-8")) for path in files}
    assert {path: reasons for path, reasons in found.items() if reasons} == {}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import pickle", "imports pickle"),
        ("from joblib import load", "imports joblib"),
        ("import torch as t\nt.load('w.bin')", "line 2 calls torch.load"),
        ("from torch import load as read\nread('w.bin')", "line 2 calls torch.load"),
        ("import torch\ntorch.load('w.bin', weights_only=True)", "line 2 calls torch.load"),
        ("import torch.serialization\ntorch.serialization.load('w')", "line 2 calls torch.serialization.load"),
        ("eval('1 + 1')", "line 1 calls eval"),
        ("def f(text):\n    exec(text)", "line 2 calls exec"),
        ("import os\nos.system('ls')", "line 2 calls os.system"),
        ("from os import system\nsystem('ls')", "line 2 calls os.system"),
        ("import subprocess\nsubprocess.run('ls', shell=True)", "line 2 passes shell"),
        ("import numpy\nnumpy.load('a.npy', allow_pickle=True)", "line 2 passes allow_pickle"),
        ("import yaml\nyaml.load(text, yaml.Loader)", "line 2 calls yaml.load"),
    ],
)
def test_the_safety_check_can_fail(source: str, reason: str):
    assert unsafe(source) == [reason]


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "build().eval()",
        "import re\nre.compile('a')",
        "import torch\ntorch.compile(model)",
        "from safetensors.torch import load\nload(data)",
        "import yaml\nyaml.safe_load(text)",
        "import numpy\nnumpy.load('a.npy', allow_pickle=False)",
        "import graft\ngraft.load('folder')",
    ],
)
def test_the_safety_check_leaves_the_harmless_alone(source: str):
    assert unsafe(source) == []

"""The size budgets: small files, short functions, a core that can be read in one sitting.

A budget changes only with a record in docs/decisions/.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("graft", "tests", "benchmarks", "examples", "scripts")
FILE_LINES = 400
FUNCTION_LINES = 50
CORE_LINES = 2920
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
CORE = ("model", "families", "batch.py", "weights.py", "checkpoint.py")


def python_files(root: Path) -> Iterator[Path]:
    """Every Python file of the project; hidden folders (environments, caches) are not the project's."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            if not any(part.startswith(".") for part in path.relative_to(root).parts):
                yield path


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def long_files(root: Path) -> list[str]:
    counted = ((path.relative_to(root), line_count(path)) for path in python_files(root))
    return [f"{path}: {lines} lines, at most {FILE_LINES}" for path, lines in counted if lines > FILE_LINES]


def long_functions(root: Path) -> list[str]:
    found = []
    for path in python_files(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    place = f"{path.relative_to(root)}:{node.lineno}"
                    found.append(f"{place}: {node.name} has {lines} lines, at most {FUNCTION_LINES}")
    return found


def code_count(path: Path) -> int:
    """Lines that hold code: not blank, no comment, no docstring (decision 0013)."""
    text = path.read_text(encoding="utf-8")
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOT_CODE:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            held.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(held)


def core_lines(root: Path) -> dict[str, int]:
    core = [root / "graft" / name for name in CORE]
    files = [file for path in core for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    return {str(file.relative_to(root)): code_count(file) for file in files}


def write_sample(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def function_of(lines: int) -> str:
    return "def long():\n" + "    x = 1\n" * (lines - 1)


def test_the_project_is_seen():
    names = {str(path.relative_to(ROOT)) for path in python_files(ROOT)}
    assert {"graft/errors.py", "graft/model/__init__.py", "tests/test_sizes.py"} <= names


def test_no_file_is_too_long():
    assert long_files(ROOT) == []


def test_no_function_is_too_long():
    assert long_functions(ROOT) == []


def test_the_core_is_small():
    counted = core_lines(ROOT)
    assert sum(counted.values()) <= CORE_LINES, counted


def test_the_file_check_can_fail(tmp_path: Path):
    write_sample(tmp_path, "graft/exact.py", "x = 1\n" * FILE_LINES)
    assert long_files(tmp_path) == []
    write_sample(tmp_path, "tests/deep/long.py", "x = 1\n" * (FILE_LINES + 1))
    assert long_files(tmp_path) == ["tests/deep/long.py: 401 lines, at most 400"]


def test_the_function_check_can_fail(tmp_path: Path):
    write_sample(tmp_path, "graft/exact.py", function_of(FUNCTION_LINES))
    assert long_functions(tmp_path) == []
    method = "class Holder:\n" + "".join(f"    {line}\n" for line in function_of(FUNCTION_LINES + 1).splitlines())
    write_sample(tmp_path, "graft/method.py", method.replace("def", "async def"))
    assert long_functions(tmp_path) == ["graft/method.py:2: long has 51 lines, at most 50"]


def test_the_core_check_can_fail(tmp_path: Path):
    write_sample(tmp_path, "graft/model/attend.py", "x = 1\n" * 1500)
    write_sample(tmp_path, "graft/families/bert.py", "x = 1\n" * 400)
    write_sample(tmp_path, "graft/batch.py", "x = 1\n" * 951)
    write_sample(tmp_path, "graft/heads/pooled.py", "x = 1\n" * 399)
    write_sample(
        tmp_path, "graft/model/described.py", '"""Two\nlines."""\n\n# And a comment.\n' + 'def f():\n    """Why."""\n'
    )
    assert sum(core_lines(tmp_path).values()) == 2852


def test_environments_are_not_counted(tmp_path: Path):
    write_sample(tmp_path, "benchmarks/.venv/lib/long.py", "x = 1\n" * 5000)
    assert list(python_files(tmp_path)) == []

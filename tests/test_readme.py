"""README.md: its tree names every tracked file, and its commands and links lead somewhere."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
EVERY_FILE = ("graft/", "scripts/", "examples/", "benchmarks/")
"""Below these every file has a line of its own; elsewhere the line of a folder stands for what is in it."""

SAME_FILES = "graft/grafts/"
"""The folders below this hold the same files as one another."""


@dataclass(frozen=True)
class Entry:
    """One line of the tree; the path of a folder ends in a slash."""

    path: str
    description: str
    line: int


def parse(text: str) -> list[Entry]:
    """The entries of the block that begins with ```tree: two spaces a level, two or more before the description."""
    lines = text.splitlines()
    start = lines.index("```tree") + 1
    found: list[Entry] = []
    parents: list[str] = []
    for number, line in enumerate(lines[start : lines.index("```", start)], start + 1):
        match = re.fullmatch(r"((?:  )*)(\S+)(?: {2,}(\S.*))?", line)
        assert match, f"README.md:{number}: not a line of the tree: {line!r}"
        level = len(match[1]) // 2
        assert level <= len(parents), f"README.md:{number}: indented too deep: {line!r}"
        path = "".join(parents[:level]) + match[2]
        found.append(Entry(path, match[3] or "", number))
        parents = [*parents[:level], match[2]] if match[2].endswith("/") else parents[:level]
    return found


def missing(entries: Iterable[Entry], tracked: Iterable[str]) -> list[str]:
    """Tracked files the tree does not account for."""
    listed = [entry.path for entry in entries]
    folders = {path for path in listed if path.endswith("/")}
    opened = {folder for folder in folders if any(path != folder and path.startswith(folder) for path in listed)}
    closed = tuple(folders - opened)
    return [
        path for path in tracked if path not in listed and (own_line(path) or not (closed and path.startswith(closed)))
    ]


def own_line(path: str) -> bool:
    """Whether a file is to be named itself."""
    return path.startswith(EVERY_FILE) and not path.startswith(SAME_FILES)


def faults(entries: list[Entry], root: Path) -> list[str]:
    """Entries that are twice there, lead nowhere, or say nothing."""
    found = []
    for index, entry in enumerate(entries):
        place = f"README.md:{entry.line}: {entry.path}"
        if entry.path in {other.path for other in entries[:index]}:
            found.append(f"{place} is listed twice")
        if not (root / entry.path).exists() or (root / entry.path).is_dir() != entry.path.endswith("/"):
            found.append(f"{place} does not exist: remove the line")
        opened = entry.path.endswith("/") and any(other.path.startswith(entry.path) for other in entries[index + 1 :])
        if not entry.description and not opened:
            found.append(f"{place} has no description")
    return found


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("git is not installed, so which files are tracked cannot be known")
    if result.returncode:
        pytest.skip(f"not a git checkout: {result.stderr.decode().strip()}")
    return [path for path in result.stdout.decode().split("\0") if path and (ROOT / path).exists()]


def test_the_tree_names_every_tracked_file(tracked: list[str]):
    absent = missing(parse(README.read_text(encoding="utf-8")), tracked)
    assert absent == [], "add a line with a description to the tree in README.md for each:\n" + "\n".join(absent)


def test_every_line_of_the_tree_leads_somewhere_and_says_something():
    found = faults(parse(README.read_text(encoding="utf-8")), ROOT)
    assert found == [], "\n".join(found)


def test_links_and_scripts_exist():
    text = README.read_text(encoding="utf-8")
    linked = {link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link}
    named = set(re.findall(r"\b(?:scripts|examples|benchmarks|docs)/[\w./-]*\w", text.split("```tree")[0]))
    assert {"LICENSE", "scripts/demo", "scripts/test"} <= linked | named
    assert sorted(path for path in linked | named if path and not (ROOT / path).exists()) == []


SAMPLE = """
```tree
graft/                 the package
  __init__.py          public names
  data/
    read.py            reading
tests/
  data/                mirrors
README.md              this
```
"""


def test_parsing():
    assert [(entry.path, entry.description) for entry in parse(SAMPLE)] == [
        ("graft/", "the package"),
        ("graft/__init__.py", "public names"),
        ("graft/data/", ""),
        ("graft/data/read.py", "reading"),
        ("tests/", ""),
        ("tests/data/", "mirrors"),
        ("README.md", "this"),
    ]


@pytest.mark.parametrize(
    "path", ["graft/data/check.py", "graft/errors.py", "LICENSE", "tests/test_sizes.py", "docs/log.md"]
)
def test_the_tree_check_can_fail(path: str):
    known = ["graft/__init__.py", "graft/data/read.py", "tests/data/test_read.py", "README.md"]
    assert missing(parse(SAMPLE), known) == []
    assert missing(parse(SAMPLE), [*known, path]) == [path]


def test_a_folder_of_the_package_does_not_stand_for_its_files():
    entries = [*parse(SAMPLE), Entry("graft/serve/", "the server", 99)]
    assert missing(entries, ["graft/serve/api.py"]) == ["graft/serve/api.py"]


def test_the_line_check_can_fail(tmp_path: Path):
    (tmp_path / "graft" / "data").mkdir(parents=True)
    (tmp_path / "graft" / "__init__.py").touch()
    (tmp_path / "README.md").touch()
    (tmp_path / "tests").touch()
    sample = SAMPLE.replace("README.md              this", "README.md\nREADME.md              this")
    assert faults(parse(sample), tmp_path) == [
        "README.md:6: graft/data/read.py does not exist: remove the line",
        "README.md:7: tests/ does not exist: remove the line",
        "README.md:8: tests/data/ does not exist: remove the line",
        "README.md:9: README.md has no description",
        "README.md:10: README.md is listed twice",
    ]

"""The library is built once, kept where nobody else may write, and done without where it cannot be had."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.generate import native

needs_compiler = pytest.mark.skipif(native.library() is None, reason="no C++ compiler here")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home, and nothing remembered; afterwards, too."""
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    native.library.cache_clear()
    yield tmp_path / "home" / "native"
    monkeypatch.undo()
    native.library.cache_clear()


@needs_compiler
def test_a_second_process_finds_what_the_first_built(home: Path, monkeypatch: pytest.MonkeyPatch):
    assert native.library() is not None
    [built] = home.iterdir()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    native.library.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    assert native.library() is not None
    assert list(home.iterdir()) == [built]


def test_without_a_compiler(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert native.library() is None
    assert native.state() == (False, "no C++ compiler (CXX, g++, clang++)")


@needs_compiler
def test_what_is_said_before_and_after_it_is_built(home: Path):
    there, about = native.state()
    assert there
    assert about.startswith("built at the first use by /")
    assert list(home.iterdir()) == []
    native.library()
    assert native.state() == (True, str(next(home.iterdir())))


@pytest.mark.parametrize("compiler", ["false", "true", "sleep"])
def test_a_compiler_that_fails_or_does_nothing_or_hangs(home: Path, monkeypatch: pytest.MonkeyPatch, compiler: str):
    program = shutil.which(compiler)
    assert program is not None
    monkeypatch.setattr(native, "FLAGS", ("9",) if compiler == "sleep" else native.FLAGS)
    monkeypatch.setattr(native, "PATIENCE", 0.2)
    monkeypatch.setattr(shutil, "which", lambda name: program)
    assert native.library() is None
    assert list(home.iterdir()) == []


def test_a_damaged_library_is_not_used(home: Path):
    native._kept().write_bytes(b"\x7fELF but no more")
    assert native.library() is None
    assert native.state() == (False, f"{native._kept()} cannot be loaded; delete it")


def test_a_folder_that_others_may_write_is_not_trusted(home: Path):
    home.mkdir(parents=True)
    home.chmod(0o777)
    assert native.library() is None
    assert list(home.iterdir()) == []


def test_a_home_that_cannot_be_made(home: Path):
    home.parent.write_text("a file")
    assert native.library() is None

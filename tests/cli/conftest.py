"""The command line as its users meet it: in this process for most tests, as a process of its own for some."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graft.cli import main

SECONDS = 180
"""A child process that takes longer hangs."""


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON document."""
        assert self.out, self.err
        return json.loads(self.out, parse_constant=_refuse)

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON lines."""
        return [json.loads(line, parse_constant=_refuse) for line in self.out.splitlines()]

    def failed(self, code: int, *parts: str) -> str:
        """Assert that it failed as every command must: one line of error, last, no traceback, no results."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, self.err
        assert self.err.splitlines()[-1] == errors[0]
        assert "Traceback" not in self.err
        assert self.out == ""
        assert self.code == code, self.err
        for part in parts:
            assert part in errors[0]
        return errors[0]


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


@pytest.fixture
def graft(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """Run a command in this process, in an empty folder, without the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GRAFT_DEBUG", raising=False)

    def run(*words: str | Path) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """For child processes: no network, caches of their own."""
    own = {"GRAFT_HOME": tmp_path / "home", "HF_HOME": tmp_path / "hf", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    plain = {name: value for name, value in os.environ.items() if name != "GRAFT_DEBUG"}
    return plain | {name: str(value) for name, value in own.items()}


@pytest.fixture
def process(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Outcome]:
    """Run a command as a process of its own, in an empty folder."""

    def run(*words: str | Path, given: bytes | None = None, shell: str = "", **variables: str) -> Outcome:
        command = [sys.executable, "-m", "graft.cli", *map(str, words)]
        if shell:
            command = ["bash", "-c", shell, "bash", *command]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment | {"PYTHONFAULTHANDLER": "1"} | variables,
        ) as child:
            try:
                out, err = child.communicate(given, timeout=SECONDS)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGABRT)
                _, err = child.communicate()
                pytest.fail(f"no end after {SECONDS} s; it was here:\n{err.decode()}")
        return Outcome(child.returncode, out.decode(), err.decode())

    return run


@pytest.fixture(scope="session")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows that even a tiny model can learn: cats miaow in a, dogs bark in o."""
    path = tmp_path_factory.mktemp("data") / "pets.csv"
    draw = random.Random(3)
    rows = []
    for number in range(120):
        label, sign = ("cat", "a") if number % 2 else ("dog", "o")
        word = (
            "".join(draw.choice("mw" + sign * 4) for _ in range(8))
            + " "
            + "".join(draw.choice("xyz") for _ in range(6))
        )
        rows.append(f"{word},{label},{'test' if number % 5 == 0 else 'train'}")
    path.write_text("text,label,split\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def base(tiny: Callable[..., Any]) -> Path:
    """A tiny pretrained encoder."""
    folder: Path = tiny("bert").folder
    return folder


@pytest.fixture(autouse=True)
def no_shipped_grafts(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As if the package came without grafts, so that no model stands in for one that a test leaves out."""
    monkeypatch.setattr("graft.hub.shipped.FOLDER", tmp_path_factory.getbasetemp() / "no-grafts")


@pytest.fixture(scope="session")
def classifier(tiny: Callable[..., Any]) -> Path:
    """A tiny classifier with the labels no, yes and maybe."""
    folder: Path = tiny("bert-classify").folder
    return folder


@pytest.fixture
def damaged(classifier: Path, tmp_path: Path) -> Path:
    """A copy of the classifier, to be damaged."""
    return Path(shutil.copytree(classifier, tmp_path / "damaged"))


@pytest.fixture(scope="session")
def adapted(base: Path, pets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder adapted to the rows about pets by the command under test."""
    out = tmp_path_factory.mktemp("adapted") / "pets-model"
    words = ["finetune", str(pets), "--model", str(base), "--out", str(out), "--epochs", "4", "learning-rate=0.002"]
    assert main([*words, "--dtype", "float32", "--quiet"]) == 0
    return out

"""The scripts, run for real where that is cheap: on a bare environment, with pip cut off from every index."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from graft.hub.wheels import ENCODER, WHEELS

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ["scripts/install", "scripts/demo", "scripts/check", "scripts/test", "scripts/coverage", ".ci/run"]
STAMPED = ["pyproject.toml", "constraints.txt", "scripts/model-wheel.txt", "scripts/install"]
OFFLINE = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PYTHON": sys.executable}


def script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / name), *arguments]
    environment = {**os.environ, **environment}
    return subprocess.run(command, env=environment, cwd=ROOT.parent, capture_output=True, text=True, timeout=300)


def stamp_text(mode: str) -> str:
    return f"{mode}\n{ROOT}\n" + "".join((ROOT / name).read_text(encoding="utf-8") for name in STAMPED)


@pytest.fixture(scope="session")
def ready_environment() -> str:
    """The environment these tests run in, where scripts/install has nothing left to do for it."""
    stamp = Path(sys.prefix) / "graft-stamp"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != stamp_text("test"):
        pytest.skip(f"{sys.prefix} was not built by scripts/install, or not from these files: run scripts/install")
    return sys.prefix


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A new environment that holds nothing, not even pip."""
    folder = tmp_path / "environment"
    venv.create(folder, symlinks=True)
    return folder


@pytest.fixture(scope="session")
def pip_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with pip, made once, because that takes seconds."""
    folder = tmp_path_factory.mktemp("template") / "environment"
    venv.create(folder, symlinks=True, with_pip=True)
    return folder


@pytest.fixture
def with_pip(pip_template: Path, tmp_path: Path) -> Path:
    """A new environment that holds pip and nothing else."""
    return shutil.copytree(pip_template, tmp_path / "environment", symlinks=True)


@pytest.mark.parametrize("name", SCRIPTS)
def test_syntax_and_mode(name: str):
    path = ROOT / name
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True).stderr == ""
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
    assert os.access(path, os.X_OK)


# scripts/install


@pytest.mark.parametrize(("mode", "arguments"), [("test", []), ("test", ["--runtime"]), ("runtime", ["--runtime"])])
def test_install_with_a_valid_stamp_does_nothing(bare: Path, mode: str, arguments: list[str]):
    (bare / "graft-stamp").write_text(stamp_text(mode), encoding="utf-8")
    before = sorted(bare.rglob("*"))
    result = script("scripts/install", *arguments, GRAFT_VENV=str(bare), **OFFLINE)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert sorted(bare.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("stamp", [None, stamp_text("runtime"), stamp_text("test") + "pytest==1\n"])
def test_install_without_a_valid_stamp_installs_and_shows_pips_words(with_pip: Path, stamp: str | None):
    if stamp is not None:
        (with_pip / "graft-stamp").write_text(stamp, encoding="utf-8")
    result = script("scripts/install", GRAFT_VENV=str(with_pip), **OFFLINE)
    assert result.returncode == 1
    assert "install: torch ... failed\n" in result.stderr
    assert "\nERROR: " in result.stderr
    assert not (with_pip / "graft-stamp").exists()


@pytest.mark.slow
def test_install_starts_afresh_after_one_that_was_cut_off(bare: Path):
    packages = next((bare / "lib").glob("python*/site-packages"))
    (packages / "half-1.0.dist-info").mkdir()
    result = script("scripts/install", GRAFT_VENV=str(bare), **OFFLINE)
    assert "was cut off: starting afresh\n" in result.stderr
    assert not (packages / "half-1.0.dist-info").exists()
    assert (bare / "bin" / "pip").exists()


@pytest.mark.slow
def test_install_mends_an_environment_whose_python_is_gone(bare: Path):
    for link in (bare / "bin").glob("python*"):
        link.unlink()
    result = script("scripts/install", GRAFT_VENV=str(bare), **OFFLINE)
    assert f"creating {bare} with " in result.stderr
    assert (bare / "bin" / "python").exists()


def test_install_leaves_a_foreign_folder_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    result = script("scripts/install", GRAFT_VENV=str(tmp_path), **OFFLINE)
    assert result.returncode == 1
    assert f"{tmp_path} exists and is not a virtual environment" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_install_names_what_it_tried(tmp_path: Path):
    result = script("scripts/install", GRAFT_VENV=str(tmp_path / "new"), PYTHON="/nowhere/python3")
    assert result.returncode == 1
    assert "found no Python 3.11 or newer that runs; tried: /nowhere/python3." in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_install_passes_over_a_shim_with_nothing_behind_it(tmp_path: Path):
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "python3.13").write_text("#!/bin/sh\necho 'python3.13: command not found' >&2\nexit 127\n")
    (shims / "python3.13").chmod(0o755)
    (shims / "python3.12").symlink_to(sys.executable)
    path = f"{shims}:/usr/bin:/bin"
    result = script("scripts/install", GRAFT_VENV=str(tmp_path / "new"), **{**OFFLINE, "PATH": path, "PYTHON": ""})
    version = ".".join(str(part) for part in sys.version_info[:3])
    assert re.search(rf"creating \S+ with \S+ {re.escape(version)}\n", result.stderr), result.stderr


def test_install_refuses_unknown_arguments():
    result = script("scripts/install", "--runtimes")
    assert (result.returncode, result.stdout) == (2, "")
    assert "unknown argument '--runtimes'. Valid: --runtime, --help." in result.stderr


def test_install_explains_itself():
    result = script("scripts/install", "--help")
    assert result.returncode == 0
    assert "--runtime" in result.stdout


# scripts/test and scripts/check


def test_test_passes_arguments_on_and_shows_the_closing_line(ready_environment: str):
    result = script("scripts/test", "tests/test_errors.py", "-k", "exit_codes", GRAFT_VENV=ready_environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.fullmatch(r"=+ \d+ passed, \d+ deselected in .*", result.stdout.splitlines()[-1])


def test_test_hands_on_the_exit_code(ready_environment: str):
    assert (
        script("scripts/test", "tests/test_errors.py", "-k", "no_test_has_it", GRAFT_VENV=ready_environment).returncode
        == 5
    )


def test_check_refuses_arguments():
    assert script("scripts/check", "graft").returncode == 2


def test_commit_hooks_are_the_steps_of_check():
    hooks = [
        hook
        for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
        for hook in repository["hooks"]
        if repository["repo"] == "local" and hook["language"] == "system"
    ]
    steps = re.findall(r"^step '.*?' \"\$bin/([\w-]+)\"(.*)$", (ROOT / "scripts/check").read_text(), re.MULTILINE)
    assert [hook["entry"] for hook in hooks] == [f".venv/bin/{tool}{arguments}" for tool, arguments in steps]
    assert len(steps) == 5


# scripts/coverage


def table(report: Path, **files: tuple[int, int]) -> subprocess.CompletedProcess[str]:
    """The table of files with these lines and branches run, of a hundred each."""
    written = {
        f"graft/{name.replace('__', '/')}.py": {
            "summary": {"covered_lines": lines, "num_statements": 100, "covered_branches": jumps, "num_branches": 100},
            "missing_lines": list(range(1, 101 - lines)),
            "missing_branches": [[9, -1]] * (100 - jumps),
        }
        for name, (lines, jumps) in files.items()
    }
    report.write_text(json.dumps({"files": written}))
    return script("scripts/coverage", "--table", str(report), GRAFT_VENV=sys.prefix)


def test_coverage_is_judged_by_package(tmp_path: Path):
    enough = table(tmp_path / "report.json", text__read=(97, 98), text__frame=(99, 100), batch=(98, 98))
    assert enough.returncode == 0, enough.stderr
    assert "graft/text              98.0 %     99.0 %\n" in enough.stdout
    assert "graft/text/read.py, not run: 1, 2, 3, from 9 to its end, from 9 to its end\n" in enough.stdout
    assert enough.stdout.endswith("coverage: 0 of 2 packages have less than 98 %\n")


@pytest.mark.parametrize("batch", [(97, 100), (100, 97)], ids=["lines", "branches"])
def test_coverage_fails_for_one_package_with_too_little(tmp_path: Path, batch: tuple[int, int]):
    result = table(tmp_path / "report.json", model__attend=(100, 100), batch=batch)
    assert result.returncode == 1
    assert [line.split()[0] for line in result.stdout.splitlines() if line.endswith("too few")] == ["graft/batch.py"]


def test_coverage_refuses_arguments():
    assert script("scripts/coverage", "tests/model").returncode == 2


def test_what_coverage_asks_of_is_there():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["coverage"]["report"]
    assert [pattern for pattern in settings["include"] if not list(ROOT.glob(pattern))] == []
    named = re.findall(r"tests/[\w./]+", (ROOT / "scripts/coverage").read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert len(named) > 10


# constraints.txt


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert len({canonicalize_name(name) for name, _ in found}) == len(found), "a distribution is pinned twice"
    return {canonicalize_name(name): version for name, version in found}


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["test"]]


def needed_by(requirement: Requirement) -> list[Requirement]:
    """What an installed distribution needs itself, on this machine and with the extras asked for."""
    inner = [Requirement(line) for line in importlib.metadata.requires(requirement.name) or []]
    extras = requirement.extras or {""}
    return [r for r in inner if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in extras)]


def everything_needed() -> dict[str, list[Requirement]]:
    """Every requirement that can be reached from pyproject.toml, by distribution."""
    found: dict[str, list[Requirement]] = {}
    waiting = declared()
    while waiting:
        requirement = waiting.pop()
        known = found.setdefault(canonicalize_name(requirement.name), [])
        if str(requirement) not in map(str, known):
            known.append(requirement)
            waiting += needed_by(requirement)
    return found


def test_every_pin_is_exact():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    loose = [line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)]
    assert loose == []
    assert pins()["torch"] == "2.13.0"


def test_everything_needed_is_pinned():
    pinned = pins()
    needed = everything_needed()
    assert len(needed) > 40
    missing = [f"{name}=={importlib.metadata.version(name)}" for name in sorted(needed) if name not in pinned]
    assert missing == [], "add these lines to constraints.txt"


def test_every_pin_is_needed_and_allowed():
    needed = everything_needed()
    assert sorted(set(pins()) - set(needed)) == [], "remove these from constraints.txt"
    refused = [
        f"{name}=={version} is not in {requirement}"
        for name, version in pins().items()
        for requirement in needed[name]
        if not requirement.specifier.contains(Version(version), prereleases=True)
    ]
    assert refused == []


def test_the_model_wheel_is_pinned_with_the_hash_that_graft_expects():
    lines = (ROOT / "scripts" / "model-wheel.txt").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if not line.startswith("#")]
    wheel = WHEELS[ENCODER]
    assert line == f"{wheel.distribution}=={wheel.version} --hash=sha256:{wheel.wheel_sha256}"

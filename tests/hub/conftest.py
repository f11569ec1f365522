"""A fake hub, a machine with empty caches, and child processes that pull on it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def _load_fake_hub() -> Any:
    spec = importlib.util.spec_from_file_location("graft_fake_hub", HERE / "fake_hub.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fake_hub = _load_fake_hub()


class Puller:
    """A child process that pulls models, one after the other."""

    def __init__(self, root: Path, environment: dict[str, str], file_bytes: int | None = None) -> None:
        self.root = root
        self.log = (root / f"stderr-{len(list(root.glob('stderr-*')))}").open("w+")
        command = [sys.executable, str(HERE / "puller.py"), *([str(file_bytes)] if file_bytes else [])]
        self.process = subprocess.Popen(
            command,
            env=environment,
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def send(self, ref: str, **options: Any) -> Puller:
        """Begin to pull."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"ref": ref} | options) + "\n")
        self.process.stdin.flush()
        return self

    def receive(self) -> dict[str, Any]:
        """What came, with what was said on standard error so far."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        said = Path(self.log.name).read_text()
        assert line, said
        return {**json.loads(line), "stderr": said}

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.communicate()
        self.log.close()


@dataclass
class Machine:
    """A user's machine: folders for the caches, the environment that points there, and running processes."""

    root: Path
    endpoint: str
    pullers: dict[tuple[tuple[str, str], ...], Puller] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        return self.root / "hf" / "hub"

    @property
    def home(self) -> Path:
        return self.root / "graft"

    def repository(self, name: str) -> Path:
        return self.cache / ("models--" + name.replace("/", "--"))

    def environment(self, settings: dict[str, str]) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
        return kept | {
            "HOME": str(self.root),
            "HF_HOME": str(self.root / "hf"),
            "GRAFT_HOME": str(self.home),
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PIP_NO_INDEX": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            **settings,
        }

    def puller(self, settings: dict[str, str] | None = None, file_bytes: int | None = None) -> Puller:
        """A new process, ended with the test."""
        made = Puller(self.root, self.environment(settings or {}), file_bytes)
        self.pullers[(("process", str(made.process.pid)),)] = made
        return made

    def pull(self, ref: str, revision: str | None = None, refresh: bool = False, **settings: str) -> dict[str, Any]:
        """Pull in a process with these settings, started at the first call with them."""
        key = tuple(sorted(settings.items()))
        if key not in self.pullers:
            self.pullers[key] = Puller(self.root, self.environment(settings))
        return self.pullers[key].send(ref, revision=revision, refresh=refresh).receive()

    def restart(self) -> None:
        """End all processes; the next call starts new ones."""
        for puller in self.pullers.values():
            puller.kill()
        self.pullers.clear()


@pytest.fixture
def fault() -> Any:
    """The class of faults a fake hub can be told to have."""
    return fake_hub.Fault


@pytest.fixture
def hub() -> Iterator[Any]:
    """A running fake hub."""
    with fake_hub.FakeHub() as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path, hub: Any) -> Iterator[Machine]:
    """A machine with empty caches whose hub is the fake one."""
    (tmp_path / "machine").mkdir()
    made = Machine(tmp_path / "machine", hub.url)
    yield made
    made.restart()

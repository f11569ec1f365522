"""Pickles that are damaged, want more than to hold tensors, or want too much: the child refuses them, or is ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from graft.errors import ModelError
from graft.recipes import convert as recipe

WORKER = Path(recipe.__file__).with_name("pickle_worker.py")
IMPORTED = f"""
import json, os, socket, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, {str(WORKER.parent)!r})
import pickle_worker as worker
"""


class Call:
    """Pickled, it asks its reader to call a function."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.function, self.given = function, given

    def __reduce__(self) -> Any:
        return self.function, self.given


def payloads(canary: Path) -> list[Any]:
    """Forty ways a pickle may ask for something to happen; each that succeeds makes a file."""
    import builtins
    import importlib
    import pathlib
    import runpy
    import shutil

    touch, code, path = f"touch {canary}", f"open({str(canary)!r}, 'w')", str(canary)
    calls = [
        Call(os.system, touch),
        Call(os.popen, touch),
        Call(subprocess.Popen, ["touch", path]),
        Call(subprocess.run, ["touch", path]),
        Call(subprocess.check_output, ["touch", path]),
        Call(builtins.eval, code),
        Call(builtins.exec, code),
        Call(builtins.open, path, "w"),
        Call(builtins.__import__, "antigravity"),
        Call(os.mkdir, path),
        Call(os.open, path, os.O_CREAT | os.O_WRONLY),
        Call(os.mkfifo, path),
        Call(os.symlink, "/dev/null", path),
        Call(os.posix_spawn, "/usr/bin/touch", ["touch", path], {}),
        Call(pathlib.Path.touch, canary),
        Call(shutil.copyfile, "/etc/hostname", path),
        Call(shutil.copytree, "/etc/alternatives", path),
        Call(importlib.import_module, "this"),
        Call(runpy.run_path, __file__),
        Call(torch.save, {}, path),
        Call(torch.hub.load, "a/b", "c"),
        Call(torch.load, path),
        Call(torch.jit.load, path),
        Call(torch.from_file, path, True, 8),
    ]
    nested = [{"a": torch.ones(2), "b": [call]} for call in calls[:8]]
    wrapped = [Call(map, Call, [call]) for call in calls[:8]]
    return [{"w": call} for call in calls] + nested + wrapped


def test_nothing_a_pickle_asks_for_happens(tmp_path: Path):
    canary, folder = tmp_path / "canary", tmp_path / "files"
    folder.mkdir()
    asked = payloads(canary)
    assert len(asked) >= 40
    for number, payload in enumerate(asked):
        torch.save(payload, folder / f"{number}.bin", _use_new_zipfile_serialization=number % 2 == 0)
    code = f"""{IMPORTED}
import torch
worker.fence(Path({str(folder)!r}))
for path in sorted(Path({str(folder)!r}).iterdir()):
    try:
        worker.read(path)
        print("read")
    except Exception as error:
        print(worker.reason(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == len(asked)
    assert {answer.partition(" ")[0] for answer in answers} == {"asks"}, answers
    assert not canary.exists()


TRIES = """
def connect():
    socket.create_connection(("127.0.0.1", port), timeout=3).close()
def start():
    subprocess.run(["touch", canary])
def shell():
    os.system("touch " + canary)
def fork():
    os.fork() or os._exit(0)
def outside():
    open(canary, "w")
def beside():
    open(os.path.join(out, "..", "canary"), "w")
def remove():
    os.remove(kept)
def rename():
    os.rename(kept, canary)
def memory():
    bytearray(2**30)
def disk():
    open(os.path.join(out, "large"), "wb").write(bytes(2**25))
for one in (connect, start, shell, fork, outside, beside, remove, rename, memory, disk):
    try:
        one()
        print(one.__name__, "done")
    except BaseException as error:
        print(one.__name__, type(error).__name__)
"""


@pytest.fixture
def server() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def test_the_fence_holds_whoever_gets_past_the_reader(tmp_path: Path, server: socket.socket):
    out, kept = tmp_path / "out", tmp_path / "kept"
    out.mkdir()
    kept.write_text("x")
    names = f"out, kept, canary = {str(out)!r}, {str(kept)!r}, {str(tmp_path / 'canary')!r}"
    code = f"{IMPORTED}\n{names}\nport = {server.getsockname()[1]}\n"
    code += "worker.limit(2**29, 60, 0)\nworker.fence(Path(out))\nopen(os.path.join(out, 'own'), 'w').close()\n" + TRIES
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = dict(line.split() for line in done.stdout.splitlines())
    refusals = dict.fromkeys(
        ("connect", "start", "shell", "fork", "outside", "beside", "remove", "rename"), "RefusedError"
    )
    assert found == {**refusals, "memory": "MemoryError", "disk": "OSError"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "out"]
    with pytest.raises(BlockingIOError):
        server.accept()


def test_the_network_is_out_of_reach_without_the_fence(server: socket.socket):
    code = f"{IMPORTED}\nport = {server.getsockname()[1]}\nprint(worker.cut_off())\n" + TRIES.partition("def start")[0]
    done = subprocess.run([sys.executable, "-c", code + "connect()"], capture_output=True, text=True, timeout=60)
    if done.stdout.strip() == "False":
        pytest.skip("this system does not let a process leave the network")
    assert done.returncode == 1
    assert "Error" in done.stderr.splitlines()[-1]
    with pytest.raises(BlockingIOError):
        server.accept()


# Through the whole of it


@pytest.fixture
def model(tiny, tmp_path: Path) -> Callable[[bytes | Any], Path]:
    """A model folder whose weights are this pickle, or these bytes."""

    def make(content: bytes | Any, zipped: bool = True) -> Path:
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / "config.json").write_bytes((tiny("bert").folder / "config.json").read_bytes())
        if isinstance(content, bytes):
            (folder / recipe.PICKLE).write_bytes(content)
        else:
            torch.save(content, folder / recipe.PICKLE, _use_new_zipfile_serialization=zipped)
        return folder

    return make


def refused(source: Path) -> str:
    out = source.with_name("out")
    with pytest.raises(ModelError) as caught:
        recipe.convert(source, out, trust=True)
    message = str(caught.value)
    assert message.startswith(str(source))
    assert message.isprintable()
    assert not [path for path in source.parent.iterdir() if path != source]
    return message


@pytest.fixture
def weights(tiny) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(tiny("bert").folder / "model.safetensors")
    return found


NO_TENSORS: list[tuple[Any, str]] = [
    ({"epoch": 3}, "holds int under 'epoch'"),
    ({"state_dict": {"a": torch.ones(2)}}, "holds dict under 'state_dict'"),
    ([torch.ones(2)], "holds list, expected tensors by name"),
    ({1: torch.ones(2)}, "holds Tensor under 1"),
    ({"a": torch.ones(2).to_sparse()}, "under 'a', expected tensors by name"),
    ({"a": torch.ones(2, dtype=torch.complex64)}, "holds torch.complex64"),
    ({"a": torch.ones(1).expand(2**40)}, "as tensors that repeat themselves do"),
    ({"a": torch.ones(2)}, "the weights hold 2 in 1 tensors"),
    ({}, "the weights hold 0 in 0 tensors"),
    ({"w": Call(os.system, "true")}, f"asks for {os.system.__module__}.system, expected nothing but tensors"),
]


@pytest.mark.parametrize(("content", "message"), NO_TENSORS, ids=lambda value: str(value)[:30])
def test_pickles_of_something_else(model, content: Any, message: str):
    assert message in refused(model(content))


DAMAGES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("empty", lambda good: b""),
    ("no pickle", lambda good: b"\x89PNG" + bytes(100)),
    ("half", lambda good: good[: len(good) // 2]),
    ("without its end", lambda good: good[:-30]),
    ("without its beginning", lambda good: good[100:]),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES, ids=lambda value: str(value)[:20])
def test_damaged_pickles(model, weights, tmp_path: Path, name: str, damage: Callable[[bytes], bytes]):
    torch.save(weights, tmp_path / "good.bin")
    good = (tmp_path / "good.bin").read_bytes()
    (tmp_path / "good.bin").unlink()
    assert "damaged or no pickle of tensors" in refused(model(damage(good)))


def test_too_much_memory_or_time(model, weights, monkeypatch: pytest.MonkeyPatch):
    weights["embeddings.word_embeddings.weight"] = torch.ones(2**22)
    folder = model(weights, zipped=False)  # read into memory, not in place
    monkeypatch.setitem(recipe.LIMITS, "memory", -(2**26))
    assert "takes more memory than its weights can need" in refused(folder)
    monkeypatch.undo()
    monkeypatch.setitem(recipe.LIMITS, "seconds", 0)
    assert "took too long to read (more than 0 s), or the system ended its reader" in refused(folder)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in Linux's /proc")
@pytest.mark.parametrize("whom", ["child", "parent"])
def test_whoever_is_killed_nothing_is_left(model, weights, tmp_path: Path, whom: str):
    source = model(weights)
    command = [sys.executable, "-m", "graft.cli", "convert", str(source), str(tmp_path / "out"), "--trust"]
    variables = os.environ | {"HF_TOKEN": "secret"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=variables) as parent:
        child = reader_of(parent.pid)
        assert "PATH=" in Path(f"/proc/{child}/environ").read_text()
        assert "HF_TOKEN" not in Path(f"/proc/{child}/environ").read_text()
        os.kill(*((child, signal.SIGKILL) if whom == "child" else (parent.pid, signal.SIGINT)))
        _, said = parent.communicate(timeout=60)
    assert parent.returncode == (1 if whom == "child" else 130)
    assert said.splitlines()[-1].startswith(
        f"error: {source / recipe.PICKLE}: took too long" if whom == "child" else "error: cancelled"
    )
    assert sorted(tmp_path.iterdir()) == [source]
    assert ended(child)


def ended(pid: int) -> bool:
    """Whether a process is gone, or waits only for its parent to hear of it; what kills it may take a moment."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def reader_of(pid: int) -> int:
    """The process that reads pickles for another, as soon as there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if WORKER.name in Path(f"/proc/{child}/cmdline").read_text():
                return int(child)
        time.sleep(0.01)
    raise AssertionError("no reader was started")

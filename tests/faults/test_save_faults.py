"""Saving a model where the disk is full or the user interrupts: the folder is the old one or the new one, whole."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from graft import sealed
from graft.loading import load

SAVE = """
import sys
from graft.errors import StorageError
from graft.loading import load
source, target = sys.argv[1:]
try:
    load(source, "float32").save(target)
except StorageError as error:
    print(error)
    raise SystemExit(7)
"""


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def target(tiny, tmp_path: Path) -> Path:
    """A saved model worth keeping, of which another is to take the place."""
    return load(tiny("bert").folder, "bfloat16").save(tmp_path / "place" / "model")


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


def test_a_file_that_grows_too_large(tiny, target: Path):
    before = files(target)
    command = [sys.executable, "-c", SAVE, str(tiny("bert").folder), str(target)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, preexec_fn=limit_file_size, check=False
    )
    assert result.returncode == 7, result.stderr
    assert result.stdout.startswith(f"{target}")
    assert "File too large" in result.stdout
    assert files(target) == before
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_a_full_disk(tiny, target: Path, tmp_path: Path):
    """On a file system of 200 KiB the old model has room and the new one, twice its size, has not."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=200k none "{disk}" && "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs Linux and the right to mount one")
    before = files(target)
    after = tmp_path / "after"
    inside = f'cp -r "{target}" "{disk}" && "$@"; status=$?; cp -r "{disk}" "{after}"; exit $status'
    command = [sys.executable, "-c", SAVE, str(tiny("bert").folder), str(disk / "model")]
    result = subprocess.run(
        [*mount, "sh", "-c", inside, "sh", *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 7, (result.returncode, result.stderr)
    assert result.stdout.startswith(f"{disk / 'model'}")
    assert "No space left on device" in result.stdout
    assert files(after / "model") == before
    assert [path.name for path in after.iterdir()] == ["model"]


# Interrupts

AGAIN = """
import dataclasses, sys, time
import torch
from graft.loading import load
model = load(sys.argv[1], "float32")
target, trial = sys.argv[2], 0
print("ready", flush=True)
while True:
    trial += 1
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.spare.values()):
            tensor.fill_(trial)
    model.settings = dataclasses.replace(model.settings, made={"trial": trial})
    outcome = "interrupted"
    sys.stdin.readline()
    try:
        print("go", flush=True)
        model.save(target)
        outcome = "saved"
        time.sleep(60)
    except KeyboardInterrupt:
        print(outcome, flush=True)
"""


@pytest.fixture
def saver(tiny, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path, float]]:
    """A process that saves its model again and again, the weights and graft.json telling the number of the time.

    With it the place, and the seconds a save takes.
    """
    source = tiny("bert", vocab_size=20_000).folder
    model = load(source, "float32")
    start = time.monotonic()
    target = model.save(tmp_path / "place" / "model")
    took = time.monotonic() - start
    command = [sys.executable, "-c", AGAIN, str(source), str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    yield process, target, took
    process.kill()
    process.communicate()


def tell(process: subprocess.Popen[str]) -> None:
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "go\n"


def trial_of(folder: Path) -> int:
    """The number all parts of a saved folder agree on; 0 for the one that was there at the beginning."""
    made = sealed.read(folder).made
    tensors = load_file(folder / "model.safetensors")
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == 20_000
    assert len(tensors) == 55
    if not made:
        return 0
    assert {float(tensor.min()) for tensor in tensors.values()} == {float(made["trial"])}
    assert {float(tensor.max()) for tensor in tensors.values()} == {float(made["trial"])}
    return int(made["trial"])


def test_an_interrupt_at_any_time(saver: tuple[subprocess.Popen[str], Path, float]):
    process, target, took = saver
    held, outcomes = 0, []
    for trial in range(1, 31):
        tell(process)
        time.sleep(1.5 * took * (trial - 1) / 30)
        process.send_signal(signal.SIGINT)
        outcomes.append(process.stdout.readline().strip())
        found = trial_of(target)
        assert found in ((trial,) if outcomes[-1] == "saved" else (held, trial))
        assert [path.name for path in target.parent.iterdir()] == ["model"]
        held = found
    assert "interrupted" in outcomes


EVERY_STEP = """
import sys
from pathlib import Path
from graft import files

def interrupt_at(step):
    # Ctrl-C reaches Python between two of its steps; a trace function sees them all.
    count = 0
    def trace(frame, event, argument):
        nonlocal count
        if frame.f_code.co_filename != files.__file__ or frame.f_code.co_name not in ("replacing", "_swap_in"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count == step:
                raise KeyboardInterrupt
        return trace
    return trace

target = Path(sys.argv[1])
step, last, done = 0, 0, False
while not done:
    step += 1
    sys.settrace(interrupt_at(step))
    try:
        with files.replacing(target) as new:
            new.mkdir()
            (new / "a").write_text(str(step))
        done = True
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    held = [p for p in (target, *target.parent.glob(".model.*.tmp/old")) if p.exists()]
    assert [(p / "a").read_text() for p in held][:1] in ([str(step)], [str(last)]), (step, last, held)
    last = int((held[0] / "a").read_text())
    if not target.exists():
        held[0].rename(target)
        print("aside", step)
print("steps", step)
"""


def test_an_interrupt_between_any_two_steps_of_replacing(tmp_path: Path):
    """The old or the new always stands; at worst in the hidden folder beside, where the cleaning was interrupted."""
    target = tmp_path / "place" / "model"
    target.mkdir(parents=True)
    (target / "a").write_text("0")
    command = [sys.executable, "-c", EVERY_STEP, str(target)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    *aside, steps = result.stdout.splitlines()
    assert int(steps.split()[1]) > 60
    assert len(aside) <= 30

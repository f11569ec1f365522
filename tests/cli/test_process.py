"""What only a process of its own shows: signals, pipes, full disks, a cold start."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

Run = Callable[..., Any]
SECONDS = 180
HEAVY = (
    "sklearn",
    "scipy",
    "matplotlib",
    "pyarrow",
    "pandas",
    "transformers",
    "huggingface_hub.hf_api",
    "torch._dynamo",
)

COLD = """
import sys
from graft.cli import main
code = main(sys.argv[1:])
print(*sorted(sys.modules))
sys.exit(code)
"""


@contextlib.contextmanager
def started(
    words: list[str | Path], folder: Path, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[str], IO[str], IO[str], IO[str]]]:
    """A command under way, with its three streams; killed if it hangs."""
    command = [sys.executable, "-m", "graft.cli", *map(str, words)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, cwd=folder, env=environment, text=True, encoding="utf-8") as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        guard = threading.Timer(SECONDS, child.kill)
        guard.start()
        try:
            yield child, child.stdin, child.stdout, child.stderr
        finally:
            guard.cancel()
            child.kill()


def test_a_cold_answer_imports_nothing_it_does_not_need(classifier: Path, tmp_path: Path, environment: dict[str, str]):
    words = ["run", "classify", "what a day", "--model", str(classifier), "--json"]
    command = [sys.executable, "-c", COLD, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    answer, modules = done.stdout.splitlines()
    assert json.loads(answer)["label"] in ("no", "yes", "maybe")
    loaded = set(modules.split())
    assert "torch" in loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded.intersection(HEAVY))


def test_standard_input_is_answered_as_it_arrives(classifier: Path, tmp_path: Path, environment: dict[str, str]):
    words: list[str | Path] = ["run", "classify", "-", "--model", classifier, "--json"]
    with started(words, tmp_path, environment | {"PYTHONIOENCODING": "ascii"}) as (child, given, answers, notices):
        for number, text in enumerate(("first", "zweite Zeile ü ☕"), start=1):
            given.write(f"{text}\n")
            given.flush()
            line = answers.readline()
            assert line.isascii(), "the stream cannot hold anything else"
            answer = json.loads(line)
            assert (answer["line"], answer["text"]) == (number, text)
        given.write("\nlast")
        given.close()
        rest = [json.loads(line) for line in answers]
        told = notices.read()
        assert child.wait(SECONDS) == 0
    assert [(each["line"], each["text"]) for each in rest] == [(4, "last")]
    assert told == "standard input: 4 lines, each a text, 1 of them blank and left out\n"


def test_standard_input_in_another_encoding(process: Run, base: Path):
    words = ("run", "embed", "--model", base, "--quiet")
    process(*words, given=b"fine\ncaf\xe9\n").failed(1, "standard input: line 2:", "--encoding latin-1")


def test_a_full_disk_while_saving_leaves_nothing(process: Run, base: Path, pets: Path, tmp_path: Path):
    done = process(
        *("finetune", pets, "--model", base, "--out", "m", "epochs=1", "dtype=float32"),
        shell='ulimit -f 32; exec "$@"',
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert "File too large" in done.failed(1, "m: the weights could not be written")
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.glob(".m*"))


def test_ctrl_c_in_training_leaves_nothing(base: Path, pets: Path, tmp_path: Path, environment: dict[str, str]):
    words: list[str | Path] = ["finetune", pets, "--model", base, "--out", "m", "epochs=100000", "dtype=float32"]
    with started(words, tmp_path, environment) as (child, _, results, notices):
        told = [notices.readline(), notices.readline()]
        assert "the split column sets 24 rows aside" in told[1]
        time.sleep(3)
        assert child.poll() is None, "training ended before the signal"
        child.send_signal(signal.SIGINT)
        told += notices.read().splitlines()
        assert child.wait(SECONDS) == 130
        assert results.read() == ""
    assert told[-1] == "error: cancelled"
    assert not any("Traceback" in line for line in told)
    assert not list(tmp_path.glob("m*"))
    assert not list(tmp_path.glob(".m*"))


def test_a_request_to_terminate_removes_what_is_half_written(base: Path, tmp_path: Path, environment: dict[str, str]):
    words: list[str | Path] = ["run", "embed", "-", "--model", base, "--out", "answers.jsonl"]
    (tmp_path / "answers.jsonl").write_text("old")
    with started(words, tmp_path, environment) as (child, _, _, _):
        deadline = time.monotonic() + SECONDS
        while not list(tmp_path.glob(".answers*")):
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(signal.SIGTERM)
        assert child.wait(SECONDS) == 143
    assert not list(tmp_path.glob(".answers*"))
    assert (tmp_path / "answers.jsonl").read_text() == "old"


def test_a_reader_that_goes_away_ends_it_quietly(process: Run, base: Path, tmp_path: Path):
    (tmp_path / "lines.txt").write_text("a line\n" * 3000)
    done = process(
        *("run", "embed", "lines.txt", "--model", base, "--json", "--quiet"),
        shell='"$@" | head -n 1; echo "code ${PIPESTATUS[0]}"',
    )
    first, code = done.out.splitlines()
    assert json.loads(first)["line"] == 1
    assert (code, done.err) == ("code 141", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_an_error(process: Run):
    done = process("--version", shell='exec "$@" > /dev/full')
    assert "No space left on device" in done.failed(1)


def test_closed_streams_do_no_harm(process: Run):
    done = process("models", "--json", shell='exec "$@" >&- 2>&-')
    assert (done.code, done.out, done.err) == (0, "", "")

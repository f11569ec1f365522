"""Measure several systems side by side, fairly: one worker process each, kept alive, taking turns.

Every system loads its model once, in a process of its own, and stays there warm. A round gives each one turn; only one
works at a time, so drift of the machine (heat, neighbours) meets all of them alike, and speeds are compared round
by round. Each turn also records how much processor time the *other* workers used (thread pools that spin while
idle would show here) and how much everything else on the machine used.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
QUIET = 0.05  # more than this share of the processors used by others, and a turn is called disturbed


def environment(threads: int) -> dict[str, str]:
    """The variables every worker runs under: the same number of threads for all, and no network."""
    count = str(threads)
    pools = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), count)
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return {**os.environ, **pools, **quiet, "TOKENIZERS_PARALLELISM": "true"}


class Worker:
    """One system in a process of its own; requests and replies are lines of JSON over its pipes."""

    def __init__(self, name: str, script: str, arguments: Iterable[str], threads: int) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / script), name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(threads),
            text=True,
        )
        self._usage = psutil.Process(self._process.pid)

    def call(self, do: str, **request: Any) -> dict[str, Any]:
        """Ask for one thing and wait for it; raises with the worker's own log if it failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        reply = json.loads(line) if line else {"error": "it ended"}
        if "error" in reply:
            self._log.seek(0)
            raise RuntimeError(f"{self.name}: {do} failed: {reply['error']}\n{self._log.read()[-4000:]}")
        return reply

    def processor_seconds(self) -> float:
        used = self._usage.cpu_times()
        return used.user + used.system

    def close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(handlers: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """A worker's main loop. What libraries print goes to the log, so that replies stay alone on the pipe."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = handlers[request.pop("do")](**request)
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def alternate(workers: list[Worker], requests: list[dict[str, Any]], settle: float = 0.5) -> dict[str, list[dict]]:
    """One round for each request, one turn for each worker in it; the replies of each worker, by name."""
    turns: dict[str, list[dict]] = {worker.name: [] for worker in workers}
    for number, request in enumerate(requests, 1):
        for worker in workers:
            time.sleep(settle)  # let the previous worker's threads fall asleep
            note(f"round {number} of {len(requests)}: {worker.name}")
            turns[worker.name].append(_metered(worker, workers, request))
    return turns


def _metered(worker: Worker, workers: list[Worker], request: dict[str, Any]) -> dict[str, Any]:
    before, busy, start = [each.processor_seconds() for each in workers], _busy_seconds(), time.perf_counter()
    reply = worker.call("run", **request)
    wall = (time.perf_counter() - start) * cores()
    used = {each.name: each.processor_seconds() - at for each, at in zip(workers, before, strict=True)}
    own = used.pop(worker.name)
    idle = sum(used.values())
    elsewhere = max(0.0, _busy_seconds() - busy - own - idle)
    shares = {"idle_workers_share": round(idle / wall, 4), "elsewhere_share": round(elsewhere / wall, 4)}
    return {**reply, "processor_seconds": own, **shares}


def _busy_seconds() -> float:
    """Processor seconds used on the whole machine so far, with those its host took away (steal)."""
    times = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "system", "nice", "irq", "softirq", "steal"))


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def disturbances(turns: dict[str, list[dict]]) -> list[str]:
    """What a reader must know before trusting the figures; empty on a quiet machine."""
    lines = []
    for field, who in (("idle_workers_share", "waiting workers"), ("elsewhere_share", "other programs")):
        loud = [turn[field] for each in turns.values() for turn in each if turn[field] > QUIET]
        if loud:
            lines.append(f"{who} used up to {max(loud):.0%} of the processors ({len(loud)} turns): measure again")
    return lines


def summary(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": values}


def ratios(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Ours over theirs, round by round."""
    return summary([a / b for a, b in zip(ours, theirs, strict=True)])


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

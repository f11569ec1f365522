"""Connections that break: the final bytes are right, or the error is clean and nothing partial is visible."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path
from typing import Any

import pytest

NAME = "org/model"
SIZE = 3_000_000


def files(seed: int, size: int = SIZE) -> dict[str, bytes]:
    return {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": random.Random(seed).randbytes(size)}


def assert_whole(folder: str, expected: dict[str, bytes]) -> None:
    for name, content in expected.items():
        assert hashlib.sha256((Path(folder) / name).read_bytes()).digest() == hashlib.sha256(content).digest()


def assert_nothing_visible(machine: Any, name: str) -> None:
    """No partial weights under any name: no snapshot entry, no blob of their size class, no unfinished file."""
    inside = machine.repository(name)
    assert not list(inside.rglob("*.incomplete"))
    assert not list(inside.rglob("model.safetensors"))
    assert not [path for path in inside.rglob("blobs/*") if path.stat().st_size > 2]
    assert not (inside / "refs").exists()


@pytest.mark.slow
def test_twenty_cuts_at_random_offsets(hub: Any, machine: Any, fault: Any) -> None:
    """Five processes, four cuts each, at offsets from before the first byte to just before the last."""
    draw = random.Random(20)
    expected = {f"org/model-{number}": files(number) for number in range(5)}
    for name, content in expected.items():
        hub.add(name, content)
        hub.fail(f"GET /storage/{name}/", *(fault(cut_after=draw.randrange(SIZE)) for _ in range(4)))
    children = {name: machine.puller().send(name) for name in expected}
    for name, child in children.items():
        pulled = child.receive()
        assert pulled.get("source") == "hub", pulled
        assert_whole(pulled["folder"], expected[name])
        assert len(hub.paths(f"GET /storage/{name}/")) == 5, "each cut is followed by one more attempt"
        assert not list(machine.repository(name).rglob("*.incomplete"))


def test_a_long_file_is_resumed_where_it_broke(hub: Any, machine: Any, fault: Any) -> None:
    expected = files(0, 24_000_000)
    hub.add(NAME, expected)
    hub.fail("GET /storage/", fault(cut_after=15_000_000))
    assert_whole(machine.pull(NAME)["folder"], expected)
    ranges = [asked.range for asked in hub.asked if asked.path.startswith("/storage/")]
    assert ranges == [None, "bytes=10485760-"]


@pytest.mark.slow
def test_a_connection_that_always_breaks(hub: Any, machine: Any, fault: Any) -> None:
    hub.add(NAME, files(0))
    hub.fail("GET /storage/", fault(cut_after=1000), forever=True)
    refused = machine.pull(NAME)
    assert refused["error"] == "HubUnreachable"
    assert "broke off" in refused["message"]
    assert "run the same again" in refused["message"]
    assert_nothing_visible(machine, NAME)
    hub.faults.clear()
    assert_whole(machine.pull(NAME)["folder"], files(0))


def test_a_reset(hub: Any, machine: Any, fault: Any) -> None:
    hub.add(NAME, files(0))
    hub.fail("GET /storage/", fault(cut_after=2_000_000, reset=True), forever=True)
    refused = machine.pull(NAME)
    assert refused["error"] == "HubUnreachable"
    assert_nothing_visible(machine, NAME)
    hub.faults.clear()
    assert_whole(machine.pull(NAME)["folder"], files(0))


def test_too_few_and_too_many_bytes(hub: Any, machine: Any, fault: Any) -> None:
    hub.add(NAME, files(0))
    hub.fail("GET /storage/", fault(wrong=lambda content: content[:-1]), fault(wrong=lambda content: content + b"x"))
    for _ in range(2):
        refused = machine.pull(NAME)
        assert refused["error"] == "HubError", refused
        assert_nothing_visible(machine, NAME)
    assert_whole(machine.pull(NAME)["folder"], files(0))


def test_a_process_killed_half_way(hub: Any, machine: Any, fault: Any) -> None:
    hub.add(NAME, files(0))
    hub.fail("GET /storage/", fault(seconds=30))
    child = machine.puller().send(NAME)
    while hub.faults[0][1]:
        time.sleep(0.01)
        assert child.process.poll() is None
    child.kill()
    assert not (machine.repository(NAME) / "refs").exists()
    assert not list(machine.repository(NAME).rglob("model.safetensors"))
    assert_whole(machine.pull(NAME)["folder"], files(0))

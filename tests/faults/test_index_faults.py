"""Damaged indexes of shards, and such as lead out of their folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from graft.errors import GraftError
from graft.shards import INDEX, SINGLE


@pytest.fixture
def sharded(tiny, broken, tmp_path: Path) -> Path:
    folder: Path = broken("mixtral-lm")
    (folder / SINGLE).unlink()
    tiny("mixtral-lm").theirs.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    for path in (tmp_path / "shards").glob("*.safetensors*"):
        path.rename(folder / path.name)
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


NAMES = (
    "../x.safetensors",
    "../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "\\\\server\\x.safetensors",
    "..\\x.safetensors",
    "C:\\x.safetensors",
    "c:x.safetensors",
    "inner/../x.safetensors",
    "./x.safetensors",
    "file:///x.safetensors",
    "x.safetensors\0.bin",
    "x.SAFETENSORS",
    "x.safetensors/",
    "x.bin",
    "config.json",
    "\u202ex.safetensors",
    "\ud800.safetensors",
    "",
    ".",
    "gone.safetensors",
    "folder.safetensors",
    "pipe.safetensors",
    "endless.safetensors",
    "n" * 4000 + ".safetensors",
)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:40])
def test_an_index_leads_nowhere_else(sharded: Path, name: str):
    (sharded.parent / "x.safetensors").write_bytes(next(sharded.glob("*.safetensors")).read_bytes())
    (sharded / "folder.safetensors").mkdir()
    os.mkfifo(sharded / "pipe.safetensors")
    (sharded / "endless.safetensors").symlink_to("/dev/zero")
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"][next(iter(index["weight_map"]))] = name
    (sharded / INDEX).write_text(json.dumps(index))
    refused(sharded, GraftError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: {}, ""),
        (lambda index: {"weight_map": None}, ""),
        (lambda index: {"weight_map": []}, ""),
        (lambda index: {"weight_map": {"a": None}}, ""),
        (lambda index: {"weight_map": {"a": ["x.safetensors"]}}, ""),
        (lambda index: {"weight_map": {}}, "the weights hold 0 in 0 tensors"),
        (lambda index: {"weight_map": index | {"no.such": next(iter(index.values()))}}, "none of the shards: no.such"),
        (lambda index: {"weight_map": dict(list(index.items())[:1])}, "tensors"),
        (lambda index: [], "expected a JSON object"),
    ],
)
def test_a_damaged_index(sharded: Path, change: Callable[[dict[str, str]], Any], message: str):
    index = json.loads((sharded / INDEX).read_text())["weight_map"]
    (sharded / INDEX).write_text(json.dumps(change(index)))
    assert message in refused(sharded, GraftError)


def test_a_shard_that_is_cut_short_or_given_twice(sharded: Path):
    first, second, *_ = sorted(sharded.glob("*.safetensors"))
    good = second.read_bytes()
    second.write_bytes(good[:-1])
    assert second.name in refused(sharded)
    second.write_bytes(first.read_bytes())
    assert f"is also in {first.name}" in refused(sharded)
    second.unlink()
    assert second.name in refused(sharded, GraftError)

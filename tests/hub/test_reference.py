"""A reference is a folder or a name on the hub; what looks like a path never goes to the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graft.errors import HubError
from graft.hub import ENCODER, looks_like_path, pull, resolve
from graft.hub.reference import hub_id


def model_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"weights")
    return path


PATHS = [
    "./x",
    "../x",
    ".",
    "..",
    "/x",
    "/x/y",
    "~/x",
    "~",
    "x/y/z",
    "x/",
    "org/name/",
    r"models\mine",
    r".\mine",
    r"\\server\share",
    "C:model",
    "C:/models/mine",
    "model.safetensors",
    "weights.BIN",
    "runs/best.pt",
    "runs/sst2",
    "runs",
    "notes",
]
NAMES = [
    "gpt2",
    "org/name",
    "org/name.v2",
    "hf://runs/sst2",
    "hf://org/name",
    "https://huggingface.co/org/name",
    "all-MiniLM-L6-v2",
    ENCODER,
    "",
    "s3://bucket/a/b",
    "bert-base-uncased",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ./runs, ./sentence-transformers and a file ./notes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "sst-2").mkdir(parents=True)
    (tmp_path / "sentence-transformers").mkdir()
    (tmp_path / "notes").write_text("")
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("ref", PATHS)
def test_looks_like_a_path(ref: str) -> None:
    assert looks_like_path(ref)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("ref", NAMES)
def test_is_a_name(ref: str) -> None:
    assert not looks_like_path(ref)


def test_a_path_object_is_a_path() -> None:
    assert looks_like_path(Path("org/name"))


def test_a_folder_shadows_a_name(here: Path) -> None:
    assert not looks_like_path("gpt2")
    (here / "gpt2").mkdir()
    assert looks_like_path("gpt2")
    (here / ENCODER).mkdir()
    assert looks_like_path(ENCODER)


def test_a_folder_is_given_back_with_its_files(here: Path) -> None:
    model_folder(here / "mine")
    (here / "mine" / "1_Pooling").mkdir()
    (here / "mine" / "1_Pooling" / "config.json").write_text("{}")
    pulled = pull("mine")
    assert (pulled.folder, pulled.source, pulled.bytes) == (Path("mine"), "folder", 11)
    assert pulled.files == ("1_Pooling/config.json", "config.json", "model.safetensors")
    assert resolve(here / "mine") == here / "mine"


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    model_folder(tmp_path / "mine")
    assert resolve("~/mine") == tmp_path / "mine"


@pytest.mark.usefixtures("here")
def test_a_missing_folder_is_explained_in_both_readings() -> None:
    with pytest.raises(HubError) as raised:
        resolve("runs/sst2")
    message = str(raised.value)
    assert "no such folder" in message
    assert "the folder ./runs exists here" in message
    assert "Did you mean 'runs/sst-2'?" in message
    assert "write 'hf://runs/sst2'" in message


@pytest.mark.usefixtures("here")
def test_a_certain_path_has_one_reading() -> None:
    with pytest.raises(HubError, match="no such folder; .* it starts like a path") as raised:
        resolve("./sst2")
    assert "hf://" not in str(raised.value)


@pytest.mark.usefixtures("here")
def test_a_file_is_not_a_folder() -> None:
    with pytest.raises(HubError, match="this is a file; give the folder that holds it"):
        resolve("notes")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"model.safetensors": b""}, "no configuration: expected one of config.json"),
        ({"config.json": b"{}"}, "no weights: expected model.safetensors"),
        (
            {"config.json": b"{}", "pytorch_model.bin": b""},
            r"only weights here are pytorch_model.bin.*safetensors alone",
        ),
        (
            {"config.json": b"{}", "model.safetensors.index.json": b'{"weight_map": {"a": "x.safetensors"}}'},
            "these shards of the model are missing: x.safetensors",
        ),
    ],
)
def test_a_folder_that_is_no_model(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(HubError, match=words):
        resolve(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../x.safetensors", "/x.safetensors", "a/x.safetensors", "a\\x.safetensors", "C:x.safetensors", "x.bin", "..", ""]
    + ["x\0.safetensors", "x\n.safetensors", ".safetensors/..", "\\\\host\\x.safetensors", "~/x.safetensors"],
)
def test_an_index_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(HubError, match="refuses .*beside the index"):
        resolve(tmp_path)


def test_an_adapter_and_an_elmo_folder_are_models(tmp_path: Path) -> None:
    adapter, elmo = tmp_path / "adapter", tmp_path / "elmo"
    for folder, names in [
        (adapter, ("adapter_config.json", "adapter_model.safetensors")),
        (elmo, ("options.json", "weights.hdf5")),
    ]:
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"{}")
        assert resolve(folder) == folder


def test_a_revision_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="a revision .* only for a name on the hub"):
        resolve(model_folder(tmp_path / "mine"), revision="main")


@pytest.mark.parametrize("ref", ["", "a b", "org/na me", "s3://bucket/a/b", "hf://a/b/c", "hf://", "org/..name", "-x"])
def test_neither_folder_nor_name(ref: str) -> None:
    with pytest.raises(HubError, match="neither a folder here nor a name on the hub"):
        resolve(ref)


def test_every_spelling_of_a_name() -> None:
    assert hub_id("hf://org/name") == hub_id("https://huggingface.co/org/name") == hub_id("org/name") == "org/name"
    assert hub_id("all-MiniLM-L6-v2") == hub_id(f"hf://{ENCODER}") == ENCODER

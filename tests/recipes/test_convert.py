"""Converting model folders: the same numbers, the same files, all or nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from graft.errors import GraftError, ModelError, StorageError, UsageError
from graft.loading import load
from graft.recipes.convert import PICKLE, PICKLE_INDEX, convert

IDS = [5, 7, 11, 90]


@pytest.fixture
def pickled(tiny, tmp_path: Path) -> Callable[..., Path]:
    """A tiny model's folder with its weights as torch.save writes them."""

    def make(name: str = "bert-classify", *, shards: int = 1, zipped: bool = True, change: Any = None) -> Path:
        folder = Path(shutil.copytree(tiny(name).folder, tmp_path / "in"))
        tensors: Any = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        tensors = tensors if change is None else change(tensors)
        if shards == 1:
            torch.save(tensors, folder / PICKLE, _use_new_zipfile_serialization=zipped)
            return folder
        files = [f"pytorch_model-{number}.bin" for number in range(shards)]
        places = {tensor: files[number % shards] for number, tensor in enumerate(tensors)}
        for file in files:
            own = {tensor: tensors[tensor] for tensor, place in places.items() if place == file}
            torch.save(own, folder / file, _use_new_zipfile_serialization=zipped)
        (folder / PICKLE_INDEX).write_text(json.dumps({"weight_map": places}))
        return folder

    return make


def refused(source: Path, out: Path, error: type[GraftError] = ModelError, **options: Any) -> str:
    """The message; whatever happened, nothing is left of it."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(error) as caught:
        convert(source, out, **options)
    assert sorted(out.parent.iterdir()) == before
    message = str(caught.value)
    assert message.isprintable()
    assert ".tmp" not in message
    return message


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bert-classify", {}),
        ("bert-classify", {"shards": 3}),
        ("gpt2-lm", {"zipped": False}),
        ("llama-tied", {}),
        ("mixtral-lm", {"shards": 2, "zipped": False}),
        ("roberta", {}),
    ],
)
def test_pickles_become_the_same_model(tiny, pickled, tmp_path: Path, name: str, options: dict[str, Any]):
    done = convert(pickled(name, **options), tmp_path / "out", trust=True)
    assert (done.read, done.dtype) == ("pickle", "float32")
    load(tiny(name).folder, "float32").save(tmp_path / "expected")
    ours, theirs = (load_file(tmp_path / one / "model.safetensors") for one in ("out", "expected"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[tensor], theirs[tensor]) for tensor in theirs)
    again = load(tmp_path / "out", "float32")
    assert torch.equal(again.hidden_states([IDS])[0], load(tiny(name).folder, "float32").hidden_states([IDS])[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expected", "in", "out"]


def older(tensors: dict[str, Any]) -> dict[str, Any]:
    """The names of checkpoints that came from TensorFlow."""
    renamed = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for name, tensor in tensors.items()
    }
    assert renamed.keys() != tensors.keys()
    return renamed


def test_old_names(tiny, pickled, tmp_path: Path):
    source = pickled(change=older)
    convert(source, tmp_path / "out", trust=True)
    other = Path(shutil.copytree(tiny("bert-classify").folder, tmp_path / "other"))
    save_file(older(load_file(other / "model.safetensors")), other / "model.safetensors")
    convert(other, tmp_path / "out2")
    expected = load_file(tiny("bert-classify").folder / "model.safetensors")
    for out in ("out", "out2"):
        found = load_file(tmp_path / out / "model.safetensors")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[tensor], expected[tensor]) for tensor in expected)


@pytest.mark.parametrize("wanted", [None, "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(tiny, tmp_path: Path, stored: torch.dtype, wanted: str | None):
    source = Path(shutil.copytree(tiny("bert").folder, tmp_path / "in"))
    tensors = {name: tensor.to(stored) for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(tensors, source / "model.safetensors")
    done = convert(source, tmp_path / "out", dtype=wanted)
    by_default = "float32" if stored == torch.float64 else str(stored).removeprefix("torch.")
    assert done.dtype == (wanted or by_default)
    target = getattr(torch, done.dtype)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(found[name], tensor.to(target)) for name, tensor in tensors.items())


def test_shards_become_one_file(tiny, tmp_path: Path):
    made = tiny("llama-lm")
    made.theirs.save_pretrained(tmp_path / "in", max_shard_size="20KB")
    assert len(list((tmp_path / "in").glob("*.safetensors"))) > 3
    convert(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("*.safetensors*")] == ["model.safetensors"]


def test_tokenizer_and_other_files_come_along(tiny, pickled, tmp_path: Path):
    source = pickled()
    files = {
        "generation_config.json": '{"max_length": 9}',
        "README.md": "---\nlicense: mit\n---\n",
        "spiece.model": "\x00\x01",
        "modeling_x.py": "raise SystemExit",
        "training_args.bin": "no",
    }
    for name, content in files.items():
        (source / name).write_text(content)
    done = convert(source, tmp_path / "out", trust=True)
    assert set(done.carried) == {"generation_config.json", "README.md", "spiece.model"}
    out = {path.name for path in (tmp_path / "out").iterdir()}
    assert out == {
        "config.json",
        "graft.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        *done.carried,
    }
    assert set(json.loads((tmp_path / "out" / "graft.json").read_text())["files"]) == out
    assert all((tmp_path / "out" / name).read_text() == files[name] for name in done.carried)
    before, after = (load(folder, "float32") for folder in (tiny("bert-classify").folder, tmp_path / "out"))
    assert before.encode(["some text"])[0].ids == after.encode(["some text"])[0].ids
    assert before("some text") == after("some text")


def test_a_sentence_encoder_keeps_its_pooling(tiny, tmp_path: Path):
    from graft.heads import Embed

    model = load(tiny("bert").folder, "float32")
    model.head = Embed(pool="first", normalize=True)
    model.save(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out", dtype="float32")
    again = load(tmp_path / "out", "float32")
    assert isinstance(again.head, Embed)
    assert again.head.pool == "first"


# What is refused before anything is read


def test_places(tiny, pickled, tmp_path: Path):
    good, file = tiny("bert").folder, tmp_path / "file"
    file.write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "no such folder" in refused(tmp_path / "absent", tmp_path / "out")
    assert "is a file" in refused(file, tmp_path / "out")
    assert "no weights: expected one of" in refused(tmp_path / "empty", tmp_path / "out")
    for taken in (file, tmp_path / "empty", tmp_path / "dangling"):
        assert "exists already" in refused(good, taken, StorageError)
    with pytest.raises(StorageError, match="cannot be written"):
        convert(good, file / "inside")
    assert "did you mean 'float16'" in refused(good, tmp_path / "out", UsageError, dtype="float17")
    message = refused(pickled(), tmp_path / "out", UsageError)
    assert "is a pickle: a program that its reader runs" in message
    assert "--trust" in message


def test_numbers_that_are_none(tiny, tmp_path: Path):
    source = Path(shutil.copytree(tiny("bert").folder, tmp_path / "in"))
    tensors = load_file(source / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    tensors[name][3, 4] = 1e5
    save_file(tensors, source / "model.safetensors")
    message = refused(source, tmp_path / "out", dtype="float16")
    assert f"values beyond the range of this dtype, such as {name}" in message
    tensors[name][3, 4] = torch.nan
    save_file(tensors, source / "model.safetensors")
    assert refused(source, tmp_path / "out").endswith(f"in 1 tensors: {name}; the weights are damaged")


@pytest.mark.parametrize("name", ["../out.bin", "/etc/passwd", "x.safetensors", "..\\x.bin", "C:x.bin", "x\0.bin"])
def test_an_index_of_pickles_leads_nowhere_else(pickled, tmp_path: Path, name: str):
    source = pickled(shards=2)
    (source / PICKLE_INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    assert "refuses the file name" in refused(source, tmp_path / "out", trust=True)

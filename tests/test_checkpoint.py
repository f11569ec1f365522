"""Loading and saving: dtypes, what is handed on, how many shards, and how much memory it takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from graft import checkpoint, families
from graft.errors import StorageError, UsageError
from graft.files import read_json, write_json
from graft.loading import load
from graft.model.config import Config
from graft.model.transformer import Transformer
from graft.shards import INDEX, SINGLE


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("float32", torch.float32),
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_dtypes(tiny, name: str | torch.dtype, dtype: torch.dtype):
    assert checkpoint.choose_dtype(name) == dtype
    model = load(tiny("bert-classify").folder, name)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_auto_is_what_the_processor_computes_in():
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    chosen = checkpoint.choose_dtype("auto")
    assert chosen in (torch.bfloat16, torch.float32)
    if not torch.cuda.is_available() and flags:
        assert (chosen == torch.bfloat16) == any(flag in flags.split() for flag in ("avx512_bf16", "amx_tile", "bf16"))


@pytest.mark.parametrize("name", ["float23", "int8", torch.float64, "", "FLOAT32"])
def test_an_unknown_dtype(name: str | torch.dtype):
    with pytest.raises(UsageError, match="unknown dtype .*Valid: 'auto', 'bfloat16', 'float16', 'float32'"):
        checkpoint.choose_dtype(name)


def test_half_precision_is_the_nearest_number(tiny):
    folder = tiny("gpt2-untied").folder
    published = load_file(folder / SINGLE)
    loaded = checkpoint.load(folder, dtype=torch.bfloat16)
    assert torch.equal(loaded.head["output.weight"], published["lm_head.weight"].bfloat16())
    fused = published["transformer.h.1.attn.c_attn.weight"].bfloat16()
    block = loaded.backbone.blocks[1].attention
    assert torch.equal(torch.cat([one.weight for one in (block.query, block.key, block.value)]).T, fused)


# What is handed on


def save(folder: Path, published: dict[str, Any], shard_bytes: int = checkpoint.SHARD_BYTES) -> dict[str, Any]:
    config = Config(
        vocab_size=9, hidden_size=8, layers=2, heads=2, feed_forward_size=16, positions=5, norm="pre", causal=True
    )
    torch.manual_seed(0)
    backbone = Transformer(config)
    folder.mkdir(exist_ok=True)
    checkpoint.save(
        folder,
        family=families.find("gpt2"),
        config=config,
        architecture="GPT2Model",
        published=published,
        backbone=backbone,
        head={},
        options={},
        shard_bytes=shard_bytes,
    )
    return read_json(folder / "config.json")


def test_plain_entries_are_handed_on_and_nothing_else(tmp_path: Path):
    given = {
        "pad_token_id": 3,
        "eos_token_id": [1, 2],
        "bos_token_id": None,
        "tie_word_embeddings": True,
        "classifier_dropout": 0.5,
        "cls_token_id": float("nan"),
        "sep_token_id": {"a": 1},
        "mask_token_id": "x" * 100,
        "auto_map": {"AutoModel": "x.Y"},
        "n_embd": 64,
        "_name_or_path": "/home/somebody",
    }
    record = save(tmp_path / "out", given)
    kept = {key: record[key] for key in given if key in record}
    assert kept == {**{key: given[key] for key in list(given)[:5]}, "n_embd": 8}
    assert record["dtype"] == "float32"


@pytest.mark.parametrize("shard_bytes", [1, 300, 1000, 2000, 10**6])
def test_shards_hold_what_they_may(tmp_path: Path, shard_bytes: int):
    save(tmp_path / "whole", {})
    save(tmp_path / "out", {}, shard_bytes)
    whole = load_file(tmp_path / "whole" / SINGLE)
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    parts = [load_file(file) for file in files]
    assert {name: tensor.tolist() for part in parts for name, tensor in part.items()} == {
        name: tensor.tolist() for name, tensor in whole.items()
    }
    if shard_bytes == 10**6:
        assert [file.name for file in files] == [SINGLE]
        return
    assert [file.name for file in files] == [
        f"model-{n:05d}-of-{len(files):05d}.safetensors" for n in range(1, len(files) + 1)
    ]
    assert all(len(part) == 1 or sum(t.nbytes for t in part.values()) <= shard_bytes for part in parts)
    index = read_json(tmp_path / "out" / INDEX)
    assert index["metadata"] == {"total_size": sum(tensor.nbytes for tensor in whole.values())}
    assert index["weight_map"] == {name: file.name for file, part in zip(files, parts, strict=True) for name in part}
    assert checkpoint.load(tmp_path / "out", dtype=torch.float32).architecture == "GPT2Model"


def test_a_place_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "out" / SINGLE).mkdir(parents=True)
    with pytest.raises(StorageError, match=f"{tmp_path / 'out'}: the weights could not be written: .*directory"):
        save(tmp_path / "out", {})


def test_a_missing_shard(tmp_path: Path):
    save(tmp_path / "out", {}, 1000)
    next((tmp_path / "out").glob("*-00002-*")).unlink()
    with pytest.raises(checkpoint.ModelError, match=r"the shard 'model-00002-of-\d+\.safetensors' is missing"):
        checkpoint.load(tmp_path / "out", dtype=torch.float32)


# Memory

CHILD = """
import sys
from pathlib import Path
import torch
from graft.loading import load

def status(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1]) * 1024

small, large, dtype = sys.argv[1:]
load(small, dtype).logits([[1]])  # what the libraries take once is not the model's
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
model = load(large, dtype)
pieces = (piece for parameter in model.parameters() for piece in parameter.detach().split(1000))
total = sum(float(piece.float().abs().sum()) for piece in pieces)
weights = sum(parameter.nbytes for parameter in model.parameters())
print((status("VmHWM") - before) / weights, weights, model.head.output.weight[-1, -1].item(), total)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untied GPT-2 of 160 MB in float32, most of it in two tensors."""
    config = Config(
        vocab_size=50257,
        hidden_size=320,
        layers=6,
        heads=5,
        feed_forward_size=1280,
        positions=64,
        norm="pre",
        causal=True,
    )
    folder = tmp_path_factory.mktemp("large")
    torch.manual_seed(0)
    with torch.no_grad():
        backbone = Transformer(config)
        output = backbone.token_embedding.weight * 2
    checkpoint.save(
        folder,
        family=families.find("gpt2"),
        config=config,
        architecture="GPT2LMHeadModel",
        published={},
        backbone=backbone,
        head={"output.weight": output},
        options={"tied": False},
    )
    return folder


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured with Linux's /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_takes_little_more_than_the_weights(tiny, large: Path, dtype: str):
    """Resident memory, the file's pages included, grows by at most 1.2 times the weights, all of which are read."""
    command = [sys.executable, "-c", CHILD, str(tiny("gpt2-untied").folder), str(large), dtype]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    ratio, weights, last, total = map(float, result.stdout.split())
    published = load_file(large / SINGLE)
    assert weights == sum(t.numel() for t in published.values()) * checkpoint.DTYPES[dtype].itemsize
    assert 0.9 < ratio < 1.2
    assert last == published["lm_head.weight"][-1, -1].to(checkpoint.DTYPES[dtype]).item()
    assert total == pytest.approx(sum(float(tensor.abs().sum()) for tensor in published.values()), rel=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_keep_the_layout_of_the_file(tiny, dtype: str):
    """GPT-2's files hold matrices transposed, q, k and v as one: nothing is copied to have them otherwise."""
    attention = load(tiny("gpt2-lm").folder, dtype).backbone.blocks[0].attention
    together = {part.weight.untyped_storage().data_ptr() for part in (attention.query, attention.key, attention.value)}
    assert len(together) == 1
    assert not attention.query.weight.is_contiguous()
    stored = load_file(tiny("gpt2-lm").folder / SINGLE)["transformer.h.0.attn.c_attn.weight"]
    expected = stored.t().chunk(3)[1].to(checkpoint.DTYPES[dtype])
    assert torch.equal(attention.key.weight, expected)


def test_a_config_may_be_read_without_weights(tiny, tmp_path: Path):
    shutil.copy(tiny("bert-multi").folder / "config.json", tmp_path)
    published, family, architecture, config = checkpoint.read_config(tmp_path)
    assert published == json.loads((tmp_path / "config.json").read_text())
    assert (family.name, architecture, config.layers) == ("bert", "BertForSequenceClassification", 3)
    write_json(tmp_path / "config.json", {**published, "hidden_size": 33})
    with pytest.raises(checkpoint.ModelError, match=r"config\.json: .*not a multiple of 4 attention heads"):
        checkpoint.read_config(tmp_path)

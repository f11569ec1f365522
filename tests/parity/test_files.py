"""Files against transformers: written as read, bit for bit, and folders it can open again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from side_by_side import BARE, HEADED, alone, draw, numbers, worst

from graft import checkpoint
from graft.loading import load


def same_tensors(one: Path, other: Path) -> None:
    """The same names, dtypes, shapes and bytes, in however many files."""
    left, right = (
        {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
        for folder in (one, other)
    )
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype
        assert tensor.shape == right[name].shape
        assert torch.equal(tensor.view(torch.uint8), right[name].view(torch.uint8)), name


def reopened(folder: Path, theirs: Any) -> Any:
    """The saved folder as transformers opens it; a tensor it misses or does not know fails the test."""
    again, report = type(theirs).from_pretrained(folder, output_loading_info=True)
    assert {what: names for what, names in report.items() if names} == {}
    return again.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [*BARE, *HEADED])
def test_written_as_read(tiny, tmp_path: Path, name: str, dtype: torch.dtype):
    made = tiny(name)
    source = made.folder
    if dtype != torch.float32:
        source = tmp_path / "source"
        type(made.theirs).from_pretrained(made.folder).to(dtype).save_pretrained(source)
    out = load(source, dtype).save(tmp_path / "out")
    same_tensors(source, out)
    again = reopened(out, made.theirs)
    assert again.dtype == dtype or name.startswith("xlnet")  # which transformers opens in float32
    if dtype == torch.float32:
        ids = draw((12,), 96)[0]
        # Files may lie at other addresses, and sums then add up in another order.
        assert worst(numbers(alone(again, ids)), numbers(alone(made.theirs, ids))) < 1e-6
    for entry in ("id2label", "label2id", "architectures", "model_type", "pad_token_id", "vocab_size"):
        assert getattr(again.config, entry) == getattr(made.theirs.config, entry), entry


@pytest.mark.parametrize("name", ["bert-classify", "gpt2-untied"])
def test_shards(tiny, tmp_path: Path, name: str):
    made = tiny(name)
    made.theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 3
    loaded = checkpoint.load(tmp_path / "theirs", dtype=torch.float32)
    model = load(made.folder, "float32")
    (tmp_path / "ours").mkdir()
    checkpoint.save(
        tmp_path / "ours",
        family=loaded.family,
        config=loaded.backbone.config,
        architecture=loaded.architecture,
        published=loaded.published,
        backbone=loaded.backbone,
        head=loaded.head,
        options=model.head.options(),
        shard_bytes=20_000,
    )
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 3
    same_tensors(made.folder, tmp_path / "ours")
    ids = draw((12,), 96)[0]
    assert torch.equal(alone(reopened(tmp_path / "ours", made.theirs), ids).logits, alone(made.theirs, ids).logits)
    assert torch.equal(load(tmp_path / "ours", "float32").logits([ids])[0], model.logits([ids])[0])


def test_saved_again_as_another_class(tiny, tmp_path: Path):
    """A new head on a bare encoder: transformers opens it as a classifier, with our labels and our numbers."""
    model = load(tiny("bert").folder, "float32")
    model.graft("classify", labels=("cold", "warm"), problem="single")
    out = model.save(tmp_path / "out")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(out).eval()
    assert theirs.config.id2label == {0: "cold", 1: "warm"}
    ids = draw((12,), 96)[0]
    assert worst(model.logits([ids])[0], alone(theirs, ids).logits[0]) < 1e-5

"""Published models that nobody here wrote, against what their authors say comes out of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stories import from_llama2c

from graft.batch import pack
from graft.generate.cache import StaticCache
from graft.grafted import Model
from graft.loading import load


@torch.inference_mode()
def greedy(model: Model, start: int, count: int) -> list[int]:
    """The most probable token, again and again, through the cache."""
    config = model.backbone.config
    cache = StaticCache(config, 1, count, dtype=model.dtype)
    ids = [start]
    while len(ids) < count:
        batch = pack([ids[-1:]], start=[len(ids) - 1])
        assert model.head is not None
        ids.append(int(model.head(model.backbone(batch, cache=cache), batch)[-1].argmax()))
    return ids


@pytest.fixture(scope="module")
def stories(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    source = shared_data / "models" / "stories260K"
    folder = tmp_path_factory.mktemp("stories") / "model"
    from_llama2c(source / "stories260K.bin", folder)
    return folder, json.loads((source / "stories260K_reference.json").read_text(encoding="utf-8"))


def test_a_published_llama_tells_its_story_to_the_last_token(stories: tuple[Path, dict[str, Any]]):
    folder, reference = stories
    expected = reference["greedy_token_ids"]
    found = greedy(load(folder, "float32"), expected[0], len(expected))
    assert found == expected
    pieces = {int(number): piece for number, piece in reference["partial_vocab_from_alignment"].items()}
    assert "".join(pieces[number] for number in found[1:]).lstrip(" ") == reference["expected_text"]


def test_its_story_is_the_same_without_a_cache(stories: tuple[Path, dict[str, Any]]):
    """Every next token is the most probable one when the whole story is read at once."""
    folder, reference = stories
    ids = reference["greedy_token_ids"]
    [logits] = load(folder, "float32").logits([ids[:-1]])
    assert logits.argmax(-1).tolist() == ids[1:]

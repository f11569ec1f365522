"""Published models that nobody here wrote, against what their authors say comes out of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from stories import from_llama2c

from graft.batch import pack
from graft.generate.beam import Beams, search
from graft.generate.cache import StaticCache
from graft.generate.sampling import Sampling
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


def test_its_most_probable_stories_are_those_of_transformers(stories: tuple[Path, dict[str, Any]]):
    folder, _ = stories
    ours, theirs = load(folder, "float32"), transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    prompts = [[1], [1, 403, 407, 261, 378], [1, 317, 265]]
    found = search(ours, prompts, Beams(n=4), Sampling(max_tokens=60, no_repeat_ngram=3), end=[2])
    for prompt, hypotheses in zip(prompts, found, strict=True):
        wanted = theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=60,
            do_sample=False,
            num_beams=4,
            num_return_sequences=4,
            no_repeat_ngram_size=3,
            eos_token_id=2,
            pad_token_id=0,
        )
        assert [one.ids for one in hypotheses] == [
            [token for token in row[len(prompt) :].tolist() if token not in (0, 2)] for row in wanted
        ]

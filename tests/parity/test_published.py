"""Published models that nobody here wrote, against what their authors say comes out of them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from graft.batch import pack
from graft.generate.beam import Beams, search
from graft.generate.cache import StaticCache
from graft.generate.sampling import Sampling
from graft.grafted import Model
from graft.loading import load

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}


def halves(weight: Tensor, heads: int) -> Tensor:
    """From pairs of neighbours that turn together to pairs half a head apart."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def from_llama2c(file: Path, folder: Path) -> dict[str, Any]:
    """Write a llama2.c checkpoint (a header, then float32 tensors, one kind after another) as a Hugging Face folder."""
    raw = file.read_bytes()
    size, inner, layers, heads, key_heads, vocab_size, positions = struct.unpack("7i", raw[:28])
    narrow, numbers = size // heads * key_heads, torch.from_numpy(np.frombuffer(raw[28:], np.float32).copy())
    at = 0

    def take(*shape: int) -> Tensor:
        nonlocal at
        at += int(np.prod(shape))
        return numbers[at - int(np.prod(shape)) : at].view(shape)

    tensors = {"model.embed_tokens.weight": take(vocab_size, size)}
    for name, shape in (
        ("input_layernorm", (size,)),
        ("self_attn.q_proj", (size, size)),
        ("self_attn.k_proj", (narrow, size)),
        ("self_attn.v_proj", (narrow, size)),
        ("self_attn.o_proj", (size, size)),
        ("post_attention_layernorm", (size,)),
        ("mlp.gate_proj", (inner, size)),
        ("mlp.down_proj", (size, inner)),
        ("mlp.up_proj", (inner, size)),
    ):
        for layer, weight in enumerate(take(layers, *shape)):
            turned = {"self_attn.q_proj": heads, "self_attn.k_proj": key_heads}.get(name)
            tensors[f"model.layers.{layer}.{name}.weight"] = halves(weight, turned) if turned else weight.clone()
    tensors["model.norm.weight"] = take(size)
    sizes = {"vocab_size": vocab_size, "hidden_size": size, "intermediate_size": inner, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": key_heads, "max_position_embeddings": positions}
    config = CONFIG | sizes | {"rms_norm_eps": 1e-5}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return config


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

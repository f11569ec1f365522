"""Fresh weights against those of transformers' classes, tensor by tensor: mean, spread, shape, and what is constant.

Where transformers and what it follows differ, Graft does as transformers:

- Weights are normal; BERT's first code cut them off at two deviations.
- An untied output matrix of T5 has deviation 1, as the embedding, in place of 1 / sqrt(d_model) as other layers.

Where Graft does not:

- The padding token's row, and RoBERTa's row of its position, are drawn as the others; transformers makes them zero.
- GPT-1's fused layers follow initializer_range; in transformers they have 0.02, as the paper says, whatever it is.
- DistilBERT's positions begin like other embeddings, also where sinusoidal_pos_embds asks for sinusoids.
- T5's initializer_factor is taken for 1, as its documentation says it should be.

ELMo has no class there. Its weights begin as in bilm-tf: character embeddings uniform up to 1; filters uniform up to
0.05 with relu, normal with 1 / sqrt(width x size) with tanh; highways and projection normal with 1 / sqrt(inputs), the
carry's bias at -2; LSTMs as TensorFlow's default, uniform up to sqrt(6 / (inputs + outputs)); other biases 0.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import elmo_files
import pytest
import torch
from safetensors.torch import load_file
from side_by_side import family
from tiny_models import SIZES, TINY, TWO_STACKS
from torch import Tensor

from graft.batch import pack
from graft.loading import fresh, load
from graft.weights import template, write

SEEDS = 8
BESIDE = ("pooler", "summary", "seq_relationship", "cls.predictions.bias", "lm_head.bias")
"""Parts of a class that its head does not use: Graft keeps those of files, and makes none."""

WIDE = {"hidden_size": 128, "intermediate_size": 160, "initializer_range": 0.05}
GPT = {"n_embd": 128}
T5 = {"d_model": 128, "d_ff": 160, "relative_attention_num_buckets": 64, "relative_attention_max_distance": 99}
CHANGES: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 128, "hidden_dim": 160, "initializer_range": 0.05},
    "gpt2": {**GPT, "initializer_range": 0.05},
    "openai_gpt": GPT,
    "xlnet": {"d_model": 128, "d_inner": 160, "initializer_range": 0.05},
    "t5": T5,
    "mt5": T5,
}


def pooled(draws: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Numbers of all draws and all layers by the pattern of their name, flat."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    for draw in draws:
        for name, tensor in draw.items():
            found[template(name)[0]].append(tensor.detach().float().flatten())
    return {name: torch.cat(parts) for name, parts in found.items()}


def theirs(name: str, folder: Path) -> dict[str, Tensor]:
    """What transformers draws, by the names tensors have in files; the first draw's folder stays."""
    import transformers

    architecture, options = (TINY | TWO_STACKS)[name]
    made = getattr(transformers, architecture)
    config = made.config_class(**{**SIZES[family(name)], **options, **CHANGES.get(family(name), WIDE)})
    draws = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        made(config).save_pretrained(folder)
        draws.append(load_file(folder / "model.safetensors"))
    return pooled(draws)


def ours(folder: Path, architecture: str, seeds: int = SEEDS) -> dict[str, Tensor]:
    draws = []
    for seed in range(seeds):
        torch.manual_seed(100 + seed)
        model = fresh(folder)
        tensors = {f"backbone.{key}": tensor for key, tensor in model.backbone.state_dict().items()}
        tensors |= {f"head.{key}": tensor for key, tensor in (model.head.own() if model.head else {}).items()}
        draws.append(write(model.family.table(architecture), tensors))
    return pooled(draws)


def spread(values: Tensor) -> tuple[float, float]:
    """Standard deviation, and how far the mean of the absolute values is from 0, in deviations: it tells the shape."""
    return float(values.std()), float(values.abs().mean() / values.std())


@pytest.mark.parametrize("name", TINY | TWO_STACKS)
def test_fresh_weights_are_theirs(tmp_path: Path, name: str):
    expected, found = theirs(name, tmp_path), ours(tmp_path, (TINY | TWO_STACKS)[name][0])
    assert found.keys() <= expected.keys()
    assert {key for key in expected.keys() - found.keys() if not any(part in key for part in BESIDE)} == set()
    for key, values in found.items():
        other = expected[key]
        assert values.shape == other.shape, key
        if bool((other == other[0]).all()):
            assert torch.equal(values, other), key
            continue
        assert len(values) >= 1024, f"{key}: too few to tell"
        assert abs(float(values.mean())) < 5 * float(other.std()) / math.sqrt(len(values)), key
        assert spread(values) == pytest.approx(spread(other), rel=0.09), key


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_elmo_begins_as_bilm_tf(tmp_path: Path, activation: str):
    options = elmo_files.changed(projection_dim=16, dim=40, filters=[[2, 12], [3, 18]], activation=activation)
    options["char_cnn"]["embedding"]["dim"] = 8
    elmo_files.write(tmp_path / "elmo", options, elmo_files.arrays(options))
    expected, found = elmo_files.arrays(options), ours(tmp_path / "elmo", "ELMo", seeds=24)
    assert found.keys() == {template(name)[0] for name in expected}
    uniform = {"char_embed": 1.0, "W_0": math.sqrt(6 / (32 + 160)), "W_P_0": math.sqrt(6 / (40 + 16))}
    normal = {"W_carry": 30**-0.5, "W_transform": 30**-0.5, "W_proj": 30**-0.5}
    constant = {"b_carry": -2.0, "b_transform": 0.0, "b_proj": 0.0, "B": 0.0}
    for key, values in found.items():
        kind = key.rpartition("/")[2]
        if kind == "W_cnn_{n}" and activation == "tanh":
            continue  # each of its own deviation, below
        if kind in constant or kind == "b_cnn_{n}":
            assert torch.equal(values, torch.full_like(values, constant.get(kind, 0.0))), key
            continue
        assert len(values) >= 1024, f"{key}: too few to tell"
        if kind in normal:
            assert spread(values) == pytest.approx((normal[kind], math.sqrt(2 / math.pi)), rel=0.09), key
            continue
        most = uniform.get(kind, 0.05)
        assert spread(values) == pytest.approx((most / math.sqrt(3), math.sqrt(3) / 2), rel=0.05), key
        assert 0.99 * most < float(values.abs().max()) <= most, key


def test_filters_with_tanh_have_the_deviation_of_their_width(tmp_path: Path):
    options = elmo_files.changed(filters=[[1, 40], [5, 40]], activation="tanh")
    folder = elmo_files.write(tmp_path / "elmo", options, elmo_files.arrays(options))
    for number, width in enumerate((1, 5)):
        torch.manual_seed(3)
        values = torch.cat([fresh(folder).backbone.filters[number].weight.detach().flatten() for _ in range(16)])
        assert spread(values) == pytest.approx(((4 * width) ** -0.5, math.sqrt(2 / math.pi)), rel=0.09)


def test_the_first_logits_say_nothing(tmp_path: Path):
    """A fresh language model gives every token about the same probability: its loss is near log V."""
    theirs("gpt2-lm", tmp_path)
    torch.manual_seed(5)
    model, ids_T = fresh(tmp_path), torch.randint(260, (40,))
    assert not model.training
    loss = model.head.loss(model(pack([ids_T.tolist()]))[:-1], ids_T[1:])
    assert float(loss.detach()) == pytest.approx(math.log(260), rel=0.1)


def test_draws_follow_the_random_state(tmp_path: Path):
    theirs("t5-lm", tmp_path)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(fresh(tmp_path).state_dict())
    first, same, other = drawn
    assert all(torch.equal(tensor, same[name]) for name, tensor in first.items())
    assert not torch.equal(first["backbone.token_embedding.weight"], other["backbone.token_embedding.weight"])


def test_a_grafted_head_begins_as_a_published_one(tiny):
    model = load(tiny("t5").folder, "float32")
    torch.manual_seed(4)
    values = []
    for _ in range(4):
        model.graft("classify", labels=("no", "yes"))
        values.append(model.head.dense.weight.detach().flatten())
    assert spread(torch.cat(values)) == pytest.approx((32**-0.5, math.sqrt(2 / math.pi)), rel=0.09)

"""Mixtures of experts: the loss that spreads tokens over them; and windows that alternate as in GPT-3."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from side_by_side import draw, worst

from graft.batch import pack
from graft.generate.cache import StaticCache
from graft.loading import load
from graft.model.mixture import balance_loss


@pytest.mark.parametrize("name", ["mixtral-lm", "olmoe-lm", "qwen2_moe-lm"])
def test_the_balance_loss_and_its_gradient(tiny, name: str):
    made = tiny(name)
    model = load(made.folder, "float32").train()
    sequences = draw((11, 11, 11), model.backbone.config.vocab_size, seed=8)
    made.theirs.zero_grad()
    theirs = made.theirs(input_ids=torch.tensor(sequences), output_router_logits=True).aux_loss
    theirs.backward()
    model.backbone(pack(sequences))
    ours = balance_loss(model)
    assert ours is not None
    ours.backward()
    assert worst(ours.detach(), theirs.detach().view(())) < 1e-5
    routers = [value.grad for label, value in made.theirs.named_parameters() if label.endswith("mlp.gate.weight")]
    found = [value.grad for label, value in model.named_parameters() if label.endswith("router.weight")]
    assert len(found) == len(routers) >= 2
    for own, other in zip(found, routers, strict=True):
        assert float(other.abs().max()) > 0
        assert worst(own, other) < 1e-5


def test_there_is_no_balance_without_experts_or_training(tiny):
    assert balance_loss(load(tiny("llama").folder, "float32")) is None
    model = load(tiny("mixtral").folder, "float32")
    model.hidden_states(draw((5,), 96))
    assert balance_loss(model) is None


@pytest.mark.parametrize("windows", [[0, 4], [4]])
def test_bands_of_attention(tiny, tmp_path: Path, windows: list[int]):
    """A band of 4 tokens hides what lies further back, in the layers that have one; short texts do not notice."""
    folder = shutil.copytree(tiny("gpt2-lm").folder, tmp_path / "banded")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_windows": windows}))
    model, whole = load(folder, "float32"), load(tiny("gpt2-lm").folder, "float32")
    short, [ids] = draw((4, 2, 1), 260), draw((30,), 260)
    for own, other in zip(model.hidden_states(short), whole.hidden_states(short), strict=True):
        assert worst(own, other) < 1e-5
    [long] = model.hidden_states([ids])
    [changed] = model.hidden_states([[ids[0] + 1 if ids[0] < 200 else 5, *ids[1:]]])
    reach = 3 * 3 + 1 if windows == [4] else 30  # through three layers of a band, token 0 reaches no further than 9
    assert worst(long[:reach], changed[:reach]) > 1e-3
    assert reach == 30 or worst(long[reach:], changed[reach:]) == 0
    assert worst(long, whole.hidden_states([ids])[0]) > 1e-3
    assert json.loads((model.save(tmp_path / "out") / "config.json").read_text())["attention_windows"] == windows
    cache = StaticCache(model.backbone.config, 1, 40, dtype=torch.float32)
    with torch.inference_mode():
        first = model.backbone(pack([ids[:13]], start=[0]), cache=cache)
        rest = model.backbone(pack([ids[13:]], start=[13]), cache=cache)
    assert worst(torch.cat([first, rest]), long) < 1e-5

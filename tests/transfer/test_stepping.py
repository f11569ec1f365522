"""What learns, when and how fast, under each strategy that takes steps."""

from __future__ import annotations

import pytest
import torch

from graft.batch import pack
from graft.errors import UsageError
from graft.grafted import Model
from graft.loading import load
from graft.transfer import make, stages


def model_of(tiny, name: str, head: str = "classify") -> Model:
    model = load(tiny(name).folder, "float32")
    model.graft(head, **({"labels": ("no", "yes")} if head == "classify" else {}))
    return model


def learning(model: Model) -> set[str]:
    return {name for name, one in model.named_parameters() if one.requires_grad}


def places(names: set[str]) -> set[str]:
    """Block numbers, and "head" or the first part of what lies elsewhere."""
    found = set()
    for name in names:
        first, *rest = name.removeprefix("backbone.").split(".")
        decoder = "decoder." if first == "decoder" else ""
        first, *rest = rest if decoder else [first, *rest]
        found.add(decoder + (rest[0] if first == "blocks" else first))
    return found


def test_bitfit_is_biases_or_norms_and_the_head(tiny):
    bert = model_of(tiny, "bert")
    make("bitfit").begin(bert)
    body = {name for name in learning(bert) if name.startswith("backbone.")}
    assert body == {f"backbone.{name}" for name, _ in bert.backbone.named_parameters() if name.endswith(".bias")}
    assert {"head.output.weight", "head.dense.weight"} <= learning(bert)
    llama = model_of(tiny, "llama")
    make("bitfit").begin(llama)
    assert "backbone.final_norm.weight" in learning(llama)
    assert all("norm.weight" in name for name in learning(llama) if name.startswith("backbone."))


@pytest.mark.parametrize(
    ("name", "head", "blocks", "expected"),
    [
        ("bert", "classify", 2, {"head", "1", "2"}),
        ("bert", "embed", 1, {"2"}),
        ("gpt2", "classify", 1, {"head", "final_norm", "2"}),
        ("t5", "classify", 1, {"head", "decoder.final_norm", "decoder.1"}),
        ("t5", "classify", 3, {"head", "decoder.final_norm", "decoder.1", "decoder.0", "final_norm", "2"}),
        ("t5", "embed", 2, {"final_norm", "2", "1"}),
    ],
)
def test_partial_is_the_top(tiny, name: str, head: str, blocks: int, expected: set[str]):
    model = model_of(tiny, name, head)
    make("partial", {"blocks": blocks}).begin(model)
    assert places(learning(model)) == expected


def test_no_gradient_is_computed_below_the_lowest_block_that_learns(tiny):
    model = model_of(tiny, "bert")
    make("partial", {"blocks": 1}).begin(model)
    layers: list[torch.Tensor] = []
    last = model.backbone(pack([[5, 6, 7], [8, 9]]), layers=layers)
    assert [one.requires_grad for one in layers] == [False, False, False, True]
    assert last.requires_grad


def test_gradual_lets_a_block_join_with_every_epoch(tiny):
    model = model_of(tiny, "gpt2")
    strategy = make("gradual", {"layer_decay": 0.5})
    groups = strategy.begin(model)
    seen = []
    for number in range(5):
        strategy.epoch(model, number, 5)
        seen.append(places(learning(model)))
    top = {"head", "final_norm"}
    below = {"token_embedding", "position_embedding"}
    assert seen == [top | {"2"}, top | {"2", "1"}, top | {"2", "1", "0"}, *[top | {"2", "1", "0"} | below] * 2]
    rates = {id(one): group.rate for group in groups for one in group.parameters}
    rate = {name: rates[id(one)] for name, one in model.named_parameters()}
    assert rate["head.output.weight"] == rate["backbone.blocks.2.attention.query.bias"] == 1
    assert rate["backbone.blocks.0.attention.query.weight"] == 0.25
    assert rate["backbone.token_embedding.weight"] == 0.125


def test_stages_hold_every_parameter_once(tiny):
    for name in ("bert", "t5", "xlnet"):
        model = model_of(tiny, name)
        held = [id(one) for stage in stages(model) for one in stage]
        assert sorted(held) == sorted(id(one) for one in model.parameters())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("partial", {"blocks": 4}, "blocks is 4, this model has 3; choose 1 to 3, or use strategy full"),
        ("partial", {"blocks": 0}, "blocks is 0"),
        ("gradual", {"blocks": 0}, "blocks is 0, expected at least 1"),
        ("gradual", {"layer_decay": 1.5}, "layer_decay is 1.5, expected above 0 and at most 1"),
    ],
)
def test_settings_that_make_no_sense(tiny, name: str, settings: dict[str, float], message: str):
    with pytest.raises(UsageError, match=message):
        make(name, settings).begin(model_of(tiny, "bert"))

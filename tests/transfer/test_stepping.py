"""What learns, when and how fast, under each strategy that takes steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from graft.batch import pack
from graft.errors import UsageError
from graft.grafted import Model
from graft.loading import load
from graft.transfer import Strategy, make, quicker_head, stages


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


def rates(model: Model, strategy: Strategy, rate: float = 5e-5) -> dict[str, float]:
    """The factor on each learning parameter's rate, as a run uses it."""
    groups = quicker_head(model, strategy.begin(model), rate, strategy.head_rate)
    found = {id(one): group.rate for group in groups for one in group.parameters}
    assert len(found) == sum(len(group.parameters) for group in groups)  # no parameter twice
    return {name: found[id(one)] for name, one in model.named_parameters() if id(one) in found}


@pytest.mark.parametrize("strategy", ["full", "partial", "lora", "bitfit", "adapter"])
def test_a_fresh_head_learns_at_a_thousandth(tiny, strategy: str):
    model, made = model_of(tiny, "bert"), make(strategy)
    if strategy in ("lora", "adapter"):
        model.base = replace(model.base, reference="org/base")
    found = rates(model, made, made.learning_rate)
    own = {name: rate for name, rate in found.items() if name.startswith("head.")}
    assert set(own) == {"head.dense.weight", "head.dense.bias", "head.output.weight", "head.output.bias"}
    assert [rate * made.learning_rate for rate in own.values()] == pytest.approx([1e-3] * 4)
    assert max(rate for name, rate in found.items() if name not in own) == 1
    assert set(found) == learning(model)


def test_the_heads_rate_can_be_set_and_keeps_decay_and_depth(tiny):
    model = model_of(tiny, "gpt2")
    strategy = make("gradual", {"head_rate": "6e-4", "layer_decay": 0.5, "decay": 0.1})
    found = rates(model, strategy, 2e-4)
    assert found["head.output.weight"] == pytest.approx(3)
    assert found["backbone.blocks.1.attention.query.weight"] == 0.5
    groups = quicker_head(model, strategy.begin(model), 2e-4, 6e-4)
    assert {group.decay for group in groups for one in group.parameters if one is model.head.output.weight} == {0.1}


def test_a_head_never_learns_slower_than_the_rest(tiny):
    model = model_of(tiny, "bert")
    assert set(rates(model, make("full"), 1e-2).values()) == {1}
    assert set(rates(model, make("full", {"head_rate": 0})).values()) == {1}


def test_a_head_that_came_with_its_files_keeps_the_rate(tiny, tmp_path: Path):
    model = model_of(tiny, "bert")
    assert set(rates(model, make("full")).values()) == {1, 20}
    model.save(tmp_path / "saved")
    again = load(tmp_path / "saved", "float32")
    assert again.head is not None
    assert again.head.kind == "classify"
    assert set(rates(again, make("full")).values()) == {1}
    bare = load(tiny("bert").folder, "float32")
    bare.head = None
    assert set(rates(bare, make("full")).values()) == {1}


def test_a_tied_output_matrix_is_not_the_heads_alone(tiny):
    model = load(tiny("gpt2").folder, "float32")
    model.graft("next")
    assert set(rates(model, make("full")).values()) == {1}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("partial", {"blocks": 4}, "blocks is 4, this model has 3; choose 1 to 3, or use strategy full"),
        ("partial", {"blocks": 0}, "blocks is 0"),
        ("gradual", {"blocks": 0}, "blocks is 0, expected at least 1"),
        ("full", {"head_rate": -1e-3}, "full: head_rate is -0.001, expected 0 "),
        (
            "lora",
            {"head_rate": 10},
            "lora: head_rate is 10, expected 0 .a fresh head learns like the rest. or a learning",
        ),
        ("partial", {"head_rate": float("nan")}, "head_rate is nan, expected 0"),
        ("gradual", {"layer_decay": 1.5}, "layer_decay is 1.5, expected above 0 and at most 1"),
    ],
)
def test_settings_that_make_no_sense(tiny, name: str, settings: dict[str, float], message: str):
    with pytest.raises(UsageError, match=message):
        make(name, settings).begin(model_of(tiny, "bert"))

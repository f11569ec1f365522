"""The probe on every kind of head it meets: what is fitted is what the saved model computes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import layer_norm

from graft.errors import UsageError
from graft.grafted import Model
from graft.loading import load
from graft.transfer.probe import Probe

LABELS = ("low", "high")


def rows(count: int = 240) -> tuple[list[list[int]], torch.Tensor]:
    """Sequences of small or of large tokens."""
    numbers = random.Random(1)
    sequences = []
    for number in range(count):
        low, high = ((40, 90), (5, 40))[number % 2 == 0]
        sequences.append([2, *(numbers.randrange(low, high) for _ in range(numbers.randrange(4, 12))), 3])
    return sequences, torch.arange(count) % 2


def accuracy(model: Model, sequences: list[list[int]], targets: torch.Tensor) -> float:
    return float((torch.stack(model.logits(sequences)).argmax(-1) == targets).float().mean())


@pytest.mark.parametrize(("name", "layer", "kept"), [("bert", -2, 2), ("distilbert", 1, 1), ("qwen2-lm", 2, 2)])
def test_an_earlier_layer_is_probed_by_cutting_the_blocks_above_it(
    tiny, tmp_path: Path, name: str, layer: int, kept: int
):
    model = load(tiny(name).folder, "float32")
    model.graft("classify", labels=LABELS, problem="single")
    sequences, targets = rows()
    states = [one[kept] for one in model.hidden_states(sequences, layers=True)]
    mean = model.head.dense is not None
    if not mean:
        states = [model.backbone.final_norm(one) for one in states]
    features = torch.stack([one.mean(0) if mean else one[-1] for one in states]).detach()
    fitted = LogisticRegression(max_iter=1000).fit(features, targets).score(features, targets)
    Probe(layer=layer).solve(model, sequences, [None] * len(sequences), targets)
    assert len(model.backbone.blocks) == model.backbone.config.layers == kept + mean
    assert accuracy(model, sequences, targets) > fitted - 0.06
    again = load(model.save(tmp_path / "saved"), "float32")
    torch.testing.assert_close(torch.stack(again.logits(sequences)), torch.stack(model.logits(sequences)))


@pytest.mark.parametrize("layer", [0, 4, -4])
def test_a_layer_there_is_none_of(tiny, layer: int):
    model = load(tiny("bert").folder, "float32")
    model.graft("classify", labels=LABELS, problem="single")
    with pytest.raises(UsageError, match=f"layer is {layer}, this model has 3; choose 1 to 3 or -1 to -3"):
        Probe(layer=layer).solve(model, *rows()[:1], [], torch.tensor([]))


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "xlnet", "gpt2", "llama"])
def test_it_does_as_well_as_a_regression_on_the_same_features(tiny, tmp_path: Path, name: str):
    """Tanh and relu heads on the mean of the tokens, and heads on the last token without a dense layer."""
    model = load(tiny(name).folder, "float32")
    model.graft("classify", labels=LABELS, problem="single")
    sequences, targets = rows()
    states = model.hidden_states(sequences)
    mean = model.head.dense is not None
    features = torch.stack([one.mean(0) if mean else one[-1] for one in states])
    fitted = LogisticRegression(max_iter=1000).fit(features, targets).score(features, targets)
    assert fitted > 0.65
    Probe().solve(model, sequences, [None] * len(sequences), targets)
    assert accuracy(model, sequences, targets) > fitted - 0.06
    again = load(model.save(tmp_path / "saved"), "float32")
    assert accuracy(again, sequences, targets) == accuracy(model, sequences, targets)


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "xlnet", "gpt2", "llama"])
def test_a_mix_does_as_well_as_a_regression_on_all_layers_alike(tiny, tmp_path: Path, name: str):
    """On the mean of normalized states; the shares found must not be worse than equal ones by more than noise."""
    model = load(tiny(name).folder, "float32")
    model.graft("classify", labels=LABELS, problem="single")
    sequences, targets = rows()
    states = [one.clone() for one in model.hidden_states(sequences, layers=True)]
    for each, last in zip(states, model.hidden_states(sequences), strict=True):
        each[-1] = last
    alike = torch.stack([layer_norm(one, one.shape[-1:]).mean((0, 1)) for one in states])
    fitted = LogisticRegression(max_iter=1000).fit(alike, targets).score(alike, targets)
    assert fitted > 0.65
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    found = Probe(mix=True).solve(model, sequences, [None] * len(sequences), targets)
    assert len(found["shares"]) == model.backbone.config.layers + 1
    assert sum(found["shares"]) == pytest.approx(1, abs=1e-3)
    assert accuracy(model, sequences, targets) > fitted - 0.06
    assert all(torch.equal(model.backbone.state_dict()[key], value) for key, value in before.items())
    again = load(model.save(tmp_path / "saved"), "float32")
    torch.testing.assert_close(torch.stack(again.logits(sequences)), torch.stack(model.logits(sequences)))


def test_windows_of_a_row_are_fitted_by_their_mean_output(tiny):
    """One row of two windows that are the same is that row; a ridge regression is solved exactly."""
    made = []
    for windows in (None, [2] * 240):
        model = load(tiny("gpt2").folder, "float32")
        model.graft("regress")
        sequences, targets = rows()
        if windows:
            sequences = [one for one in sequences for _ in range(2)]
        Probe(mix=True).solve(model, sequences, [None] * len(sequences), targets.float(), windows=windows)
        made.append(torch.stack(model.logits(rows()[0])))
    torch.testing.assert_close(made[0], made[1], atol=1e-3, rtol=0)


def test_a_mix_reads_all_layers():
    with pytest.raises(UsageError, match="mix reads all layers, layer=2 one of them; leave one of the two out"):
        Probe(mix=True, layer=2)

"""Every strategy with every head of every family: what is frozen stays, what learns moves, what is saved comes back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from lessons import LENGTHS, OPTIONS, learn, outputs, rows
from tiny_models import SIZES, TINY

from graft import families, transfer
from graft.errors import UsageError
from graft.grafted import Model
from graft.loading import load
from graft.train.contrast import groups, pair_loss
from graft.train.loop import Schedule, train
from graft.train.optimizer import AdamW
from graft.transfer import Contrasting, Solver, Strategy

SOLVING = [name for name in transfer.names() if isinstance(transfer.make(name), Solver)]
MIXING = "probe mix=true"
STEPPING = [name for name in transfer.names() if isinstance(transfer.make(name), Strategy) and name not in SOLVING]


CAUSAL = {"next"}
UNUSUAL = {"bert": CAUSAL, "roberta": CAUSAL, "xlm_roberta": CAUSAL, "xlnet": {"beam"}}
"""Heads an ordinary model of the family cannot be given, or that learn otherwise than by their loss alone."""


@cache
def heads(family: str) -> list[str]:
    """The kinds of heads a family is published with, a regression beside every classifier, and vectors."""
    found = {grafting.kind for grafting in families.find(family).heads.values()} - UNUSUAL.get(family, set())
    return sorted(found | {"embed"} | ({"regress"} if "classify" in found else set()))


CASES = [(family, head) for family in SIZES for head in heads(family)]


def grafted(tiny, family: str, head: str) -> Model:
    """A tiny model of the family with a fresh head."""
    torch.manual_seed(7)
    model = load(tiny(family).folder, "float32")
    model.graft(head, **OPTIONS.get(head, {}))
    return model


def idle(name: str, family: str, head: str) -> bool:
    """What may have learned nothing: experts nobody was sent to, a bias that all competitors share, unread parts."""
    shared = head in ("span", "choose") and name == "head.output.bias"
    unread = head == "embed" and name.startswith("backbone.decoder.")
    few = family == "xlnet" and "mask_embedding" in name
    return shared or unread or few or ".experts." in name


PLAIN = ("bert", "roberta", "distilbert", "gpt2", "llama", "t5")
"""Families that no strategy may refuse."""

REMEDY = re.compile(r"[^\n]+; use strategy \w+")


def refusal(going: Iterator[str]) -> str:
    """Begin; what was said if that could not be."""
    try:
        next(going)
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", STEPPING)
@pytest.mark.parametrize(("family", "head"), CASES)
def test_what_is_frozen_stays_and_what_learns_moves(tiny, tmp_path: Path, family: str, head: str, name: str):
    model, strategy = grafted(tiny, family, head), transfer.make(name)
    assert isinstance(strategy, Strategy)
    before, given = outputs(model), {id(one): (one, one.detach().clone()) for one in model.parameters()}
    going = learn(model, strategy)
    if said := refusal(going):
        assert family not in PLAIN
        assert REMEDY.fullmatch(said)
        assert torch.equal(outputs(model), before)
        return
    assert torch.equal(outputs(model), before) or not strategy.unchanged_at_start
    started = {one: one.detach().clone() for one in model.parameters()}
    next(going)
    frozen = [(one, value) for one, value in given.values() if not one.requires_grad]
    assert all(torch.equal(one, value) for one, value in frozen)
    learning = {key: one for key, one in model.named_parameters() if one.requires_grad}
    still = [key for key, one in learning.items() if torch.equal(one, started.get(one, torch.tensor(torch.nan)))]
    assert learning
    assert [key for key in still if not idle(key, family, head)] == []
    learned = outputs(model)
    assert not torch.equal(learned, before)
    assert next(going, "finished") == "finished"
    torch.testing.assert_close(outputs(model), learned, atol=1e-5 * max(1.0, float(learned.abs().max())), rtol=0)
    again = load(model.save(tmp_path / "saved"), "float32")
    torch.testing.assert_close(outputs(again), outputs(model), atol=1e-6, rtol=0)
    if "merge" in transfer.settings(name):
        again.merge()
        torch.testing.assert_close(outputs(again), learned, atol=1e-5 * max(1.0, float(learned.abs().max())), rtol=0)
        whole = load(again.save(tmp_path / "whole"), "float32")
        torch.testing.assert_close(outputs(whole), outputs(again), atol=1e-6, rtol=0)


def refused(family: str, head: str) -> bool:
    """T5's classifier reads the decoder, and only labels and scores can be solved for."""
    return head not in ("classify", "regress") or family in ("t5", "mt5")


def solve(model: Model, name: str) -> None:
    name, _, setting = name.partition(" ")
    strategy, given = transfer.make(name, dict([setting.split("=")]) if setting else {}), rows(model)
    sequences = [one for row in given for one in row.sequences]
    types = [one for row in given for one in row.types]
    strategy.solve(model, sequences, types, torch.cat([row.target.reshape(-1) for row in given]))


@pytest.mark.parametrize("name", [*SOLVING, MIXING])
@pytest.mark.parametrize(("family", "head"), [case for case in CASES if not refused(*case)])
def test_what_is_solved_for_is_saved(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, head: str, name: str
):
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    model = grafted(tiny, family, head)
    before, frozen = outputs(model), {key: value.clone() for key, value in model.backbone.state_dict().items()}
    solve(model, name)
    assert all(torch.equal(value, frozen[key]) for key, value in model.backbone.state_dict().items() if key in frozen)
    assert not torch.equal(outputs(model), before)
    again = load(model.save(tmp_path / "saved"), "float32")
    torch.testing.assert_close(outputs(again), outputs(model), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [*SOLVING, MIXING])
@pytest.mark.parametrize(("family", "head"), [case for case in CASES if refused(*case)])
def test_what_cannot_be_solved_for_is_refused_in_a_line(tiny, family: str, head: str, name: str):
    model = grafted(tiny, family, head)
    before = outputs(model)
    with pytest.raises(UsageError) as refused_it:
        solve(model, name)
    assert REMEDY.fullmatch(str(refused_it.value))
    assert torch.equal(outputs(model), before)


@pytest.mark.parametrize("name", [name for name in SOLVING if isinstance(transfer.make(name), Contrasting)])
@pytest.mark.parametrize(
    "family", [family for family, head in CASES if head == "classify" and not refused(family, head)]
)
def test_what_learns_from_pairs_is_the_backbone_alone(tiny, family: str, name: str):
    model, strategy = grafted(tiny, family, "classify"), transfer.make(name)
    assert isinstance(strategy, Contrasting)
    before = outputs(model)
    groups_of = strategy.begin(model)
    assert torch.equal(outputs(model), before)
    started = {key: value.clone() for key, value in model.state_dict().items()}
    drawn = groups([replace(row, target=row.target % 2) for row in rows(model)], 6, 3, seed=0)
    schedule = Schedule(epochs=1, batch_size=1, learning_rate=0.01)
    assert len(list(train(model, drawn, AdamW(groups_of), schedule, pair_loss))) == 3
    still = [key for key, value in model.state_dict().items() if torch.equal(value, started[key])]
    assert {key for key in still if not idle(key, family, "embed")} == {
        key for key in started if key.startswith("head.")
    }


def test_no_family_is_left_out():
    """ELMo has no head to learn with: `Model.graft` says so."""
    assert set(SIZES) == set(families.names()) - {"elmo"}
    assert {name.partition("-")[0] for name in TINY} <= set(SIZES)
    assert len(LENGTHS) == 6

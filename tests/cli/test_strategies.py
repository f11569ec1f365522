"""`graft finetune` with every strategy there is: by name, with settings, saved, loaded and evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from graft import transfer

Run = Callable[..., Any]


@pytest.mark.parametrize("words", [*transfer.names(), "probe mix=true"])
def test_finetune_and_evaluate_agree_under_every_strategy(
    graft: Run, base: Path, pets: Path, tmp_path: Path, words: str
):
    name, *more = words.split()
    done = graft(
        "finetune", pets, "--model", base, f"strategy={name}", "epochs=2", "--dtype", "float32", *more, "--json"
    )
    assert done.code == 0, done.err
    folder = tmp_path / done.json["out"]
    saved = json.loads((folder / "run.json").read_text())
    own = getattr(transfer.find(name), "learning_rate", None)
    assert own is None or saved["plan"]["learning_rate"] == own
    judged = graft("evaluate", folder, pets, "--dtype", "float32", "--json")
    assert judged.json["metrics"]["accuracy"] == pytest.approx(saved["metrics"]["accuracy"], abs=1e-6)
    steps = folder / "metrics.jsonl"
    assert steps.is_file() == bool(saved["epochs"])
    assert not steps.is_file() or len(steps.read_text().splitlines()) == 2 * 3


def test_a_mix_is_shown_and_kept_apart_from_what_other_tools_open(graft: Run, base: Path, pets: Path):
    graft("finetune", pets, "--model", base, "strategy=probe", "mix=true", "out=m")
    assert graft("show", "m", "--json").json["adapter"] == "a mix of 4 layers"
    assert "peft" not in Path("m/README.md").read_text()
    graft("convert", "m", "whole").failed(2, "a mix of layers cannot be merged into its base")


def test_the_help_names_the_rate_of_a_fresh_head_where_it_can_be_set(graft: Run):
    listed = graft("finetune", "--help").out.split("Strategies, and their settings")[1]
    parts = {part.split()[0]: part for part in re.split(r"\n  (?=\w)", listed)[1:]}
    assert {name for name, part in parts.items() if "head_rate=0.001" in part} == {
        "adapter", "bitfit", "full", "lora", "partial"
    }  # fmt: skip
    assert re.findall(r"head_rate=\S+", parts["gradual"]) == ["head_rate=0.0"]


def test_a_fresh_head_learns_faster_unless_told_otherwise(graft: Run, base: Path, pets: Path):
    common = ("finetune", pets, "--model", base, "strategy=full", "epochs=2", "--dtype", "float32", "--json")
    for out, more in (("fast", ()), ("same", ("head_rate=5e-5",)), ("zero", ("head_rate=0",))):
        done = graft(*common, *more, "--out", out)
        assert done.code == 0
        assert ("the fresh head learns at 0.001, the rest at 5e-05" in done.err) is (out == "fast")
    heads = {out: load_file(f"{out}/model.safetensors")["classifier.weight"] for out in ("fast", "same", "zero")}
    assert torch.equal(heads["same"], heads["zero"])
    assert (heads["fast"] - heads["same"]).abs().max() > 5 * 5e-5


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("strategy=partial", "blocks=9"), "blocks is 9, this model has 3"),
        (("strategy=partial", "block=1"), "did you mean 'blocks'"),
        (("strategy=gradual", "layer_decay=2"), "layer_decay is 2"),
        (("strategy=gradual", "blocks=some"), "blocks is 'some', expected a whole number"),
        (("strategy=probe", "layer=7"), "layer is 7, this model has 3"),
        (("strategy=probe", "layer=1", "mix=true"), "mix reads all layers, layer=1 one of them"),
        (("strategy=contrastive", "patience=1"), "leave patience out"),
        (("strategy=contrastive", "temperature=0"), "temperature is 0, expected above 0"),
        (("strategy=contrastive", "head_rate=0"), "unknown option 'head_rate' of strategy contrastive"),
        (("strategy=full", "head_rate=fast"), "head_rate is 'fast', expected a number"),
        (("strategy=full", "head_rate=20"), "head_rate is 20, expected 0"),
        (("strategy=bitfit", "learning_rate=20"), "learning_rate is 20"),
    ],
)
def test_what_a_strategy_cannot_do(graft: Run, base: Path, pets: Path, words: tuple[str, ...], part: str):
    graft("finetune", pets, "--model", base, *words, "--quiet").failed(2, part)


@pytest.mark.parametrize("name", ["probe", "contrastive"])
def test_what_reads_a_decoder_cannot_be_solved_for(graft: Run, pets: Path, tiny: Callable[..., Any], name: str):
    graft("finetune", pets, "--model", tiny("t5").folder, f"strategy={name}", "--quiet").failed(
        2, "cannot be written into t5 models; use strategy full"
    )


def test_contrastive_needs_one_label_a_row(graft: Run, base: Path, tmp_path: Path):
    (tmp_path / "many.csv").write_text("text,labels\n" + "aa,x|y\nbb,x\ncc,y\ndd,x|y\n" * 5)
    graft("finetune", "many.csv", "--model", base, "strategy=contrastive", "--eval", "many.csv", "--quiet").failed(
        2, "needs rows with one label each; use strategy full"
    )

"""What the commands show of calibration, abstaining, long texts and golden inputs."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

Run = Callable[..., Any]


@pytest.fixture
def unsure(graft: Run, adapted: Path, tmp_path: Path) -> tuple[Path, str, str]:
    """The adapted model, told to abstain below a probability between those of two texts, and these, the sure first."""
    file = tmp_path / "many.txt"
    file.write_text("waaamaaw xyz\nmoowooom zyx\nwwmmwmwm xyx\namowamow xxx\n")
    done = graft("run", "classify", file, "--model", adapted, "--json", "dtype=float32").lines
    held, sure = (pick(done, key=lambda answer: answer["probability"]) for pick in (min, max))
    assert "abstained" not in held
    out = Path(shutil.copytree(adapted, tmp_path / "unsure"))
    content = json.loads((out / "graft.json").read_text())
    threshold = (held["probability"] + sure["probability"]) / 2
    content["abstention"] = {"threshold": threshold, "precision": 0.9, "rows": 200}
    (out / "graft.json").write_text(json.dumps(content))
    return out, sure["text"], held["text"]


def test_answers_held_back_are_shown_as_such(graft: Run, unsure: tuple[Path, str, str], tmp_path: Path):
    model, *texts = unsure
    given = ("--model", model, "dtype=float32")
    for text, abstained in zip(texts, (False, True), strict=True):
        assert ("abstained: less sure than" in graft("run", "classify", text, *given).out) is abstained
        answer = graft("run", "classify", text, *given, "--json").json
        assert answer["abstained"] is abstained
        assert answer["label"] in ("cat", "dog")
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts))
    done = graft("run", "classify", file, *given)
    sure, held = done.out.splitlines()
    assert "abstained" not in sure
    assert "  abstained  " in held
    assert held.index(texts[1]) == sure.index(texts[0]), "in one column"
    assert "note: 1 of 2 answers are marked as abstained" in done.err
    done = graft("run", "classify", file, *given, "--out", "answers.csv", "--json")
    assert done.json["abstained"] == 1
    with (tmp_path / "answers.csv").open() as written:
        assert [row["abstained"] for row in csv.DictReader(written)] == ["False", "True"]


def test_finetune_and_evaluate_say_what_holds(graft: Run, base: Path, pets: Path, tmp_path: Path):
    done = graft("finetune", pets, "--model", base, "strategy=probe", "precision=0.5", "out=m")
    assert done.code == 0, done.err
    assert "calibrated on " in done.out
    assert "abstains below probability " in done.out
    assert any(line.startswith("coverage ") for line in done.out.splitlines())
    done = graft("evaluate", "m", pets, "precision=0.5")
    assert "precision 0.5: answers from probability" in done.out
    assert graft("evaluate", "m", pets, "precision=0.5", "--json").json["reliance"]["reached"] is True
    plain = graft("evaluate", "m", pets, "--json").json
    assert plain["reliance"] is None
    assert {"coverage", "answered_precision"} <= set(plain["metrics"])
    graft("finetune", pets, "--model", base, "strategy=probe", "--no-calibrate", "out=n")
    assert json.loads((tmp_path / "n" / "graft.json").read_text())["calibration"] is None
    graft("finetune", pets, "--model", base, "strategy=probe", "precision=2").failed(2, "precision is 2.0")
    graft("evaluate", "m", pets, "precision=95").failed(2, "precision is 95.0")


def test_long_texts(graft: Run, classifier: Path, pets: Path, base: Path, tmp_path: Path):
    long = "a b c d e f g h " * 20
    done = graft("run", "classify", long, "--model", classifier, "--overflow", "window", "--json")
    assert done.json["windows"] > 3
    assert done.json["truncated_tokens"] == 0
    assert f"note: 1 of 1 texts did not fit the model and were read in {done.json['windows']} windows" in done.err
    cut = graft("run", "classify", long, "--model", classifier, "overflow=head_tail", "--json").json
    assert cut["truncated_tokens"] > 0
    assert "windows" not in cut
    wrong = graft("run", "classify", long, "--model", classifier, "overflow=heads")
    wrong.failed(2, "no overflow rule 'heads'", "'head_tail'")
    done = graft("finetune", pets, "--model", base, "strategy=probe", "overflow=window", "limit=8", "out=m")
    assert "training texts beyond the limit of 8 tokens were read as a whole, in" in done.err
    assert "long texts read in" in graft("evaluate", "m", pets).out
    assert graft("evaluate", "m", pets, "overflow=truncate", "--json").json["truncated_tokens"] > 0


def test_golden_inputs_are_replayed(graft: Run, adapted: Path, base: Path, tmp_path: Path):
    done = graft("show", adapted, "--verify")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "16 of 16 golden inputs are answered as when the model was saved"
    assert graft("show", adapted, "--verify", "--json").json["golden_inputs"] == {"inputs": 16, "drifted": []}
    assert "golden_inputs" not in graft("show", adapted, "--json").json
    graft("show", base, "--verify").failed(1, "holds no golden inputs to replay")


@pytest.mark.parametrize("change", [3.0, float("nan")])
def test_inputs_that_drifted_are_a_table(graft: Run, adapted: Path, tmp_path: Path, change: float):
    out = Path(shutil.copytree(adapted, tmp_path / "changed"))
    tensors = load_file(out / "model.safetensors")
    tensors["classifier.bias"] = tensors["classifier.bias"] + torch.tensor([0.0, change])
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    done = graft("show", out, "--verify")
    assert done.code == 1
    table = done.out.splitlines()[-17:]
    assert table[0].split() == ["input", "expected", "found"]
    assert all(line.count("[") == 2 for line in table[1:])
    assert "16 of 16 golden inputs give another output" in done.err
    done = graft("show", out, "--verify", "--json")
    assert done.code == 1
    drifted = done.json["golden_inputs"]["drifted"]
    assert len(drifted) == 16
    expected, found = drifted[0]["expected"], drifted[0]["found"]
    assert found[1] == (None if change != change else pytest.approx(expected[1] + 3, abs=1e-3))

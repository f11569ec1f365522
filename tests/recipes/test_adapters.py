"""A file of rows to an adapter, and everything Graft does with a saved model, done with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graft.cli.show import describe, lines
from graft.errors import UsageError
from graft.loading import load
from graft.recipes.adapt import Plan
from graft.recipes.convert import convert
from graft.recipes.evaluate import evaluate
from graft.recipes.finetune import finetune
from graft.recipes.run import run
from graft.transfer import make

TEXTS = ["a cab, a bad cab", "dad fed a dab", "zoo trio, soup", "your tour, too"]


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Texts of early letters, and of late ones."""
    made = [f'"{text} {number % 7}",{label}' for number in range(15) for text, label in zip(TEXTS, "EELL", strict=True)]
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "\n".join(made) + "\n")
    return path


def adapted(tiny: Any, rows: Path, tmp_path: Path, strategy: str, **options: Any) -> Path:
    plan: dict[str, Any] = {"epochs": 2, "learning_rate": 0.01, "batch_size": 12, "dtype": "float32", **options}
    done = finetune(rows, model=tiny("bert").folder, strategy=strategy, out=tmp_path / strategy, **plan)
    assert done.out is not None
    return done.out


@pytest.mark.parametrize("strategy", ["lora", "adapter"])
def test_what_is_saved_is_shown_evaluated_run_and_verified(tiny, rows: Path, tmp_path: Path, strategy: str):
    folder = adapted(tiny, rows, tmp_path, strategy)
    assert {"run.json", "report.html", "README.md", "metrics.jsonl", "tokenizer.json"} <= {
        p.name for p in folder.iterdir()
    }
    model = load(folder, "float32", verify=True)
    facts = describe(folder)
    said = {"lora": "LoRA of rank 8 on 3 query, 3 value", "adapter": "bottlenecks of size 64 on 3 output, 3 down"}
    assert facts["base"] == str(tiny("bert").folder)
    assert facts["adapter"] == said[strategy]
    assert facts["labels"] == ["E", "L"]
    assert facts["parameters"]["total"] == sum(parameter.numel() for parameter in model.parameters())
    assert dict(lines({"model": "x", "folder": "x", "source": "folder", "revision": None, **facts}))["adapter"]
    found = evaluate(folder, rows, dtype="float32")
    assert found.n == 60
    answers = run("classify", TEXTS, model=folder, dtype="float32")
    assert [answer.label for answer in answers] == [answer.label for answer in model(TEXTS)]


def test_its_card_says_how_it_opens_in_peft(tiny, rows: Path, tmp_path: Path):
    card = (adapted(tiny, rows, tmp_path, "lora") / "README.md").read_text()
    assert "It also opens in peft" in card
    assert "BertForSequenceClassification.from_pretrained(" in card
    assert "peft" not in (adapted(tiny, rows, tmp_path, "adapter") / "README.md").read_text()


def test_merged_at_the_end_it_is_a_whole_model(tiny, rows: Path, tmp_path: Path):
    folder = adapted(tiny, rows, tmp_path, "lora", merge="true")
    assert (folder / "model.safetensors").is_file()
    assert "It also opens in transformers" in (folder / "README.md").read_text()
    assert describe(folder)["base"] is None
    load(folder, "float32", verify=True)


def test_convert_merges_it(tiny, rows: Path, tmp_path: Path):
    folder = adapted(tiny, rows, tmp_path, "lora")
    done = convert(folder, tmp_path / "whole")
    assert done.architecture == "BertForSequenceClassification"
    whole, small = load(tmp_path / "whole", "float32", verify=True), load(folder, "float32")
    for one, other in zip(whole(TEXTS), small(TEXTS), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    assert not (tmp_path / "whole" / "README.md").exists()
    assert json.loads((tmp_path / "whole" / "graft.json").read_text())["base"] is None
    bottlenecks = adapted(tiny, rows, tmp_path, "adapter")
    with pytest.raises(UsageError, match=rf"^{bottlenecks}: bottleneck adapters cannot be merged"):
        convert(bottlenecks, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_adapter_is_adapted_further_as_a_whole_model(tiny, rows: Path, tmp_path: Path):
    folder = adapted(tiny, rows, tmp_path, "lora")
    further = finetune(rows, model=folder, strategy="probe", out=tmp_path / "further", dtype="float32")
    assert (tmp_path / "further" / "model.safetensors").is_file()
    assert further.judged.metrics["accuracy"].value > 0.5
    with pytest.raises(UsageError, match="is an adapter already; `graft convert` merges it"):
        finetune(rows, model=folder, strategy="lora", dtype="float32")


def test_a_loaded_model_hands_its_reference_on(tiny, rows: Path, tmp_path: Path):
    model = load(tiny("bert").folder, "float32")
    model.base = type(model.base)(reference="org/name", folder=model.base.folder)
    done = finetune(rows, model=model, strategy="lora", out=tmp_path / "named", epochs=1, dtype="float32")
    assert done.out is not None
    assert json.loads((done.out / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/name"


def test_a_strategy_says_its_own_learning_rate():
    assert Plan(strategy="full").rate == 5e-5
    assert Plan(strategy="lora").rate == 1e-3
    assert Plan(strategy="lora", learning_rate=1e-4).rate == 1e-4
    assert Plan(strategy="adapter").schedule(100).learning_rate == 5e-4
    assert make("lora", {"rank": "4", "targets": "query,up", "merge": "yes"}) == make(
        "lora", {"rank": 4, "targets": ["query", "up"], "merge": True}
    )

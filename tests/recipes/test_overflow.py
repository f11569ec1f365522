"""Texts longer than the model: read in windows whose outputs are averaged, alike in answering and in learning."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from graft import tasks
from graft.errors import UsageError
from graft.grafted import Model
from graft.loading import load
from graft.recipes.evaluate import evaluate
from graft.recipes.finetune import finetune
from graft.recipes.run import run
from graft.tasks import Row
from graft.train.example import by_row, task_loss

LIMIT = 20
LONG = "one two three four five six seven eight nine ten"
SHORT = "one two"


def opened(made: Any, overflow: str = "window") -> Model:
    model = load(made.folder, "float32")
    model.settings = dataclasses.replace(model.settings, limit=LIMIT, overflow=overflow)  # type: ignore[arg-type]
    return model


def alone(model: Model, text: Any) -> list[torch.Tensor]:
    """The output for each window, one by one."""
    windows = model.tokenizer.windows([text], limit=LIMIT)[0]
    types = [one.types for one in windows]
    assert model.head is not None
    return model.pooled([one.ids for one in windows], types, model.head)


@pytest.mark.parametrize("text", [LONG, (LONG, SHORT), (LONG, LONG)])
def test_a_classifier_averages_logits(tiny, text: Any):
    model = opened(tiny("bert-classify"))
    each = alone(model, text)
    assert len(each) > 2
    answers = model([SHORT, text])
    assert [answer.windows for answer in answers] == [1, len(each)]
    assert [answer.truncated_tokens for answer in answers] == [0, 0]
    expected = torch.stack(each).mean(0).softmax(-1).tolist()
    assert list(answers[1].probabilities.values()) == pytest.approx(expected, abs=1e-6)


def test_a_regression_averages_scores(tiny):
    model = opened(tiny("bert-regress"))
    each = alone(model, (LONG, SHORT))
    answer = run("similarity", [(LONG, SHORT)], model=model)[0]
    assert answer.score == pytest.approx(float(torch.stack(each).mean()), abs=1e-6)
    assert answer.windows == len(each)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_vectors_count_by_their_tokens(tiny, name: str):
    model = opened(tiny(name))
    windows = model.windows([LONG])[0]
    rows = model.hidden_states([one.ids for one in windows])
    units = torch.stack([F.normalize(row.mean(0), dim=-1) for row in rows])
    sizes = torch.tensor([len(row) for row in rows]).float()
    expected = F.normalize((units * sizes[:, None]).sum(0), dim=-1)
    np.testing.assert_allclose(model.embed([SHORT, LONG])[1], expected.numpy(), atol=1e-5)
    answers = run("embed", [SHORT, LONG], model=model)
    assert [answer.windows for answer in answers] == [1, len(windows)]
    cosine = run("similarity", [(SHORT, LONG)], model=model)[0]
    assert (cosine.windows, cosine.truncated_tokens) == (1 + len(windows), 0)


def test_names_of_labels_are_compared_with_all_of_a_text(tiny):
    answer = run("classify", [LONG], model=opened(tiny("bert")), labels=["cat", "dog"])[0]
    assert answer.windows > 2


def test_beginning_and_end(tiny):
    model = opened(tiny("bert-classify"), "head_tail")
    whole, room = model.tokenizer.encode([LONG])[0].ids, LIMIT - 2
    read = [whole[0], *whole[1:6], *whole[-1 - (room - 5) : -1], whole[-1]]
    answer = model(LONG)
    assert list(answer.probabilities.values()) == pytest.approx(model.logits([read])[0].softmax(-1).tolist(), abs=1e-6)
    assert (answer.truncated_tokens, answer.windows) == (len(whole) - LIMIT, None)


@pytest.mark.parametrize("name", ["bert-classify", "bert-multi", "bert-regress", "bert"])
def test_each_row_counts_once_in_the_loss(tiny, name: str):
    """The mean over rows of the mean over the row's windows, each run alone."""
    model = opened(tiny(name))
    if name == "bert":
        model.graft("embed")
    task = tasks.find({"bert-regress": "similarity", "bert": "embed"}.get(name, "classify"))
    target: Any = {"bert-regress": 0.5, "bert": 0.5, "bert-multi": ("yes",)}.get(name, "yes")
    inputs = [(SHORT,), (LONG,), (LONG[:30],)]
    if task.name != "classify":
        inputs = [((one, SHORT),) if task.name == "similarity" else (one, SHORT) for (one,) in inputs]
    rows = [Row(texts, target, line) for line, texts in enumerate(inputs)]
    examples, cut = task.examples(model, rows)
    assert cut == 0
    counts = [len(windows) for windows in by_row(examples)]
    assert len(set(counts)) == 3, "rows of different numbers of windows"
    assert sum(example.targets for example in examples) == pytest.approx(3)
    each = [torch.stack([task_loss(model, [one]) for one in windows]).mean() for windows in by_row(examples)]
    assert task_loss(model, examples).item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)
    assert task.outputs(model, rows).windows == sum(count for count in counts if count > 1)


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long rows whose last word alone tells the label."""
    path = tmp_path_factory.mktemp("data") / "late.csv"
    draw, lines = random.Random(0), []
    for number in range(240):
        label, sign = ("cat", "a") if number % 2 else ("dog", "o")
        word = "".join(draw.choice("mw" + sign * 4) for _ in range(8))
        lines.append(f"{'q' * (22 + number % 5)} {word},{label}")
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("strategy", "options"),
    [("probe", {}), ("full", {"epochs": 6, "learning_rate": 3e-3, "class_weights": "balanced"})],
)
def test_what_truncation_does_not_see_windows_do(tiny, late: Path, tmp_path: Path, strategy: str, options: Any):
    found = {}
    for rule in ("truncate", "head_tail", "window"):
        done = finetune(
            *(late,), model=tiny("bert").folder, strategy=strategy, overflow=rule, limit=LIMIT, dtype="float32",
            out=tmp_path / rule, **options,
        )  # fmt: skip
        found[rule] = done.record
        assert load(tmp_path / rule, "float32", verify=True).settings.overflow == rule
    accuracy = {rule: record["metrics"]["accuracy"]["value"] for rule, record in found.items()}
    assert accuracy["truncate"] < 0.7
    assert accuracy["head_tail"] > 0.9
    assert accuracy["window"] > 0.9
    assert found["window"]["truncated_tokens"] == {"train": 0, "eval": 0}
    assert found["window"]["windows"]["train"] > 300
    assert found["truncate"]["windows"] == {"train": 0, "eval": 0}
    assert found["head_tail"]["truncated_tokens"] == found["truncate"]["truncated_tokens"]
    assert "read as a whole, in" in (tmp_path / "window" / "report.html").read_text()
    assert "from the middle of texts" in (tmp_path / "head_tail" / "report.html").read_text()
    saved = load(tmp_path / "window", "float32")
    judged = evaluate(saved, late, overflow="truncate")
    assert judged.judged.truncated_tokens > 0
    assert saved.settings.overflow == "window", "for this once"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bert", {"strategy": "contrastive"}),
        ("bert", {"strategy": "lora", "patience": 2}),
        ("bert", {"auxiliary": 0.1}),
        ("openai_gpt-lm", {}),
    ],
)
def test_windows_whatever_learns(tiny, late: Path, tmp_path: Path, name: str, options: dict[str, Any]):
    """Solved, learned beside a language model's loss, with new tokens (GPT-1), or in adapters; calibrated as well."""
    done = finetune(
        late, model=tiny(name).folder, overflow="window", limit=LIMIT, dtype="float32", epochs=1, calibrate=True,
        out=tmp_path / "m", **options,
    )  # fmt: skip
    assert done.adapted.windows > done.adapted.rows > 100
    assert done.judged.windows > len(done.judged.values)
    saved = load(tmp_path / "m", "float32", verify=True)
    assert saved.settings.calibration.rows == done.adapted.dev > 0
    text = "q" * 26 + " awaamaaa"
    each = torch.stack(alone(saved, text))
    assert list(saved(text).probabilities.values()) == pytest.approx(each.mean(0).softmax(-1).tolist(), abs=1e-5)


def test_the_probe_fits_the_mean_it_will_give(tiny, late: Path):
    """A row's logits are the mean of its windows' in training and after: the same features, the same answer."""
    done = finetune(late, model=tiny("bert").folder, strategy="probe", overflow="window", limit=LIMIT, dtype="float32")
    text = "q" * 26 + " awaamaaa"
    each = alone(done.model, text)
    answer = done.model(text)
    assert list(answer.probabilities.values()) == pytest.approx(
        torch.stack(each).mean(0).softmax(-1).tolist(), abs=1e-5
    )
    assert answer.label == "cat"


def test_rules_a_task_does_not_have(tiny, tmp_path: Path):
    file = tmp_path / "rows.csv"
    file.write_text("document,summary\na b,a\n")
    with pytest.raises(
        UsageError, match="learns from texts that are read at once, .* choose truncate or error; `graft run"
    ):
        finetune(file, task="summarize", model=tiny("t5-lm").folder, overflow="window")
    with pytest.raises(UsageError, match="summarize has no overflow rule 'head_tail': Valid: 'error', 'truncate'"):
        finetune(file, task="summarize", model=tiny("t5-lm").folder, overflow="head_tail")
    (tmp_path / "labels.csv").write_text("text,label\n" + "a b,x\nb a,y\n" * 20)
    with pytest.raises(UsageError, match="classify has no overflow rule 'window'"):
        finetune(tmp_path / "labels.csv", model=tiny("t5-lm").folder, form="text", overflow="window")
    with pytest.raises(UsageError, match="classify has no overflow rule 'windows': .*'window'"):
        run("classify", ["x"], model=tiny("bert-classify").folder, overflow="windows")

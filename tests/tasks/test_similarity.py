"""Similarity: GPT-1 reads both orders and adds them, other families read one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from graft import tasks
from graft.batch import pack
from graft.errors import ModelError
from graft.loading import load
from graft.recipes.adapt import Plan, adapt
from graft.recipes.watch import Watch
from graft.tasks import Row
from graft.train.example import task_loss

SIMILARITY = tasks.find("similarity")
ROWS = [
    Row((pair,), score, line)
    for line, (pair, score) in enumerate([(("ab", "ab c"), 4.0), (("b", "ca"), 1.0), (("ca", "ddb"), 0.5)] * 4, 1)
]
PAIR, TURNED = ("ab", "c"), ("c", "ab")


def adapted(folder: Path, **plan: Any) -> Any:
    model = load(folder, "float32")
    adapt(
        model, SIMILARITY, ROWS, Plan(**{"epochs": 1, "batch_size": 4, "dtype": "float32", **plan}), Watch(quiet=True)
    )
    return model


def test_gpt_1_adds_what_it_reads_in_both_orders(tiny: Callable[..., Any], tmp_path: Path):
    """Radford et al. 2018, section 3.3: the sum of the two representations goes into the linear layer."""
    model = adapted(tiny("openai_gpt-lm").folder)
    ids = [encoding.ids for encoding in model.encode([PAIR, TURNED])]
    assert ids[0][1:3] == model.tokenizer.encode(["ab"])[0].ids[1:-1]
    with torch.no_grad():
        both_2D = model.backbone(pack(ids))[pack(ids).last_B]
        expected = model.head.output(both_2D.sum(0)).item()
    assert model(PAIR).score == pytest.approx(expected, abs=1e-5)
    assert model(TURNED).score == pytest.approx(expected, abs=1e-5)
    examples, _ = SIMILARITY.examples(model, ROWS[:3])
    assert [len(example.sequences) for example in examples] == [2, 2, 2]
    values = SIMILARITY.outputs(model, ROWS[:3]).values.flatten()
    assert len(values) == 3
    by_hand = ((values - torch.tensor([4.0, 1.0, 0.5])) ** 2).mean().item()
    assert task_loss(model, examples).item() == pytest.approx(by_hand, rel=1e-4)
    model.settings = dataclasses.replace(model.settings, task="similarity")
    model.seal([PAIR, TURNED], model.settings)
    model.save(tmp_path / "m")
    again = load(tmp_path / "m", "float32", verify=True)
    assert again.settings.both_orders
    assert SIMILARITY.answer(again, [PAIR])[0].score == pytest.approx(expected, abs=1e-5)
    saved = json.loads((tmp_path / "m" / "graft.json").read_text())
    (tmp_path / "m" / "graft.json").write_text(json.dumps(saved | {"both_orders": "yes"}))
    with pytest.raises(ModelError, match="both_orders is 'yes', expected true or false"):
        load(tmp_path / "m")


def test_each_order_is_read_in_its_windows(tiny: Callable[..., Any]):
    """A mean over the windows of each order, then the sum of the two; in learning each window is a part of its row."""
    model = adapted(tiny("openai_gpt-lm").folder)
    model.settings = dataclasses.replace(model.settings, overflow="window", limit=9)
    pairs = [("abcabcabcabcab", "cad"), PAIR]
    rows = [Row((pair,), 1.0, line) for line, pair in enumerate(pairs, 1)]
    expected, counts = [], []
    for pair in pairs:
        orders = [model.tokenizer.windows([one], limit=9)[0] for one in (pair, pair[::-1])]
        each = [model.pooled([one.ids for one in windows], None, model.head) for windows in orders]
        expected.append(sum(torch.stack(own).mean().item() for own in each))
        counts.append(len(orders[0]))
    assert counts[0] > 2
    assert counts[1] == 1
    told: list[int] = []
    outputs = SIMILARITY.outputs(model, rows, told.append)
    assert outputs.values.flatten().tolist() == pytest.approx(expected, abs=1e-5)
    assert (outputs.windows, outputs.truncated_tokens, sum(told)) == (counts[0], 0, len(rows))
    answers = model(pairs)
    assert [answer.score for answer in answers] == pytest.approx(expected, abs=1e-5)
    assert [answer.windows for answer in answers] == counts
    examples, cut = SIMILARITY.examples(model, rows)
    assert cut == 0
    assert [len(example.sequences) for example in examples] == [2] * (counts[0] + 1)
    assert sum(example.targets for example in examples) == pytest.approx(2)
    model.seal(pairs, model.settings)
    assert [row[0] for row in model.settings.golden.outputs] == pytest.approx(expected, abs=1e-5)
    model.verify()


@pytest.mark.parametrize(("name", "plan"), [("bert", {}), ("gpt2", {}), ("openai_gpt-lm", {"strategy": "probe"})])
def test_others_read_one_order(tiny: Callable[..., Any], name: str, plan: dict[str, Any]):
    model = adapted(tiny(name).folder, **plan)
    assert not model.settings.both_orders
    assert model(PAIR).score != pytest.approx(model(TURNED).score, abs=1e-6)


def test_labels_need_no_both_orders(tiny: Callable[..., Any]):
    model = load(tiny("openai_gpt-lm").folder, "float32")
    rows = [Row(row.inputs, "a" if row.target > 1 else "b", row.line) for row in ROWS]
    adapt(model, tasks.find("pair"), rows, Plan(epochs=1, batch_size=4, dtype="float32"), Watch(quiet=True))
    assert not model.settings.both_orders

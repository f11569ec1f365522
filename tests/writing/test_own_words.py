"""Similarity, pairs and labels asked of a T5 in the words it was trained with."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import graft
from graft.errors import UsageError
from graft.loading import load


@pytest.fixture(scope="module")
def ended(tiny, tmp_path_factory: pytest.TempPathFactory) -> graft.Model:
    """A tiny T5 whose tokenizer says which token ends a text."""
    import json
    import shutil

    folder = shutil.copytree(tiny("t5-lm").folder, tmp_path_factory.mktemp("t5") / "model")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": "b"}))
    return load(folder, "float32")


def end_of(model: graft.Model) -> int:
    return model.tokenizer.token_id("eos_token")


def summed(model: graft.Model, source: str, word: str) -> float:
    frame = model.tokenizer.frame
    ids = model.tokenizer.encode([word])[0].ids
    own = [*ids[len(frame.start) : len(ids) - len(frame.end)], end_of(model)]
    logits = model.logits([model.encode([source])[0].ids], decoder=[[0, *own[:-1]]])[0].double().log_softmax(-1)
    return float(logits[torch.arange(len(own)), torch.tensor(own)].sum())


def softmax(logs: list[float]) -> list[float]:
    top = max(logs)
    shares = [math.exp(log - top) for log in logs]
    return [share / sum(shares) for share in shares]


def test_similarity_is_the_mean_of_the_numbers_it_may_write(ended: graft.Model):
    [answer] = graft.run("similarity", [("a c", "a d")], model=ended)
    steps = [f"{number / 5:.1f}" for number in range(26)]
    shares = softmax([summed(ended, "stsb sentence1: a c sentence2: a d", step) for step in steps])
    expected = sum(share * float(step) for share, step in zip(shares, steps, strict=True))
    assert answer.score == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("task", "text", "template", "source"),
    [
        ("classify", "a c", "cola sentence: {}", "cola sentence: a c"),
        ("pair", ("a c", "d"), "rte sentence1: {} sentence2: {}", "rte sentence1: a c sentence2: d"),
    ],
)
def test_labels_have_the_probabilities_of_their_words(
    ended: graft.Model, task: str, text: Any, template: str, source: str
):
    [answer] = graft.run(task, [text], model=ended, labels=["unacceptable", "acceptable"], template=template)
    shares = softmax([summed(ended, source, word) for word in ("unacceptable", "acceptable")])
    assert [answer.probabilities[name] for name in ("unacceptable", "acceptable")] == pytest.approx(shares, rel=1e-4)


def test_a_pair_needs_labels_and_a_template_needs_a_writer(tiny, ended: graft.Model):
    with pytest.raises(UsageError, match="no labels; adapt one .*or give one that writes"):
        graft.run("pair", [("a", "c")], model=ended)
    with pytest.raises(UsageError, match="compares texts and does not write; leave the template out"):
        graft.run("similarity", [("a", "c")], model=tiny("bert").folder, template="{} {}")
    with pytest.raises(UsageError, match=r"needs exactly 2 \{\}"):
        graft.run("similarity", [("a", "c")], model=ended, template="{}")

"""Answers: what is told about one input, and which heads have nothing to tell about a text."""

from __future__ import annotations

import pytest

from graft.errors import UsageError
from graft.heads import Answer
from graft.loading import load


def test_as_dict_leaves_out_what_does_not_apply():
    assert Answer(label="a", probability=0.9, probabilities={"a": 0.9}).as_dict() == {
        "label": "a",
        "probability": 0.9,
        "probabilities": {"a": 0.9},
        "truncated_tokens": 0,
    }


@pytest.mark.parametrize(("name", "kind"), [("bert-span", "span"), ("bert-mask", "mask")])
def test_heads_over_tokens_do_not_answer_texts(tiny, name: str, kind: str):
    with pytest.raises(UsageError, match=f"a '{kind}' head .*; ask for logits"):
        load(tiny(name).folder, "float32").answer(["a text", "a longer text"])


def test_choices_are_answered_by_scores(tiny):
    model = load(tiny("bert-choose").folder, "float32")
    first, second = model.answer([("what is it?", "a cat"), ("what is it?", "the number of dogs")])
    logits = model.logits([encoding.ids for encoding in model.encode([("what is it?", "a cat")])])
    assert first.as_dict().keys() == {"score", "truncated_tokens"}
    assert first.score != second.score
    assert logits[0].dim() == 0

"""Long texts as parts that fit their template."""

from __future__ import annotations

import random

import pytest

from graft.errors import UsageError
from graft.loading import load
from graft.prompting.laying import fitted
from graft.writing.parts import parts

TEMPLATE = "say: {} end"


@pytest.fixture(scope="module")
def model(tiny):
    return load(tiny("gpt2-lm", n_positions=80).folder, "float32")


def sentence_text(seed: int) -> str:
    drawn = random.Random(seed)
    return " ".join(f"{drawn.choice('ABC')}{'x' * drawn.randrange(3, 25)}." for _ in range(20))


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_all_of_the_text_is_in_some_part_and_every_part_fits(model, seed: int, overlap: bool):
    text = sentence_text(seed)
    spans = parts(model, TEMPLATE, text, 10, overlap=overlap)
    assert len(spans) > 2
    assert {place for start, end in spans for place in range(start, end)} >= {
        place for place, sign in enumerate(text) if not sign.isspace()
    }
    pieces = [text[start:end] for start, end in spans]
    assert fitted(model, TEMPLATE, pieces, 10)[1] == [0] * len(pieces)
    assert all(piece[0].isupper() and piece[-1] == "." for piece in pieces), "whole sentences"
    shared = [second[0] < first[1] for first, second in zip(spans, spans[1:], strict=False)]
    assert any(shared) is overlap


def test_a_sentence_longer_than_the_model_is_cut(model):
    text = "y" * 200 + "."
    spans = parts(model, TEMPLATE, text, 10)
    assert "".join(text[start:end] for start, end in spans) == text
    assert fitted(model, TEMPLATE, [text[start:end] for start, end in spans], 10)[1] == [0] * len(spans)


def test_a_text_that_fits_is_one_part_and_a_template_that_does_not_is_refused(model):
    assert parts(model, TEMPLATE, " A b. ", 10) == [(1, 5)]
    with pytest.raises(UsageError, match="leaves no room for a text: the model holds"):
        parts(model, "z" * 90 + "{}", "A b.", 10)

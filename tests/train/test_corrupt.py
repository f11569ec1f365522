"""What is hidden: the shares of masks, and spans that put together again give the text."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.errors import ModelError
from graft.loading import load
from graft.train.corrupt import SHARE, SPAN, Fresh, masked, sentinels, spans
from graft.train.example import Example

MASK, SPECIAL = 4, {0, 2, 3}


def test_shares_are_those_of_devlin():
    """15 % of what is not special, of which 80 % masks, 10 % other tokens, 10 % as they were."""
    ids = [2, *range(100, 1100), 3]
    fates: Counter[str] = Counter()
    drawn, hidden = random.Random(0), 0
    for _ in range(60):
        read, places = masked(ids, SPECIAL, MASK, 50_000, drawn)
        assert [read[n] for n in range(len(ids)) if n not in places] == [
            ids[n] for n in range(len(ids)) if n not in places
        ]
        hidden += len(places)
        fates.update("mask" if read[n] == MASK else "same" if read[n] == ids[n] else "other" for n in places)
    assert hidden == 60 * 150
    assert fates["mask"] / hidden == pytest.approx(0.8, abs=0.02)
    assert fates["same"] / hidden == pytest.approx(0.1, abs=0.015)
    assert fates["other"] / hidden == pytest.approx(0.1, abs=0.015)


def test_special_tokens_are_never_hidden_and_one_token_always_is():
    for seed in range(50):
        _, places = masked([2, 9, 3, 0], SPECIAL, MASK, 90, random.Random(seed))
        assert places == [1]
    assert masked([2, 3], SPECIAL, MASK, 90, random.Random(0)) == ([2, 3], [])


@given(st.integers(2, 300), st.integers(0, 10_000))
def test_spans_put_back_give_the_text(length: int, seed: int):
    """As many tokens in as many spans as T5's code draws; a span at each sentinel, in their order."""
    ids, marks = list(range(1000, 1000 + length)), list(range(100))
    read, written = spans(ids, marks, random.Random(seed))
    gone = min(max(1, round(SHARE * length)), length - 1)
    count = min(max(1, round(gone / SPAN)), length - gone)
    assert [token for token in written if token < 1000] == [token for token in read if token < 1000] == marks[:count]
    assert len(written) == gone + count
    parts: dict[int, list[int]] = {}
    for token in written:
        if token < 1000:
            open_part = parts[token] = []
        else:
            open_part.append(token)
    assert [one for token in read for one in (parts[token] if token < 1000 else [token])] == ids
    assert all(parts[mark] for mark in marks[:count])


def test_every_epoch_hides_other_tokens_and_a_seed_repeats_them():
    def draw(ids, line, chance):
        read, places = masked(ids, SPECIAL, MASK, 90, chance)
        return Example((read,), (None,), torch.tensor([ids[place] for place in places]), line, tuple(places))

    blocks = [(list(range(10, 60)), 1), (list(range(20, 70)), 9)]
    first, again, other = Fresh(blocks, draw, 1), Fresh(blocks, draw, 1), Fresh(blocks, draw, 2)
    epochs = [[example.places for example in first] for _ in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [[example.places for example in again] for _ in range(3)] == epochs
    assert [example.places for example in other] != epochs[0]
    assert [example.line for example in first] == [1, 9]
    with pytest.raises(IndexError):
        first[2]


def test_a_vocabulary_without_sentinels_is_named(tiny):
    with pytest.raises(ModelError, match="needs sentinels, <extra_id_0> to <extra_id_4>"):
        sentinels(load(tiny("t5-lm").folder, "float32"), 5)

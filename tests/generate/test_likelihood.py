"""Log-probabilities of texts, token by token, beside those of transformers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from word_models import word_model

from graft.errors import DataError, ModelError, UsageError
from graft.generate.likelihood import CHAIN, PSEUDO, likelihoods, measure, rolling, words_of
from graft.loading import load

TEXTS = ["ab c", "hello world, how are you?", "q", "it is 3; or not so"]


def chain(theirs: Any, ids: Sequence[int], start: Sequence[int]) -> list[float]:
    """Each token's log-probability from those before it, by transformers."""
    with torch.no_grad():
        logs = theirs(input_ids=torch.tensor([[*start, *ids]])).logits[0].log_softmax(-1)
    return [math.nan] * (not start) + logs[torch.arange(len(start) + len(ids) - 1), [*start, *ids][1:]].tolist()


def own(model: Any, text: str) -> list[int]:
    encoding = model.tokenizer.encode([text], offsets=True)[0]
    return [token for token, segment in zip(encoding.ids, encoding.segments, strict=True) if segment == 0]


STARTS = {"gpt2-lm": [0], "bert-lm": [2], "openai_gpt-lm": [0], "llama-lm": [], "mixtral-lm": [], "qwen2-lm": []}


@pytest.mark.parametrize("name", STARTS)
def test_decoders_score_as_in_transformers(tiny, name: str):
    made, counted, start = tiny(name), [], STARTS[name]
    model, texts = load(made.folder, "float32"), [text for text in TEXTS if start or len(text) > 1]
    for text, found in zip(texts, likelihoods(model, texts, progress=counted.append), strict=True):
        assert found.ids == own(model, text)
        expected = chain(made.theirs, found.ids, start)
        assert found.logs == pytest.approx(expected, rel=1e-5, abs=1e-5, nan_ok=True)
        assert found.told == len(found.ids) - (not start)
        told = expected[not start :]
        assert found.perplexity == pytest.approx(math.exp(-sum(told) / len(told)), rel=1e-5)
    assert sum(counted) == len(texts)


@pytest.mark.parametrize("name", ["bert-mask", "roberta-mask", "distilbert-mask_untied"])
@pytest.mark.parametrize("within_word", [False, True])
def test_pseudo_log_likelihood_is_that_of_one_mask_at_a_time(tiny, name: str, within_word: bool):
    made = tiny(name)
    model = load(made.folder, "float32")
    assert measure(model) == PSEUDO
    mask, start, end = 4, [2], [3]
    for text, found in zip(TEXTS, likelihoods(model, TEXTS, within_word=within_word), strict=True):
        ids, words = own(model, text), words_of(text, found.offsets)
        expected = []
        for place, token in enumerate(ids):
            read = [
                mask if other == place or (within_word and other > place and words[other] == words[place]) else one
                for other, one in enumerate(ids)
            ]
            with torch.no_grad():
                logits = made.theirs(input_ids=torch.tensor([[*start, *read, *end]])).logits[0, place + 1]
            expected.append(float(logits.log_softmax(-1)[token]))
        assert found.logs == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_xlnet_tells_tokens_from_left_to_right_by_its_second_stream(tiny):
    made = tiny("xlnet-lm")
    model = load(made.folder, "float32")
    assert measure(model) == CHAIN
    texts = [text for text in TEXTS if len(text) > 1]
    for text, found in zip(texts, likelihoods(model, texts), strict=True):
        ids = own(model, text)
        assert math.isnan(found.logs[0])
        for target in range(1, len(ids)):
            hidden = torch.ones(1, len(ids), len(ids)).triu()  # nobody sees itself or what comes later
            mapping = torch.zeros(1, 1, len(ids))
            mapping[0, 0, target] = 1
            with torch.no_grad():
                logits = made.theirs(input_ids=torch.tensor([ids]), perm_mask=hidden, target_mapping=mapping).logits[
                    0, 0
                ]
            assert found.logs[target] == pytest.approx(float(logits.log_softmax(-1)[ids[target]]), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("source", "context"), [("", ""), ("w3 w4", "w3 w4")])
def test_an_encoder_decoder_tells_its_decoder_s_text(tiny, tmp_path: Path, source: str, context: str):
    import transformers

    folder = word_model(tiny("t5-lm").folder, "t5-lm", tmp_path, [f"w{n}" for n in range(20)])
    model = load(folder, "float32")
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    found = likelihoods(model, ["w1 w2 w9", "w5"], context=context)
    for text, one in zip(["w1 w2 w9", "w5"], found, strict=True):
        read, ids = model.tokenizer.encode([source, text])
        with torch.no_grad():
            logits = theirs(
                input_ids=torch.tensor([read.ids]), decoder_input_ids=torch.tensor([[0, *ids.ids[:-2]]])
            ).logits[0]
        assert ids.ids[-1] == 1
        expected = logits.log_softmax(-1)[torch.arange(len(ids.ids) - 1), ids.ids[:-1]]
        assert one.logs == pytest.approx(expected.tolist(), rel=1e-5, abs=1e-5)


def test_a_context_is_read_and_not_scored(tiny):
    made = tiny("gpt2-lm")
    model = load(made.folder, "float32")
    (found,) = likelihoods(model, ["dog"], context="the")
    whole = chain(made.theirs, own(model, "the dog"), [0])
    assert found.logs == pytest.approx(whole[3:], rel=1e-5, abs=1e-5)  # bytes: the space is the text's
    assert found.offsets == [(0, 0), (0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("stride", [None, 1, 7, 40])
def test_long_texts_are_told_in_windows_each_token_once(tiny, stride: int | None):
    made = tiny("gpt2-lm")
    model, text = load(made.folder, "float32"), "words of a text that is longer than the model, by far. " * 2
    (found,) = likelihoods(model, [text], stride=stride)
    assert found.told == len(found.ids) == len(text)
    every, step = [0, *found.ids], stride or 20
    expected, end = [], 0
    while end < len(text):
        new, end = end, 40 if not end else min(end + step, len(text))
        with torch.no_grad():
            logits = made.theirs(input_ids=torch.tensor([every[max(0, end - 40) : end]])).logits[0].log_softmax(-1)
        expected += [float(logits[row - max(0, end - 40), every[row + 1]]) for row in range(new, end)]
    assert found.logs == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert found.windows == len(list(rolling(len(text), 40, step)))


def test_long_texts_are_filled_in_windows_with_the_most_context(tiny):
    model = load(tiny("bert-mask").folder, "float32")
    text = "abcdefgh " * 12
    (found,) = likelihoods(model, [text])
    assert found.told == len(found.ids) == 96
    assert found.windows > 2
    (first,) = likelihoods(model, ["abcdefgh " * 4 + "abcdef"])  # 38 tokens and two special ones: the first window
    assert first.windows == 1
    assert found.logs[:5] == pytest.approx(first.logs[:5], rel=1e-5)


@given(count=st.integers(1, 200), room=st.integers(1, 40), stride=st.integers(1, 40))
def test_rolling_windows_tell_every_token_once(count: int, room: int, stride: int):
    cuts = list(rolling(count, room, min(stride, room)))
    assert [place for first, end, new in cuts for place in range(new, end)] == list(range(count))
    assert all(0 <= first <= new < end <= first + room for first, end, new in cuts)
    assert all(end - first == room for first, end, _ in cuts[1:])


def test_words_own_the_tokens_they_begin():
    text = " Don't go,  Ann"
    offsets = [(0, 4), (4, 6), (6, 9), (9, 10), (10, 11), (11, 15)]
    assert words_of(text, offsets) == [0, 1, 2, 3, 4, 4]
    assert words_of("  ", [(0, 1), (1, 2)]) == [0, 0]


def test_what_cannot_be_scored_is_refused(tiny):
    with pytest.raises(ModelError, match="found none"):
        likelihoods(load(tiny("bert").folder, "float32"), ["a"])
    with pytest.raises(ModelError, match="found one for 'classify'"):
        likelihoods(load(tiny("bert-classify").folder, "float32"), ["a"])
    model = load(tiny("gpt2-lm").folder, "float32")
    for texts, said in (([""], "has no tokens"), (["a", 3], "text 1 .* is int 3: expected a str")):
        with pytest.raises(DataError, match=said):
            likelihoods(model, texts)  # type: ignore[arg-type]
    for stride in (0, 41, 2.5):
        with pytest.raises(UsageError, match="expected 1 to 40"):
            likelihoods(model, ["a"], stride=stride)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="only mask heads"):
        likelihoods(model, ["a"], within_word=True)

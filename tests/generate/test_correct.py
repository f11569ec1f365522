"""Corrections chosen by a language model, beside the same sums taken with transformers."""

from __future__ import annotations

import pytest
import torch

from graft.errors import DataError, ModelError
from graft.generate.correct import check, chosen, listed
from graft.loading import load
from graft.text.suspects import Suspect

TEXT = "a cat sat on teh mat. it wsa fine"
SUSPECTS = (
    Suspect(start=13, end=16, choices=("teh", "the", "ten"), channel=(-0.5, -4.0, -5.0), language=(-9.0, -1.0, -8.0)),
    Suspect(start=25, end=28, choices=("wsa", "was"), channel=(-0.5, -4.0), language=(-9.0, -2.0)),
)


def normal(logs: list[float]) -> list[float]:
    return torch.tensor(logs, dtype=torch.float64).softmax(0).tolist()


def test_without_a_model_the_word_list_decides():
    expected = [normal([-9.5, -5.0, -13.0]), normal([-9.5, -6.0])]
    for ours, wanted in zip(listed(SUSPECTS), expected, strict=True):
        assert ours == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["gpt2-lm", "llama-lm"])
def test_a_decoder_weighs_the_sentence_as_transformers_does(tiny, name: str):
    made = tiny(name, **({"n_positions": 64} if name == "gpt2-lm" else {"max_position_embeddings": 64}))
    model = load(made.folder, "float32")

    def sentence(first: str, second: str | None) -> float:
        text = f"a cat sat on {first} mat." if second is None else f"a cat sat on {first} mat. it {second} fine"
        begins = [0] if name == "gpt2-lm" else []  # the other's vocabulary has no token that begins a text
        ids = torch.tensor([[*begins, *model.tokenizer.encode([text])[0].ids]])
        with torch.no_grad():
            logs = made.theirs(input_ids=ids).logits[0, :-1].log_softmax(-1)
        return float(logs.gather(1, ids[0, 1:, None]).sum())

    found = chosen(model, [TEXT], [SUSPECTS])[0]
    best = [max(range(len(each)), key=each.__getitem__) for each in found]
    first, second = SUSPECTS
    after = [sentence(first.choices[best[0]], choice) for choice in second.choices]
    expected = normal([own + log for own, log in zip(second.channel, after, strict=True)])
    assert found[1] == pytest.approx(expected, abs=1e-4)
    alone = [sentence(choice, None) for choice in first.choices]
    expected = normal([own + log for own, log in zip(first.channel, alone, strict=True)])
    assert found[0] == pytest.approx(expected, abs=1e-4)


def test_a_masked_model_weighs_the_word_as_transformers_does(tiny):
    made = tiny("bert-mask", max_position_embeddings=64)
    model = load(made.folder, "float32")
    mask = model.tokenizer.token_id("mask_token")
    one = SUSPECTS[1]
    text, place = "it wsa fine", (3, 6)
    alone = Suspect(
        start=place[0], end=place[1], choices=("wsa", "was", "a"), channel=(*one.channel, -6.0), language=(0, 0, 0)
    )
    found = chosen(model, [text], [(alone,)])[0][0]
    expected = []
    for choice, own in zip(alone.choices, alone.channel, strict=True):
        ids = model.tokenizer.encode([f"it {choice} fine"])[0].ids
        hidden = ids[:3] + [mask] * len(choice) + ids[3 + len(choice) :]
        with torch.no_grad():
            logs = made.theirs(input_ids=torch.tensor([hidden])).logits[0].log_softmax(-1)
        expected.append(own + sum(float(logs[at, ids[at]]) for at in range(3, 3 + len(choice))))
    assert found == pytest.approx(normal(expected), abs=1e-4)


@pytest.mark.parametrize("name", ["gpt2-lm", "bert-mask"])
def test_many_texts_are_weighed_as_one_by_one(tiny, name: str):
    model = load(tiny(name).folder, "float32")
    texts = ["a cat sat on teh mat", "teh end", TEXT[:20]]
    suspects = [
        [Suspect(start=at, end=at + 3, choices=("teh", "the"), channel=(-1, -2), language=(0, 0))] for at in (13, 0, 13)
    ]
    told: list[int] = []
    together = chosen(model, texts, suspects, told.append)
    for text, each, found in zip(texts, suspects, together, strict=True):
        assert found[0] == pytest.approx(chosen(model, [text], [each])[0][0], abs=1e-5)
    assert sum(told) == 3


def test_a_sentence_beyond_the_model_is_cut_around_the_word(tiny):
    model = load(tiny("gpt2-lm").folder, "float32")  # 40 positions, a token for each byte
    text = f"{'a long way before it ' * 9}teh end{' and on' * 30}"
    at = text.index("teh")
    one = Suspect(start=at, end=at + 3, choices=("teh", "the"), channel=(-1, -2), language=(0, 0))
    assert sum(chosen(model, [text], [[one]])[0][0]) == pytest.approx(1)
    huge = Suspect(start=0, end=60, choices=("x" * 60, "the"), channel=(-1, -2), language=(0, 0))
    with pytest.raises(DataError, match="more tokens than the 40"):
        chosen(model, ["x" * 60], [[huge]])


@pytest.mark.parametrize("name", ["bert", "bert-classify", "t5-lm", "bert-tag"])
def test_models_that_tell_no_words_are_refused(tiny, name: str):
    with pytest.raises(ModelError, match=r"reads from left to right .* or one that fills masks"):
        check(load(tiny(name).folder, "float32"))

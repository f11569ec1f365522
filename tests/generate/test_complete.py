"""Words at the cursor: whole ones, half-typed ones, with the probabilities transformers gives their letters."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stories
import torch
from word_models import word_model

from graft.errors import DataError, ModelError
from graft.generate.complete import Cursor, complete
from graft.grafted import Model
from graft.loading import load

WORDS = ["play", "plan", "please", "go", "the", "to", "think", "would", "like", "I", ".", ","]


@pytest.fixture(scope="module")
def story(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = stories.make(shared_data / "models" / "stories260K", tmp_path_factory.mktemp("stories") / "model")
    return load(folder, "float32")


def shares(theirs: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return theirs(input_ids=torch.tensor([ids])).logits[0].softmax(-1)


@pytest.mark.parametrize("text", ["I like to th", "I like to", "I like to "])
def test_a_word_is_as_probable_as_its_letters_and_its_end(tiny: Callable[..., Any], text: str):
    """In bytes every word has one spelling: its probability is the product of its letters', after what was typed."""
    made = tiny("gpt2-lm")
    model = load(made.folder, "float32")
    found, cut = complete(model, text, 4)
    assert cut == 0
    assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)
    encoded = [0, *model.tokenizer.encode([text])[0].ids]
    typed = re.search(r"\w*$", text)
    assert typed is not None
    surfaces = model.tokenizer.surfaces(260)
    letters = [token for token, surface in enumerate(surfaces) if surface and surface.word]
    assert found
    for one in found:
        assert one.word == typed[0] + one.insert
        if not one.word.isascii():
            continue
        ids = [*encoded, *(model.tokenizer.encode([one.insert])[0].ids if one.insert else [])]
        told = shares(made.theirs, ids)
        chain = torch.stack(
            [told[place - 1, ids[place]] for place in range(len(encoded), len(ids))] or [torch.ones(())]
        )
        over = 1 - told[-1, letters].sum()
        assert one.probability == pytest.approx(float(chain.prod() * over), rel=1e-4)


def test_a_story_goes_on_with_whole_words(story: Model):
    words, _ = complete(story, "Once upon a time, there was a li")
    assert (words[0].word, words[0].insert) == ("little", "ttle")
    assert words[0].probability > 0.9
    words, _ = complete(story, "Once upon a time, there was a little girl named ")
    assert words[0].word == "Lily"
    words, _ = complete(story, "She loved to play outside in the", 1)
    assert [(one.word, one.insert) for one in words] == [("the", "")]


def test_a_suggestion_takes_less_than_a_tenth_of_a_second(story: Model):
    complete(story, "warm up the ke")
    began = time.perf_counter()
    for _ in range(5):
        complete(story, "Once upon a time, there was a little girl named Lily. She loved to pl")
    assert (time.perf_counter() - began) / 5 < 0.1


def test_a_text_longer_than_the_model_is_gone_on_with_from_its_end(story: Model):
    words, cut = complete(story, "She said no. " * 200 + "Once upon a time, there was a li")
    assert words[0].word == "little"
    assert cut > 0


@pytest.mark.parametrize("name", ["bert-mask", "t5-lm"])
def test_encoders_fill_a_mask_and_encoder_decoders_a_sentinel(tiny: Callable[..., Any], tmp_path: Path, name: str):
    import transformers

    folder = word_model(tiny(name).folder, name, tmp_path, WORDS)
    model = load(folder, "float32")
    theirs = getattr(transformers, type(tiny(name).theirs).__name__).from_pretrained(folder).eval()
    ids = model.tokenizer.encode(["I would like to"])[0].ids
    own = [token for token in ids if token > 5]
    hole = model.tokenizer.token_id("mask_token" if name == "bert-mask" else "<extra_id_0>")
    read = torch.tensor([[*([3] if name == "bert-mask" else []), *own, hole, 4 if name == "bert-mask" else 1]])
    with torch.no_grad():
        if name == "bert-mask":
            told = theirs(input_ids=read).logits[0, -2].softmax(-1)
        else:
            told = theirs(input_ids=read, decoder_input_ids=torch.tensor([[0, hole]])).logits[0, -1].softmax(-1)
    found, _ = complete(model, "I would like to pl")
    agreeing = {word: float(told[model.tokenizer.token_id(word)]) for word in ("play", "plan", "please")}
    assert {one.word: one.probability for one in found} == pytest.approx(
        {word: share / sum(agreeing.values()) for word, share in agreeing.items()}, rel=1e-3
    )


def test_what_cannot_be_completed_is_refused(tiny: Callable[..., Any]):
    with pytest.raises(DataError, match="is empty"):
        complete(load(tiny("gpt2-lm").folder, "float32"), "  ")
    with pytest.raises(ModelError, match="reads both ways"):
        complete(load(tiny("xlnet-lm").folder, "float32"), "a text")
    with pytest.raises(DataError, match="nothing before the word"):
        complete(load(tiny("llama-lm").folder, "float32"), "th")


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        ("I would like to th", Cursor("I would like to", "th", True)),
        ("I would like to  ", Cursor("I would like to", "", True)),
        ("(th", Cursor("(", "th", False)),
        ("don't", Cursor("", "don't", False)),
        ("one.", Cursor("one.", "", False)),
        ("ein\nSchö", Cursor("ein\n", "Schö", False)),
    ],
)
def test_where_the_cursor_is(text: str, cursor: Cursor):
    assert Cursor.of(text) == cursor

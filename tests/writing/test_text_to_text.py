"""Summaries and translations beside transformers' generate; several, in parts, within limits, in a vocabulary."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import graft
from graft.errors import DataError, ModelError, UsageError
from graft.loading import load

LONG = "Ann went. Bob came. Eve sang. " * 6


@pytest.fixture(scope="module")
def made(tiny) -> Any:
    return tiny("t5-lm")


@pytest.fixture(scope="module")
def model(made) -> graft.Model:
    return load(made.folder, "float32")


@pytest.fixture(scope="module")
def decoder(tiny) -> graft.Model:
    return load(tiny("gpt2-lm", n_positions=90).folder, "float32")


def theirs(made: Any, model: graft.Model, source: str, **options: Any) -> list[str]:
    """What transformers writes, as text."""
    suppressed = list(range(model.tokenizer.vocab_size, 96))
    options |= {"suppress_tokens": suppressed} if suppressed else {}
    rows = made.theirs.generate(torch.tensor([model.encode([source])[0].ids]), do_sample=False, **options)[:, 1:]
    cut = [row[: row.index(1)] if 1 in row else row for row in rows.tolist()]
    return [model.tokenizer.decode(row).strip() for row in cut]


def texts(answer: Any) -> list[str]:
    return [answer.text, *(one.text for one in answer.alternatives or ())]


@pytest.mark.parametrize("source", ["the house is small", "ab"])
def test_a_summary_is_what_transformers_writes(made: Any, model: graft.Model, source: str):
    [answer] = graft.run("summarize", [source], model=model, longest=9)
    assert [answer.text] == theirs(made, model, f"summarize: {source}", max_new_tokens=9)


def test_translations_by_beams_are_what_transformers_writes(made: Any, model: graft.Model):
    [answer] = graft.run("translate", ["the house"], model=model, source="en", target="German", n=3, longest=8)
    source = "translate English to German: the house"
    wanted = theirs(made, model, source, max_new_tokens=8, num_beams=6, num_return_sequences=3)
    assert texts(answer) == list(dict.fromkeys(wanted))


def test_several_summaries_are_different(model: graft.Model):
    [answer] = graft.run("summarize", ["the house is small"], model=model, n=3, longest=8)
    assert len(set(texts(answer))) == len(texts(answer)) == 3
    [drawn] = graft.run("summarize", ["the house is small"], model=model, n=3, longest=8, temperature=2, seed=4)
    assert drawn.seed == 4
    assert texts(drawn) != texts(answer)


def test_a_decoder_never_loses_what_asks_for_the_summary(decoder: graft.Model):
    """The document is cut inside its template: the prompt still ends in TL;DR:."""
    [answer] = graft.run("summarize", ["x" * 300], model=decoder, longest=10)
    room = 90 - 10 - len("\nTL;DR:")
    assert answer.truncated_tokens == 300 - room
    [direct] = decoder.generate("x" * room + "\nTL;DR:", temperature=0, max_tokens=10, stop="\n\n")
    assert answer.text == direct.text.strip()


def test_in_windows_all_is_read_part_after_part(decoder: graft.Model):
    [answer] = graft.run("summarize", [LONG], model=decoder, longest=10, overflow="window")
    assert answer.truncated_tokens == 0
    assert answer.windows >= 3
    [text] = graft.run("translate", [LONG], model=decoder, longest=6, overflow="window", source="en", target="fr")
    parts = []
    from graft.writing.parts import parts as cut

    for start, end in cut(decoder, "English: {}\nFrench:", LONG, 6):
        [part] = graft.run("translate", [LONG[start:end]], model=decoder, longest=6, source="en", target="fr")
        parts.append(part.text)
    assert len(parts) == text.windows > 1
    assert text.text == " ".join(parts)


def test_never_more_than_asked_for_and_told(model: graft.Model):
    [whole] = graft.run("summarize", ["the house is small"], model=model, longest=20)
    [answer] = graft.run("summarize", ["the house is small"], model=model, longest=20, words=2, characters=9)
    assert whole.text.startswith(answer.text)
    assert len(answer.text) <= 9
    assert len(answer.text.split()) <= 2
    assert answer.notes
    assert answer.notes[0].startswith("cut to ")
    [plain] = graft.run("summarize", ["the house is small"], model=model, longest=20, words=99)
    assert plain.notes is None


def test_a_vocabulary_is_kept_to_and_what_is_outside_is_told(decoder: graft.Model, tmp_path):
    pytest.importorskip("graft.text.word_list")
    words = tmp_path / "words.txt"
    words.write_text("a\ni\n")
    [answer] = graft.run("summarize", ["the house"], model=decoder, longest=12, vocabulary=str(words))
    assert {sign.lower() for sign in answer.text if sign.isalpha()} <= {"a", "i"}
    [picked] = graft.run("summarize", ["a house. i am."], model=load(decoder.folder, "float32"), vocabulary=str(words))
    assert picked.unlisted == ()


def test_a_language_is_known_by_name_or_code(model: graft.Model):
    for source, target in (("en", "de"), ("English", "german"), ("EN", "DE")):
        [answer] = graft.run("translate", ["ab"], model=model, source=source, target=target, longest=5)
        [direct] = graft.run("generate", ["translate English to German: ab"], model=model, temperature=0, max_tokens=5)
        assert answer.text == direct.text


def test_languages_of_the_config_are_told(made: Any):
    model = load(made.folder, "float32")
    model.published = {
        **model.published,
        "task_specific_params": {
            "summarization": {"prefix": "summarize: "},
            "translation_en_to_de": {"prefix": "translate English to German: "},
            "translation_en_to_fr": {"prefix": "translate English to French: "},
        },
    }
    trained = "trained for English to French, English to German"
    for options in ({"source": "en", "target": "germn"}, {"target": "de"}, {}):
        with pytest.raises(UsageError, match=trained):
            graft.run("translate", ["ab"], model=model, **options)
    [answer] = graft.run("translate", ["ab"], model=model, source="en", target="es", longest=4)
    assert answer.notes == (
        "this model's config does not list English to Spanish; it lists English to French, English to German",
    )


@pytest.mark.parametrize(
    ("task", "options", "error", "message"),
    [
        ("summarize", {"longest": 5, "max_tokens": 6}, UsageError, "longest is 5, max_tokens 6: they are the same"),
        ("summarize", {"longest": 0}, UsageError, "longest is 0, expected a whole number above 0"),
        ("summarize", {"sentences": "3"}, UsageError, "sentences is '3', expected a whole number"),
        ("summarize", {"template": "no place"}, UsageError, "needs exactly one"),
        ("translate", {"source": "en", "target": "de", "template": "{}"}, UsageError, "leave --from and --to out"),
        ("translate", {"words": 3}, UsageError, "translate has no option 'words'"),
    ],
)
def test_wrong_use(model: graft.Model, task: str, options: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        graft.run(task, ["ab"], model=model, **options)


def test_an_empty_text_and_a_model_that_does_not_write(tiny, model: graft.Model):
    with pytest.raises(DataError, match=r"text 1 \(counting from 0\) is empty"):
        graft.run("summarize", ["ab", " "], model=model)
    with pytest.raises(ModelError, match="no head that writes text, which translate needs. It can do tag"):
        graft.run("translate", ["ab"], model=tiny("bert-tag").folder, source="en", target="de")
    with pytest.raises(UsageError, match="picks sentences and does not write; leave beams out"):
        graft.run("summarize", ["ab"], model=tiny("bert").folder, beams=3)

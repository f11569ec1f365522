"""Asking in words: the prompts put together here by hand, and scored by transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from word_models import word_model

from graft.errors import DataError, ModelError, UsageError
from graft.grafted import Model
from graft.loading import load
from graft.prompting.ask import Asked, asked, entailment, template_for
from graft.prompting.laying import fitted
from graft.prompting.prompt import Prompt, from_settings, spoken
from graft.prompting.wording import Wording
from graft.recipes.run import run
from graft.sealed import Settings

WORDS = ["good", "bad", "very", "film", "book", "long", "Label:", "N/A", "This", "is", "text", "classify:", "."]
EXAMPLES = (("film good", "yes"), ("book long", "no"), ("very book bad", "no"))
TEXTS = ["good film", "bad", "long long book film"]
SPOKEN = {"yes": "good", "no": "very bad"}


@pytest.fixture
def words(tiny, tmp_path: Path):
    def make(name: str) -> Path:
        return word_model(tiny(name).folder, name, tmp_path / name, WORDS)

    return make


def ids(model: Model, text: str) -> list[int]:
    return [model.tokenizer.token_id(word) for word in text.split()]


def by_transformers(folder: Path, model: Model, source: str, word: str) -> float:
    import transformers

    prompt, answer = ids(model, source), ids(model, word)
    with torch.no_grad():
        if model.backbone.decoder is None:
            theirs = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
            logits = theirs(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
        else:
            theirs = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
            answer = [*answer, 1]
            read = torch.tensor([[0, *answer[:-1]]])
            logits = theirs(input_ids=torch.tensor([[*prompt, 1]]), decoder_input_ids=read).logits[0]
    return float(logits.log_softmax(-1)[torch.arange(len(answer)), torch.tensor(answer)].sum())


@pytest.mark.parametrize("name", ["gpt2-lm", "t5-lm"])
@pytest.mark.parametrize("calibrate", [False, True])
def test_few_shot_scores_are_those_of_the_whole_prompt(words, name: str, calibrate: bool):
    folder = words(name)
    model = load(folder, "float32")
    prompt = Prompt(words=SPOKEN, shots=2, calibrate=calibrate, examples=EXAMPLES[:2])
    found = Asked(model, prompt, "{} Label:").scores(TEXTS)
    before = "film good Label: good book long Label: very bad"
    for text, values in zip(TEXTS, found.values, strict=True):
        expected = [by_transformers(folder, model, f"{before} {text} Label:", word) for word in SPOKEN.values()]
        if calibrate:
            free = [by_transformers(folder, model, f"{before} N/A Label:", word) for word in SPOKEN.values()]
            expected = [one - other for one, other in zip(expected, free, strict=True)]
        assert values.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert found.truncated_tokens == found.examples_left_out == [0, 0, 0]


def test_nearest_examples_stand_before_each_text(words):
    folder = words("gpt2-lm")
    model = load(folder, "float32")
    prompt = Prompt(words=SPOKEN, shots=1, selection="nearest", examples=EXAMPLES)
    found = Asked(model, prompt, "{} Label:").scores(TEXTS)
    cosines = model.embed(TEXTS) @ model.embed([text for text, _ in EXAMPLES]).T
    for text, row, values in zip(TEXTS, cosines, found.values, strict=True):
        shown, label = EXAMPLES[int(row.argmax())]
        source = f"{shown} Label: {SPOKEN[label]} {text} Label:"
        expected = [by_transformers(folder, model, source, word) for word in SPOKEN.values()]
        assert values.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_masks_are_as_many_as_a_word_has_tokens(words):
    import transformers

    folder = words("bert-mask")
    model, theirs = load(folder, "float32"), transformers.BertForMaskedLM.from_pretrained(folder).eval()
    prompt = Prompt(words=SPOKEN, shots=1, examples=EXAMPLES[:1])
    found = Asked(model, prompt, "{} This is {mask}").scores(TEXTS).values
    for text, values in zip(TEXTS, found, strict=True):
        expected = []
        for word in SPOKEN.values():
            masks = " ".join(["[MASK]"] * len(word.split()))
            sequence = ids(model, f"[CLS] film good This is good {text} This is {masks} [SEP]")
            places = [place for place, token in enumerate(sequence) if token == ids(model, "[MASK]")[0]]
            with torch.no_grad():
                logs = theirs(input_ids=torch.tensor([sequence])).logits[0].log_softmax(-1)
            expected.append(sum(float(logs[p, t]) for p, t in zip(places, ids(model, word), strict=True)))
        assert values.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_entailment_is_the_pair_classifiers_own_logit(tiny, tmp_path: Path):
    shutil.copytree(tiny("bert-classify").folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {"0": "contradiction", "1": "neutral", "2": "Entailment"}
    (tmp_path / "config.json").write_text(json.dumps(config | {"label2id": {}}))
    model = load(tmp_path, "float32")
    assert entailment(model) == 2
    found = Asked(model, Prompt(words={"a": "abc", "b": "xyz"}), "it is {}").scores(["one", "two"])
    pairs = [("one", "it is abc"), ("one", "it is xyz"), ("two", "it is abc"), ("two", "it is xyz")]
    encodings = model.encode(pairs)
    logits = model.pooled([one.ids for one in encodings], [one.types for one in encodings], model.head)
    torch.testing.assert_close(found.values.float(), torch.stack(logits)[:, 2].reshape(2, 2))
    assert entailment(load(tiny("bert-classify").folder, "float32")) is None


def test_names_are_entailed_by_all_windows_of_a_text(tiny, tmp_path: Path):
    shutil.copytree(tiny("bert-classify").folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {"0": "contradiction", "1": "neutral", "2": "entailment"}
    (tmp_path / "config.json").write_text(json.dumps(config | {"label2id": {}}))
    model = load(tmp_path, "float32")
    model.settings = Settings(overflow="window", limit=16)
    text, told = "one two three four five six seven", []
    answer = run("classify", ["one", text], model=model, labels=["a", "b"])[1]
    found = Asked(model, Prompt(words={"a": "a", "b": "b"}), "{}").scores(["one", text], told.append)
    for number, word in enumerate("ab"):
        windows = model.tokenizer.windows([(text, word)], limit=16)[0]
        logits = model.pooled([one.ids for one in windows], [one.types for one in windows], model.head)
        assert found.values[1, number].item() == pytest.approx(torch.stack(logits)[:, 2].mean().item(), abs=1e-5)
    assert found.windows == (1, len(windows))
    assert sum(told) == 2
    assert (answer.windows or 0) > 1
    assert answer.truncated_tokens == 0


@pytest.mark.parametrize("rule", ["window", "head_tail"])
def test_a_text_in_a_prompt_is_read_at_once(words, rule: str):
    model = load(words("gpt2-lm"), "float32")
    with pytest.raises(UsageError, match="a text in a prompt is read at once; choose overflow=truncate or error"):
        run("classify", ["film"], model=model, labels=["good", "bad"], template="{} Label:", overflow=rule)


def test_examples_that_do_not_fit_go_first_and_are_counted(words):
    """Of 40 positions the answer takes two; six tokens each of three examples, then the text, then its own end."""
    model = load(words("gpt2-lm"), "float32")
    prompt = Prompt(words=SPOKEN, shots=3, examples=EXAMPLES)
    template, texts = "{} Label:", ["film", " ".join(["film"] * 28), " ".join(["film"] * 60)]
    ask = Asked(model, prompt, template)
    found = ask.scores(texts)
    assert found.examples_left_out == [0, 2, 3]
    assert found.truncated_tokens == [0, 0, 60 - 37]
    alone = Asked(model, Prompt(words=SPOKEN), template).scores([" ".join(["film"] * 37)])
    torch.testing.assert_close(found.values[2], alone.values[0])


def test_the_end_of_a_text_is_cut_and_never_the_template(words):
    model = load(words("gpt2-lm"), "float32")
    long = " ".join(["film"] * 50)
    assert fitted(model, "This {} Label:", [long, "good"], 3) == (
        [f"This {' '.join(['film'] * 35)} Label:", "This good Label:"],
        [15, 0],
    )
    sources, cut = fitted(model, "{} is {}", [("good bad", long)], 0)
    assert sources == [f"good bad is {' '.join(['film'] * 37)}"]
    assert cut == [13]
    model.settings = Settings(overflow="error")
    with pytest.raises(DataError, match="text 0"):
        fitted(model, "This {} Label:", [long], 3)
    model.settings = Settings()
    with pytest.raises(UsageError, match="leaves no room for a text"):
        fitted(model, "{}" + " This" * 60, ["film"], 3)


def test_what_cannot_be_asked_is_refused(words, tiny):
    decoder, masked, encoder = (
        load(folder, "float32") for folder in (words("gpt2-lm"), words("bert-mask"), tiny("bert").folder)
    )
    wording = Wording(prefixed="classify: {}", continued="{} Label:", masked="{} {mask}", named="about {}")
    with pytest.raises(UsageError, match="cannot write 'unheard'"):
        Asked(decoder, Prompt(words={"a": "unheard", "b": "good"}), "{}")
    with pytest.raises(UsageError, match="worked examples need a model that predicts words"):
        Asked(encoder, Prompt(words=SPOKEN, shots=1, examples=EXAMPLES[:1]), "{}")
    with pytest.raises(UsageError, match=r"needs exactly one \{mask\}"):
        template_for(masked, wording, "{} what")
    with pytest.raises(UsageError, match=r"needs exactly one \{\}"):
        template_for(decoder, wording, "what")
    with pytest.raises(UsageError, match="needs a model that writes text"):
        template_for(encoder, Wording(prefixed="{}", continued="{}"), None)
    with pytest.raises(UsageError, match="two labels are answered alike: a=good, b=good"):
        spoken(["a", "b"], ["a=good", "b=good"])
    with pytest.raises(UsageError, match="'c=good': expected label=word"):
        spoken(["a", "b"], ["c=good"])
    assert asked(decoder, Prompt(words=SPOKEN), "{}") is asked(decoder, Prompt(words=SPOKEN), "{}")


@pytest.mark.parametrize(
    "damage",
    [
        {"words": {"a": "b"}},
        {"words": None},
        {"examples": [["text", "nobody"]]},
        {"examples": [3]},
        {"content_free": [1.0]},
        {"content_free": "x"},
        {"shots": -1},
        {"selection": "best"},
        {"unknown": 1},
        {"numbers": True},
    ],
)
def test_a_damaged_prompt_is_named(damage: dict[str, object]):
    good = Prompt(words=SPOKEN, examples=EXAMPLES).as_dict()
    assert from_settings(good) == Prompt(words=SPOKEN, examples=EXAMPLES)
    with pytest.raises(ModelError, match=r"graft\.json: the prompt is damaged"):
        from_settings({**good, **damage})

"""Generate: continuations as the engine gives them, their seeds, their settings, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import graft
from graft.errors import DataError, ModelError, UsageError
from graft.loading import load
from graft.tasks.generate import USUAL


@pytest.fixture(scope="module")
def model(tiny) -> graft.Model:
    return load(tiny("gpt2-lm", n_positions=60).folder, "float32")


def texts(answer: Any) -> list[str]:
    return [answer.text, *(one.text for one in answer.alternatives or ())]


def test_greedy_is_what_transformers_writes(tiny):
    made = tiny("gpt2-lm", n_positions=60)
    model = load(made.folder, "float32")
    [answer] = graft.run("generate", ["abc d"], model=model, temperature=0, max_tokens=12)
    ids = torch.tensor([model.tokenizer.encode(["abc d"])[0].ids])
    known = model.tokenizer.vocab_size
    ours = {"max_new_tokens": 12, "do_sample": False, "suppress_tokens": [*range(known, 260)], "pad_token_id": 0}
    theirs = made.theirs.generate(ids, attention_mask=torch.ones_like(ids), **ours)[0, ids.shape[1] :].tolist()
    written = theirs[: theirs.index(0)] if 0 in theirs else theirs
    assert answer.text == model.tokenizer.decode(written).strip()
    assert (answer.seed, answer.usage) == (None, {"prompt_tokens": 5, "completion_tokens": len(theirs)})
    assert answer.finish_reason == ("stop" if 0 in theirs else "length")


def test_the_usual_settings_are_those_the_engine_is_given(model: graft.Model):
    [answer] = graft.run("generate", ["abc"], model=model, seed=5, n=3, max_tokens=8)
    direct = model.generate("abc", n=3, seed=5, max_tokens=8, **USUAL)
    assert texts(answer) == [one.text.strip() for one in direct]


def test_a_seed_that_was_drawn_gives_the_same_again_whatever_runs_beside(model: graft.Model):
    first, second = graft.run("generate", ["abc", "xyz abc"], model=model, max_tokens=10, n=2)
    assert isinstance(first.seed, int)
    assert first.seed == second.seed
    [again] = graft.run("generate", ["xyz abc"], model=model, max_tokens=10, n=2, seed=first.seed)
    assert texts(again) == texts(second)
    [other] = graft.run("generate", ["abc"], model=model, max_tokens=10)
    assert other.seed != first.seed


def test_text_is_told_as_it_comes(model: graft.Model):
    told: dict[int, str] = {}

    def on_text(index: int, text: str) -> None:
        told[index] = told.get(index, "") + text

    [answer] = graft.run("generate", ["abc"], model=model, max_tokens=9, n=2, seed=1, on_text=on_text)
    assert [told[0].strip(), told[1].strip()] == texts(answer)


def test_logprobs_stop_and_vocabulary(model: graft.Model):
    [answer] = graft.run("generate", ["abc"], model=model, max_tokens=6, seed=1, logprobs=2)
    assert len(answer.logprobs) == answer.usage["completion_tokens"] == 6
    assert all(row["logprob"] <= 0 and len(row["top"]) == 2 for row in answer.logprobs)
    letters = [model.tokenizer.token_id(sign) for sign in "xyz"]
    [answer] = graft.run("generate", ["abc"], model=model, max_tokens=30, seed=1, ignore_end=True, allowed=letters)
    assert answer.text
    assert set(answer.text) <= set("xyz")
    stopped = answer.text[3:5]
    [cut] = graft.run(
        "generate", ["abc"], model=model, max_tokens=30, seed=1, ignore_end=True, allowed=letters, stop=stopped
    )
    assert cut.text == answer.text[: answer.text.index(stopped)]
    assert cut.finish_reason == "stop"


def test_no_allowed_token_is_a_reason_to_stop(model: graft.Model):
    [answer] = graft.run(
        "generate", ["abc"], model=model, max_tokens=9, allowed=[], ignore_end=True, logit_bias={}, min_tokens=9
    )
    assert (answer.text, answer.finish_reason) == ("", "no_allowed_token")


def test_beams_are_what_a_search_finds(model: graft.Model):
    from graft.generate.beam import Beams, search
    from graft.generate.sampling import Sampling

    [answer] = graft.run("generate", ["abc"], model=model, max_tokens=7, beams=5, n=3)
    [found] = search(model, ["abc"], Beams(beams=5, n=3), Sampling(max_tokens=7))
    assert texts(answer) == list(dict.fromkeys(model.tokenizer.decode(one.ids).strip() for one in found))


def test_nothing_said_of_length_writes_what_there_is_room_for(model: graft.Model):
    [answer] = graft.run("generate", ["a" * 50], model=model, seed=1, ignore_end=True)
    assert answer.usage == {"prompt_tokens": 50, "completion_tokens": 10}
    assert answer.finish_reason == "length"


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("", {}, r"text 0 \(counting from 0\): the prompt is empty"),
        ("a" * 60, {}, "a prompt of 60 tokens and 1 to write are 61, the model holds 60. Shorten"),
        (
            "a" * 50,
            {"max_tokens": 20},
            "the model holds 60; at most 10 more can be written. Shorten the prompt or lower",
        ),
        (("a", "b"), {}, "reads single texts, found pairs"),
        ("a", {"n": 0}, "n is 0, expected a whole number from 1"),
        ("a", {"temprature": 1}, "generate has no option 'temprature': did you mean 'temperature'"),
        ("a", {"temperature": -1}, "temperature is -1, expected a number from 0"),
        ("a", {"beams": 3, "seed": 1}, "a search by beams draws nothing; leave seed out"),
    ],
)
def test_what_cannot_be_is_told(model: graft.Model, prompt: Any, options: dict[str, Any], message: str):
    with pytest.raises((UsageError, DataError), match=message):
        graft.run("generate", [prompt], model=model, **options)


def test_a_model_without_a_head_that_writes_is_told_what_it_is_for(tiny, tmp_path: Path):
    with pytest.raises(ModelError, match="no head that writes text, which generate needs. It can do classify"):
        graft.run("generate", ["a"], model=tiny("bert-classify").folder)
    with pytest.raises(ModelError, match="It can do embed, similarity, summarize"):
        graft.run("generate", ["a"], model=tiny("bert").folder)
    rows = tmp_path / "rows.csv"
    rows.write_text("text\n" + "".join(f"a{number}\n" for number in range(30)))
    with pytest.raises(UsageError, match="to let a model write like your texts.*--task language"):
        graft.finetune(rows, task="generate", model=tiny("gpt2-lm").folder)
    with pytest.raises(UsageError, match="asked for task 'generate', but the model fits"):
        graft.evaluate(tiny("gpt2-lm").folder, rows, task="generate")


def test_an_encoder_decoder_answers_the_prompt(tiny):
    made = tiny("t5-lm")
    model = load(made.folder, "float32")
    [answer] = graft.run("generate", ["ab c"], model=model, temperature=0, max_tokens=9)
    ids = torch.tensor([model.encode(["ab c"])[0].ids])
    suppressed = [*range(model.tokenizer.vocab_size, 96)]
    options = {"suppress_tokens": suppressed} if suppressed else {}
    theirs = made.theirs.generate(ids, max_new_tokens=9, do_sample=False, **options)[0, 1:].tolist()
    assert answer.text == model.tokenizer.decode(theirs[: theirs.index(1)] if 1 in theirs else theirs).strip()


def test_log_probabilities_of_the_prompt(model: graft.Model):
    [answer] = graft.run("generate", ["abc"], model=model, max_tokens=1, seed=1, prompt_logprobs=0)
    ids = model.tokenizer.encode(["abc"])[0].ids
    logits = model.logits([ids])[0].double().log_softmax(-1)
    assert [row["id"] for row in answer.prompt_logprobs] == ids[1:]
    expected = [float(logits[place, token]) for place, token in enumerate(ids[1:])]
    assert [row["logprob"] for row in answer.prompt_logprobs] == pytest.approx(expected, abs=1e-5)

"""Questions answered by writing: templates, windows, scores by hand, and "no answer"."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import graft
from graft.errors import UsageError
from graft.generate.sampling import Sampling
from graft.loading import load
from graft.writing.questions import Asking, _chosen, _Laid, check_template

CONTEXT = "Ann went away. " * 3 + "Bob came back. " * 3


@pytest.fixture(scope="module", params=["gpt2-lm", "t5-lm"])
def writer(tiny, request: pytest.FixtureRequest) -> graft.Model:
    changes = {"n_positions": 120} if request.param == "gpt2-lm" else {}
    return load(tiny(request.param, **changes).folder, "float32")


def two(model: graft.Model) -> bool:
    return model.backbone.decoder is not None


def test_the_score_is_the_mean_probability_of_the_answer_s_tokens(writer: graft.Model):
    [answer] = graft.run("ask", ["who"], model=writer, longest=5)
    source = "question: who" if two(writer) else "Question: who\nAnswer:"
    words = answer.text if two(writer) else f" {answer.text}"
    frame = writer.tokenizer.frame
    prompt = writer.encode([source])[0].ids
    own = writer.encode([words])[0].ids[len(frame.start) :]
    own = own[: len(own) - len(frame.end)]
    if two(writer):
        own = [*own, 1]  # the end token
        logits = writer.logits([prompt], decoder=[[0, *own[:-1]]])[0]
    else:
        logits = writer.logits([[*prompt, *own]])[0][len(prompt) - 1 : -1]
    logs = logits.double().log_softmax(-1)[torch.arange(len(own)), torch.tensor(own)]
    assert answer.score == pytest.approx(math.exp(logs.mean()), rel=1e-4)
    assert answer.finish_reason == "length"


def test_a_decoder_goes_on_from_what_the_paper_says(tiny):
    model = load(tiny("gpt2-lm", n_positions=120).folder, "float32")
    [closed] = graft.run("ask", ["who"], model=model, longest=6)
    [direct] = model.generate("Question: who\nAnswer:", temperature=0, max_tokens=6, stop="\n")
    assert closed.text == direct.text.strip()
    [read] = graft.run("ask", [("who", "Ann.")], model=model, longest=6)
    [direct] = model.generate("Ann.\n\nQuestion: who\nAnswer:", temperature=0, max_tokens=6, stop="\n")
    assert read.text == direct.text.strip()
    [own] = graft.run("ask", [("who", "Ann.")], model=model, longest=6, template="{context} Q {question} A")
    [direct] = model.generate("Ann. Q who A", temperature=0, max_tokens=6, stop="\n")
    assert own.text == direct.text.strip()


def test_several_answers_are_different_and_the_best_comes_first(writer: graft.Model):
    letters = None if two(writer) else [writer.tokenizer.token_id(sign) for sign in "abcdefgh"]
    [answer] = graft.run("ask", [("who", "Ann went.")], model=writer, longest=4, n=3, allowed=letters)
    every = [answer, *answer.alternatives]
    assert len({one.text.casefold() for one in every}) == 3
    assert [one.score for one in every] == sorted((one.score for one in every), reverse=True)


def test_long_texts_are_read_in_windows_and_none_of_it_is_lost(tiny):
    model = load(tiny("gpt2-lm", n_positions=120).folder, "float32")
    short, long = graft.run("ask", [("who", "Ann went."), ("who", CONTEXT)], model=model, longest=5)
    assert (short.windows, short.truncated_tokens) == (1, 0)
    assert long.windows > 1
    assert long.truncated_tokens == 0


def chosen(*windows: dict[str, float], context: str = "Ann. bob.", **options: Any) -> Any:
    laid = _Laid(ids=[[1]] * len(windows), truncated_tokens=0)
    found = [{text: (score, "stop") for text, score in one.items()} for one in windows]
    return _chosen(("who", context), laid, found, Asking(sampling=Sampling(), **options))


def test_the_best_window_wins_and_no_answer_only_where_no_window_has_one():
    best = chosen({"": 0.9}, {"Bob": 0.4, "Ann": 0.3}, {"bob.": 0.6}, n=2)
    assert (best.text, best.score, best.windows) == ("bob.", 0.6, 3)
    assert (best.start, best.end) == (5, 9)
    assert [one.text for one in best.alternatives] == ["Ann"]
    none = chosen({"": 0.9}, {"unanswerable": 0.8})
    assert (none.text, none.score) == ("", 0.9)
    absent = chosen({"Carl": 0.7})
    assert (absent.start, absent.end) == (None, None)


def test_below_the_threshold_there_is_no_answer_but_the_guess_stays():
    unsure = chosen({"Ann": 0.4}, threshold=0.5, n=2)
    assert (unsure.text, unsure.score) == ("", 0.6)
    assert [one.text for one in unsure.alternatives] == ["Ann"]
    assert chosen({"Ann": 0.5}, threshold=0.5).text == "Ann"


@pytest.mark.parametrize(
    ("template", "context"), [("nothing", False), ("{} {} {}", True), ("{question}", True), ("{} {}", False)]
)
def test_templates_have_each_place_once(template: str, context: bool):
    with pytest.raises(UsageError, match="needs each once: {question}"):
        check_template(template, context)


def test_what_the_kinds_of_models_do_not_take_is_refused(tiny, writer: graft.Model):
    with pytest.raises(UsageError, match="points at answers and does not write them; leave temperature out"):
        graft.run("ask", [("who", "Ann.")], model=tiny("bert-span").folder, temperature=1)
    with pytest.raises(UsageError, match="stride is for models that point at answers"):
        graft.run("ask", [("who", "Ann.")], model=writer, stride=3)
    with pytest.raises(UsageError, match="Only models that write"):
        graft.run("ask", ["who"], model=tiny("bert-span").folder)

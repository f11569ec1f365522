"""Choosing tokens: exact sets and probabilities, beside transformers' warpers; seeds; log-probabilities."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from graft.generate.choose import Chooser, draw, highest, kept, logprobs
from graft.generate.sampling import Sampling

MIXES: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.7},
    "hot": {"temperature": 2.5},
    "top-k": {"top_k": 7},
    "top-p": {"top_p": 0.8},
    "narrow top-p": {"top_p": 1e-6},
    "wide top-p": {"top_p": 0.999},
    "min-p": {"min_p": 0.2},
    "top-k and top-p": {"top_k": 9, "top_p": 0.7, "temperature": 1.3},
    "top-p and min-p": {"top_p": 0.9, "min_p": 0.1, "temperature": 0.6},
    "all": {"temperature": 1.4, "top_k": 12, "top_p": 0.9, "min_p": 0.08},
}


def exact(row: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """Probabilities by transformers' warpers, in its order."""
    scores = row[None].double()
    if "temperature" in options:
        scores = transformers.TemperatureLogitsWarper(options["temperature"])(None, scores)
    for name, warper in (
        ("top_k", transformers.TopKLogitsWarper),
        ("top_p", transformers.TopPLogitsWarper),
        ("min_p", transformers.MinPLogitsWarper),
    ):
        if name in options:
            scores = warper(options[name])(None, scores)
    return scores[0].softmax(-1)


def ours(row: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    ids, weights = kept(row.numpy(), Sampling(**options))
    found = torch.zeros(len(row), dtype=torch.float64)
    found[torch.arange(len(row)) if ids is None else torch.from_numpy(ids)] = torch.from_numpy(weights).double()
    return found / found.sum()


@pytest.mark.parametrize("size", [5, 50, 3000, 50257])
@pytest.mark.parametrize("name", MIXES)
def test_probabilities_are_those_of_transformers(name: str, size: int):
    for seed in range(4 if size > 1000 else 30):
        row = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * (1 + seed % 4)
        torch.testing.assert_close(ours(row, MIXES[name]), exact(row, MIXES[name]), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("name", MIXES)
def test_tokens_are_drawn_as_often_as_they_are_probable(name: str):
    """Pearson's chi-square over all tokens that can be drawn, 20,000 draws of a fixed seed."""
    row, draws = torch.randn(40, generator=torch.Generator().manual_seed(3)) * 2, 20_000
    chooser, probability = Chooser(40), exact(row, MIXES[name]).numpy()
    (state,) = chooser.states(Sampling(seed=8, max_tokens=draws, **MIXES[name]), [0])
    logits = row[None]
    found = np.bincount([chooser.choose(logits, [state])[0].token for _ in range(draws)], minlength=40)
    assert not found[probability == 0].any()
    often = probability * draws >= 5
    rest = [found[~often].sum()], [probability[~often].sum() * draws]
    counts, wanted = np.append(found[often], rest[0]), np.append(probability[often] * draws, rest[1])
    if len(counts[wanted > 0]) > 1:
        assert chisquare(counts[wanted > 0], wanted[wanted > 0] * draws / wanted[wanted > 0].sum()).pvalue > 1e-3


def test_every_chance_has_its_token():
    """Over a whole vocabulary, the chance from 0 to 1 runs through the tokens in proportion to their probability."""
    row = torch.randn(5000, generator=torch.Generator().manual_seed(1)).numpy() * 2
    row[::3] = -np.inf
    wanted = torch.from_numpy(row).double().softmax(-1).cumsum(-1).numpy()
    for chance in [0.0, *np.linspace(0.001, 0.999, 499), 1 - 2**-53]:
        token = draw(row, Sampling(), float(chance))
        assert np.isfinite(row[token])
        assert wanted[token] >= chance - 1e-5
        assert (wanted[token - 1] if token else 0) <= chance + 1e-5


@settings(max_examples=300, deadline=None, database=None)
@given(st.integers(1, 400), st.integers(1, 450), st.integers(0, 10**6), st.booleans())
def test_the_highest_are_found(size: int, most: int, seed: int, coarse: bool):
    row = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    row = np.round(row) if coarse else row  # ties
    found = highest(row, most)
    order = sorted(range(size), key=lambda token: (-row[token], token))
    least = row[order[min(most, size) - 1]]
    assert found.tolist() == [token for token in order if row[token] >= least]


def test_greedy_is_argmax_of_the_known_tokens():
    logits = torch.randn(8, 300, generator=torch.Generator().manual_seed(2))
    logits[:, 250:] += 50  # the output is wider than the vocabulary
    chooser = Chooser(250, end=[1])
    for dtype in (torch.float32, torch.bfloat16):
        states = list(itertools.chain(*(chooser.states(Sampling(temperature=0), [1, 2]) for _ in range(8))))
        chosen = chooser.choose(logits.to(dtype), states)
        assert [one.token for one in chosen] == logits.to(dtype)[:, :250].argmax(-1).tolist()
        assert [state.output for state in states] == [[one.token] for one in chosen]


MANY = [
    {"temperature": 0.0},
    {"seed": 5},
    {"seed": 5, "top_k": 4},
    {"seed": 6, "top_p": 0.7, "repetition_penalty": 1.2},
    {"seed": 7, "min_p": 0.1, "frequency_penalty": 0.5, "presence_penalty": 0.5},
    {"temperature": 0.0, "no_repeat_ngram": 2, "logprobs": 3},
    {"seed": 1, "allowed": range(60), "min_tokens": 5, "logit_bias": {4: 2.0}},
]


def test_a_row_is_the_same_whatever_runs_beside_it():
    """A made-up language model: the next logits depend on the last token alone."""
    table = torch.randn(200, 200, generator=torch.Generator().manual_seed(9)) * 3
    chooser = Chooser(200, end=[0])

    def run(chosen: list[int], steps: int = 30) -> dict[int, list[Any]]:
        states = {one: chooser.states(Sampling(max_tokens=99, **MANY[one]), [one + 1])[0] for one in chosen}
        said: dict[int, list[Any]] = {one: [] for one in chosen}
        for step in range(steps):
            live = [one for one in chosen if one + step < steps + 3]  # rows leave one by one
            last = [(states[one].output or states[one].prompt)[-1] for one in live]
            for one, choice in zip(live, chooser.choose(table[last], [states[one] for one in live]), strict=True):
                said[one].append(choice)
        return said

    together = run(list(range(len(MANY))))
    for one in range(len(MANY)):
        for other in (run([one]), run([one, 0, 1][: 3 if one > 1 else 1]), run(list(range(len(MANY)))[::-1])):
            assert other[one] == together[one], MANY[one]


def test_samples_of_a_request_differ_and_repeat():
    logits, chooser = torch.zeros(4, 1000), Chooser(1000)

    def tokens(seed: int | None) -> list[int]:
        return [one.token for one in chooser.choose(logits, chooser.states(Sampling(seed=seed), [1], 4))]

    assert tokens(3) == tokens(3)
    assert len(set(tokens(3))) == 4
    assert tokens(3) != tokens(4)
    assert tokens(None) != tokens(None)


def test_log_probabilities_are_the_models_own():
    logits = torch.randn(2, 600, generator=torch.Generator().manual_seed(4)) * 4
    chooser = Chooser(500)
    options = {"temperature": 0.3, "logprobs": 5, "logit_bias": {7: 100.0}, "seed": 1}
    states = [*chooser.states(Sampling(**options), [1]), *chooser.states(Sampling(temperature=0, logprobs=0), [1])]
    logs = logits.log_softmax(-1)
    first, second = chooser.choose(logits, states)
    assert first.token == 7  # the bias forces it
    assert first.logprob == pytest.approx(float(logs[0, 7]), abs=1e-5)
    best = logs[0, :500].topk(5)
    assert [token for token, _ in first.top] == best.indices.tolist()
    assert [value for _, value in first.top] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert second.top == ()
    assert second.logprob == pytest.approx(float(logs[1, :500].max()), abs=1e-5)
    assert logprobs(logits[0].numpy(), 3, 0)[0] == pytest.approx(float(logs[0, 3]), abs=1e-5)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.5}])
def test_where_no_token_is_allowed_there_is_a_reason(options: dict[str, Any]):
    chooser = Chooser(50, end=[49])
    impossible = chooser.states(Sampling(allowed=[], min_tokens=1, **options), [1])
    fine = chooser.states(Sampling(**options), [1])
    logits = torch.zeros(2, 50)
    stuck, chosen = chooser.choose(logits, [*impossible, *fine])
    assert (stuck.token, stuck.reason) == (-1, "no_allowed_token")
    assert impossible[0].output == []
    assert chosen.reason is None
    for broken in (math.nan, math.inf):
        logits[0, 3] = broken
        wrong, right = chooser.choose(logits, [*fine, *chooser.states(Sampling(**options), [1])])
        assert (wrong.reason, right.reason) == ("error", None)


def test_an_extreme_temperature_is_greedy():
    row = torch.randn(1, 90, generator=torch.Generator().manual_seed(4))
    chooser = Chooser(90)
    for options in ({}, {"top_k": 8}, {"top_p": 0.9}, {"min_p": 0.3}):
        state = chooser.states(Sampling(temperature=1e-300, **options), [1])
        assert chooser.choose(row, state)[0].token == int(row.argmax())


def test_a_long_output_is_remembered():
    chooser = Chooser(500)
    (state,) = chooser.states(Sampling(temperature=0, no_repeat_ngram=1, max_tokens=400), [3])
    logits = torch.randn(1, 500, generator=torch.Generator().manual_seed(4))
    chosen = [chooser.choose(logits, [state])[0].token for _ in range(400)]
    assert len({3, *chosen}) == 401
    assert state.history.tolist() == [3, *chosen]

"""What requests share: prompts that begin alike are computed once; and what the slots and the engine hold over time."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graft.batch import pack
from graft.errors import DataError, UsageError
from graft.generate.cache import StaticCache
from graft.generate.engine import Engine
from graft.generate.lookup import Lookup
from graft.generate.sampling import Sampling
from graft.generate.slots import Slots, common
from graft.generate.write import write
from graft.grafted import Model
from graft.loading import load

GREEDY = Sampling(max_tokens=6, temperature=0)
SHARERS = ("gpt2-lm", "llama-lm", "mistral-lm", "qwen2-lm", "mixtral-lm")


def draw(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 70, (length,), generator=generator).tolist()


@pytest.fixture(scope="module")
def model(tiny) -> Model:
    return load(tiny("gpt2-lm").folder, "float32")


@pytest.mark.parametrize("slots", [16, 5])
@pytest.mark.parametrize("name", SHARERS)
def test_a_beginning_that_requests_share_is_computed_once(tiny, name: str, slots: int):
    """Sixteen requests at once, more than there are slots for or not; positions turn and windows end as they should."""
    model = load(tiny(name).folder, "float32")
    beginning = draw(24, 1)
    prompts = [[*beginning, *draw(1 + number % 4, number + 2)] for number in range(16)]
    expected = [write(model, [prompt], GREEDY, end=())[0].completions[0].ids for prompt in prompts]
    engine = Engine(model, slots=slots, end=(), tokens=10)
    requests = [engine.submit(prompt, GREEDY) for prompt in prompts]
    engine.run()
    assert [request.completions[0].ids for request in requests] == expected
    own = sum(len(prompt) - 24 for prompt in prompts)
    assert engine.feed.tokens <= 24 + own + 16 * 5
    assert [request.usage.cached_tokens for request in requests[1:]] >= [24] * 15
    assert requests[0].usage.cached_tokens == 0


def test_samples_of_a_request_share_its_prompt(model: Model):
    engine = Engine(model, slots=8, end=())
    prompt = draw(30, 3)
    request = engine.submit(prompt, Sampling(max_tokens=5, seed=1), n=6)
    engine.run()
    assert engine.feed.tokens == 30 + 5 * 1 + 6 * 4
    assert len({tuple(one.ids) for one in request.completions}) > 3
    alone = [engine.submit(prompt, Sampling(max_tokens=5, seed=1), n=6) for _ in range(2)]
    engine.run()
    for other in alone:
        assert [one.ids for one in other.completions] == [one.ids for one in request.completions]
        assert other.usage.cached_tokens == 29


def test_a_done_text_is_gone_on_from(model: Model):
    """As in a conversation: prompt, answer and what is said next; others come between and leave the slot alone."""
    engine = Engine(model, slots=3, end=())
    first = engine.submit(draw(10, 1), GREEDY)
    engine.run()
    engine.run(engine.submit(draw(9, 2), GREEDY))
    again = [*first.prompt, *first.completions[0].ids, *draw(3, 3)]
    before = engine.feed.tokens
    request = engine.submit(again, GREEDY)
    engine.run()
    assert request.usage.cached_tokens == 15  # the last token written was never read
    assert engine.feed.tokens - before == len(again) - 15 + 5
    assert request.completions[0].ids == write(model, [again], GREEDY, end=())[0].completions[0].ids


@pytest.mark.parametrize("name", ["t5-lm", "mt5-lm"])
def test_a_source_is_encoded_once(tiny, name: str):
    """For all samples of a request, for requests that come together, and for one that comes later."""
    model = load(tiny(name).folder, "float32")
    source, other = draw(20, 1), draw(7, 2)
    expected = [write(model, [one], GREEDY, end=())[0].completions[0].ids for one in (source, other)]
    engine, counted = Engine(model, slots=4, end=()), []
    remember = model.backbone.remember
    keys = [block.memory.key.register_forward_hook(lambda *_: counted.append(1)) for block in engine.feed.stack.blocks]
    try:
        requests = [engine.submit(one, GREEDY, n=2) for one in (source, other, source)]
        engine.run()
        requests.append(engine.submit(source, GREEDY))
        engine.run()
    finally:
        for hook in keys:
            hook.remove()
    assert remember is not None
    for request in requests:
        wanted = expected[request.prompt == other]
        assert all(one.ids == wanted for one in request.completions)
    assert len(counted) == 2  # one pass of both sources through each of the two layers
    assert [request.usage.cached_tokens for request in requests] == [0, 0, 20, 20]
    assert engine.feed.tokens == 27 + 7 * 6


def test_long_prompts_let_others_flow(model: Model):
    engine = Engine(model, slots=3, tokens=18, end=())
    short = engine.submit(draw(3, 1), Sampling(max_tokens=10, temperature=0))
    engine.step()
    long = engine.submit(draw(36, 2), GREEDY)
    told = [{token.request is short for token in engine.step()} for _ in range(4)]
    assert told == [{True}, {True}, {True, False}, {True, False}]
    engine.run()
    assert long.completions[0].ids == write(model, [long.prompt], GREEDY, end=())[0].completions[0].ids


class Slow:
    """What a fast decoder is handed, answered by the ordinary pass."""

    def __init__(self, model: Model, cache: StaticCache, memory: StaticCache | None) -> None:
        self.model, self.cache, self.calls = model, cache, 0

    def __call__(self, ids_B: Tensor, position_B: Tensor, slot_B: Tensor) -> Tensor:
        self.calls += 1
        batch = pack([[token] for token in ids_B.tolist()], start=position_B.tolist(), slots=slot_B.tolist())
        return self.model.head(self.model.backbone(batch, cache=self.cache), batch)


@pytest.mark.parametrize("slots", [1, 4])
def test_steps_of_one_token_each_go_to_a_fast_decoder(model: Model, slots: int):
    made: list[Slow] = []

    def fast(model: Model, cache: StaticCache, memory: StaticCache | None) -> Slow:
        made.append(Slow(model, cache, memory))
        return made[0]

    prompts = [draw(1 + 5 * number % 40, number) for number in range(12)]
    sampling = Sampling(max_tokens=30, temperature=0)
    expected = [request.completions[0].ids for request in write(model, prompts, sampling, end=())]
    engine = Engine(model, slots=slots, end=(), fast=fast)
    for _ in range(2):
        requests = [engine.submit(prompt, sampling) for prompt in prompts]
        engine.run()
        assert [request.completions[0].ids for request in requests] == expected
    assert made[0].calls > 100 / slots


def churn(model: Model, count: int) -> list[int]:
    """Bytes Python holds after each fifth of so many requests, some of them cancelled or bad."""
    choose, engine, held = random.Random(1), Engine(model, slots=8, end=()), []
    for number in range(count):
        bad = choose.random() < 0.1
        prompt = [999] if bad else draw(1 + number % 12, number)
        request = engine.submit(prompt, Sampling(max_tokens=2, seed=number, lookup=2))
        if choose.random() < 0.1:
            engine.cancel(request)
        while engine.waiting > 8:
            engine.step()
        if number % (count // 5) == count // 5 - 1:
            engine.run()
            del request
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    assert engine.feed.slots.free == 8
    return held


@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.slow)])
def test_memory_stays_flat_over_many_requests(model: Model, count: int):
    tracemalloc.start()
    try:
        held = churn(model, count)
    finally:
        tracemalloc.stop()
    assert held[-1] - held[1] < 40_000


@given(
    one=st.lists(st.integers(0, 1), max_size=200),
    other=st.lists(st.integers(0, 1), max_size=200),
    at=st.integers(0, 200),
)
def test_tokens_in_common(one: list[int], other: list[int], at: int):
    for left, right in ((one, other), (one[:at] + other, one[:at] + [2] + other), (one, one + other)):
        wanted = next(
            (n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
        )
        assert common(left, right, 150) == min(wanted, 150)


def test_slots_keep_what_was_used_last(model: Model):
    cache = StaticCache(model.backbone.config, 3, 40, dtype=torch.float32)
    slots = Slots(cache)
    texts = [[number] * 9 for number in range(1, 5)]
    for text in texts[:3]:
        lane = slots.take(text)
        lane.held = 9
        slots.drop(lane, keep=True)
    assert slots.shared([1] * 9)[1] == 8
    lane = slots.take([*texts[0], 5])  # goes on where the first ended, which is now the one used last
    assert (lane.slot, lane.held) == (0, 9)
    lane.held = 10
    slots.take(texts[3])
    assert [slots.shared([number] * 9)[1] for number in (1, 2, 3)] == [8, 0, 8]
    slots.drop(lane, keep=False)
    assert [slots.shared([number] * 9)[1] for number in (1, 2, 3)] == [0, 0, 8]
    assert sorted(one.slot for one in slots.lanes) == [0, 1, 2]


def test_drafts_are_what_followed_before():
    lookup, ids = Lookup(), [1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3]
    assert lookup.draft(ids, 3) == [4, 9, 2]  # three in a row say more than two
    ids += [4]
    assert lookup.draft(ids, 2) == [9, 2]
    ids += [8, 8]
    assert lookup.draft(ids, 2) == []
    ids += [8]
    assert lookup.draft(ids, 4) == [8, 8, 8, 8]
    assert Lookup().draft([1], 4) == []


def test_a_model_writes(tiny):
    made: Callable[..., Any] = tiny
    model = load(made("gpt2-lm").folder, "float32")
    texts = model.generate("ab", n=3, max_tokens=5, temperature=0.8, seed=2)
    assert [one.index for one in texts] == [0, 1, 2]
    assert texts[0].text == model.tokenizer.decode(texts[0].ids)
    again = model.generate(model.tokenizer.encode(["ab"])[0].ids, n=3, max_tokens=5, temperature=0.8, seed=2)
    assert [one.text for one in again] == [one.text for one in texts]
    assert model.generate("ab" * 20, max_tokens=9, temperature=0)[0].finish_reason == "length"
    with pytest.raises(UsageError, match="unknown setting 'temprature'"):
        model.generate("ab", temprature=1)
    with pytest.raises(DataError, match=r"prompt 0 \(counting from 0\): the prompt has 60 tokens, at most 40 fit"):
        model.generate("abc" * 20)
    with pytest.raises(UsageError, match="n is 0, expected a whole number of at least 1"):
        model.generate("ab", n=0)
    with pytest.raises(DataError, match="the prompt is empty"):
        model.generate("")


def test_many_prompts_are_counted_as_they_are_done(model: Model):
    prompts, counted = [draw(1 + number % 5, number) for number in range(40)], []
    done = write(model, prompts, GREEDY, n=2, progress=counted.append)
    assert [request.prompt for request in done] == prompts
    assert (sum(counted), write(model, [], GREEDY)) == (40, [])
    assert len(counted) > 2

"""The engine: beside transformers' generate, alone and side by side, cancelled, failing, and run out of room."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from graft.errors import DataError, ModelError, UsageError
from graft.generate import native
from graft.generate.engine import Engine
from graft.generate.request import Request, Usage
from graft.generate.sampling import Sampling
from graft.generate.write import write
from graft.grafted import Model
from graft.loading import load

LONGEST = 12
WRITERS = ("gpt2-lm", "openai_gpt-lm", "llama-lm", "mistral-lm", "mixtral-lm", "t5-lm", "t5-untied", "mt5-lm")
GREEDY = Sampling(max_tokens=LONGEST, temperature=0)
BUILT = pytest.mark.skipif(native.library() is None, reason="no C++ compiler here")
SHAPES: list[dict[str, Any]] = [{}, {"slots": 2}, {"slots": 1, "tokens": 3}, {"slots": 5, "tokens": 7}]


def draw(lengths: Sequence[int] = (5, 1, 17, 2, 9), seed: int = 5, most: int = 70) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, most, (length,), generator=generator).tolist() for length in lengths]


def theirs(model: Any, prompt: list[int], stop: int | None, known: int) -> list[int]:
    """What transformers writes, without the prompt, the start token, and the end."""
    made = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=LONGEST,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=0,
        suppress_tokens=list(range(known, model.config.vocab_size)) or None,
    )[0].tolist()
    written: list[int] = made[1:] if model.config.is_encoder_decoder else made[len(prompt) :]
    return written[: written.index(stop)] if stop in written else written


def run(engine: Engine, prompts: Sequence[list[int]], sampling: Sampling = GREEDY, n: int = 1) -> list[list[list[int]]]:
    requests = [engine.submit(prompt, sampling, n=n) for prompt in prompts]
    engine.run()
    return [[one.ids for one in request.completions] for request in requests]


@pytest.fixture(scope="module")
def model(tiny) -> Model:
    return load(tiny("gpt2-lm").folder, "float32")


@pytest.mark.parametrize("name", WRITERS)
def test_tokens_are_those_of_transformers(tiny, name: str):
    made, prompts = tiny(name), draw()
    model = load(made.folder, "float32")
    known = min(model.tokenizer.vocab_size, model.backbone.config.vocab_size)
    stop = theirs(made.theirs, prompts[0], None, known)[6]  # ends the first text early, and others if they come to it
    expected = [[theirs(made.theirs, prompt, stop, known)] for prompt in prompts]
    assert len(expected[0][0]) < LONGEST
    for shape in SHAPES:
        assert run(Engine(model, end=[stop], **shape), prompts) == expected
    assert [run(Engine(model, end=[stop]), [prompt])[0] for prompt in prompts] == expected


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float32") for name in ("gpt2-lm", "mistral-lm", "mixtral-lm", "t5-lm")),
        *(pytest.param(name, "bfloat16", marks=BUILT) for name in ("gpt2-lm", "mistral-lm", "mixtral-lm", "t5-lm")),
    ],
)
def test_a_text_is_the_same_alone_and_among_others(tiny, name: str, dtype: str):
    """Drawn with a seed, from the first token to the last: whatever runs beside it, comes before it, or leaves."""
    model = load(tiny(name).folder, dtype)
    prompts = draw([1 + number % 19 for number in range(33)], seed=8)
    samplings = [
        Sampling(max_tokens=4 + number % 9, seed=number, top_k=number % 3 * 7, temperature=0.5 + number % 4 / 3)
        for number in range(33)
    ]
    alone = []
    for prompt, sampling in zip(prompts, samplings, strict=True):
        alone += [[one.ids for one in write(model, [prompt], sampling, n=2)[0].completions]]
    assert len({tuple(ids) for texts in alone for ids in texts}) > 60
    for shape in ({"slots": 33}, {"slots": 6, "tokens": 20}):
        engine = Engine(model, **shape)
        requests = [engine.submit(*one, n=2) for one in zip(prompts, samplings, strict=True)]
        engine.run()
        assert [[one.ids for one in request.completions] for request in requests] == alone


@pytest.mark.parametrize("name", ["gpt2-lm", "t5-lm"])
def test_tokens_add_up_to_what_is_completed(tiny, name: str):
    model = load(tiny(name).folder, "float32")
    engine = Engine(model, slots=3)
    sampling = Sampling(max_tokens=9, seed=4, logprobs=2)
    requests = [engine.submit(prompt, sampling, n=2) for prompt in draw()]
    told: dict[tuple[int, int], list[Any]] = {}
    while engine.busy:
        for token in engine.step():
            told.setdefault((requests.index(token.request), token.index), []).append(token)
    assert len(told) == 2 * len(requests)
    for (number, index), tokens in told.items():
        done = requests[number].completions[index]
        assert "".join(token.text for token in tokens) == done.text
        assert [token.id for token in tokens][: len(done.ids)] == done.ids
        assert [token.finish_reason for token in tokens] == [None] * (len(tokens) - 1) + [done.finish_reason]
        assert [(token.id, token.logprob, token.top) for token in tokens] == [
            (one.id, one.logprob, one.top) for one in done.logprobs
        ]
        assert done.text == model.tokenizer.decode(done.ids) or name == "t5-lm" or "\ufffd" in done.text
    assert requests[2].usage == Usage(
        prompt_tokens=17, completion_tokens=sum(one.tokens for one in requests[2].completions), cached_tokens=0
    )


def test_log_probabilities_are_the_models_own(model: Model):
    """Of prompt and text, however the prompt is cut into steps, beside the logits of one plain pass."""
    prompt = draw((14,))[0]
    for shape in SHAPES:
        engine = Engine(model, end=(), **shape)
        engine.run(engine.submit(prompt[:9], GREEDY))
        request = engine.submit(prompt, Sampling(max_tokens=6, seed=3, logprobs=3, prompt_logprobs=2))
        engine.run()
        [done] = request.completions
        [logits] = model.logits([[*prompt, *done.ids]])
        logs = logits.log_softmax(-1)[:, : model.tokenizer.vocab_size]
        first, *rest = request.prompt_logprobs
        assert first is None
        assert [one.id for one in rest if one] == prompt[1:]
        for place, one in enumerate([*rest, *done.logprobs]):
            assert one is not None
            assert one.logprob == pytest.approx(float(logs[place, one.id]), abs=1e-5)
            best = logs[place].topk(len(one.top))
            assert [token for token, _ in one.top] == best.indices.tolist()
            assert [logprob for _, logprob in one.top] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_scoring_a_prompt_alone_writes_nothing(model: Model):
    engine = Engine(model)
    request = engine.submit(draw((6,))[0], Sampling(max_tokens=0, prompt_logprobs=0))
    engine.run()
    [done] = request.completions
    assert (len(request.prompt_logprobs), done.ids, done.finish_reason) == (6, [], "length")


def test_why_a_text_ends(model: Model):
    engine, prompt = Engine(model, end=()), draw((4,))[0]
    [[whole]] = run(engine, [prompt])
    text = model.tokenizer.decode(whole)
    ending = Engine(model, end=[whole[5]])
    cases = [
        (engine, GREEDY, "length", whole),
        (ending, GREEDY, "stop", whole[: whole.index(whole[5])]),
        (ending, Sampling(max_tokens=LONGEST, temperature=0, ignore_end=True), "length", whole),
        (engine, Sampling(max_tokens=3, temperature=0), "length", whole[:3]),
        (engine, Sampling(temperature=0, allowed=[5], logit_bias={5: -1}), "length", None),
    ]
    for one, sampling, reason, ids in cases:
        request = one.submit(prompt, sampling)
        one.run()
        [done] = request.completions
        assert done.finish_reason == reason
        assert ids is None or done.ids == ids
    stopping = engine.submit(prompt, Sampling(max_tokens=LONGEST, temperature=0, stop=(text[3:5],)))
    engine.run()
    [done] = stopping.completions
    assert (done.text, done.finish_reason) == (text[: text.index(text[3:5])], "stop")


@pytest.mark.parametrize("name", ["gpt2-lm", "t5-lm"])
@pytest.mark.parametrize("lookup", [0, 5])
def test_positions_run_out(tiny, name: str, lookup: int):
    """The last position is read, and what it predicts is written; the texts are those of a plain pass."""
    model = load(tiny(name).folder, "float32")
    engine = Engine(model, end=(), slots=3)
    lengths = (1, 30, 38, 39, 40)
    requests = [engine.submit(one, Sampling(max_tokens=99, temperature=0, lookup=lookup)) for one in draw(lengths)]
    engine.run()
    for length, request in zip(lengths, requests, strict=True):
        [done] = request.completions
        assert (len(done.ids), done.finish_reason) == (40 if name == "t5-lm" else 41 - length, "length")
        read = [0, *done.ids[:-1]] if name == "t5-lm" else [*request.prompt, *done.ids[:-1]]
        [logits] = model.logits([request.prompt], decoder=[read]) if name == "t5-lm" else model.logits([read])
        best = logits[-len(done.ids) :, : min(model.tokenizer.vocab_size, logits.shape[-1])].argmax(-1)
        assert done.ids == best.tolist()


def test_speculation_changes_nothing(tiny):
    """Texts that repeat themselves, so that guesses are right, and drawn ones, where they are mostly wrong."""
    for name in ("gpt2-lm", "mistral-lm", "t5-lm"):
        model = load(tiny(name).folder, "float32")
        prompts = [[3, 4, 5, 6] * 4, *draw((12, 3)), [9, 9, 9]]
        for options in ({"temperature": 0}, {"seed": 5, "temperature": 0.3, "logprobs": 1}, {"seed": 6, "top_k": 3}):
            runs = []
            for lookup in (0, 1, 6):
                engine = Engine(model, end=(), slots=3)
                samplings = [Sampling(max_tokens=most, lookup=lookup, **options) for most in (20, 4, 13, 9)]  # type: ignore[arg-type]
                requests = [engine.submit(*one, n=2) for one in zip(prompts, samplings, strict=True)]
                engine.run()
                runs.append([(one.ids, one.text) for request in requests for one in request.completions])
            assert runs[1] == runs[0]
            assert runs[2] == runs[0]


def test_speculation_takes_fewer_steps(model: Model):
    counts = []
    for lookup in (0, 8):
        engine, steps = Engine(model, end=()), 0
        engine.submit([7, 8, 9], Sampling(max_tokens=37, temperature=0, allowed=[5], lookup=lookup))
        while engine.busy:
            engine.step()
            steps += 1
        counts.append(steps)
    assert counts[0] == 37
    assert counts[1] < 15


def test_cancelling_at_random_leaks_no_slot(model: Model):
    """1,000 requests cancelled while waiting, while read and while written; those that stay are as if alone."""
    choose, engine, prompts = random.Random(3), Engine(model, slots=6, tokens=8, end=()), draw((3, 20, 9, 1))
    expected = run(Engine(model, end=()), prompts)
    requests: list[tuple[int, Request]] = []
    cancelled = 0
    while cancelled < 1000:
        number = choose.randrange(4)
        requests.append((number, engine.submit(prompts[number], GREEDY, n=choose.randrange(1, 3))))
        for _ in range(choose.randrange(3)):
            engine.step()
        pending = [request for _, request in requests if not request.done]
        if pending and choose.random() < 0.9:
            gone = choose.choice(pending)
            engine.cancel(gone)
            assert gone.done
            cancelled += 1
    engine.run()
    assert (engine.live, engine.waiting, engine.feed.slots.live, engine.feed.slots.free) == (0, 0, 0, 6)
    assert sorted(lane.slot for lane in engine.feed.slots.lanes) == list(range(6))
    for number, request in requests:
        for done in request.completions:
            whole = expected[number][0]
            assert done.finish_reason in ("length", "cancelled")
            assert done.ids == (whole if done.finish_reason == "length" else whole[: len(done.ids)])
    assert sum(one.finish_reason == "length" for _, request in requests for one in request.completions) > 50


def test_a_cancelled_request_is_told_once(model: Model):
    engine = Engine(model, slots=1, end=())
    running, waiting = (engine.submit(prompt, GREEDY) for prompt in draw((3, 4)))
    engine.step()
    engine.cancel(waiting)
    engine.cancel(running)
    engine.cancel(running)
    assert engine.feed.slots.free == 1
    told = engine.step()
    assert [(token.request, token.id, token.finish_reason) for token in told] == [
        (waiting, None, "cancelled"),
        (running, None, "cancelled"),
    ]
    assert not engine.busy


BAD: list[tuple[Any, dict[str, Any], str]] = [
    ([], {}, "the prompt is empty, expected at least one token"),
    ("", {}, "the prompt is empty, expected at least one token"),
    ([1] * 41, {}, "the prompt has 41 tokens, at most 40 fit; shorten it"),
    ([3, 260], {}, "the prompt has ids from 3 to 260, expected token ids from 0 to 259"),
    ([-1], {}, "the prompt has ids from -1 to -1, expected token ids from 0 to 259"),
    ([0.5], {}, "a prompt is text or a list of token ids, found float64"),
    ([[1], [2]], {}, "a prompt is text or a list of token ids, found int64 of shape"),
    ([2], {"allowed": [5000]}, "allowed names token 5000"),
    (7, {}, "a prompt is text or a list of token ids, found 7"),
]


@pytest.mark.parametrize(("prompt", "settings", "message"), BAD)
def test_a_bad_request_ends_itself_alone(model: Model, prompt: Any, settings: dict[str, Any], message: str):
    good = draw()
    expected, engine = run(Engine(model, end=()), good), Engine(model, end=(), slots=3)
    requests = [engine.submit(one, GREEDY) for one in good[:3]]
    engine.step()
    bad = engine.submit(prompt, Sampling(**settings), n=2)
    assert bad.done
    assert [token.finish_reason for token in engine.step() if token.request is bad] == ["error", "error"]
    requests += [engine.submit(one, GREEDY) for one in good[3:]]
    engine.run()
    for done in bad.completions:
        assert done.finish_reason == "error"
        assert message in done.message
    assert [[request.completions[0].ids] for request in requests] == expected


class Poison(torch.nn.Module):
    """A block that spoils what one token becomes: no number, or a fault in the middle of the pass."""

    def __init__(self, block: torch.nn.Module, ids: torch.nn.Embedding, token: int, fault: bool) -> None:
        super().__init__()
        self.block, self.row, self.fault = block, ids.weight[token].detach().clone(), fault
        self.position = 0

    def forward(self, x_TD: Tensor, flow: Any) -> Tensor:
        spoiled = flow.layout.batch.ids_T == self.position
        if spoiled.any() and self.fault:
            raise RuntimeError("the kernel failed")
        x_TD = x_TD.clone()
        x_TD[: len(spoiled)][spoiled] = float("nan")
        return self.block(x_TD, flow)


@pytest.mark.parametrize("fault", [False, True])
@pytest.mark.parametrize("name", ["gpt2-lm", "mistral-lm"])
def test_a_fault_in_one_text_leaves_the_others_as_they_are(tiny, name: str, fault: bool):
    """NaN also stays out of slots that are used again, and of texts that share a slot's block."""
    model = load(tiny(name).folder, "float32")
    good = draw((5, 6, 17, 2, 9))
    expected = run(Engine(model, end=()), good)
    spoiler = Poison(model.backbone.blocks[0], model.backbone.token_embedding, 70, fault)
    spoiler.position = 71
    model.backbone.blocks[0] = spoiler
    engine = Engine(model, end=(), slots=3, tokens=8)
    requests = []
    for one in (*good, *good):
        requests.append(engine.submit(one, GREEDY))
        bad = engine.submit([*one, 71, 5], GREEDY)
        engine.step()
        requests.append(bad)
    engine.run()
    for number, request in enumerate(requests):
        [done] = request.completions
        if number % 2:
            assert done.finish_reason == "error"
            said = "RuntimeError: the kernel failed" if fault else "the model gave logits that are not numbers"
            assert done.message == said
        elif 71 not in done.ids:
            assert done.ids == expected[number // 2 % 5][0]
    assert engine.feed.slots.free == 3


@pytest.mark.parametrize("name", ["t5-lm"])
def test_an_encoder_that_fails_ends_the_request_it_reads(tiny, name: str, monkeypatch: pytest.MonkeyPatch):
    model, good = load(tiny(name).folder, "float32"), draw((5, 6, 17))
    expected, remember = run(Engine(model, end=()), good), type(model.backbone).remember

    def fail(self: Any, batch: Any) -> Any:
        if (batch.ids_T == 72).any():
            raise RuntimeError("the kernel failed")
        return remember(self, batch)

    monkeypatch.setattr(type(model.backbone), "remember", fail)
    engine = Engine(model, end=())
    requests = [engine.submit(one, GREEDY) for one in (good[0], [72, 3], *good[1:])]
    engine.run()
    bad = requests.pop(1).completions[0]
    assert (bad.finish_reason, bad.message) == ("error", "RuntimeError: the kernel failed")
    assert [[request.completions[0].ids] for request in requests] == expected


def test_what_cannot_write_is_refused(tiny, model: Model):
    with pytest.raises(ModelError, match="predicts the next token"):
        Engine(load(tiny("bert-classify").folder, "float32"))
    with pytest.raises(UsageError, match="slots is 0, expected a whole number of at least 1"):
        Engine(model, slots=0)
    with pytest.raises(UsageError, match="tokens is 'many', expected a whole number of at least 1"):
        Engine(model, tokens="many")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a cache of 41 tokens a sequence; this model allows 1 to 40"):
        Engine(model, length=41)
    with pytest.raises(UsageError, match="n is 0, expected a whole number of at least 1"):
        Engine(model).submit([1], n=0)

"""Beam search beside transformers' generate: the same tokens and scores, alone and side by side."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from graft.errors import DataError, ModelError, UsageError
from graft.generate import native
from graft.generate.beam import Beams, Hypothesis, search
from graft.generate.sampling import Sampling
from graft.loading import load

LONGEST = 12
BUILT = pytest.mark.skipif(native.library() is None, reason="no C++ compiler here")
WRITERS = ("gpt2-lm", "openai_gpt-lm", "llama-lm", "mixtral-lm", "mistral-lm", "t5-lm", "t5-untied")
END = 31


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(1, 70, (length,), generator=generator).tolist() for length in (5, 1, 17, 2, 9)]


def theirs(made: Any, prompt: list[int], known: int, end: int = END, **options: Any) -> list[tuple[list[int], float]]:
    """What transformers finds: ids without the prompt and what follows the end token, and scores."""
    model = made.theirs
    width = model.get_output_embeddings().weight.shape[0]
    if known < width:
        options["suppress_tokens"] = list(range(known, width))
    two = model.config.is_encoder_decoder
    found = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=LONGEST,
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
        **{"num_beams": 4, "eos_token_id": end, **options},
    )
    given = 1 if two else len(prompt)
    cut = [list(itertools.takewhile(lambda one: one != end, row[given:].tolist())) for row in found.sequences]
    return list(zip(cut, found.sequences_scores.tolist(), strict=True))


def check(found: list[Hypothesis], wanted: list[tuple[list[int], float]]) -> None:
    assert [one.ids for one in found] == [ids[:LONGEST] for ids, _ in wanted]
    assert [one.score for one in found] == pytest.approx([score for _, score in wanted], rel=1e-6, abs=1e-5)


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "many": ({"beams": 7, "n": 7}, {"num_beams": 7, "num_return_sequences": 7}),
    "long": ({"length_penalty": 2.0, "n": 2}, {"length_penalty": 2.0, "num_return_sequences": 2}),
    "short": ({"length_penalty": -1.0, "n": 2}, {"length_penalty": -1.0, "num_return_sequences": 2}),
    "early": ({"early_stopping": True, "n": 3}, {"early_stopping": True, "num_return_sequences": 3}),
    "never": ({"early_stopping": "never", "n": 3}, {"early_stopping": "never", "num_return_sequences": 3}),
    "never, short": (
        {"early_stopping": "never", "length_penalty": 0.0, "beams": 2},
        {"early_stopping": "never", "length_penalty": 0.0, "num_beams": 2},
    ),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", WRITERS)
def test_texts_are_those_of_transformers(tiny, name: str, setting: str):
    made = tiny(name)
    model, texts = load(made.folder, "float32"), prompts()
    ours, options = SETTINGS[setting]
    [[free], *_] = search(model, texts, None, Sampling(max_tokens=LONGEST), end=())
    end = free.ids[3]  # ends some texts early, others late or never
    found = search(model, texts, Beams(**ours), Sampling(max_tokens=LONGEST, logit_bias={end: 2.0}), end=[end])
    known = min(model.tokenizer.vocab_size, model.backbone.config.vocab_size)
    for one, prompt in zip(found, texts, strict=True):
        check(one, theirs(made, prompt, known, end, sequence_bias=[[[end], 2.0]], **options))
    assert "stop" in {one.finish_reason for hypotheses in found for one in hypotheses}


@pytest.mark.parametrize("name", ["gpt2-lm", "t5-lm"])
def test_what_changes_logits_changes_beams(tiny, name: str):
    made = tiny(name)
    model, texts = load(made.folder, "float32"), prompts()
    known = min(model.tokenizer.vocab_size, model.backbone.config.vocab_size)
    allowed = list(range(1, 60, 2))
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"no_repeat_ngram": 2}, {"no_repeat_ngram_size": 2}),
        (
            {"min_tokens": 8, "logit_bias": {END: 8.0}},
            {"min_new_tokens": 8, "sequence_bias": [[[END], 8.0]]},
        ),
        ({"repetition_penalty": 1.4}, {"repetition_penalty": 1.4}),
        ({"logit_bias": {END: 4.0, 3: -2.0}}, {"sequence_bias": [[[END], 4.0], [[3], -2.0]]}),
        ({"allowed": allowed}, {"prefix_allowed_tokens_fn": lambda batch, ids: [*allowed, END]}),
    ]
    plain = search(model, texts, None, Sampling(max_tokens=LONGEST), end=[END])
    for ours, options in cases:
        found = search(model, texts, None, Sampling(max_tokens=LONGEST, **ours), end=[END])
        for one, prompt in zip(found, texts, strict=True):
            check(one, theirs(made, prompt, known, **options))
        assert found != plain


def test_bad_words_are_not_written(tiny):
    model = load(tiny("gpt2-lm").folder, "float32")
    sampling = Sampling(max_tokens=LONGEST)
    [[free]] = search(model, ["abc"], None, sampling, end=())
    word = next(model.tokenizer.decode([one]) for one in free.ids if model.tokenizer.decode([one]).isascii())
    [[kept]] = search(model, ["abc"], None, Sampling(max_tokens=LONGEST, bad_words=[word]), end=())
    assert word in model.tokenizer.decode(free.ids)
    assert word not in model.tokenizer.decode(kept.ids)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float32") for name in ("gpt2-lm", "mixtral-lm", "t5-lm")),
        *(pytest.param(name, "bfloat16", marks=BUILT) for name in ("gpt2-lm", "t5-lm")),
    ],
)
def test_side_by_side_and_alone_are_the_same(tiny, name: str, dtype: str):
    model, texts = load(tiny(name).folder, dtype), prompts()
    for beams in (Beams(beams=3, n=3), Beams(beams=4, groups=2, diversity=0.5, n=4), Beams(beams=1)):
        together = search(model, texts, beams, Sampling(max_tokens=LONGEST), end=[END, 7])
        for text, found in zip(texts, together, strict=True):
            [alone] = search(model, [text], beams, Sampling(max_tokens=LONGEST), end=[END, 7])
            assert [one.ids for one in alone] == [one.ids for one in found]
            assert [one.score for one in alone] == pytest.approx([one.score for one in found], rel=1e-6, abs=1e-5)


def diverse(model: Any, prompt: list[int], beams: Beams, length: int) -> list[tuple[list[int], float]]:
    """Vijayakumar et al. 2018, algorithm 1, word by word, without a cache: groups one after the other at each place."""
    width = beams.beams // beams.groups
    groups: list[list[tuple[list[int], float]]] = [[([], 0.0)] for _ in range(beams.groups)]
    known = min(model.tokenizer.vocab_size, model.backbone.config.vocab_size)
    for _ in range(length):
        chosen: list[int] = []
        for number, group in enumerate(groups):
            every = []
            for ids, score in group:
                hidden = model.backbone(torch_pack([*prompt, *ids]))
                logs = model.head(hidden[-1:], None)[0].log_softmax(-1)[:known]
                for token, log in enumerate(logs.tolist()):
                    every.append(([*ids, token], score + log - beams.diversity * chosen.count(token)))
            groups[number] = sorted(every, key=lambda one: -one[1])[:width]
            chosen += [ids[-1] for ids, _ in groups[number]]
    ended = [(ids, score / length) for group in groups for ids, score in group]
    return sorted(ended, key=lambda one: -one[1])


def torch_pack(ids: list[int]) -> Any:
    from graft.batch import pack

    return pack([ids])


@torch.inference_mode()
def test_groups_are_searched_as_the_paper_has_it(tiny):
    model = load(tiny("gpt2-lm").folder, "float32")
    for beams in (Beams(beams=4, groups=2, diversity=0.7, n=4), Beams(beams=6, groups=3, diversity=2.0, n=6)):
        for prompt in prompts()[:3]:
            [found] = search(model, [prompt], beams, Sampling(max_tokens=5), end=())
            wanted = diverse(model, prompt, beams, 5)
            assert [one.ids for one in found] == [ids for ids, _ in wanted]
            assert [one.score for one in found] == pytest.approx([score for _, score in wanted], rel=1e-6, abs=1e-5)


def test_groups_differ_the_more_the_more_diversity_counts(tiny):
    model, texts = load(tiny("gpt2-lm").folder, "float32"), prompts()

    def first_tokens(diversity: float) -> float:
        beams = Beams(beams=4, groups=4, n=4, diversity=diversity)
        found = search(model, texts, beams, Sampling(max_tokens=4), end=())
        return sum(len({one.ids[0] for one in hypotheses}) for hypotheses in found) / len(found)

    assert first_tokens(0.0) == 1
    assert first_tokens(50.0) == 4
    [apart], [together] = (
        search(model, texts[:1], Beams(beams=4, n=1, **options), Sampling(max_tokens=4), end=())
        for options in ({"groups": 1}, {"groups": 2, "diversity": 3.0})
    )
    assert len(apart) == len(together) == 1


@pytest.mark.parametrize("name", ["gpt2-lm", "t5-lm"])
def test_one_beam_is_greedy(tiny, name: str):
    made = tiny(name)
    model, texts = load(made.folder, "float32"), prompts()
    known = min(model.tokenizer.vocab_size, model.backbone.config.vocab_size)
    found = search(model, texts, Beams(beams=1), Sampling(max_tokens=LONGEST), end=[END])
    for (one,), prompt in zip(found, texts, strict=True):
        width = made.theirs.get_output_embeddings().weight.shape[0]
        options = {"suppress_tokens": list(range(known, width))} if known < width else {}
        wanted = made.theirs.generate(
            torch.tensor([prompt]), max_new_tokens=LONGEST, do_sample=False, eos_token_id=END, pad_token_id=0, **options
        )[0].tolist()[1 if made.theirs.config.is_encoder_decoder else len(prompt) :]
        assert one.ids == wanted[: wanted.index(END)] if END in wanted else one.ids == wanted


def test_what_ends_a_text_is_told(tiny):
    model = load(tiny("gpt2-lm").folder, "float32")
    [[ended]] = search(model, [[5, 6]], None, Sampling(max_tokens=4, logit_bias={END: 100.0}), end=[END])
    assert (ended.ids, ended.finish_reason) == ([], "stop")
    [[long]] = search(model, [[5, 6]], None, Sampling(max_tokens=4), end=())
    assert (len(long.ids), long.finish_reason) == (4, "length")
    assert long.text == model.tokenizer.decode(long.ids)
    [[nothing]] = search(model, [[5, 6]], None, Sampling(max_tokens=0))
    assert (nothing.ids, nothing.finish_reason) == ([], "length")


def test_where_few_tokens_are_allowed_there_are_few_texts(tiny):
    model = load(tiny("gpt2-lm").folder, "float32")
    [found] = search(model, [[5, 6]], Beams(beams=4, n=4), Sampling(max_tokens=2, allowed=[9]), end=[END])
    assert sorted(one.ids for one in found) == [[], [9], [9, 9]]
    [none] = search(model, [[5, 6]], None, Sampling(max_tokens=2, allowed=[], min_tokens=1), end=[END])
    assert none == []


def test_the_cache_moves_no_more_than_lives(tiny, monkeypatch: pytest.MonkeyPatch):
    """Once each prompt's beams are in place, only places that differ are moved."""
    from graft.generate.cache import StaticCache

    model, moved = load(tiny("gpt2-lm").folder, "float32"), []
    move = StaticCache.move

    def watched(self: StaticCache, moves: Any, first: int, end: int) -> None:
        moved.append((first, end))
        for target, source in moves:
            assert torch.equal(self.keys[:, target, :, :first], self.keys[:, source, :, :first])
        move(self, moves, first, end)

    monkeypatch.setattr(StaticCache, "move", watched)
    search(model, [[5] * 9], None, Sampling(max_tokens=LONGEST), end=())
    assert moved[0] == (0, 9)
    assert all(9 <= first < end < 9 + LONGEST for first, end in moved[1:])
    assert len(moved) > 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beams": 0}, "beams is 0, expected a whole number from 1 to 1024"),
        ({"n": 5}, "n is 5, expected a whole number from 1 to 4"),
        ({"groups": 3}, r"groups is 3, expected a divisor of beams \(4\)"),
        ({"diversity": 1.0}, "diversity is 1 with one group; ask for 2 groups or more"),
        ({"groups": 2, "diversity": -1.0}, "diversity is -1.0, expected a number of at least 0"),
        ({"length_penalty": float("nan")}, "length_penalty is nan, expected a number"),
        ({"early_stopping": "soon"}, "early_stopping is 'soon', expected true, false or 'never'"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], said: str):
    with pytest.raises(UsageError, match=said):
        Beams(**options)


def test_what_a_search_cannot_use_is_refused(tiny):
    model = load(tiny("gpt2-lm").folder, "float32")
    for options in ({"temperature": 0.7}, {"top_k": 3}, {"seed": 1}, {"stop": ["a"]}, {"lookup": 2}):
        with pytest.raises(UsageError, match=f"{next(iter(options))} is .*: a search for the best text has no use"):
            search(model, [[1]], None, Sampling(**options))
    with pytest.raises(DataError, match=r"prompt 1 \(counting from 0\): the prompt has 39 tokens, at most 35 fit"):
        search(model, [[1], [1] * 39], None, Sampling(max_tokens=5))
    with pytest.raises(ModelError, match="needs a head that predicts the next token"):
        search(load(tiny("bert-classify").folder, "float32"), [[1]])

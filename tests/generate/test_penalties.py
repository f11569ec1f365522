"""What the settings do to logits, beside transformers' processors on random logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers

from graft.errors import UsageError
from graft.generate.penalties import Rules, spellings
from graft.generate.sampling import Sampling
from graft.text import Frame, Tokenizer

VOCABULARY = 40
END = (3, 17)


def ours(history: list[int], prompt: int, row: torch.Tensor, tokenizer: Any = None, **options: Any) -> torch.Tensor:
    changed = row.numpy().copy()
    rules = Rules(Sampling(**options), VOCABULARY, END, tokenizer)
    assert not rules.idle
    rules.apply(changed, np.array(history, dtype=np.int64), prompt)
    return torch.from_numpy(changed)


def history_and_row(seed: int) -> tuple[list[int], int, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    length = int(torch.randint(1, 30, (1,), generator=generator))
    history = torch.randint(0, 8, (length,), generator=generator).tolist()
    prompt = int(torch.randint(0, length + 1, (1,), generator=generator))
    return history, prompt, torch.randn(VOCABULARY, generator=generator) * 3


PROCESSORS: dict[str, tuple[dict[str, Any], Any]] = {
    "bias": (
        {"logit_bias": {2: 1.5, 39: -7.0}},
        lambda prompt: transformers.SequenceBiasLogitsProcessor([[[2], 1.5], [[39], -7.0]]),
    ),
    "repetition": (
        {"repetition_penalty": 1.3},
        lambda prompt: transformers.RepetitionPenaltyLogitsProcessor(1.3),
    ),
    "repetition wished for": (
        {"repetition_penalty": 0.8},
        lambda prompt: transformers.RepetitionPenaltyLogitsProcessor(0.8),
    ),
    **{
        f"no {size}-grams twice": (
            {"no_repeat_ngram": size},
            lambda prompt, size=size: transformers.NoRepeatNGramLogitsProcessor(size),
        )
        for size in (1, 2, 3, 4)
    },
    "not yet": (
        {"min_tokens": 4},
        lambda prompt: transformers.MinNewTokensLengthLogitsProcessor(prompt, 4, list(END)),
    ),
    "allowed": (
        {"allowed": [1, 5, 6, 7]},
        lambda prompt: transformers.PrefixConstrainedLogitsProcessor(lambda _, ids: [1, 5, 6, 7, *END], 1),
    ),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_processors_are_those_of_transformers(name: str):
    options, theirs = PROCESSORS[name]
    for seed in range(60):
        history, prompt, row = history_and_row(seed)
        wanted = theirs(prompt)(torch.tensor([history]), row[None].clone())[0]
        torch.testing.assert_close(ours(history, prompt, row, **options), wanted, rtol=1e-6, atol=1e-6)


def test_all_at_once_in_the_order_of_transformers():
    options = {name: value for one, _ in PROCESSORS.values() for name, value in one.items()} | {"no_repeat_ngram": 2}
    order = ["bias", "repetition wished for", "no 2-grams twice", "not yet", "allowed"]
    for seed in range(60):
        history, prompt, row = history_and_row(seed)
        wanted = row[None].clone()
        for name in order:
            wanted = PROCESSORS[name][1](prompt)(torch.tensor([history]), wanted)
        torch.testing.assert_close(ours(history, prompt, row, **options), wanted[0], rtol=1e-6, atol=1e-6)


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(st.integers(0, 9), max_size=20), st.integers(0, 20), st.floats(-2, 2), st.floats(-2, 2))
def test_presence_and_frequency_count_the_output(history: list[int], prompt: int, presence: float, frequency: float):
    prompt = min(prompt, len(history))
    row = torch.zeros(VOCABULARY)
    rules = Rules(Sampling(presence_penalty=presence, frequency_penalty=frequency), VOCABULARY)
    changed = row.numpy().copy()
    rules.apply(changed, np.array(history, dtype=np.int64), prompt)
    for token in range(10):
        times = history[prompt:].count(token)
        wanted = -presence * (times > 0) - frequency * times
        assert changed[token] == pytest.approx(wanted, abs=1e-5)


def byte_level() -> Tokenizer:
    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = Library(models.BPE({sign: n for n, sign in enumerate([*signs, "Ġa", "ab"])}, [("Ġ", "a"), ("a", "b")]))
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return Tokenizer(library, Frame())


def test_bad_words_are_spelled_with_and_without_a_space():
    tokenizer = byte_level()
    spelled = {tuple(tokenizer.decode([token]) for token in ids) for ids in spellings("abc", tokenizer)}
    assert spelled == {("ab", "c"), (" a", "b", "c")}
    assert spellings("", tokenizer) <= {(tokenizer.encode([" "])[0].ids[0],)}


def test_a_piece_that_begins_a_word_is_not_the_only_spelling():
    pieces = [("<unk>", 0.0), ("▁", -3.0), ("▁cat", -2.0), ("cat", -2.5), ("(", -3.0), ("▁(", -3.0)]
    library = Library(models.Unigram(pieces, unk_id=0))
    library.pre_tokenizer, library.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = Tokenizer(library, Frame(), {"unk_token": "<unk>"})
    assert spellings("cat", tokenizer) == {(2,), (3,)}
    assert spellings("dog", tokenizer) == set()  # what cannot be spelled cannot be written


def test_bad_words_are_those_of_transformers():
    names = {**{str(n): n for n in range(VOCABULARY)}, "[UNK]": VOCABULARY}
    library = Library(models.WordLevel(names, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = Tokenizer(library, Frame())
    words, wanted_ids = ("5", "1 2", "0 1 2", "6 6", "3"), [[5], [1, 2], [0, 1, 2], [6, 6], [3]]
    for seed in range(200):
        history, prompt, row = history_and_row(seed)
        if len(history) < 3:
            continue
        processor = transformers.NoBadWordsLogitsProcessor(wanted_ids, eos_token_id=list(END))
        wanted = processor(torch.tensor([history]), row[None].clone())[0]
        torch.testing.assert_close(ours(history, prompt, row, tokenizer, bad_words=words), wanted)
        assert wanted[3] == row[3]  # the end token alone is never a bad word


def test_settings_that_name_no_token_are_refused():
    with pytest.raises(UsageError, match=r"allowed names token 40, expected token ids from 0 to 39"):
        Rules(Sampling(allowed=[1, 40]), VOCABULARY)
    with pytest.raises(UsageError, match=r"logit_bias names token 99"):
        Rules(Sampling(logit_bias={99: 1}), VOCABULARY)
    with pytest.raises(UsageError, match="bad_words holds 'no', and this model has no tokenizer"):
        Rules(Sampling(bad_words=["no"]), VOCABULARY)


def test_nothing_asked_is_nothing_done():
    assert Rules(Sampling(temperature=0.7, top_k=5), VOCABULARY, END).idle

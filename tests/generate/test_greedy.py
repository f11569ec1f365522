"""Greedy decoding beside transformers' generate: the same tokens, alone and side by side."""

from __future__ import annotations

import pytest
import torch

from graft.errors import DataError, ModelError
from graft.generate.greedy import greedy
from graft.loading import load

LONGEST = 12
WRITERS = ("gpt2-lm", "openai_gpt-lm", "llama-lm", "mixtral-lm", "t5-lm", "t5-untied", "mt5-lm")


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(1, 96, (length,), generator=generator).tolist() for length in (5, 1, 17, 2, 9)]


def theirs(model: object, prompt: list[int], stop: int) -> list[int]:
    """What transformers writes, without the prompt, the start token, and the end."""
    made = model.generate(  # type: ignore[attr-defined]
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=LONGEST,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=0,
    )[0].tolist()
    written = made[1:] if model.config.is_encoder_decoder else made[len(prompt) :]  # type: ignore[attr-defined]
    return written[: written.index(stop)] if stop in written else written


@pytest.mark.parametrize("name", WRITERS)
def test_tokens_are_those_of_transformers(tiny, name: str):
    made = tiny(name)
    model, texts = load(made.folder, "float32"), prompts()
    free = greedy(model, texts, longest=LONGEST, stop=())
    stop = free[0][6]  # ends the first text early, and others wherever they come to it
    expected = [theirs(made.theirs, text, stop) for text in texts]
    assert len(expected[0]) < LONGEST
    assert greedy(model, texts, longest=LONGEST, stop=[stop]) == expected
    assert [greedy(model, [text], longest=LONGEST, stop=[stop])[0] for text in texts] == expected


def test_many_texts_are_done_in_batches_and_counted(tiny, monkeypatch: pytest.MonkeyPatch):
    model, texts, counted = load(tiny("gpt2-lm").folder, "float32"), prompts() * 3, []
    whole = greedy(model, texts, longest=4, stop=())
    monkeypatch.setattr("graft.generate.greedy.TOKENS", 40)
    assert greedy(model, texts, longest=4, stop=(), progress=counted.append) == whole
    assert sum(counted) == len(texts)
    assert len(counted) > 3


def test_what_cannot_write_is_refused(tiny):
    with pytest.raises(ModelError, match="predicts the next token"):
        greedy(load(tiny("bert-classify").folder, "float32"), [[3]], longest=2, stop=())
    with pytest.raises(DataError, match=r"a prompt of 30 tokens and 20 more are 50, the model holds 40"):
        greedy(load(tiny("gpt2-lm").folder, "float32"), [[3] * 30], longest=20, stop=())

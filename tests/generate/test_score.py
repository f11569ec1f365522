"""Log-probabilities of continuations, answers and words beside those of transformers."""

from __future__ import annotations

import pytest
import torch

from graft.errors import DataError, ModelError
from graft.generate.score import fill, score
from graft.loading import load

CONTINUATIONS = [[[5], [7, 8, 9], [7, 8]], [[11, 3]], [[4], [6]], [[2, 2, 2, 2, 2], [9]], []]


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(2, 96, (length,), generator=generator).tolist() for length in (5, 1, 17, 2, 9)]


def alone(theirs: object, prompt: list[int], ids: list[int]) -> float:
    """What transformers gives for one continuation, with nothing shared."""
    with torch.no_grad():
        if theirs.config.is_encoder_decoder:  # type: ignore[attr-defined]
            read = torch.tensor([[0, *ids[:-1]]])
            logits = theirs(input_ids=torch.tensor([prompt]), decoder_input_ids=read).logits[0]  # type: ignore[operator]
        else:
            logits = theirs(input_ids=torch.tensor([[*prompt, *ids[:-1]]])).logits[0, len(prompt) - 1 :]  # type: ignore[operator]
    return float(logits.log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)].sum())


@pytest.mark.parametrize(
    "name", ["gpt2-lm", "openai_gpt-lm", "llama-lm", "mistral-lm", "mixtral-lm", "t5-lm", "mt5-lm"]
)
@pytest.mark.parametrize("tokens", [2048, 12])
def test_continuations_score_as_in_transformers(tiny, name: str, tokens: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("graft.generate.score.TOKENS", tokens)
    made, counted = tiny(name), []
    found = score(load(made.folder, "float32"), prompts(), CONTINUATIONS, counted.append)
    for prompt, many, ours in zip(prompts(), CONTINUATIONS, found, strict=True):
        assert ours == pytest.approx([alone(made.theirs, prompt, ids) for ids in many], rel=1e-5, abs=1e-5)
    assert sum(counted) == len(CONTINUATIONS)


@pytest.mark.parametrize("name", ["bert-mask", "distilbert-mask_untied", "roberta-mask"])
def test_words_at_masks_score_as_in_transformers(tiny, name: str):
    made = tiny(name)
    model = load(made.folder, "float32")
    mask, words = model.tokenizer.token_id("mask_token"), [[9, 30], [12, 13], [9, 9]]
    sequences = [[2, *prompt[:3], mask, 7, mask, *prompt[3:], 3] for prompt in prompts()]
    found = fill(model, sequences, [None] * len(sequences), words)
    for ids, ours in zip(sequences, found, strict=True):
        with torch.no_grad():
            logs = made.theirs(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        first, second = (place for place, token in enumerate(ids) if token == mask)
        expected = torch.stack([logs[first, one] + logs[second, other] for one, other in words])
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_scored_is_refused(tiny):
    decoder, encoder = load(tiny("gpt2-lm").folder, "float32"), load(tiny("bert-mask").folder, "float32")
    with pytest.raises(ModelError, match="predicts the next token"):
        score(encoder, [[3]], [[[4]]])
    with pytest.raises(ModelError, match="filling a mask needs a head"):
        fill(decoder, [[3]], [None], [[4]])
    with pytest.raises(DataError, match="at least one token"):
        score(decoder, [[3]], [[[]]])
    with pytest.raises(DataError, match="a prompt of 39 tokens and 3 more to score are beyond the 40"):
        score(decoder, [[3] * 39], [[[4, 4, 4]]])
    with pytest.raises(DataError, match="sequence 0 has 0 masks, expected 1"):
        fill(encoder, [[3]], [None], [[4]])

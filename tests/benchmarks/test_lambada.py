"""LAMBADA beside a plain computation by transformers."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from word_models import word_model

import graft
from graft.errors import DataError, ModelError, UsageError
from graft.loading import load

WORDS = [f"w{number}" for number in range(200)]


def rows(theirs: Any, model: Any) -> list[dict[str, str]]:
    """Passages of one to forty-five words, some with the word that transformers thinks the most probable."""
    chance, made = random.Random(4), []
    while len(made) < 24:
        context = " ".join(chance.choices(WORDS, k=chance.randint(1, 45)))
        ids = model.tokenizer.encode([context])[0].ids[-40:]
        with torch.no_grad():
            best = int(theirs(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        word = model.tokenizer.decode([best]) if best < model.tokenizer.vocab_size else ""
        made.append({"context": context, "continuation": word if word in WORDS and len(made) % 3 else "w7 w8"})
    return made


def test_lambada_is_what_transformers_finds(tiny: Callable[..., Any], tmp_path: Path):
    import transformers

    folder = word_model(tiny("gpt2-lm").folder, "gpt2-lm", tmp_path / "model", WORDS)
    model = load(folder, "float32")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    given = rows(theirs, model)
    logs, right = [], []
    for row in given:
        wanted = model.tokenizer.encode([row["continuation"]])[0].ids
        every = [*model.tokenizer.encode([row["context"]])[0].ids, *wanted]
        with torch.no_grad():
            told = theirs(input_ids=torch.tensor([every[-41:-1]])).logits[0, -len(wanted) :].log_softmax(-1)
        logs.append(float(told[torch.arange(len(wanted)), wanted].sum()))
        right.append(told.argmax(-1).tolist() == wanted)
    data = tmp_path / "lambada.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in given))
    found = graft.evaluate(model, data, benchmark="lambada")
    assert 0 < sum(right) < len(right)
    assert found.metrics["acc"].value == sum(right) / len(right)
    assert found.metrics["perplexity"].value == pytest.approx(math.exp(-sum(logs) / len(logs)), rel=1e-5)
    assert found.metrics["perplexity"].low < found.metrics["perplexity"].value < found.metrics["perplexity"].high
    assert found.judged.truncated_tokens > 0
    texts = tmp_path / "texts.jsonl"
    whole = [{"text": f"{row['context']} {row['continuation']}"} for row in given if " " not in row["continuation"]]
    texts.write_text("".join(f"{json.dumps(row)}\n" for row in whole))
    assert graft.evaluate(model, texts, benchmark="lambada").n == len(whole)


def test_what_it_cannot_measure_is_refused(tiny: Callable[..., Any], tmp_path: Path):
    data = tmp_path / "lambada.jsonl"
    data.write_text('{"context": "a b", "continuation": "c"}\n{"context": "a", "continuation": ""}\n')
    with pytest.raises(ModelError, match="from left to right"):
        graft.evaluate(tiny("bert-mask").folder, data, benchmark="lambada")
    with pytest.raises(DataError, match="line 2: .* is empty or not text"):
        graft.evaluate(tiny("gpt2-lm").folder, data, benchmark="lambada")
    with pytest.raises(UsageError, match="did you mean 'lambada'"):
        graft.evaluate(tiny("gpt2-lm").folder, data, benchmark="lambda")
    with pytest.raises(UsageError, match="not both"):
        graft.evaluate(tiny("gpt2-lm").folder, data, benchmark="lambada", task="classify")
    assert graft.evaluate(tiny("gpt2-lm").folder, data, benchmark="lambada", max_rejects=1).n == 1


def test_published_passages_are_measured(tiny: Callable[..., Any], shared_data: Path):
    found = graft.evaluate(
        tiny("gpt2-lm").folder, shared_data / "lambada" / "lambada_openai_small.jsonl", benchmark="lambada"
    )
    assert found.n == 8
    assert found.judged.truncated_tokens > 0  # forty bytes is all this model holds

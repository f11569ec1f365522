"""Where dropout acts in training, and at which rate: every family and head against transformers, ELMo by its formulas.

XLNet's second stream is in test_xlnet.py. As in transformers, every token of T5 has a draw of its own; Mesh TensorFlow
drew once for all tokens of a sequence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import elmo_files
import numpy as np
import pytest
import torch
from side_by_side import alone, draw, draw_types, family, numbers, waves_for_dropout, worst
from tiny_models import TINY, TWO_STACKS

import graft
from graft.batch import pack
from graft.loading import load
from graft.text.characters import character_ids

BERT = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}
GPT = {"resid_pdrop": 0.3, "embd_pdrop": 0.2, "attn_pdrop": 0.15}
T5 = {"dropout_rate": 0.3}
RATES: dict[str, dict[str, float]] = {
    "bert": BERT,
    "roberta": BERT,
    "xlm_roberta": BERT,
    "distilbert": {"dropout": 0.3, "attention_dropout": 0.2},
    "gpt2": GPT,
    "openai_gpt": GPT,
    "xlnet": {"dropout": 0.3},
    "t5": T5,
    "mt5": T5,
}
OF_HEADS = {"distilbert": {"seq_classif_dropout": 0.45, "qa_dropout": 0.25}, "xlnet": {"summary_last_dropout": 0.45}}
"""Families not named: attention_dropout of 0.3; classifier_dropout of 0.45."""


@pytest.fixture(autouse=True)
def _steady(monkeypatch: pytest.MonkeyPatch):
    waves_for_dropout(monkeypatch)


def rates(name: str, stated: bool) -> dict[str, float]:
    """Another rate for each kind of place; where the head's is not stated, it must be found elsewhere."""
    found = RATES.get(family(name), {"attention_dropout": 0.3})
    return found | OF_HEADS.get(family(name), {"classifier_dropout": 0.45}) if stated else found


@pytest.mark.parametrize("stated", [True, False], ids=["stated", "default"])
@pytest.mark.parametrize("name", [name for name in TINY | TWO_STACKS if not name.endswith("-beam")])  # the form differs
def test_dropout_acts_where_theirs_does(tiny, name: str, stated: bool):
    made = tiny(name, **rates(name, stated))
    model = load(made.folder, "float32").train()
    made.theirs.set_attn_implementation("eager")  # the fused ones drop where nothing can stand in
    [ids] = sequences = draw((12,), model.backbone.config.vocab_size, seed=6)
    types = draw_types(name, sequences)
    given: dict[str, Any] = {}
    if name in TWO_STACKS:
        ids[-1] = 1  # T5's classifiers look for the end of the sequence
    if name in TWO_STACKS and not name.endswith(("classify", "encoder", "tag")):
        given = {"decoder_input_ids": torch.tensor(draw((9,), 96, seed=7))}
    read = {"decoder": pack(given["decoder_input_ids"].tolist())} if given else {}
    with torch.inference_mode():
        ours = model(pack(sequences, types), **read)
        theirs = numbers(alone(made.theirs.train(), ids, *(types or []), **given)).reshape(ours.shape)
        without = model.eval()(pack(sequences, types), **read)
    made.theirs.eval()
    scale = max(1.0, float(theirs.abs().max()))
    assert worst(ours, theirs) < 1e-5 * scale
    assert worst(ours, without) > 1e-3


def test_dropout_is_on_in_training_alone(tiny, monkeypatch: pytest.MonkeyPatch):
    model = load(tiny("bert-classify", hidden_dropout_prob=0.3).folder, "float32")
    batch = pack(draw((7, 9), 96))
    monkeypatch.undo()
    assert torch.equal(model(batch), model(batch))
    model.train()
    assert not torch.equal(model(batch), model(batch))


@pytest.mark.parametrize("change", [{}, {"use_skip_connections": False}], ids=["skip", "plain"])
def test_elmo_drops_what_its_layers_read_and_what_the_last_gives(tmp_path: Path, change: dict[str, Any]):
    """As bilm-tf trains: what a layer adds its output to is dropped as well."""
    options = elmo_files.changed(**change) | {"dropout": 0.2}
    weights = elmo_files.arrays(options)
    model = graft.load(elmo_files.write(tmp_path / "elmo", options, weights), "float32").train()
    words = [["The", "cat", "sat"], ["Yes"]]
    batch = pack([character_ids(number, one) for number, one in enumerate(words)])
    found = model(batch).detach()
    expected = np.concatenate([trained(one, options, weights) for one in words])
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), rtol=0, atol=1e-5)
    assert worst(found, model.eval()(batch).detach()) > 1e-2
    assert json.loads((model.save(tmp_path / "out") / "options.json").read_text()) == options


def trained(words: list[str], options: dict[str, Any], weights: elmo_files.Arrays) -> Any:
    """The last states of one sentence with its marks, dropout standing in, (length, D)."""
    lstm, rate = options["lstm"], options["dropout"]
    size = lstm["projection_dim"]
    wave_D = 1 + rate * np.cos(np.arange(2 * size))
    token = np.stack([elmo_files.word_vector(w, options, weights) for w in (256, *(w.encode() for w in words), 257)])
    ways = []
    for direction in range(2):
        wave_P = wave_D[direction * size :][:size]
        x = token[::-1] if direction else token
        for layer in range(lstm["n_layers"]):
            x = x * wave_P
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            y = elmo_files.lstm_layer(x, cell, lstm, weights, {})
            x = x + y if layer and lstm["use_skip_connections"] else y
        ways.append(x[::-1] if direction else x)
    return np.concatenate(ways, -1) * wave_D

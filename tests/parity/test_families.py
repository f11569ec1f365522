"""Backbones against transformers, on tiny random models it saved: equal hidden states, however they are batched."""

from __future__ import annotations

import random

import pytest
import torch
from side_by_side import BARE, HEADED, RAGGED, alone, draw, draw_types, long, run, worst
from tiny_models import POSITIONS, head

from graft.batch import pack
from graft.loading import load
from graft.model import attend

EVERY = (*BARE, *(name for name in HEADED if head(name) in ("classify", "next")))
BEYOND_PLAIN = (5, 321, 400, 399, 2, 320)
"""Lengths on both sides of 320, at which the tests that use them let attention change its kernel."""


@pytest.mark.parametrize("lengths", [RAGGED, BEYOND_PLAIN], ids=["short", "long"])
@pytest.mark.parametrize("name", EVERY)
def test_hidden_states_of_every_layer(tiny, name: str, lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attend, "PLAIN_LONGEST", 320)
    made = tiny(name, **(long(name) if lengths is BEYOND_PLAIN else {}))
    model = load(made.folder, "float32")
    sequences = draw(lengths, model.backbone.config.vocab_size)
    types = draw_types(name, sequences)
    last_TD, layers = run(model, pack(sequences, types))
    expected = [
        alone(made.theirs.base_model, ids, kinds, output_hidden_states=True)
        for ids, kinds in zip(sequences, types or [None] * len(sequences), strict=True)
    ]
    assert worst(last_TD, torch.cat([one.last_hidden_state[0] for one in expected])) < 1e-5
    # Where a family has a final norm, transformers lists the last layer's states after it, Graft before.
    shown = len(layers) - (model.backbone.final_norm is not None)
    assert shown >= model.backbone.config.layers
    for number in range(shown):
        theirs = torch.cat([one.hidden_states[number][0] for one in expected])
        assert worst(layers[number], theirs) < 1e-5, f"layer {number}"


@pytest.mark.parametrize("name", BARE)
def test_every_length_in_one_batch_is_as_alone_in_any_order(tiny, name: str):
    model = load(tiny(name).folder, "float32")
    sequences = draw(range(1, POSITIONS + 1), model.backbone.config.vocab_size, seed=2)
    types = draw_types(name, sequences) or [None] * len(sequences)
    order = random.Random(3).sample(range(len(sequences)), len(sequences))
    together = run(model, pack(sequences, types))[0].split([len(one) for one in sequences])
    shuffled = run(model, pack([sequences[n] for n in order], [types[n] for n in order]))[0]
    back = dict(zip(order, shuffled.split([len(sequences[n]) for n in order]), strict=True))
    for number, (ids, kinds) in enumerate(zip(sequences, types, strict=True)):
        own = run(model, pack([ids], [kinds]))[0]
        # Matrix products of other heights add up in another order, so the last bits may differ.
        assert worst(together[number], own) < 1e-5
        assert worst(back[number], own) < 1e-5


def test_token_types_matter_and_default_to_zero(tiny):
    model = load(tiny("bert").folder, "float32")
    sequences = draw((5, 9), 96)
    none, _ = run(model, pack(sequences))
    half, _ = run(model, pack(sequences, [None, [0] * 4 + [1] * 5]))
    zero, _ = run(model, pack(sequences, [[0] * 5, [0] * 9]))
    assert torch.equal(none, zero)
    assert torch.equal(none[:5], half[:5])
    assert worst(none[5:], half[5:]) > 0.1


# Half precision


@pytest.mark.parametrize("name", EVERY)
def test_bfloat16_is_as_near_as_in_transformers(tiny, name: str):
    """No further from float32 than transformers in bfloat16 is, and within 3 % of the largest value, or twice as near.

    A router may send a token to another expert for the smallest difference, so single values tell nothing there.
    """
    made = tiny(name)
    exact, model = load(made.folder, "float32"), load(made.folder, "bfloat16")
    theirs = type(made.theirs).from_pretrained(made.folder).to(torch.bfloat16).eval()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    sequences = draw(RAGGED, exact.backbone.config.vocab_size, seed=5)
    reference, found = (run(one, pack(sequences))[0] for one in (exact, model))
    other = torch.cat([alone(theirs.base_model, ids).last_hidden_state[0] for ids in sequences])
    scale = float(reference.abs().max())
    ours, peer = ((one.float() - reference).pow(2).mean().sqrt() / scale for one in (found, other))
    routed = exact.backbone.config.experts is not None
    assert routed or worst(found, reference) < max(0.03 * scale, 1.5 * worst(other, reference))
    assert float(ours) < (2 if routed else 1.2) * float(peer)

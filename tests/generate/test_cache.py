"""The static cache: what a model says with it is what it says without, however the tokens are handed over."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tiny_models import TINY
from torch import Tensor

from graft.batch import pack
from graft.errors import DataError
from graft.generate.cache import StaticCache
from graft.grafted import Model
from graft.loading import load

LENGTHS = (9, 1, 40, 17, 30)


DECODERS = [name for name in TINY if name.endswith(("-lm", "-tied")) and not name.startswith("xlnet")]


@pytest.fixture(scope="module")
def model(tiny) -> Model:
    return load(tiny("gpt2-lm").folder, "float32")


@pytest.fixture(scope="module", params=DECODERS)
def decoder(tiny, request: pytest.FixtureRequest) -> Model:
    return load(tiny(request.param).folder, "float32")


def draw(lengths: Sequence[int] = LENGTHS) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(96, (length,), generator=generator).tolist() for length in lengths]


def cache(model: Model, slots: int = len(LENGTHS), length: int = 40, **options: object) -> StaticCache:
    return StaticCache(model.backbone.config, slots, length, dtype=model.dtype, **options)  # type: ignore[arg-type]


@torch.inference_mode()
def feed(model: Model, held: StaticCache, pieces: Sequence[Sequence[int]], start: Sequence[int]) -> list[Tensor]:
    """Logits of the new tokens of each sequence."""
    batch = pack(pieces, start=start)
    return list(model.head(model.backbone(batch, cache=held), batch).split(batch.lengths))


def near(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * max(1.0, float(other.abs().max())))


def test_every_split_of_a_sequence(decoder: Model):
    model, [ids] = decoder, draw((40,))
    [expected] = model.logits([ids])
    for split in range(1, 40):
        held = cache(model, 1)
        [first] = feed(model, held, [ids[:split]], [0])
        [second] = feed(model, held, [ids[split:]], [split])
        near([torch.cat([first, second])], [expected])


def test_one_token_after_the_other(decoder: Model):
    model, [ids] = decoder, draw((40,))
    held = cache(model, 1)
    found = [feed(model, held, [[token]], [place])[0] for place, token in enumerate(ids)]
    near([torch.cat(found)], model.logits([ids]))


def test_ragged_prefill_then_decoding_together(model: Model):
    """As the engine does it: prompts of all lengths in one batch, then a token for each until one is full."""
    sequences = draw()
    prompts = (3, 1, 35, 16, 7)
    held = cache(model)
    found = [
        [logits] for logits in feed(model, held, [ids[:n] for ids, n in zip(sequences, prompts, strict=True)], [0] * 5)
    ]
    seen = list(prompts)
    while any(n < len(ids) for ids, n in zip(sequences, seen, strict=True)):
        # A sequence that is done is fed its last token again: it overwrites the same place with the same values.
        at = [min(n, len(ids) - 1) for ids, n in zip(sequences, seen, strict=True)]
        step = feed(model, held, [[ids[n]] for ids, n in zip(sequences, at, strict=True)], at)
        for number, logits in enumerate(step):
            if seen[number] < len(sequences[number]):
                found[number].append(logits)
                seen[number] += 1
    near([torch.cat(logits) for logits in found], model.logits(sequences))


def test_prefill_and_decoding_in_one_batch(model: Model):
    """A sequence may join with its whole prompt while others are fed one token each."""
    first, second = draw((20, 25))
    held = cache(model, 2)
    feed(model, held, [first[:19]], [0])
    found = feed(model, held, [first[19:], second], [19, 0])
    expected = model.logits([first, second])
    near(found, [expected[0][19:], expected[1]])


def test_a_used_slot_serves_a_new_sequence(model: Model):
    old, new = draw((40, 12))
    held = cache(model, 1)
    feed(model, held, [old], [0])
    near(feed(model, held, [new], [0]), model.logits([new]))


def test_fewer_sequences_than_slots_and_shorter_slots(model: Model):
    sequences = draw((5, 8))
    held = cache(model, 4, length=8)
    near(feed(model, held, sequences, [0, 0]), model.logits(sequences))


def test_in_bfloat16(tiny):
    model = load(tiny("gpt2-lm").folder, "bfloat16")
    [ids] = draw((40,))
    held = cache(model, 1)
    [first] = feed(model, held, [ids[:20]], [0])
    [second] = feed(model, held, [ids[20:]], [20])
    [expected] = model.logits([ids])
    error = (torch.cat([first, second]) - expected).abs().max() / expected.abs().max()
    assert float(error) < 0.03


@pytest.mark.parametrize("length", [0, -1, 41])
def test_a_slot_longer_than_the_positions(model: Model, length: int):
    with pytest.raises(DataError, match=f"a cache of {length} tokens a sequence; this model allows 1 to 40"):
        cache(model, 1, length=length)


@pytest.mark.parametrize(
    ("pieces", "start", "message"),
    [
        ([[1] * 9], [0], "a sequence has grown to 9 tokens; a slot of this cache holds 8"),
        ([[1], [1]], [3, 8], "a sequence has grown to 9 tokens; a slot of this cache holds 8"),
        ([[1]] * 3, [0, 0, 0], "3 sequences for a cache of 2 slots"),
    ],
)
def test_overflow_is_refused_before_anything_is_written(
    model: Model, pieces: list[list[int]], start: list[int], message: str
):
    held = cache(model, 2, length=8)
    with pytest.raises(DataError, match=message):
        feed(model, held, pieces, start)
    assert not held.keys.any()
    assert not held.values.any()

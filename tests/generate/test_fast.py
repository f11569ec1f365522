"""The decoding step beside the ordinary forward pass: the same logits, the same cache, whatever runs beside a text."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_models import TINY
from torch import Tensor

from graft import int8
from graft.adapters import LowRank
from graft.adapters.swap import swap as put
from graft.batch import pack
from graft.errors import UsageError
from graft.generate import native
from graft.generate.cache import StaticCache
from graft.generate.fast import Decoder, decoder, fits
from graft.generate.feed import remember
from graft.grafted import Model
from graft.loading import load

PLACES, ROWS = 40, 5
WRITERS = [name for name in TINY if name.endswith(("-lm", "-tied", "-untied"))]
OTHERS = [name for name in WRITERS if name.startswith("xlnet")]
FITTING = [name for name in WRITERS if name not in OTHERS]

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C++ compiler here")


def slots(model: Model, count: int = ROWS, dtype: torch.dtype | None = None) -> SimpleNamespace:
    """Empty slots: (layers, slots, G, M, K)."""
    config = model.backbone.config
    shape = (config.layers, count, config.key_heads, PLACES, config.head_size)
    return SimpleNamespace(**{name: torch.zeros(shape, dtype=dtype or model.dtype) for name in ("keys", "values")})


def ids() -> Tensor:
    return torch.randint(96, (ROWS, PLACES), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def fed(step: Decoder, ids_BL: Tensor, slot_B: Tensor | None = None) -> Tensor:
    """Logits at every place of sequences fed token by token, (B, L, V)."""
    places = range(ids_BL.shape[1])
    return torch.stack([step(ids_BL[:, n], torch.full((len(ids_BL),), n), slot_B).clone() for n in places], 1)


def far(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", FITTING)
def test_logits_are_those_of_the_forward_pass(tiny, name: str):
    model = load(tiny(name).folder, "float32")
    expected = torch.stack(model.logits(ids().tolist()))
    found = fed(Decoder(model, slots(model)), ids())
    assert far(found, expected) < 1e-5
    assert torch.equal(found.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("name", FITTING)
def test_in_bfloat16_it_is_nearer_to_float32_than_the_forward_pass_is(tiny, name: str):
    exact, model = load(tiny(name).folder, "float32"), load(tiny(name).folder, "bfloat16")
    expected = torch.stack(exact.logits(ids().tolist()))
    found, plain = fed(Decoder(model, slots(model)), ids()), torch.stack(model.logits(ids().tolist()))
    spread = (plain - expected).square().mean()
    assert (found - expected).square().mean() < 1.1 * spread


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["gpt2-lm", "llama-lm", "openai_gpt-lm", "mixtral-lm", "qwen2_moe-lm"])
def test_a_row_depends_on_no_other_row_nor_on_its_slot_or_the_threads(tiny, name: str, dtype: str):
    model = load(tiny(name).folder, dtype)
    together = fed(Decoder(model, slots(model), threads=3), ids())
    for number in range(ROWS):
        one = slice(number, number + 1)
        alone = fed(Decoder(model, slots(model), threads=1), ids()[one], torch.tensor([ROWS - 1 - number]))
        assert torch.equal(alone, together[one])


@pytest.mark.parametrize("name", ["gpt2-lm", "llama-lm", "mistral-lm"])
def test_it_goes_on_where_the_forward_pass_left_the_cache(tiny, name: str):
    """Prompts by the ordinary forward pass, then token by token; keys and values are those of all in one go."""
    model, starts = load(tiny(name).folder, "float32"), (7, 20, 1, 39, 12)
    config = model.backbone.config
    caches = [StaticCache(config, ROWS, PLACES, dtype=model.dtype) for _ in range(2)]
    with torch.inference_mode():
        model.backbone(
            pack([row[:n] for row, n in zip(ids().tolist(), starts, strict=True)], start=[0] * ROWS), cache=caches[0]
        )
        model.backbone(pack([row[:39] for row in ids().tolist()], start=[0] * ROWS), cache=caches[1])
    views = [
        SimpleNamespace(
            **{
                part: kept if kept.shape[3] == PLACES else kept.transpose(2, 3)
                for part, kept in (("keys", cache.keys), ("values", cache.values))
            }
        )
        for cache in caches
    ]
    step = Decoder(model, views[0])
    expected = torch.stack(model.logits(ids().tolist()))
    for more in range(PLACES - min(starts)):
        at = torch.tensor([min(start + more, 38) for start in starts])
        with torch.inference_mode():
            found = step(ids()[torch.arange(ROWS), at], at)
        assert far(found, expected[torch.arange(ROWS), at]) < 1e-5
    for part in ("keys", "values"):
        mine, theirs = (getattr(view, part)[:, :, :, :38] for view in views)
        assert far(mine, theirs) < 1e-5


@pytest.mark.parametrize("name", ["gpt2-lm", "llama-tied", "qwen3-lm", "qwen2_moe-lm"])
def test_int8_weights_give_what_the_same_weights_give_in_float32(tiny, name: str):
    model = load(tiny(name).folder, "float32")
    int8.swap(model)
    found, expected = fed(Decoder(model, slots(model)), ids()), torch.stack(model.logits(ids().tolist()))
    assert far(found, expected) < 0.05  # products take bfloat16 in where the processor multiplies that
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() > 0.9


@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_what_the_cache_is_kept_in_is_free(tiny, kept: torch.dtype):
    model = load(tiny("llama-lm").folder, "float32")
    expected = torch.stack(model.logits(ids().tolist()))
    assert far(fed(Decoder(model, slots(model, dtype=kept)), ids()), expected) < (
        1e-5 if kept is torch.float32 else 0.03
    )


@pytest.mark.parametrize("name", ["gpt2-lm", "olmoe-lm", "qwen2_moe-lm"])
def test_more_sequences_than_share_a_reading_of_the_weights(tiny, name: str):
    model, count = load(tiny(name).folder, "float32"), 19
    many = torch.randint(96, (count, 6), generator=torch.Generator().manual_seed(2))
    found = fed(Decoder(model, slots(model, count)), many)
    assert far(found, torch.stack(model.logits(many.tolist()))) < 1e-5


@pytest.mark.parametrize("name", [*OTHERS, "gpt2-classify", "t5-lm"])
def test_models_it_cannot_run_are_left_to_the_forward_pass(tiny, name: str):
    model = load(tiny(name).folder, "float32")
    held = slots(model)
    assert not fits(model, held)
    assert decoder(model, held) is None
    with pytest.raises(UsageError, match="decodes with the model's own forward pass"):
        Decoder(model, held)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_router_that_gives_no_numbers_chooses_nothing_in_silence(tiny, wrong: float):
    model = load(tiny("qwen2_moe-lm").folder, "float32")
    last = [block.feed_forward for block in model.backbone.blocks if hasattr(block.feed_forward, "router")][-1]
    last.router.weight.data[2] = wrong
    assert fed(Decoder(model, slots(model)), ids()[:, :4]).isnan().all()


def test_an_adapter_is_left_to_the_forward_pass(tiny):
    model = load(tiny("gpt2-lm").folder, "float32")
    put(model, lambda name, layer: name.endswith("query"), lambda layer: LowRank(layer, 2, 1.0).fresh())
    assert decoder(model, slots(model)) is None


@pytest.mark.parametrize(
    ("position", "slot", "message"),
    [(40, 0, "place 40 of a slot of 40"), (-1, 0, "place -1"), (3, 5, "slot 5 of 5"), (3, -1, "slot -1 of 5")],
)
def test_places_and_slots_that_are_not_there(tiny, position: int, slot: int, message: str):
    model = load(tiny("gpt2-lm").folder, "float32")
    step = Decoder(model, slots(model))
    with pytest.raises(UsageError, match=message):
        step(torch.tensor([1]), torch.tensor([position]), torch.tensor([slot]))


@pytest.mark.parametrize("token", [-1, 260])
def test_tokens_that_are_not_there(tiny, token: int):
    model = load(tiny("gpt2-lm").folder, "float32")
    with pytest.raises(UsageError, match=f"token {token}, the model knows 260"):
        Decoder(model, slots(model))(torch.tensor([token]), torch.tensor([0]))


ANSWERING = ["t5-lm", "t5-untied", "mt5-lm"]
READ = (5, 19, 3, PLACES, 17)


def sources() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(96, (length,), generator=generator).tolist() for length in READ]


@torch.inference_mode()
def answered(model: Model, source: list[int], kept: torch.dtype = torch.float32, threads: int = 1) -> Tensor:
    """Logits at every place of sequences fed token by token beside what the encoder read: (B, L, V).

    The sequences look at the sources' slots by their numbers.
    """
    config = model.backbone.decoder.config
    cache, memory = (StaticCache(config, ROWS, PLACES, dtype=kept) for _ in range(2))
    remember(model, pack(sources()), memory)
    step, count = Decoder(model, cache, memory, threads=threads), len(source)
    beside = torch.tensor(source), torch.tensor([READ[one] for one in source])
    places = [torch.full((count,), place) for place in range(PLACES)]
    return torch.stack([step(ids()[:count, int(at[0])], at, None, *beside).clone() for at in places], 1)


@torch.inference_mode()
def expected_answers(model: Model, source: list[int]) -> Tensor:
    read = [sources()[one] for one in source]
    hidden_TD = model.backbone.read(pack(read), "next", pack(ids()[: len(source)].tolist()))
    return model.head(hidden_TD, None).unflatten(0, (len(source), PLACES))


@pytest.mark.parametrize("name", ANSWERING)
def test_beside_an_encoder_logits_are_those_of_the_forward_pass(tiny, name: str):
    model = load(tiny(name).folder, "float32")
    for source in ([0, 1, 2, 3, 4], [3, 3, 1, 1, 1], [2]):
        found, expected = answered(model, source), expected_answers(model, source)
        assert far(found, expected) < 1e-5
        assert torch.equal(found.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("name", ANSWERING)
def test_beside_an_encoder_in_bfloat16_it_is_nearer_to_float32_than_the_forward_pass_is(tiny, name: str):
    exact, model = load(tiny(name).folder, "float32"), load(tiny(name).folder, "bfloat16")
    expected, rows = expected_answers(exact, list(range(ROWS))), list(range(ROWS))
    spread = (expected_answers(model, rows) - expected).square().mean()
    for kept in (torch.float32, torch.bfloat16):
        assert (answered(model, rows, kept) - expected).square().mean() < 1.1 * spread


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_beside_an_encoder_a_row_depends_on_no_other_nor_on_the_threads(tiny, dtype: str):
    model = load(tiny("t5-untied").folder, dtype)
    together = answered(model, [3, 4, 4, 0, 1], threads=3)
    assert torch.equal(answered(model, [3]), together[:1])
    assert torch.equal(answered(model, [3, 4]), together[:2])


def test_it_needs_to_be_told_what_the_encoder_read(tiny):
    model = load(tiny("t5-lm").folder, "float32")
    cache, memory = (StaticCache(model.backbone.decoder.config, 2, PLACES, dtype=torch.float32) for _ in range(2))
    step, zero = Decoder(model, cache, memory), torch.tensor([0])
    with pytest.raises(UsageError, match="memory of 2 slots; length_B says"):
        step(zero, zero)
    with pytest.raises(UsageError, match="1 tokens with 2 places"):
        step(zero, torch.tensor([0, 0]))
    for source, length, message in ((2, 1, "1 of 40 places of slot 2 of 2"), (0, 0, "0 of"), (1, 41, "41 of 40")):
        with pytest.raises(UsageError, match=f"{message}.*of the memory"):
            step(zero, zero, None, torch.tensor([source]), torch.tensor([length]))
    with pytest.raises(UsageError, match="has no memory; length_B"):
        Decoder(gpt := load(tiny("gpt2-lm").folder, "float32"), slots(gpt))(zero, zero, None, zero, zero + 1)


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted as Linux lists them")
def test_its_threads_go_when_it_goes(tiny):
    model = load(tiny("gpt2-lm").folder, "float32")
    before = threads()
    steps = [Decoder(model, slots(model), threads=3) for _ in range(4)]
    assert threads() == before + 8
    assert torch.equal(fed(steps[0], ids()), fed(steps[1], ids()))
    steps.clear()
    assert threads() == before


def test_a_decoder_dropped_at_once_or_after_one_step(tiny):
    """Threads that are late for a step, or come when all is over."""
    model = load(tiny("gpt2-lm").folder, "float32")
    held = slots(model)
    expected = fed(Decoder(model, held, threads=1), ids()[:, :1])
    for _ in range(100):
        Decoder(model, held, threads=4)
        assert torch.equal(fed(Decoder(model, held, threads=4), ids()[:, :1]), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_process_decodes_alone(tiny):
    """The threads stay with the parent; the child neither waits for them nor ends them."""
    model = load(tiny("gpt2-lm").folder, "float32")
    step = Decoder(model, slots(model), threads=3)
    expected = fed(step, ids())
    child = os.fork()
    if child == 0:
        same = torch.equal(fed(step, ids()), expected)
        del step
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert torch.equal(fed(step, ids()), expected)

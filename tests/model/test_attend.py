"""Attention over packed batches: every route against a loop over the sequences, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from graft.batch import Packed, pack
from graft.model import attend as kernels
from graft.model.attend import attend
from graft.model.layout import FILL, Layout

SHAPE = (3, 5)
SCALE = 0.37
BORDER = 96
LONG = BORDER + 1
SHORT_GROUPS = (7, 1, 60, 7, 8, 59, 2, 61, 7, 30)
CASES = {
    "one token": (1,),
    "equal lengths": (6, 6, 6),
    "sorted": (3, 4, 5, 40, 41),
    "short": SHORT_GROUPS,
    "at the border": (BORDER, 4, BORDER - 1),
    "one long": (LONG,),
    "long with filling": (LONG + 30, LONG, LONG + 20),
    "both kernels": (LONG + 9, 3, 4, LONG, 60, 2),
}


@pytest.fixture(autouse=True)
def border(monkeypatch: pytest.MonkeyPatch):
    """Let the fused kernel begin early, so that small cases reach it."""
    monkeypatch.setattr(kernels, "PLAIN_LONGEST", BORDER)


def draw(lengths: Sequence[int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    return [
        torch.randn(sum(lengths), *SHAPE, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()
        for _ in range(3)
    ]


def layout(lengths: Sequence[int], rows: int | None = None) -> Layout:
    return Layout(pack([[0] * length for length in lengths]), rows)


def naive(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Sequence[int],
    causal: bool,
    dropout: Callable[[Tensor], Tensor] = torch.ones_like,
) -> Tensor:
    """One sequence after the other, one head after the other, as the formula stands."""
    rows = []
    for one_q, one_k, one_v in zip(*(x.split(list(lengths)) for x in (q, k, v)), strict=True):
        heads = []
        for head in range(q.shape[1]):
            scores = one_q[:, head] @ one_k[:, head].T * SCALE
            if causal:
                scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
            weights = torch.softmax(scores, dim=-1)
            heads.append(weights * dropout(weights) @ one_v[:, head])
        rows.append(torch.stack(heads, dim=1))
    return torch.cat(rows)


def places(scores: Tensor) -> Tensor:
    """Dropout that is the same for every head and sequence, whatever block it lies in. Takes the plain route."""
    rows, columns = (torch.arange(size, dtype=scores.dtype) for size in scores.shape[-2:])
    return (1.5 * ((rows[:, None] + 2 * columns) % 3 > 0)).to(scores.dtype).expand(scores.shape)


def gradients(output: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad((output * weights).sum(), inputs)


@pytest.mark.parametrize("dropout", [None, places], ids=["by length", "plain with dropout"])
@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
@pytest.mark.parametrize("lengths", CASES.values(), ids=CASES)
def test_forward_and_gradient_are_those_of_a_loop(
    lengths: tuple[int, ...], causal: bool, dropout: Callable[[Tensor], Tensor] | None
):
    inputs = draw(lengths)
    found = attend(*inputs, layout(lengths), causal=causal, scale=SCALE, dropout=dropout)
    expected = naive(*inputs, lengths, causal, dropout or torch.ones_like)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients(found, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [CASES["short"], CASES["both kernels"]], ids=["short", "both kernels"])
def test_lower_precision(lengths: tuple[int, ...], causal: bool, dtype: torch.dtype):
    inputs = draw(lengths, dtype)
    found = attend(*inputs, layout(lengths), causal=causal, scale=SCALE)
    expected = naive(*(x.double() for x in inputs), lengths, causal)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6 if dtype == torch.float32 else 3e-2)


@pytest.mark.parametrize("causal", [False, True])
def test_low_scores_in_float16(causal: bool):
    """All near -15, whose exponentials are among the few smallest numbers float16 has."""
    lengths = CASES["short"]
    q, k, v = (x.detach() for x in draw(lengths, torch.float16))
    q[..., 0], k[..., 0] = 1.0, -15 / SCALE
    found = attend(q, k, v, layout(lengths), causal=causal, scale=SCALE)
    expected = naive(q.double(), k.double(), v.double(), lengths, causal)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=3e-2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [(2, 3), (4, 1, 3)])
def test_gradcheck(lengths: tuple[int, ...], causal: bool):
    how = layout(lengths)
    assert torch.autograd.gradcheck(lambda *qkv: attend(*qkv, how, causal=causal, scale=SCALE), draw(lengths))


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(0, 9))
def test_blocks_hold_little_filling_and_give_all_back(lengths: list[int], spare: int):
    """Within FILL of what a group needs, then rounded up so that few shapes serve all batches."""
    blocks = layout(lengths, sum(lengths) + spare).blocks
    x = torch.randn(sum(lengths) + spare, 2, 3)
    x[sum(lengths) :] = 0
    laid = blocks.queries.lay(x)
    assert sorted(number for group in blocks.queries.order for number in group) == list(range(len(lengths)))
    for group, part in zip(blocks.queries.order, laid, strict=True):
        own = [lengths[number] for number in group]
        sequences, longest, heads, size = part.shape
        assert (heads, size) == (2, 3)
        assert len(own) * max(own) <= FILL * sum(own)
        assert max(own) <= longest < max(own) + 8
        assert len(own) <= sequences < len(own) + 4
    assert torch.equal(blocks.queries.gather(laid), x)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 8, 9])
def test_equal_lengths_are_one_block(count: int):
    [part] = layout([9] * count).blocks.queries.lay(torch.randn(9 * count, 2, 3))
    assert part.shape[0] >= count


@pytest.mark.parametrize("spare", [0, 3])
@pytest.mark.parametrize("lengths", [(3, 3), (8, 7), (4, 1, 4, 5), (1, 9, 2)])
def test_gradients_of_the_ways_there_and_back(lengths: tuple[int, ...], spare: int):
    """Filling is hidden by the mask, so the way there leaves it out of the gradient."""
    blocks = layout(lengths, sum(lengths) + spare).blocks
    x = torch.randn(sum(lengths) + spare, 2, 3, dtype=torch.float64, requires_grad=True)
    real = [torch.zeros_like(part) for part in blocks.queries.lay(x)]
    for group, part in zip(blocks.queries.order, real, strict=True):
        for row, number in enumerate(group):
            part[row, : lengths[number]] = 1

    def there(x: Tensor) -> Tensor:
        return torch.cat([(part * one).flatten() for part, one in zip(blocks.queries.lay(x), real, strict=True)])

    def there_and_back(x: Tensor) -> Tensor:
        return blocks.queries.gather(blocks.queries.lay(x))

    assert torch.autograd.gradcheck(there, x)
    assert torch.autograd.gradcheck(there_and_back, x)


@pytest.mark.parametrize("causal", [False, True])
def test_rows_beyond_the_tokens_change_nothing_and_stay_zero(causal: bool):
    lengths = CASES["both kernels"]
    inputs = draw(lengths)
    expected = attend(*inputs, layout(lengths), causal=causal, scale=SCALE)
    more = [torch.cat([x, torch.zeros(5, *SHAPE, dtype=x.dtype)]) for x in inputs]
    found = attend(*more, layout(lengths, sum(lengths) + 5), causal=causal, scale=SCALE)
    assert torch.equal(found[:-5], expected)
    assert not found[-5:].any()


@pytest.mark.parametrize("dropout", [None, places], ids=["kept", "dropout"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shift", [-2000.0, -90.0, 0.0, 90.0, 2000.0])
@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_scores_of_any_size(spread: float, shift: float, causal: bool, dropout: Callable[[Tensor], Tensor] | None):
    """exp of a score can overflow or vanish; what comes out, and its gradient, is right all the same."""
    lengths = (5, 12, 7, 3)
    q, k, v = draw(lengths, torch.float32)
    with torch.no_grad():
        q[..., 0], k[..., 0] = 1.0, shift
        k[..., 1:] *= spread
    inputs = [q, k, v]
    found = attend(*inputs, layout(lengths), causal=causal, scale=SCALE, dropout=dropout)
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    expected = naive(*doubles, lengths, causal, dropout or torch.ones_like)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=5e-3)
    wanted = gradients(expected, doubles)
    largest = max(float(gradient.abs().max()) for gradient in wanted)
    for ours, theirs in zip(gradients(found, inputs), wanted, strict=True):
        torch.testing.assert_close(ours.double() / largest, theirs / largest, rtol=0, atol=5e-3)


@pytest.mark.parametrize("cached", [(0, 0, 0), (3, 0, 7), (9, 5, 1)])
def test_queries_against_cache_slots(cached: tuple[int, ...]):
    """Slots hold old keys, new keys, and then anything at all: what lies behind a query is hidden."""
    new, slots = (2, 4, 1), 12
    totals = [old + fresh for old, fresh in zip(cached, new, strict=True)]
    q, k, v = (x.detach() for x in draw(totals))
    k_BMHK, v_BMHK = torch.full((2, 3, slots, *SHAPE), 1e4, dtype=torch.float64)
    for number, (one_k, one_v) in enumerate(zip(k.split(totals), v.split(totals), strict=True)):
        k_BMHK[number, : totals[number]], v_BMHK[number, : totals[number]] = one_k, one_v
    expected = naive(q, k, v, totals, True).split(totals)
    how = Layout(pack([[0] * length for length in new], start=cached))
    fresh = torch.cat([one[old:] for one, old in zip(q.split(totals), cached, strict=True)])
    found = attend(fresh, k_BMHK.transpose(1, 2), v_BMHK.transpose(1, 2), how, causal=True, scale=SCALE)
    wanted = torch.cat([one[old:] for one, old in zip(expected, cached, strict=True)])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


class Calls(TorchDispatchMode):
    """The arguments, by name, of the calls of one operator."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.arguments = name, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name() == self.name:
            self.arguments.append(dict(zip((one.name for one in func._schema.arguments), args, strict=False)))
        return func(*args, **kwargs or {})


def on_a_gpu(*lengths: int) -> Packed:
    batch = Packed(torch.zeros(sum(lengths), device="cuda"), torch.zeros(len(lengths), device="cuda"))
    batch.__dict__["lengths"] = lengths
    return batch


@pytest.mark.parametrize("keys", [2, 4], ids=["shared keys", "own keys"])
@pytest.mark.parametrize(("causal", "window", "seen"), [(False, 0, [-1, -1]), (True, 0, [-1, 0]), (True, 3, [2, 0])])
def test_what_variable_length_kernels_are_told(causal: bool, window: int, seen: list[int], keys: int):
    """On tensors of a GPU that are all shape and no numbers, which torch checks as far as its operator says."""
    with FakeTensorMode(), Calls("torch_attn::_varlen_attn") as calls:
        q_THK = torch.empty(9, 4, 64, device="cuda", dtype=torch.bfloat16)
        k_SGK = torch.empty(12, keys, 64, device="cuda", dtype=torch.bfloat16)
        how = Layout(on_a_gpu(3, 6), memory=on_a_gpu(5, 7))
        found = attend(q_THK, k_SGK, k_SGK, how, causal=causal, scale=SCALE, window=window)
    assert (found.shape, found.dtype, found.device.type) == (q_THK.shape, torch.bfloat16, "cuda")
    [told] = calls.arguments
    assert (told["cu_seq_q"].shape, told["cu_seq_k"].dtype) == ((3,), torch.int32)
    assert [told[name] for name in ("max_q", "max_k", "scale")] == [6, 7, SCALE]
    assert list(told["window_size"]) == seen


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", CASES.values(), ids=CASES)
def test_variable_length_kernels(lengths: tuple[int, ...], causal: bool, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(7)
    inputs = [torch.randn(sum(lengths), 4, 64, generator=generator).to("cuda", dtype) for _ in range(3)]
    batch = pack([[0] * length for length in lengths]).to("cuda")
    found = attend(*inputs, Layout(batch), causal=causal, scale=SCALE)
    expected = naive(*(x.double().cpu() for x in inputs), lengths, causal)
    torch.testing.assert_close(found.double().cpu(), expected, rtol=0, atol=3e-2)

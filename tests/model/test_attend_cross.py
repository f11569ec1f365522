"""Attention with a bias, across two batches, with shared heads of keys and in windows: against a loop, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from graft.batch import Packed, pack
from graft.model import attend as kernels
from graft.model.attend import attend
from graft.model.layout import Blocks, Layout, Look

HEADS, SIZE, SCALE = 4, 5, 0.37
REACH = 64
BORDER = 40
SHORT = (7, 1, 30, 7, 8, 29, 2, 31, 7, 3)
LONG = (BORDER + 9, 3, 4, BORDER + 1, 60, 2)
PAIRS = {
    "one": ((3,), (5,)),
    "few": ((7, 1, 8, 2), (3, 9, 1, 30)),
    "short": (SHORT, SHORT[::-1]),
    "queries beyond the plain kernel": (LONG, (5, 5, 2, 9, 1, 8)),
    "keys beyond the plain kernel": ((2, 1, 5, 7, 3, 4), LONG),
}


@pytest.fixture(autouse=True)
def border(monkeypatch: pytest.MonkeyPatch):
    """Let the fused kernel begin early, so that small cases reach it."""
    monkeypatch.setattr(kernels, "PLAIN_LONGEST", BORDER)


class Distances:
    """A number for each head and distance of key from query, read off one element at a time."""

    def __init__(self, table_HR: Tensor) -> None:
        self.table_HR = table_HR

    def at(self, query_L: Tensor, key_M: Tensor) -> Tensor:
        return self.table_HR[:, (key_M - query_L[:, None] + REACH).clamp(max=2 * REACH - 1)]

    def block(self, q_BLHK: Tensor, blocks: Blocks, number: int) -> Tensor:
        longest = blocks.keys.shapes[number].longest
        return self.at(torch.arange(q_BLHK.shape[1]), torch.arange(longest))[None]

    def slots(self, look: Look) -> Tensor:
        return torch.stack([self.at(position_L, torch.arange(look.length)) for position_L in look.position_BL])


class EachItsOwn(Distances):
    """The same, times the number of the sequence in its block."""

    def block(self, q_BLHK: Tensor, blocks: Blocks, number: int) -> Tensor:
        shared = super().block(q_BLHK, blocks, number)
        real = torch.tensor(blocks.queries.order[number], dtype=shared.dtype)
        numbers_B = torch.cat([real, real.new_zeros(len(q_BLHK) - len(real))])
        return shared * numbers_B[:, None, None, None]


def batch(lengths: Sequence[int], start: Sequence[int] | None = None) -> Packed:
    return pack([[0] * length for length in lengths], start=start)


def draw(queries: int, keys: int, groups: int = HEADS) -> list[Tensor]:
    """q, k, v and a table of biases."""
    generator = torch.Generator().manual_seed(queries + keys)
    shapes = ((queries, HEADS, SIZE), (keys, groups, SIZE), (keys, groups, SIZE), (HEADS, 2 * REACH))
    return [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


def naive(
    inputs: Sequence[Tensor],
    queries: Sequence[int],
    keys: Sequence[int],
    *,
    causal: bool = False,
    window: int = 0,
    bias: bool = True,
    numbered: bool = False,
) -> Tensor:
    """One sequence after the other, one head after the other, as the formula stands."""
    q, k, v, table = inputs
    group, found = HEADS // k.shape[1], []
    parts = zip(q.split(list(queries)), k.split(list(keys)), v.split(list(keys)), strict=True)
    for number, (one_q, one_k, one_v) in enumerate(parts):
        away = torch.arange(len(one_k)) - torch.arange(len(one_q))[:, None]
        unseen = (away > 0) & causal | (away <= -(window or REACH)) & causal
        heads = []
        for head in range(HEADS):
            scores = one_q[:, head] @ one_k[:, head // group].T * SCALE
            if bias:
                scores = scores + table[head, away + REACH] * (number if numbered else 1)
            weights = torch.softmax(scores.masked_fill(unseen, float("-inf")), dim=-1)
            heads.append(weights @ one_v[:, head // group])
        found.append(torch.stack(heads, dim=1))
    return torch.cat(found)


def compare(found: Tensor, expected: Tensor, inputs: Sequence[Tensor]) -> None:
    """Equal, and equal gradients; an input the one does not use, the other does not either."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view_as(found)
    ours, theirs = (
        torch.autograd.grad((one * weights).sum(), inputs, allow_unused=True, materialize_grads=True)
        for one in (found, expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert all(grad.abs().max() > 0 for grad in ours[:3])


@pytest.mark.parametrize("groups", [HEADS, 2, 1])
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize(("queries", "keys"), PAIRS.values(), ids=PAIRS)
def test_queries_and_keys_of_two_batches(queries: tuple[int, ...], keys: tuple[int, ...], bias: bool, groups: int):
    inputs = draw(sum(queries), sum(keys), groups)
    layout = Layout(batch(queries), memory=batch(keys))
    added = Distances(inputs[3]) if bias else None
    found = attend(*inputs[:3], layout, causal=False, scale=SCALE, bias=added)
    compare(found, naive(inputs, queries, keys, bias=bias), inputs)


@pytest.mark.parametrize("groups", [HEADS, 2])
@pytest.mark.parametrize(
    ("causal", "window"), [(False, 0), (True, 0), (True, 4)], ids=["both ways", "causal", "window"]
)
@pytest.mark.parametrize("lengths", [SHORT, LONG], ids=["short", "both kernels"])
def test_bias_within_one_batch(lengths: tuple[int, ...], causal: bool, window: int, groups: int):
    inputs = draw(sum(lengths), sum(lengths), groups)
    how = {"causal": causal, "window": window}
    found = attend(*inputs[:3], Layout(batch(lengths)), scale=SCALE, bias=Distances(inputs[3]), **how)
    compare(found, naive(inputs, lengths, lengths, **how), inputs)


@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
@pytest.mark.parametrize("lengths", [SHORT, LONG], ids=["short", "both kernels"])
def test_bias_of_each_sequence_its_own(lengths: tuple[int, ...], causal: bool):
    inputs = draw(sum(lengths), sum(lengths))
    found = attend(*inputs[:3], Layout(batch(lengths)), causal=causal, scale=SCALE, bias=EachItsOwn(inputs[3]))
    compare(found, naive(inputs, lengths, lengths, causal=causal, numbered=True), inputs)


@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("window", [0, 5])
@pytest.mark.parametrize("lengths", [SHORT, LONG], ids=["short", "both kernels"])
def test_windows_and_groups_without_bias(lengths: tuple[int, ...], window: int, groups: int):
    inputs = draw(sum(lengths), sum(lengths), groups)
    found = attend(*inputs[:3], Layout(batch(lengths)), causal=True, scale=SCALE, window=window)
    compare(found, naive(inputs, lengths, lengths, causal=True, window=window, bias=False), inputs)


@pytest.mark.parametrize("spare", [1, 60])
def test_rows_beyond_the_tokens_of_queries_and_of_keys(spare: int):
    """Nobody looks at them, and they stay zero."""
    queries, keys = PAIRS["few"]
    inputs = draw(sum(queries), sum(keys))
    more = [torch.cat([x, x.new_full((spare, *x.shape[1:]), 1e4)]) for x in inputs[:3]]
    layout = Layout(batch(queries), sum(queries) + spare, memory=batch(keys))
    found = attend(*more, layout, causal=False, scale=SCALE, bias=Distances(inputs[3]))
    assert not found[sum(queries) :].any()
    compare(found[: sum(queries)], naive(inputs, queries, keys), inputs)


@pytest.mark.parametrize("bias_size", [1e3, -1e3])
def test_bias_beyond_what_an_exponential_holds(bias_size: float):
    inputs = draw(sum(SHORT), sum(SHORT))
    with torch.no_grad():
        inputs[3] += bias_size
    found = attend(*inputs[:3], Layout(batch(SHORT)), causal=True, scale=SCALE, bias=Distances(inputs[3]))
    torch.testing.assert_close(found, naive(inputs, SHORT, SHORT, causal=True), rtol=0, atol=1e-10)


@pytest.mark.parametrize("groups", [HEADS, 2])
@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("held", [(0, 0, 0), (3, 0, 7), (9, 5, 1)])
def test_slots_of_a_cache_with_bias(held: tuple[int, ...], window: int, groups: int):
    new, slots = (2, 4, 1), 12
    totals = [old + fresh for old, fresh in zip(held, new, strict=True)]
    inputs = [x.detach() for x in draw(sum(totals), sum(totals), groups)]
    k_BMGK, v_BMGK = torch.full((2, 3, slots, groups, SIZE), 1e4, dtype=torch.float64)
    for number, (k, v) in enumerate(zip(inputs[1].split(totals), inputs[2].split(totals), strict=True)):
        k_BMGK[number, : totals[number]], v_BMGK[number, : totals[number]] = k, v
    fresh = torch.cat([one[old:] for one, old in zip(inputs[0].split(totals), held, strict=True)])
    layout, bias = Layout(batch(new, held)), Distances(inputs[3])
    found = attend(
        fresh,
        k_BMGK.transpose(1, 2),
        v_BMGK.transpose(1, 2),
        layout,
        causal=True,
        scale=SCALE,
        window=window,
        bias=bias,
    )
    expected = naive(inputs, totals, totals, causal=True, window=window).split(totals)
    wanted = torch.cat([one[old:] for one, old in zip(expected, held, strict=True)])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("groups", [HEADS, 2])
@pytest.mark.parametrize("start", [None, (3, 0, 9, 40)])
def test_slots_that_hold_the_keys_of_other_sequences(start: tuple[int, ...] | None, groups: int):
    """All of a sequence's own slots are seen, wherever the queries stand; what lies behind them is not."""
    queries, keys = PAIRS["few"]
    inputs = [x.detach() for x in draw(sum(queries), sum(keys), groups)]
    k_BMGK, v_BMGK = torch.full((2, len(keys), 32, groups, SIZE), 1e4, dtype=torch.float64)
    for number, (k, v) in enumerate(zip(inputs[1].split(keys), inputs[2].split(keys), strict=True)):
        k_BMGK[number, : len(k)], v_BMGK[number, : len(v)] = k, v
    layout = Layout(batch(queries, start), memory=batch(keys))
    found = attend(inputs[0], k_BMGK.transpose(1, 2), v_BMGK.transpose(1, 2), layout, causal=False, scale=SCALE)
    torch.testing.assert_close(found, naive(inputs, queries, keys, bias=False), rtol=0, atol=1e-12)

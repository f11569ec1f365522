"""Packed batches: what is derived from lengths, what is refused, and how sequences are planned into batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.batch import Packed, by_length, in_order, pack
from graft.errors import DataError

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@given(lengths=LENGTHS, cached=st.lists(st.integers(0, 9), min_size=12, max_size=12))
def test_what_is_derived_from_lengths(lengths: list[int], cached: list[int]):
    sequences = [[100 * number + place for place in range(length)] for number, length in enumerate(lengths)]
    batch = pack(sequences, start=cached[: len(lengths)])
    assert batch.ids_T.tolist() == [token for one in sequences for token in one]
    assert batch.lengths == tuple(lengths) == tuple(batch.lengths_B.tolist())
    assert batch.longest == max(lengths)
    assert batch.ids_T[batch.first_B].tolist() == [one[0] for one in sequences]
    assert batch.ids_T[batch.last_B].tolist() == [one[-1] for one in sequences]
    assert batch.cumulative_B.tolist() == [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    assert batch.cumulative_B.dtype == torch.int32
    assert batch.owner_T.tolist() == [n for n, length in enumerate(lengths) for _ in range(length)]
    assert batch.position_T.tolist() == [cached[n] + place for n, one in enumerate(lengths) for place in range(one)]
    assert pack(sequences).position_T.tolist() == [place for one in lengths for place in range(one)]


def test_lengths_are_read_from_the_tensor_where_pack_did_not_make_the_batch():
    batch = Packed(torch.arange(5), torch.tensor([2, 3]))
    assert (batch.lengths, batch.longest, batch.last_B.tolist()) == ((2, 3), 3, [1, 4])


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (None, None),
        ([None, None], None),
        ([[0, 1], None], [0, 1, 0, 0, 0]),
        ([None, [1, 0, 1]], [0, 0, 1, 0, 1]),
        ([(0, 1), (1, 1, 1)], [0, 1, 1, 1, 1]),
    ],
)
def test_types(types: list[list[int] | None] | None, expected: list[int] | None):
    found = pack([[5, 6], [7, 8, 9]], types).types_T
    assert (None if found is None else found.tolist()) == expected


@pytest.mark.parametrize(
    "sequence",
    [(3, 4), np.array([3, 4]), np.array([3, 4], np.uint8), torch.tensor([3, 4]), range(3, 5), [np.int32(3), 4]],
    ids=lambda sequence: type(sequence).__name__,
)
def test_any_sequence_of_whole_numbers(sequence: object):
    batch = pack([sequence, [5]])  # type: ignore[list-item]
    assert (batch.ids_T.tolist(), batch.ids_T.dtype) == ([3, 4, 5], torch.int64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequences": []}, "nothing to pack: no sequences at all"),
        ({"sequences": [[1], [], [2]]}, "nothing to pack: sequence 1 of 3 has no tokens"),
        ({"sequences": [[1.7, 2]]}, "token ids must be whole numbers, found float64"),
        ({"sequences": ["ab"]}, "token ids must be whole numbers, found <U1"),
        ({"sequences": [[None]]}, "token ids must be whole numbers, found object"),
        ({"sequences": [[2**63]]}, "token ids must be whole numbers, found uint64"),
        ({"sequences": [[[[1]], [[2]]]]}, r"token ids must be whole numbers, found int64 of shape \(2, 1, 1\)"),
        ({"sequences": [[[1.5], [2]]]}, "token ids must be whole numbers, found float64"),
        ({"sequences": [[1]], "start": [[5]]}, r"starts must be whole numbers, found int64 of shape \(1, 1\)"),
        ({"sequences": [[[1], [2, 3]]]}, "token ids must be whole numbers, found lists"),
        ({"sequences": [[1, 2]], "types": [[0]]}, "token types for sequences of 1 tokens, the sequences have 2"),
        ({"sequences": [[1, 2]], "types": [[0, 0], None]}, "token types for sequences of 2 tokens"),
        ({"sequences": [[1, 2], [3]], "types": [[0, 0]]}, "token types for sequences of 2 tokens, .* have 2, 1"),
        ({"sequences": [[1]] * 9, "types": [[0, 0]] * 9}, r"have 1, 1, 1, 1, 1, 1, 1, 1, \.\.\."),
        ({"sequences": [[1, 2]], "types": [[0, 0.5]]}, "token types must be whole numbers"),
        ({"sequences": [[1], [2]], "start": [3]}, "1 starts for 2 sequences"),
        ({"sequences": [[1]], "start": [0.5]}, "starts must be whole numbers"),
    ],
)
def test_what_cannot_be_packed(arguments: dict[str, object], message: str):
    with pytest.raises(DataError, match=message):
        pack(**arguments)  # type: ignore[arg-type]


def test_characters_of_words():
    batch = pack([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9]]])
    assert batch.ids_T.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert (batch.lengths, batch.owner_T.tolist(), batch.position_T.tolist()) == ((2, 1), [0, 0, 1], [0, 1, 0])


def test_a_batch_on_its_own_device_is_itself():
    batch = pack([[1, 2], [3]])
    assert batch.to("cpu") is batch


def test_a_batch_moves_whole():
    batch = pack([[1, 2], [3]], [[0, 1], [1]], [4, 5])
    moved = batch.to("meta")  # a device every machine has
    assert moved.lengths == (2, 1)
    tensors = (moved.ids_T, moved.lengths_B, moved.types_T, moved.start_B)
    assert [(one.device.type, tuple(one.shape)) for one in tensors if one is not None] == [
        ("meta", (3,)),
        ("meta", (2,)),
        ("meta", (3,)),
        ("meta", (2,)),
    ]
    bare = pack([[1]]).to("meta")
    assert (bare.types_T, bare.start_B) == (None, None)


@given(lengths=st.lists(st.integers(1, 300)), tokens=st.integers(1, 400))
def test_plans_hold_every_sequence_once_within_the_budget(lengths: list[int], tokens: int):
    shuffled = sorted(range(len(lengths)), key=lambda index: hash((index, tokens)))
    for plan, order in ((by_length(lengths, tokens), None), (in_order(shuffled, lengths, tokens), shuffled)):
        flat = [index for indices in plan for index in indices]
        assert sorted(flat) == list(range(len(lengths)))
        held = [sum(lengths[index] for index in indices) for indices in plan]
        assert all(total <= tokens or len(indices) == 1 for total, indices in zip(held, plan, strict=True))
        # As few as the order allows: the next sequence would not have fitted.
        assert all(total + lengths[following[0]] > tokens for total, following in zip(held, plan[1:], strict=False))
        if order is None:
            assert [lengths[index] for index in flat] == sorted(lengths, reverse=True)
        else:
            assert flat == order

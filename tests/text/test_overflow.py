"""Which tokens of a long text are read: nothing dropped that is not counted, whatever the lengths."""

from __future__ import annotations

from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from graft.errors import DataError, UsageError
from graft.text import Encoding, Frame, Tokenizer, overflow

WORDS = [f"w{number}" for number in range(300)]
FRAME = Frame(start=("[CLS]",), between=("[SEP]",), end=("[SEP]",), types=True)


@pytest.fixture(scope="module")
def numbered() -> Tokenizer:
    """Each word is a token of its own."""
    vocabulary = {name: number for number, name in enumerate(["[UNK]", "[CLS]", "[SEP]", *WORDS])}
    library = tokenizers.Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    return Tokenizer(library, FRAME)


def words(count: int, first: int = 0) -> str:
    return " ".join(WORDS[first : first + count])


def places(encoding: Encoding, segment: int) -> list[tuple[int, tuple[int, int]]]:
    """Token ids and offsets of one of the texts."""
    assert encoding.offsets is not None
    assert encoding.segments is not None
    every = zip(encoding.ids, encoding.offsets, encoding.segments, strict=True)
    return [(token, place) for token, place, of in every if of == segment]


texts = st.one_of(
    st.integers(0, 150).map(words),
    st.tuples(st.integers(0, 150).map(words), st.integers(0, 150).map(lambda n: words(n, 150))),
)


@given(text=texts, limit=st.integers(6, 60))
def test_every_token_is_in_a_window(numbered: Tokenizer, text: Any, limit: int):
    whole = numbered.encode([text], offsets=True)[0]
    windows = numbered.windows([text], limit=limit, offsets=True)[0]
    assert all(len(one.ids) <= limit and one.truncated_tokens == 0 for one in windows)
    assert len(windows) == 1 or len(whole.ids) > limit
    for segment in (0, 1) if isinstance(text, tuple) else (0,):
        every, seen = places(whole, segment), set()
        for window in windows:
            own = places(window, segment)
            start = every.index(own[0]) if own else 0
            assert own == every[start : start + len(own)], "a window is a stretch of the text, offsets and all"
            assert all(
                (kind == 1) == (of == 1) for kind, of in zip(window.types, window.segments, strict=True) if of >= 0
            )
            seen.update(range(start, start + len(own)))
        assert seen == set(range(len(every)))


@given(count=st.integers(1, 300), limit=st.integers(6, 60))
def test_windows_share_a_quarter_and_are_full(numbered: Tokenizer, count: int, limit: int):
    windows, room = numbered.windows([words(count)], limit=limit)[0], limit - 2
    if len(windows) > 1:
        assert {len(one.ids) for one in windows} == {limit}
        for first, second in zip(windows, windows[1:], strict=False):
            assert len(set(first.ids[1:-1]) & set(second.ids[1:-1])) >= room // 4
        assert len(windows) <= -(-(count - room) // (room - room // 4)) + 1, "no more than it takes"


@given(text=texts, limit=st.integers(6, 60))
def test_head_tail_counts_what_it_leaves_out_of_the_middle(numbered: Tokenizer, text: Any, limit: int):
    whole = numbered.encode([text], offsets=True)[0]
    cut = numbered.encode([text], limit=limit, overflow="head_tail", offsets=True)[0]
    plain = numbered.encode([text], limit=limit)[0]
    assert len(cut.ids) == min(limit, len(whole.ids)) == len(plain.ids)
    assert cut.truncated_tokens == len(whole.ids) - len(cut.ids) == plain.truncated_tokens
    assert cut.types == plain.types
    for segment in (0, 1):
        every, own = places(whole, segment), places(cut, segment)
        head = next((n for n in range(len(own)) if own[n] != every[n]), len(own))
        assert own[head:] == every[len(every) - (len(own) - head) :]
        if 2 <= len(own) < len(every):
            assert 1 <= head < len(own), "beginning and end are both there"


def test_the_shares_of_sun_et_al():
    assert overflow.head_tail([1000], 510) == (((0, 128), (618, 1000)),)
    assert overflow.head_tail([100], 40) == (((0, 10), (70, 100)),)
    assert overflow.head_tail([3, 100], 43) == (((0, 3),), ((0, 10), (70, 100)))
    assert overflow.head_tail([5], 1) == (((0, 1), (5, 5)),)


def test_a_short_text_of_a_pair_is_in_every_window():
    readings = overflow.windows([3, 40], 13)
    assert [reading[0] for reading in readings] == [((0, 3),)] * len(readings)
    assert [reading[1][0] for reading in readings] == [(0, 10), (7, 17), (15, 25), (22, 32), (30, 40)]


def test_two_long_texts_are_gone_through_side_by_side():
    readings = overflow.windows([40, 20], 20)
    assert {reading[1] for reading in readings} == {((0, 10),), ((5, 15),), ((10, 20),)}
    assert all(last - first == 10 for reading in readings for ((first, last),) in reading)


def test_a_text_that_fits_is_one_window(numbered: Tokenizer):
    given = [words(4), (words(2), words(3, 9))]
    assert numbered.windows(given, limit=8) == [[one] for one in numbered.encode(given)]
    assert numbered.windows(given) == [[one] for one in numbered.encode(given)]


def test_wrong_rules(numbered: Tokenizer):
    with pytest.raises(UsageError, match=r"overflow='window': .*windows\(\) gives several encodings of a text"):
        numbered.encode(["w1"], overflow="window")
    with pytest.raises(UsageError, match="overflow='headtail'.*head_tail"):
        numbered.encode(["w1"], overflow="headtail")
    for encode in (numbered.windows, lambda *given, limit: numbered.encode(*given, limit=limit, overflow="head_tail")):
        with pytest.raises(UsageError, match="the limit leaves room for 0 tokens beside the special tokens"):
            encode([words(9)], limit=2)
    with pytest.raises(DataError, match="write encode"):
        numbered.windows("w1 w2")

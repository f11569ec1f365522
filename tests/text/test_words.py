"""Words: the rule that splits text, and words as token ids, each at its place in the window it has most context in."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graft.errors import DataError, UsageError
from graft.families import bert, gpt2
from graft.text import Frame, Tokenizer
from graft.text.words import cut, encode, split


@pytest.mark.parametrize(
    "marked",
    [
        "Angela Merkel visited Paris~.",
        "Mr. O'Brien~'s U.S. trip (~10:30~)~...",
        "I do~n't know~; we~’re late~!",
        "AL-AIN~, United Arab Emirates 1996-12-06",
        "AT&T paid US$~3,000.50 (~5~%~) to bob_x@example.org and/or http://a.b/c?d=1~.",
        "J. Smith of Acme Inc. won in St. Louis",
        "'~Yes~,~' she said~: \"~no~\"~.",
        "Merkel 's car~, they 'll go",
        "the year 1996~.",
        "U.S.-led talks +44 .500 -~5 1,2 a~,~b",
        "Zürich café cafe\u0301 Ærø Владивосток 東~京~タワー",
        "👍🏽 👩‍👩‍👧~🇩🇪~🇫🇷 ❤️~☃",
        "naïve\u200bword end",
        "-- *** a~--~b",
        "x~… «~y~»",
    ],
)
def test_the_rule(marked: str):
    """A space stands for a space, ~ for the end of a word with none."""
    text = marked.replace("~", "")
    assert [text[first:end] for first, end in split(text)] == re.split("[ ~]", marked)


SIGNS = st.text(st.sampled_from("aZé\u0301 .,'’-$1 2:/\n\t\u200b\u200d\ufe0f👍🏽🇩東ß_@&!?\u00a0\x00"), max_size=40)


@given(st.one_of(SIGNS, st.text(max_size=60)))
@example("'s")
@example("Mr.")
@example("\u200d")
@example("a" * 5000 + "://")
def test_every_visible_sign_is_in_one_word(text: str):
    place = 0
    for first, end in [*split(text), (len(text), len(text))]:
        assert place <= first <= end
        assert all(_between(sign) for sign in text[place:first]), "a sign was lost"
        assert not any(_between(sign) for sign in text[first:end])
        place = end


def _between(sign: str) -> bool:
    """White space and control characters, as BERT's tokenizer has them."""
    return unicodedata.category(sign) in ("Cc", "Zs", "Zl", "Zp")


@given(SIGNS)
def test_words_do_not_change_when_they_stand_apart(text: str):
    words = [text[first:end] for first, end in split(text)]
    apart = " ".join(words)
    again = [apart[first:end] for first, end in split(apart)]
    assert "".join(again) == "".join(words)


# Windows


@given(st.integers(1, 400), st.integers(1, 60))
def test_windows_cover_all_with_overlap(tokens: int, room: int):
    found = list(cut(tokens, room))
    assert found[0][0] == 0
    assert found[-1][1] == tokens
    assert all(0 < end - first <= room for first, end in found)
    for (_, end), (first, _) in zip(found, found[1:], strict=False):
        assert end - first >= room // 4, "neighbours share too little"
    assert (len(found) == 1) == (tokens <= room)


@pytest.fixture(scope="module")
def letters(tiny: Callable[..., Any]) -> Tokenizer:
    return Tokenizer.from_folder(tiny("bert").folder, bert.FAMILY.frame)


@pytest.fixture(scope="module")
def bytewise(tiny: Callable[..., Any]) -> Tokenizer:
    return Tokenizer.from_folder(tiny("gpt2").folder, gpt2.FAMILY.frame)


def test_a_short_sentence_is_read_as_its_text(letters: Tokenizer):
    words = ["ab", "c", "def", "!"]
    (found,) = encode(letters, [words], limit=40)
    (whole,) = letters.encode([" ".join(words)])
    assert found.ids == [whole.ids]
    assert found.types == [whole.types]
    assert found.places == [(0, 1), (0, 3), (0, 4), (0, 7)]


def test_the_space_before_a_word_does_not_hide_it(bytewise: Tokenizer):
    (found,) = encode(bytewise, [["ab", "é", "👍🏽", "c"]])
    tokens = ["a", "b", " ", "é", "é", " ", *["👍🏽"] * 8, " ", "c"]
    assert len(found.ids[0]) == len(tokens)
    assert found.places == [(0, 0), (0, 3), (0, 6), (0, 15)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=40), st.integers(3, 30))
def test_every_word_is_answered_where_it_has_most_context(words: list[str], limit: int):
    library = test_every_word_is_answered_where_it_has_most_context.letters
    (found,) = encode(library, [words], limit=limit)
    (whole,) = encode(library, [words])
    room, tokens = limit - 2, len(whole.ids[0]) - 2
    cuts = list(cut(tokens, room))
    assert len(found.ids) == len(cuts)
    assert all(len(ids) <= limit for ids in found.ids)
    assert all(ids[0] == whole.ids[0][0] and ids[-1] == whole.ids[0][-1] for ids in found.ids)
    for (window, place), (_, all_in_one) in zip(found.places, whole.places, strict=True):
        assert found.ids[window][place] == whole.ids[0][all_in_one]
        token = all_in_one - 1
        assert cuts[window][0] + place - 1 == token

        def context(bounds: tuple[int, int], token: int = token) -> int:
            first, end = bounds
            return min(token - first if first else tokens, end - 1 - token if end < tokens else tokens)

        assert context(cuts[window]) == max(context(one) for one in cuts if one[0] <= token < one[1])


@pytest.fixture(autouse=True)
def _hand_over(letters: Tokenizer) -> None:
    test_every_word_is_answered_where_it_has_most_context.letters = letters


def test_a_word_longer_than_a_window(letters: Tokenizer):
    (found,) = encode(letters, [["a", "b" * 50, "c"]], limit=12)
    assert len(found.ids) > 4
    assert found.places[1] == (0, 2)
    assert found.places[2][0] == len(found.ids) - 1


def test_words_the_tokenizer_makes_nothing_of(letters: Tokenizer):
    (found,) = encode(letters, [["a", "\u200b", "b"]])
    assert found.places == [(0, 1), None, (0, 2)]
    (nothing,) = encode(letters, [["\u200b", "\u00ad"]])
    assert (nothing.ids, nothing.places) == ([], [None, None])
    bare = letters.with_frame(Frame())
    (empty,) = encode(bare, [["\u200b"]])
    assert (empty.ids, empty.places) == ([], [None])


def test_token_types_follow(tmp_path: Path, letters: Tokenizer):
    framed = letters.with_frame(Frame(end=("sep_token", "cls_token"), types=True, last_type=2))
    (found,) = encode(framed, [["abc", "defg"]], limit=6)
    assert [len(ids) for ids in found.ids] == [6, 6]
    assert found.types == [[0, 0, 0, 0, 0, 2]] * 2


def test_limits(letters: Tokenizer):
    with pytest.raises(UsageError, match="the limit of 2 tokens leaves no room beside 2 special tokens"):
        list(encode(letters, [["a", "b"]], limit=2))
    with pytest.raises(DataError, match=r"sentence 1 \(counting from 0\) has 6 tokens .* the limit is 5"):
        list(encode(letters, [["abc"], ["abcd"]], limit=5, overflow="error"))

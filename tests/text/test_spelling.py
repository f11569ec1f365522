"""How words get mistyped: the cheapest chain of edits beside a plain recursion, candidates, words run together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from graft.text import spelling
from graft.text.spelling import FAR, SOUND, SOUNDS, SWAP, Channel, stems
from graft.text.word_list import WordList, find

WORDS = ("receive", "phone", "their", "there", "letter", "night", "a", "don't", "believe", "ear", "physics", "run")
RULES = {pair for one, other in SOUNDS for pair in ((one, other), (other, one)) if pair[0]}


def edits(meant: str, typed: str, i: int, j: int) -> Iterator[tuple[int, int, float]]:
    """How many letters of each an edit covers, and its price."""
    if i:
        double = i > 1 and meant[i - 1] == meant[i - 2]
        lost = spelling.DOUBLE if double else spelling._alone(meant[i - 1], spelling.LOST, spelling.LOST_VOWEL)
        yield 1, 0, lost + (spelling.FIRST if i == 1 else 0)
    if j:
        double = j > 1 and typed[j - 1] == typed[j - 2]
        more = spelling.DOUBLE if double else spelling._alone(typed[j - 1], spelling.EXTRA, spelling.EXTRA_VOWEL)
        yield 0, 1, more + (spelling.FIRST if j == 1 else 0)
    if i and j:
        other = spelling._instead(meant[i - 1], typed[j - 1])
        yield 1, 1, other + (spelling.FIRST if i == j == 1 and other else 0)
    if i > 1 and j > 1 and meant[i - 2 : i] == typed[j - 1] + typed[j - 2]:
        yield 2, 2, SWAP + (spelling.FIRST if i == 2 else 0)
    for theirs, heard in RULES:
        if meant[:i].endswith(theirs) and typed[:j].endswith(heard):
            yield len(theirs), len(heard), SOUND


def plain_cost(meant: str, typed: str) -> float:
    """The same definition, letter by letter."""

    @cache
    def cost(i: int, j: int) -> float:
        return min((cost(i - back, j - other) + price for back, other, price in edits(meant, typed, i, j)), default=0.0)

    return cost(len(meant), len(typed))


@settings(max_examples=150, deadline=None)
@given(
    some.sampled_from(WORDS), some.lists(some.tuples(some.integers(0, 9), some.sampled_from("aeghnpft'r")), max_size=3)
)
def test_costs_are_those_of_a_plain_recursion(word: str, edits: list[tuple[int, str]]):
    typed = word
    for place, letter in edits:
        typed = typed[:place] + letter + typed[place + (len(letter) + place) % 2 :]
    if typed in WORDS or not typed:
        return
    channel = Channel(WordList(dict.fromkeys(WORDS, 1), "some"))
    found = dict(channel.candidates(typed))
    for meant, log in found.items():
        assert -log == pytest.approx(plain_cost(meant, typed), abs=1e-4)
        assert -log < FAR
    if (
        sum(
            max(word.count(sign), typed.count(sign)) - min(word.count(sign), typed.count(sign))
            for sign in {*word, *typed}
        )
        <= 4
    ):
        assert word in found or plain_cost(word, typed) >= FAR or abs(len(word) - len(typed)) > 3


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("recieve", "receive"),
        ("definately", "definitely"),
        ("accomodation", "accommodation"),
        ("seperate", "separate"),
        ("tommorow", "tomorrow"),
        ("goverment", "government"),
        ("fotograph", "photograph"),
        ("didnt", "didn't"),
        ("wich", "which"),
    ],
)
def test_common_slips_of_english(typed: str, meant: str):
    assert english().candidates(typed)[0][0] == meant


@cache
def english() -> Channel:
    return Channel(find("english"))


def test_candidates_are_ranked_by_how_likely_the_slip_and_the_word_are():
    channel = Channel(WordList({"dog": 1000, "dot": 10, "fog": 10, "elephant": 5}, "four"))
    found = channel.candidates("dof")
    assert found == (("dog", -spelling.NEAR), ("dot", -spelling.NEAR), ("fog", -2 * spelling.NEAR - spelling.FIRST))
    assert [word for word, _ in channel.candidates("dog")] == ["dot", "fog"]
    assert channel.candidates("qqqqqqqqq") == ()


def test_letters_of_other_languages():
    channel = Channel(WordList({"café": 3, "привет": 2, "straße": 1}, "three"))
    assert channel.candidates("cafe") == (("café", -spelling.ACCENT),)
    assert channel.candidates("прывет")[0][0] == "привет"
    assert channel.candidates("猫") == ()


def test_words_run_together():
    found = dict(english().splits("alot"))
    assert found["a lot"] == -spelling.JOINED_COMMON
    assert dict(english().splits("highfield"))["high field"] == -spelling.JOINED
    assert english().log_probability("a lot") == pytest.approx(
        english().words.log_probability("a") + english().words.log_probability("lot")
    )


def test_words_outside_the_list_look_like_words_to_different_degrees():
    channel = english()
    assert channel.log_unlisted("frobnicate") > channel.log_unlisted("qxzvkjwqpt")
    assert channel.log_unlisted("kowalski", name=True) > channel.log_unlisted("kowalski")
    assert channel.log_unlisted("retellings") > channel.log_unlisted("retellingz")


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("cats", ["cat"]),
        ("boxes", ["box", "boxe"]),
        ("parties", ["party", "partie"]),
        ("partys", []),
        ("untill", []),
        ("begining", ["begine"]),
        ("making", ["make"]),
        ("voteing", ["votee"]),
    ],
)
def test_regular_forms(word: str, found: list[str]):
    assert [*stems(word)] == found


def test_a_long_word_of_a_list_is_no_candidate_and_harms_nothing():
    channel = Channel(WordList({"x" * 60: 1, "cat": 1}, "two"))
    assert channel.candidates("caat")[0][0] == "cat"
    assert channel.candidates("x" * 59) == ()
    assert channel.candidates("") == ()

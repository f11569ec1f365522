"""Words of a text that may be mistyped: which they are, and how what was meant is spelled there."""

from __future__ import annotations

import time
from functools import cache

import pytest

from graft.text.spelling import Channel
from graft.text.suspects import Suspect, changed, find, like
from graft.text.word_list import english


@cache
def channel() -> Channel:
    return Channel(english())


def best(text: str, **options: bool) -> list[tuple[str, str]]:
    return [(text[one.start : one.end], one.choices[likeliest(one)]) for one in find(text, channel(), **options)]


def likeliest(one: Suspect) -> int:
    return max(range(len(one.choices)), key=lambda choice: one.channel[choice] + one.language[choice])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I recieved it.", [("recieved", "received")]),
        ("Definately! RECIEVED, recieved's", [("Definately", "Definitely"), ("recieved's", "received's")]),
        ("she went to Lodnon", [("Lodnon", "London")]),
        ("it is alot", [("alot", "a lot")]),
        ("we went to gether", [("to gether", "together")]),
        ("they havn’t", [("havn’t", "haven’t")]),
        ("meet Wojciechowski", [("Wojciechowski", "Wojciechowski")]),
        ("NASA, McIntyre, R2D2, see http://recieve.example and @freind", []),
        ("all of this is right, isn't it?", []),
        ("", []),
    ],
)
def test_what_is_put_right(text: str, found: list[tuple[str, str]]):
    assert best(text) == found


def test_capitals_throughout_are_read_as_words():
    assert best("I RECIEVED IT") == [("RECIEVED", "RECEIVED")]


def test_the_first_choice_is_what_stands_there():
    text = "to gether, definately and Foobarski’s"
    for one in find(text, channel()):
        assert one.choices[0] == text[one.start : one.end]
        assert len(one.choices) == len(one.channel) == len(one.language) >= 1


def test_a_word_that_comes_again_is_rather_meant():
    once = find("the scammer", channel())[0]
    thrice = find("the scammer, the scammer, the scammer", channel())
    assert len(thrice) == 3
    own = [one.channel[0] + one.language[0] for one in (once, thrice[0])]
    assert own[1] > own[0] + 2
    assert best("they recieve it. " * 40) == [("recieve", "receive")] * 40


def test_words_of_the_list_are_suspects_only_where_asked():
    text = "it is over their"
    assert find(text, channel()) == []
    found = {text[one.start : one.end]: one for one in find(text, channel(), real_words=True)}
    assert "there" in found["their"].choices
    assert found["their"].listed
    assert likeliest(found["their"]) == 0


def test_suspects_do_not_overlap():
    text = "to gether gether alot to morow"
    ends = [0]
    for one in find(text, channel(), real_words=True):
        assert one.start >= ends[-1]
        ends.append(one.end)


def test_case_and_apostrophe_are_kept():
    assert like("i'm", "Im") == "I'm"
    assert like("London", "lodnon") == "London"
    assert like("don't", "Don’tt") == "Don’t"


def test_the_changed_text():
    text = "teh cat, teh end"
    found = find(text, channel())
    assert changed(text, found, [1, 0]) == f"{found[0].choices[1]} cat, teh end"
    assert changed(text, [], []) == text


@pytest.mark.parametrize("text", ["a" * 200_000, "a-" * 100_000, "Ab " * 50_000, "a@" * 100_000, "x'" * 5_000 + "1"])
def test_strange_texts_take_no_longer_than_others(text: str):
    start = time.process_time()
    find(text, channel())
    assert time.process_time() - start < 30

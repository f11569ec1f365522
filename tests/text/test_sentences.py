"""Sentences of texts, with their places."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.text.sentences import sentences


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ", []),
        ("no mark at all", ["no mark at all"]),
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        ('He said "Go." Then he went.', ['He said "Go."', "Then he went."]),
        ("“Really?” she asked. Yes.", ["“Really?” she asked.", "Yes."]),
        ("Mr. Smith met Dr. J. R. Jones at 10 a.m. sharp.", ["Mr. Smith met Dr. J. R. Jones at 10 a.m. sharp."]),
        ("It cost $1.13bn. Sales rose 2.5% in v1.2.", ["It cost $1.13bn.", "Sales rose 2.5% in v1.2."]),
        ("So am I. You too.", ["So am I.", "You too."]),
        ("Wait... what? 42 is next.", ["Wait... what?", "42 is next."]),
        ("A heading\n\nText begins here.\nAnd goes on.", ["A heading", "Text begins here.", "And goes on."]),
        ("a line\nwithout an end\n \nanother", ["a line\nwithout an end", "another"]),
        ("今日は雨です。傘がない！「はい。」終わり", ["今日は雨です。", "傘がない！", "「はい。」", "終わり"]),
    ],
)
def test_sentences_end_where_they_do(text: str, expected: list[str]):
    assert split(text) == expected


@given(st.text(alphabet=string.ascii_letters + " .!?\n\"'()。…", max_size=200))
def test_nothing_but_space_is_lost_and_nothing_is_said_twice(text: str):
    spans = sentences(text)
    assert all(start < end for start, end in spans)
    assert all(first[1] <= second[0] for first, second in zip(spans, spans[1:], strict=False))
    assert "".join("".join(text[start:end].split()) for start, end in spans) == "".join(text.split())
    assert all(text[start:end] == text[start:end].strip() for start, end in spans)

"""Rows of words with tags: what is wrong with one, and which scheme all follow."""

from __future__ import annotations

from typing import Any

import pytest

from graft.data.tags import Tags, fault, of_one_scheme
from graft.text.tag_schemes import Span

COLUMNS = {"tokens": "tokens", "ner_tags": "ner_tags"}


@pytest.mark.parametrize(
    ("tokens", "tags", "reason"),
    [
        (["a", "b"], ["O", "B-X"], ""),
        (["a", "b"], ["O"], "2 words and 1 tags; expected one for each word"),
        (["a"], ["O", "O"], "1 words and 2 tags"),
        ([], [], "'tokens' is empty or missing, expected a list of words"),
        (None, ["O"], "'tokens' is empty or missing"),
        ("a b", ["O"], "'tokens' is a str, expected a list of words"),
        (["a", ""], ["O", "O"], "word 2 is empty, expected text"),
        (["a", " \u00a0"], ["O", "O"], "word 2 is empty"),
        (["a", 3], ["O", "O"], "word 2 is 3, expected text"),
        (["a", None], ["O", "O"], "word 2 is None, expected text"),
        (["a"], None, "'ner_tags' is missing, expected a list of tags"),
        (["a"], "O", "'ner_tags' is a str, expected a list of tags"),
        (
            ["a", "b"],
            [0, 3],
            "'ner_tags' holds numbers (0), which mean nothing without the list of names they count in",
        ),
        (["a", "b"], ["O", ""], "the tag of word 2 ('b') is empty or no name"),
        (["a"], [None], "the tag of word 1 ('a') is empty or no name"),
    ],
)
def test_one_row(tokens: Any, tags: Any, reason: str):
    found = fault(tokens, tags, COLUMNS)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_tags_do_not_matter_where_none_are_asked_for():
    assert fault(["a"], None, {"tokens": "tokens"}) == ""


def rows(*tags: str) -> list[tuple[int, list[str], list[str]]]:
    found, line = [], 1
    for one in tags:
        split = one.split()
        found.append((line, [f"w{number}" for number in range(len(split))], split))
        line += len(split) + 1
    return found


@pytest.mark.parametrize(
    ("given", "scheme", "kept"),
    [
        (("B-X I-X O", "O B-X"), "IOB2", ("B-X I-X O", "O B-X")),
        (("I-X I-X O", "I-X B-X"), "IOB1", ("B-X I-X O", "B-X B-X")),
        (("B-X E-X O", "S-X"), "BIOES", ("B-X E-X O", "S-X")),
        (("B-X L-X O", "U-X"), "BILOU", ("B-X L-X O", "U-X")),
        (("X X O",), "IO", ("X X O",)),
        (("NN VB",), "plain", ("NN VB",)),
        (("B I O", "O B"), "IOB2", ("B-entity I-entity O", "O B-entity")),
        (("O O",), "IO", ("O O",)),
    ],
)
def test_the_scheme_of_all(given: tuple[str, ...], scheme: str, kept: tuple[str, ...]):
    found, rejected = of_one_scheme(rows(*given), apart=True)
    assert rejected == []
    assert [str(tags) for _, _, tags in found] == list(kept)
    assert {tags.scheme for _, _, tags in found} == {scheme}


def test_entities_of_kept_tags():
    (first, second), _ = of_one_scheme(rows("I-X B-X O", "O I-X"), apart=True)
    assert first[2].spans() == [Span("X", 0, 1), Span("X", 1, 2)]
    assert second[2].spans() == [Span("X", 1, 2)]
    (bare, lone), _ = of_one_scheme(rows("B I O", "O B"), apart=True)
    assert bare[2].spans() == [Span("entity", 0, 2)]
    assert lone[2].spans() == [Span("entity", 1, 2)]
    assert isinstance(hash(lone[2]), int)
    assert isinstance(lone[2], Tags)


@pytest.mark.parametrize(
    ("broken", "place", "reason"),
    [
        ("O I-X", 1, "word 2 ('w1'): 'I-X' cannot follow 'O' in IOB2, which most sentences follow"),
        ("I-X O", 0, "word 1 ('w0'): 'I-X' cannot begin a sentence in IOB2, which most sentences follow"),
        ("B-X I-Y", 1, "word 2 ('w1'): 'I-Y' cannot follow 'B-X' in IOB2"),
        ("O O PERSON", 2, "word 3 ('w2'): 'PERSON' is no tag of IOB2, which other tags follow"),
    ],
)
def test_a_sentence_that_breaks_it(broken: str, place: int, reason: str):
    every = rows("B-X I-X", "B-Y I-Y", "B-X", broken)
    found, (reject,) = of_one_scheme(every, apart=True)
    assert len(found) == 3
    assert reject.reason.startswith(reason)
    assert reject.line == every[-1][0] + place
    _, (reject,) = of_one_scheme(every, apart=False)
    assert reject.line == every[-1][0]


def test_the_end_of_a_sentence_is_named():
    _, (reject,) = of_one_scheme(rows("B-X E-X", "S-X", "O B-X"), apart=True)
    assert reject.reason == "word 2 ('w1'): 'B-X' cannot end a sentence in BIOES, which most sentences follow"

"""Words as character ids, as bilm-tf's UnicodeCharsVocabulary gives them."""

from __future__ import annotations

import pytest

from graft.text.characters import character_ids, spell

BEGIN, END, PAD = 259, 260, 261


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("cat", [BEGIN, 100, 98, 117, END]),
        ("é", [BEGIN, 0xC3 + 1, 0xA9 + 1, END]),
        ("\0ÿ", [BEGIN, 1, 0xC3 + 1, 0xBF + 1, END]),
        ("a\udc80b", [BEGIN, 98, 99, END]),
        ("<S>", [BEGIN, 257, END]),
        ("</S>", [BEGIN, 258, END]),
        ("<s>", [BEGIN, 61, 116, 63, END]),
        ("x" * 48, [BEGIN, *[121] * 48, END]),
        ("x" * 49, [BEGIN, *[121] * 48, END]),
        ("日" * 17, [BEGIN, *[b + 1 for b in ("日" * 16).encode()], END]),
    ],
)
def test_a_word(word: str, expected: list[int]):
    assert spell(word) == expected + [PAD] * (50 - len(expected))


def test_a_sequence_gets_the_marks_of_a_sentence():
    assert character_ids(0, ["a", "b"]) == [spell("<S>"), spell("a"), spell("b"), spell("</S>")]
    ids = character_ids(0, ["a"])
    assert character_ids(0, ids) == ids

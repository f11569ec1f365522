"""Limits of words and characters: never more, and cut where it reads well."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.errors import UsageError
from graft.writing.length import Length

TEXT = "The council met on Monday. It agreed to mend the bridge, which had been closed since spring. Work begins soon."


@pytest.mark.parametrize(
    ("limit", "kept", "told"),
    [
        ({}, TEXT, ""),
        ({"characters": len(TEXT)}, TEXT, ""),
        ({"words": 99}, TEXT, ""),
        ({"characters": 30}, "The council met on Monday.", "cut to 30 characters, at the end of a sentence"),
        ({"characters": 26}, "The council met on Monday.", "cut to 26 characters, at the end of a sentence"),
        ({"characters": 25}, "The council met on", "cut to 25 characters, at the end of a word"),
        (
            {"characters": 57},
            "The council met on Monday. It agreed to mend the bridge",
            "cut to 57 characters, at the end of a word",
        ),
        ({"words": 7}, "The council met on Monday.", "cut to 7 words, at the end of a sentence"),
        ({"words": 2}, "The council", "cut to 2 words, at the end of a word"),
        ({"words": 2, "characters": 6}, "The", "cut to 6 characters, at the end of a word"),
        ({"words": 1, "characters": 60}, "The", "cut to 1 words, at the end of a word"),
        ({"characters": 2}, "Th", "cut to 2 characters"),
    ],
)
def test_a_text_is_cut_at_a_sentence_or_a_word(limit: dict[str, int], kept: str, told: str):
    assert Length(**limit).fitted(TEXT) == (kept, told)


@given(st.text(max_size=120), st.integers(1, 60), st.integers(1, 12))
def test_never_longer_and_always_the_beginning(text: str, characters: int, words: int):
    length = Length(characters=characters, words=words)
    kept, told = length.fitted(text)
    assert length.fits(kept)
    assert text.startswith(kept)
    assert (told == "") == (kept == text)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "155"])
def test_no_number_is_refused(value: object):
    with pytest.raises(UsageError, match="characters is .*expected a whole number above 0"):
        Length(characters=value)  # type: ignore[arg-type]

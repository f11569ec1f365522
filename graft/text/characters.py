"""Words as the characters ELMo reads (Peters et al. 2018): the bytes of each, in a row of fixed length.

As published: bytes are 0 to 255, then come five marks; every id is one more than that, since the published files keep 0
for places without a word. The words <S> and </S> stand for the sentence's begin and end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graft.errors import DataError

LENGTH = 50
"""Characters of a word, its marks included; what is longer is cut."""

IDS = 262
BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, PADDING = range(256, 261)
SENTENCE = {"<S>": (BEGIN_SENTENCE,), "</S>": (END_SENTENCE,)}


def spell(word: str) -> list[int]:
    """The character ids of one word.

    >>> spell("Hi")[:6]
    [259, 73, 106, 260, 261, 261]
    """
    codes = SENTENCE.get(word) or word.encode("utf-8", "ignore")[: LENGTH - 2]
    row = [BEGIN_WORD, *codes, END_WORD]
    return [code + 1 for code in row + [PADDING] * (LENGTH - len(row))]


def character_ids(number: int, sequence: Sequence[Any]) -> list[Sequence[int]]:
    """One sequence as character ids: words are spelled between the sentence's marks; ids stay as they are.

    Args:
        number: of the sequence, for messages.
        sequence: words, or a list of 50 character ids for each word, the sentence's marks included.

    Raises:
        DataError: a text instead of words, nothing at all, or what is neither words nor character ids.
    """
    if isinstance(sequence, str):
        raise DataError(f"sequence {number} is text, expected a list of words; text.split() gives one")
    if len(sequence) and all(isinstance(word, str) and word for word in sequence):
        return [spell(word) for word in ("<S>", *sequence, "</S>")]
    for place, row in enumerate(sequence):
        if isinstance(row, str) or not hasattr(row, "__len__") or len(row) != LENGTH:
            raise DataError(
                f"sequence {number}, word {place}: found {row!r:.60}, expected words that are not empty, or for every "
                f"word its {LENGTH} character ids"
            )
        if not (min(row) >= 1 and max(row) < IDS):
            found = f"ids from {min(row)} to {max(row)}"
            raise DataError(f"sequence {number}, word {place} has {found}, expected each from 1 to {IDS - 1}")
    if not len(sequence):
        raise DataError(f"sequence {number} has no words, expected at least one")
    return list(sequence)

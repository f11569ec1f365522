"""Text for readers with fewer words: which words of a text lie outside a list, and which tokens keep a model inside it.

The second is hard in general, since words are written in pieces. `allowed_tokens` gives the tokens that are themselves
inside: whole words of the list (with the space before them, and a capital where a sentence begins), punctuation, digits
and white space. What it does not give are the pieces of longer words, so that a word of the list that the vocabulary
has no token of its own for cannot be written (`unwritable` names them); and two tokens in a row could still make up a
word that is in no list, where a token without a space may follow one: "a" and "way". Of vocabularies that mark the
beginnings of words (the space in GPT-2 and SentencePiece; pieces with ## in BERT) only tokens that begin a word are
given, so that this happens after punctuation alone ("half-" and "way").
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from graft.errors import DataError
from graft.text import Tokenizer
from graft.text.word_list import WordList, spans

PROBE = "a"
"""What stands before a token when it is looked at: a token that begins a word puts a space between."""

POSSESSIVE = ("'s", "’s")


@dataclass(frozen=True, slots=True)
class Outside:
    """A word that is not in the list, and its place in the text: its first character, and the one after its last."""

    word: str
    start: int
    end: int


def outside(text: str, words: WordList) -> list[Outside]:
    """The words of a text that a list lacks, in order.

    Possessives count as the word they are of; other forms (plurals, past tenses) must be in the list themselves. What
    touches a digit, addresses and handles are no words.

    >>> words = WordList({"the": 3, "cat": 2, "tail": 1}, "three words")
    >>> [one.word for one in outside("The cat's tail vanished.", words)]
    ['vanished']
    """
    found = ((text[start:end], start, end) for start, end in spans(text))
    return [Outside(word, start, end) for word, start, end in found if not words.knows(word)]


def allowed_tokens(tokenizer: Tokenizer, words: WordList, *, more: Iterable[int] = ()) -> frozenset[int]:
    """The tokens by which only words of a list get written, as far as single tokens can tell (see above).

    Args:
        tokenizer: a model's.
        words: the list.
        more: tokens to be allowed besides, such as those of names in the text at hand.
    """
    special = {*tokenizer.special_tokens.values(), *tokenizer.frame.start, *tokenizer.frame.end}
    never, probe = {tokenizer.token_id(name) for name in special}, _own(tokenizer, [PROBE])[0]
    before = tokenizer.decode(probe)
    found = set(more)
    for token in range(tokenizer.vocab_size):
        with contextlib.suppress(DataError):  # a number that the vocabulary leaves out
            if token not in never and _inside(tokenizer.decode([*probe, token]), before, words):
                found.add(token)
    return frozenset(found)


def unwritable(tokenizer: Tokenizer, words: WordList, allowed: Collection[int]) -> list[str]:
    """Words of a list that the tokens given cannot write inside a sentence, the most frequent first."""
    every, tokens = list(words), frozenset(allowed)
    first = len(_own(tokenizer, [PROBE])[0])
    written = _own(tokenizer, [f"{PROBE} {word}" for word in every])
    return [word for word, ids in zip(every, written, strict=True) if not tokens.issuperset(ids[first:])]


def _own(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Texts as token ids without a frame."""
    start, end = len(tokenizer.frame.start), len(tokenizer.frame.end)
    return [one.ids[start : len(one.ids) - end] for one in tokenizer.encode(texts)]


def _inside(decoded: str, before: str, words: WordList) -> bool:
    """Whether what a token adds to a text is no part of a word outside the list."""
    if not decoded.startswith(before) or "\ufffd" in decoded:
        return False
    added = decoded[len(before) :]
    letters = sum(map(str.isalpha, added))
    if not letters or added in POSSESSIVE:
        return True
    found = spans(added)
    whole = letters == sum(str.isalpha(sign) for start, end in found for sign in added[start:end])
    return added[:1].isspace() and whole and all(words.knows(added[start:end]) for start, end in found)

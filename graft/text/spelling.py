"""How words get mistyped: the channel of a spelling corrector, P(typed | word), and what may be behind a slip.

A slip is a chain of edits, each with a probability of its own (Kernighan, Church & Gale 1990; Brill & Moore 2000 for
edits of several letters). Their costs, -log P, were set by hand, by looking at mistakes on the first of Norvig's two
lists of misspellings (docs/tasks/correct.md). The cheapest chain is found for all words of the list at once, a
column of numbers for each pair of places.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any

import numpy as np

from graft.text.word_list import WordList, key

Floats = np.ndarray[Any, np.dtype[np.float32]]

MISTYPED = 0.02
"""How many words of a text are mistyped; all others are right (the prior)."""

UNLISTED, UNLISTED_NAME = 0.003, 0.3
"""How many words of a text no list has: terms and words of other languages; names."""

FORM = 0.05
"""How often a form of a word that the list lacks (a plural) is met, against the word."""

DOUBLE, SWAP, ACCENT, APOSTROPHE = 3.0, 4.0, 1.5, 2.0
VOWEL, NEAR, ALIKE, ANY = 4.0, 5.0, 4.0, 7.5
"""Costs of one letter for another: vowels, neighbours on the keyboard, letters that sound alike, any others."""

LOST, LOST_VOWEL, EXTRA, EXTRA_VOWEL = 5.5, 4.5, 6.0, 5.0
FIRST = 2.0
"""More, where the edit touches the first letter: that one is seldom wrong."""

SPLIT, JOINED, JOINED_COMMON = 6.0, 9.0, 2.5
"""A word written as two; two as one; of which one is among the COMMON most frequent words."""

COMMON = 100

SOUND = 4.0
SOUNDS = (
    *(("ph", "f"), ("ck", "k"), ("gh", ""), ("ght", "t"), ("kn", "n"), ("wr", "r"), ("ough", "uf"), ("eau", "o")),
    *(
        ("qu", "kw"),
        ("x", "ks"),
        ("x", "cs"),
        ("xc", "x"),
        ("sc", "s"),
        ("tion", "sion"),
        ("sion", "tion"),
        ("ou", "u"),
    ),
    *(("tch", "ch"), ("dge", "ge"), ("ch", "k"), ("ch", "sh"), ("ce", "s"), ("cc", "x"), ("ea", "e"), ("ei", "a")),
    *(("ai", "a"), ("ie", "y"), ("oo", "u"), ("au", "o"), ("re", "er"), ("le", "el"), ("ence", "ance"), ("ury", "ery")),
    *(("cious", "sious"), ("tial", "cial"), ("cial", "tial"), ("ey", "y"), ("y", "ey"), ("igh", "i"), ("er", "ur")),
    *(
        ("gh", "f"),
        ("ui", "u"),
        ("pt", "t"),
        ("mb", "m"),
        ("ps", "s"),
        ("mn", "n"),
        ("le", "ul"),
        ("st", "s"),
        ("ur", "u"),
    ),
)
"""What is spelled one way and sounds like the other."""

PREFIXES = ("un", "re", "non", "over", "under", "anti", "pre", "mis", "out", "super")

KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
VOWELS = "aeiouy"
SIMILAR = ("ck", "cs", "sz", "td", "bp", "vf", "gj", "mn", "qk", "vw", "iy", "lr", "gk")

LONGEST = 24
"""Longer words of a list are not offered."""

APART = 3
"""Words that are more letters longer or shorter than what is typed are not offered."""

FAR = 17.0
"""Words whose cheapest chain costs more are not offered."""


class Channel:
    """Which words of a list may have been meant by what is typed.

    >>> channel = Channel(WordList({"receive": 5, "relieve": 3, "the": 90}, "three words"))
    >>> [word for word, _ in channel.candidates("recieve")]
    ['receive', 'relieve']
    """

    def __init__(self, words: WordList) -> None:
        self.words = words
        self._plain = [word for word in words if len(word) <= LONGEST]
        letters = sorted({letter for word in self._plain for letter in key(word)} | set("abcdefghijklmnopqrstuvwxyz'"))
        self._codes = {letter: number for number, letter in enumerate(letters, 1)}
        self._letters = ["", *letters]
        self.candidates = lru_cache(2**14)(self._candidates)
        self.log_unlisted = lru_cache(2**14)(self._log_unlisted)

    def _candidates(self, typed: str, most: int = 32) -> tuple[tuple[str, float], ...]:
        """Words that may have been meant, best first, each with log P(typed | word, and that it is mistyped).

        Words are ranked by that and their frequency. The typed word itself is none of them.

        Args:
            typed: a word as typed, of any case.
            most: how many at most.
        """
        plain = key(typed)
        if len(plain) > LONGEST + APART:
            return ()
        code = np.array([self._codes.get(letter, 0) for letter in plain], dtype=np.uint8)
        near = self._near(code)
        cost_N = _costs(self._matrix[near], self._lengths[near], code, plain, self._tables)
        score_N = self._logs[near] - cost_N
        order = [n for n in np.argsort(-score_N, kind="stable") if cost_N[n] < FAR]
        named = ((self._plain[near[n]], -float(cost_N[n])) for n in order)
        return tuple(pair for pair, _ in zip((one for one in named if key(one[0]) != plain), range(most), strict=False))

    def splits(self, typed: str) -> Iterator[tuple[str, float]]:
        """Two words of the list that may have been written as one."""
        plain = key(typed)
        for place in range(1, len(plain) if len(plain) <= 2 * LONGEST else 0):
            left, right = plain[:place], plain[place:]
            if left in self.words and right in self.words and "'" not in right:
                cost = JOINED_COMMON if {left, right} & self._common else JOINED
                yield f"{self.words.spelled(left)} {self.words.spelled(right)}", -cost

    def log_probability(self, meant: str) -> float:
        """Of a word of the list, or of several, one after the other."""
        return sum(map(self.words.log_probability, meant.split(" ")))

    def _log_unlisted(self, word: str, name: bool = False) -> float:
        """The logarithm of the probability that a text has this word, which the list lacks.

        It is told letter by letter, or, for a regular form of a word the list has, from that word.

        Args:
            word: the word.
            name: it has a capital, as names do.
        """
        code = [0, 0, *(self._codes.get(letter, 0) for letter in key(word)), 0]
        logs = (
            self._threes[first, second, third] for first, second, third in zip(code, code[1:], code[2:], strict=False)
        )
        spelled = math.log(UNLISTED_NAME if name else UNLISTED) + float(sum(logs))
        return max([spelled, *(math.log(FORM) + self.words.log_probability(stem) for stem in stems(key(word)))])

    def _near(self, code: Any) -> Any:
        """The words of about the same length that share most letters."""
        most = 4 if len(code) < 9 else 5
        bag = np.bincount(code, minlength=len(self._letters)).astype(np.int8)[1:]
        alike = np.abs(self._lengths - len(code)) <= APART
        places = np.flatnonzero(alike)
        apart = np.abs(self._bags[places] - bag).sum(1, dtype=np.int16) + np.count_nonzero(code == 0)
        return places[apart <= most]

    @cached_property
    def _common(self) -> set[str]:
        return {key(word) for word in islice(self.words, COMMON)}

    @cached_property
    def _lengths(self) -> Any:
        return np.array([len(word) for word in self._plain], dtype=np.int16)

    @cached_property
    def _matrix(self) -> Any:
        """The letters of each word, uint8 (N, LONGEST)."""
        found = np.zeros((len(self._plain), LONGEST), dtype=np.uint8)
        for number, word in enumerate(self._plain):
            found[number, : len(word)] = [self._codes[letter] for letter in key(word)]
        return found

    @cached_property
    def _bags(self) -> Any:
        """How often each word has each letter, int8 (N, A)."""
        found = np.zeros((len(self._plain), len(self._letters)), dtype=np.int8)
        for column in self._matrix.T:
            found[np.arange(len(column)), column] += 1
        return found[:, 1:]

    @cached_property
    def _logs(self) -> Floats:
        return np.array([self.words.log_probability(word) for word in self._plain], dtype=np.float32)

    @cached_property
    def _threes(self) -> Floats:
        """Log P(letter | the two before it) in the words of the list, each counted once; 0 begins and ends a word."""
        size = len(self._letters)
        counts = np.full((size, size, size), 0.02)
        padded = np.pad(self._matrix, ((0, 0), (2, 1)))
        for place in range(LONGEST + 1):
            inside = self._lengths >= place
            np.add.at(counts, tuple(padded[inside, place + shift] for shift in range(3)), 1.0)
        found: Floats = np.log(counts / counts.sum(-1, keepdims=True)).astype(np.float32)
        return found

    @cached_property
    def _tables(self) -> _Tables:
        return _Tables(self._letters)


def stems(word: str) -> Iterator[str]:
    """The words that a word is a regular form of, whether there are any such or not.

    >>> [*stems("surcharges")], [*stems("boosted")], [*stems("untill")]
    (['surcharge'], ['boost', 'booste'], [])
    """
    if re.search(r"(?:[sxz]|[cs]h)es$", word):
        yield word[:-2]
    if re.search(r"[^aeiou]ies$", word):
        yield word[:-3] + "y"
    if word.endswith("s") and not re.search(r"(?:[^aeiou]y|[sxz]|[cs]h|['iu])s$", word):
        yield word[:-1]
    for ending in ("ed", "ing"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2:
            yield from [] if re.search(r"e$|[^aeiou][aeiou][^aeiouwxy]$", stem) else [stem]
            yield f"{stem}e"
    for beginning in PREFIXES:
        if word.startswith(beginning) and len(word) >= len(beginning) + 5:
            yield word[len(beginning) :]


class _Tables:
    """Costs by letter: of one for another, of a lost one, of one too many; and the rules of sounds in codes."""

    def __init__(self, letters: list[str]) -> None:
        size = len(letters)
        self.instead = np.array([[_instead(one, other) for other in letters] for one in letters], dtype=np.float32)
        self.lost = np.array([_alone(one, LOST, LOST_VOWEL) for one in letters], dtype=np.float32)
        self.extra = np.array([_alone(one, EXTRA, EXTRA_VOWEL) for one in letters], dtype=np.float32)
        codes = {letter: number for number, letter in enumerate(letters)}
        self.sounds = [
            ([codes[letter] for letter in meant], typed)
            for meant, typed in _both(SOUNDS)
            if all(letter in codes for letter in meant)
        ]
        assert self.instead.shape == (size, size)


def _both(pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Each rule in both directions; nothing is taken for a sound."""
    return {pair for one, other in pairs for pair in ((one, other), (other, one)) if pair[0]}


@lru_cache(4096)
def _instead(one: str, other: str) -> float:
    if one == other:
        return 0.0
    plain = [unicodedata.normalize("NFD", letter)[:1] for letter in (one, other)]
    if plain[0] == plain[1] and plain[0]:
        return ACCENT
    pair = {one, other}
    if all(letter and letter in VOWELS for letter in plain):
        return VOWEL
    if any(pair == set(alike) for alike in SIMILAR):
        return ALIKE
    return NEAR if _neighbours(one, other) else ANY


def _neighbours(one: str, other: str) -> bool:
    """Whether two keys touch; each row of keys stands half a key further to the right."""
    places = {letter: (row, column + row / 2) for row, line in enumerate(KEYS) for column, letter in enumerate(line)}
    if one not in places or other not in places:
        return False
    (row, column), (other_row, other_column) = places[one], places[other]
    return abs(row - other_row) <= 1 and abs(column - other_column) <= 1


def _alone(letter: str, usual: float, vowel: float) -> float:
    return APOSTROPHE if letter == "'" else vowel if letter and letter in VOWELS + "h" else usual


def _costs(words_NL: Any, lengths_N: Any, code: Any, typed: str, tables: _Tables) -> Floats:
    """The cost of the cheapest chain of edits from each word to what is typed, float32 (N,).

    Row i of the table holds, for each number j of typed letters, what it costs to type them for the first i letters of
    each word: (m + 1, N).
    """
    count, size = len(lengths_N), len(code)
    found_N = np.full(count, np.inf, dtype=np.float32)
    if not count:
        return found_N
    extra_J = tables.extra[code].copy()
    extra_J[1:][code[1:] == code[:-1]] = DOUBLE
    extra_J[:1] += FIRST
    first_JN = np.repeat(np.concatenate([[0], np.cumsum(extra_J)])[:, None], count, 1).astype(np.float32)
    rows = [first_JN]
    for i in range(1, int(lengths_N.max()) + 1):
        letter_N = words_NL[:, i - 1]
        lost_N = tables.lost[letter_N]
        beside = words_NL[:, i - 2] == letter_N if i > 1 else np.zeros(count, dtype=bool)
        lost_N = np.where(beside, DOUBLE, lost_N) + (FIRST if i == 1 else 0)
        row_JN: Floats = (rows[-1] + lost_N).astype(np.float32)
        instead_JN = tables.instead[letter_N[None, :], code[:, None]]
        if i == 1 and size:
            instead_JN[0] += np.where(instead_JN[0] > 0, FIRST, 0)
        np.minimum(row_JN[1:], rows[-1][:-1] + instead_JN, out=row_JN[1:])
        _swap(row_JN, rows, words_NL, code, i)
        _sound(row_JN, rows, words_NL, typed, i, tables)
        for j in range(1, size + 1):
            np.minimum(row_JN[j], row_JN[j - 1] + extra_J[j - 1], out=row_JN[j])
        rows.append(row_JN)
        over = lengths_N == i
        found_N[over] = row_JN[size, over]
    return found_N


def _swap(row_JN: Floats, rows: list[Floats], words_NL: Any, code: Any, i: int) -> None:
    """Two letters in the other order."""
    if i < 2:
        return
    for j in range(2, len(code) + 1):
        swapped = (words_NL[:, i - 1] == code[j - 2]) & (words_NL[:, i - 2] == code[j - 1])
        if swapped.any():
            cost = SWAP + (FIRST if i == 2 else 0)
            row_JN[j] = np.where(swapped, np.minimum(row_JN[j], rows[i - 2][j - 2] + cost), row_JN[j])


def _sound(row_JN: Floats, rows: list[Floats], words_NL: Any, typed: str, i: int, tables: _Tables) -> None:
    """Several letters that sound like several others."""
    for meant, heard in tables.sounds:
        if len(meant) > i or (heard and heard not in typed):
            continue
        fits = (words_NL[:, i - len(meant) : i] == meant).all(1)
        if not fits.any():
            continue
        for j in range(len(heard), len(typed) + 1):
            if typed[j - len(heard) : j] == heard:
                better = rows[i - len(meant)][j - len(heard)] + SOUND
                row_JN[j] = np.where(fits, np.minimum(row_JN[j], better), row_JN[j])

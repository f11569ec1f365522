"""Words with how often they occur: the package's own list of English, and lists of the user's.

The package's, english.tsv.xz, holds counts of words in English books of 1600 to 1930 (Project Gutenberg, public domain)
and in 50,000 modern film reviews; scripts/word_list.py makes it. Words are compared without regard to capitals, and a
curly apostrophe is a straight one.
"""

from __future__ import annotations

import gzip
import lzma
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from graft.errors import DataError, UsageError

ENGLISH = "english"
SHIPPED = Path(__file__).with_name("english.tsv.xz")

FILE_BYTES = 64 * 2**20
"""A larger list, unpacked, is refused."""

MISSING = 1e-6
"""The share of all words that one without a count is taken to be, where others have counts."""

_ENDINGS = "com|org|net|edu|gov|io|de|uk|txt|md|py|csv|json|html|pdf|docx?|png|jpe?g"
_APART = re.compile(
    rf"(?:https?://|www\.)\S+|(?<!\S)[^\s@]{{1,64}}@[^\s@]{{1,255}}\.\w+|[@#]\w+|\b[\w-]{{1,64}}\.(?:{_ENDINGS})\b"
)
"""What is no word: addresses of pages and people, handles, tags, names of files."""

_LETTER = "[^\\W\\d_][\u0300-\u036f]*"
_WORD = re.compile(rf"(?<!\w)(?:{_LETTER})+(?:['’](?:{_LETTER})+)*(?!\w)")
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}


def key(word: str) -> str:
    """The form under which a word is looked up.

    >>> key("Don’t")
    "don't"
    """
    return word.lower().replace("’", "'")


def spans(text: str) -> list[tuple[int, int]]:
    """The words of a text as characters (first, last + 1): runs of letters and the apostrophes between them.

    Addresses, handles, tags, and whatever touches a digit or an underscore, are no words.

    >>> text = "It’s half-done, see www.example.com or R2D2."
    >>> [text[start:end] for start, end in spans(text)]
    ['It’s', 'half', 'done', 'see', 'or']
    """
    apart = [match.span() for match in _APART.finditer(text)]
    found: list[tuple[int, int]] = []
    for match in _WORD.finditer(text):
        while apart and apart[0][1] <= match.start():
            apart.pop(0)
        number = not match[0][0].isalpha()  # such as ½
        if not number and (not apart or match.end() <= apart[0][0]):
            found.append(match.span())
    return found


class WordList:
    """Words, as they are spelled, with their counts.

    Attributes:
        source: where they come from, to be shown.
        counts: by spelling, most frequent first.
        total: the sum of all counts.

    >>> words = WordList({"the": 90, "Paris": 8, "cat": 2}, "three words")
    >>> "PARIS" in words, "the cat's" in words, words.knows("cat's"), words.spelled("paris")
    (True, False, True, 'Paris')
    """

    def __init__(self, counts: Mapping[str, int], source: str) -> None:
        self.source = source
        self.counts = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
        self.total = sum(self.counts.values())

    @cached_property
    def _spelled(self) -> dict[str, str]:
        return {key(word): word for word in reversed(self.counts)}  # the most frequent spelling wins

    def __len__(self) -> int:
        return len(self.counts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.counts)

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and key(word) in self._spelled

    def spelled(self, word: str) -> str:
        """The word as the list spells it."""
        return self._spelled[key(word)]

    def knows(self, word: str) -> bool:
        """Whether the list has a word, or the one that a possessive is of."""
        plain = key(word)
        stem = plain[:-2] if plain.endswith("'s") else plain
        return plain in self._spelled or stem in self._spelled

    def log_probability(self, word: str) -> float:
        """The logarithm of a word's share of all words; minus infinity where the list lacks it."""
        found = self._spelled.get(key(word))
        return -math.inf if found is None else math.log(self.counts[found] / self.total)

    def top(self, count: int) -> WordList:
        """The most frequent words alone."""
        kept = {word: self.counts[word] for word, _ in zip(self.counts, range(count), strict=False)}
        return WordList(kept, f"the {len(kept):,} most frequent of {self.source}")


def find(name: str) -> WordList:
    """The list that a word of the user's names.

    Args:
        name: "english", the package's; a number, so many of its most frequent words; a file; or several with commas
            between, whose words are put together.

    Raises:
        UsageError: it names nothing.
        DataError: a file that is no list of words.
    """
    parts = [name] if os.path.isfile(name) else [part.strip() for part in name.split(",") if part.strip()]
    if not parts:
        raise UsageError(f"words is {name!r}: expected {ENGLISH}, a number of its most frequent words, or a file")
    lists = [_one(part) for part in parts]
    return lists[0] if len(lists) == 1 else together(lists)


def together(lists: Iterable[WordList]) -> WordList:
    """Several lists as one: the counts of a word are those of the list in which it is most frequent."""
    every = list(lists)
    largest = max(one.total for one in every)
    counts: dict[str, int] = {}
    for one in every:
        plain = set(one.counts.values()) == {1}  # without counts of its own
        for word, count in one.counts.items():
            scaled = largest * MISSING if plain else count * largest / one.total
            counts[word] = max(counts.get(word, 0), math.ceil(scaled))
    return WordList(counts, " and ".join(one.source for one in every))


def _one(name: str) -> WordList:
    if name == ENGLISH:
        return english()
    if name.isdecimal():
        if not 1 <= int(name) <= len(english()):
            raise UsageError(f"words is {name}: the package's list has {len(english()):,} words; ask for 1 to so many")
        return english().top(int(name))
    if not os.path.isfile(name):
        raise UsageError(
            f"words is {name!r}: no such file; expected {ENGLISH}, a number of its most frequent words, or a file "
            "with a word on each line"
        )
    return read(Path(name))


@lru_cache(1)
def english() -> WordList:
    """The package's own list."""
    return WordList(_counts(SHIPPED), ENGLISH)


def read(path: Path) -> WordList:
    """Read a list: on each line a word, or a word, a tab or spaces, and its count. Also .gz and .xz.

    A word without a count beside others that have one is taken to be rare: one in a million.

    Raises:
        DataError: a line that is neither, no word at all, or a file that cannot be read.
    """
    counts = _counts(path)
    if not counts:
        raise DataError(f"{path}: there is no word in it; expected one on each line, or a word and its count")
    return WordList(counts, str(path))


def _counts(path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    missing: list[str] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) > 2 or (len(parts) == 2 and not (parts[1].isdecimal() and int(parts[1]) > 0)):
            raise DataError(
                f"{path}: line {number}: {line[:60]!r}; expected one word, or a word and its count, above 0"
            )
        if len(parts) == 1:
            missing.append(parts[0])
        else:
            found[parts[0]] = found.get(parts[0], 0) + int(parts[1])
    rare = max(1, round(sum(found.values()) * MISSING))
    return found | {word: rare for word in missing if word not in found}


def _text(path: Path) -> str:
    opener = _OPENERS.get(path.suffix.lower(), open)
    try:
        with opener(path, "rb") as file:
            data: bytes = file.read(FILE_BYTES + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > FILE_BYTES:
        raise DataError(f"{path}: more than {FILE_BYTES // 2**20} MiB of words; give a shorter list")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line}: not UTF-8 text; save the list as UTF-8") from error

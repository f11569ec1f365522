"""Count the words of a corpus and write the list that comes with the package: graft/text/english.tsv.xz.

    python scripts/word_list.py CORPUS [--size 70000] [--out graft/text/english.tsv.xz]

CORPUS holds books-*.jsonl.xz and reviews.jsonl.xz, an object with a "text" on each line: English prose from Project
Gutenberg, 1600 to 1930, and modern film reviews. Only counts of words leave it. A word is kept if several books have
it, or many reviews, and it is not likely to be a slip of the pen (one edit away from a word far more frequent, and not
one of its forms). It is spelled with a capital where it mostly has one inside a sentence.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

WORD = re.compile(r"(?<![\w@#'’])(?<!\w-)(?<!\w-\s)[A-Za-z]+(?:['’][A-Za-z]+)*(?!['’]?\w)(?!-\s?\w)")
"""Letters; what touches a hyphen may be half a word, cut at the end of a line, and is not counted."""

INSIDE = re.compile(r"[a-z,;] ")
"""What stands before a word that does not begin a sentence."""

BOOKS, REVIEWS = 4, 12
"""Books a word must be in; or reviews, where the books do not have it. Names, short words: in twice as many."""

SLIP, SLIP_IN_BOOKS, SHORT = 60, 1000, 5
"""A word that is one edit away from one so many times as frequent is taken for a slip: where only the reviews have it;
where it is short, or the books have it; short words that the books have are no slips."""

ENDINGS = ("s", "'s", "es", "d", "ed", "ing", "r", "er", "ers", "y", "ly", "n")
KEPT_SHORT = {"a", "i", "o"}

NEGATED_WORDS = "do does did is are was were have has had ca wo could would should must"
NEGATED = {f"{word}n't" for word in NEGATED_WORDS.split()}
PRONOUNS = {
    f"{word}'{ending}"
    for words, endings in (
        ("i", "m ve ll d"),
        ("you we they", "re ve ll d"),
        ("he she it that there who what", "s ll d"),
    )
    for word in words.split()
    for ending in endings.split()
}
OTHERS = """needn't mightn't mustn't ain't shan't daren't oughtn't let's here's where's how's when's why's one's ma'am
o'clock y'all could've should've would've might've who've"""
SHORTENED = {*NEGATED, *PRONOUNS, *OTHERS.split()}
"""The words with an apostrophe that are kept; possessives are known by what they are of, and others are dialect."""

OWN_WORDS = {"ill", "id", "its", "well", "were", "wed", "shell", "hell", "shed", "whore", "wont", "cant"}
SLIPS = {word.replace("'", "") for word in NEGATED | PRONOUNS} - OWN_WORDS
SLIPS |= {"alot", "infact", "aswell", "atleast", "eachother", "incase", "noone", "everytime", "aint"}
"""Slips, however frequent: the same without the apostrophe, and words that are written as one."""


def texts(path: Path) -> Iterator[str]:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


class Counted:
    """How often each word occurs, how often with a capital inside a sentence, and in how many texts."""

    def __init__(self) -> None:
        self.words: Counter[str] = Counter()
        self.inside: Counter[str] = Counter()
        self.capital: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()

    def add(self, text: str) -> None:
        seen = set()
        for match in WORD.finditer(text):
            word = match[0].replace("’", "'")
            lower = word.lower()
            if len(word) > 1 and word.isupper():
                continue
            self.words[lower] += 1
            seen.add(lower)
            if INSIDE.fullmatch(text, max(0, match.start() - 2), match.start()):
                self.inside[lower] += 1
                self.capital[lower] += word[0].isupper()
        self.texts.update(seen)


def edits(word: str) -> Iterator[str]:
    """What is one insertion, deletion, replacement or transposition away."""
    letters = string.ascii_lowercase + "'"
    for place in range(len(word) + 1):
        left, right = word[:place], word[place:]
        if right:
            yield left + right[1:]
            yield from (left + letter + right[1:] for letter in letters)
        if len(right) > 1:
            yield left + right[1] + right[0] + right[2:]
        yield from (left + letter + right for letter in letters)


def is_form(word: str, other: str) -> bool:
    """Whether one is the other with an ending, such as a plural."""
    short, long = sorted((word, other), key=len)
    return any(long == short + ending for ending in ENDINGS)


def is_slip(word: str, counts: Counter[str], least: int) -> bool:
    """Whether a word that often is one edit away, and neither is a form of the other."""
    return any(counts.get(other, 0) >= least and not is_form(word, other) for other in edits(word) if other != word)


def chosen(books: Counted, reviews: Counted, size: int) -> list[tuple[str, int]]:
    """The most frequent words worth keeping, as they are spelled, with their counts."""
    counts = books.words + reviews.words
    found: list[tuple[str, int]] = []
    for lower, count in counts.most_common():
        if len(found) == size:
            break
        if lower in SLIPS or (len(lower) == 1 and lower not in KEPT_SHORT):
            continue
        if "'" in lower and lower not in SHORTENED:
            continue
        inside = books.inside[lower] + reviews.inside[lower]
        name = inside > 0 and books.capital[lower] + reviews.capital[lower] > 0.9 * inside
        short = len(lower) < SHORT
        few = 2 if name or short else 1
        known = books.texts[lower] >= BOOKS * few
        if not known and reviews.texts[lower] < REVIEWS * few:
            continue
        ratio = SLIP_IN_BOOKS if known or short else SLIP
        if not (known and short) and is_slip(lower, counts, ratio * count):
            continue
        found.append((lower.capitalize() if name else lower, count))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--size", type=int, default=70_000)
    parser.add_argument("--out", type=Path, default=Path("graft/text/english.tsv.xz"))
    given = parser.parse_args()
    books, reviews = Counted(), Counted()
    for path in sorted(given.corpus.glob("*.jsonl.xz")):
        print(path.name, flush=True)
        counted = books if path.name.startswith("books") else reviews
        for text in texts(path):
            counted.add(text)
    total = sum(books.words.values()) + sum(reviews.words.values())
    words = chosen(books, reviews, given.size)
    covered = sum(count for _, count in words)
    lines = "".join(f"{word}\t{count}\n" for word, count in sorted(words))
    packed = lzma.compress(lines.encode(), preset=9 | lzma.PRESET_EXTREME)
    given.out.write_bytes(packed)
    print(f"{len(words):,} words, {covered / total:.2%} of {total:,} words read; {len(packed):,} bytes")


if __name__ == "__main__":
    main()

"""Contrast: which words set two bodies of text apart, and how far that is beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from graft.data.lines import PACKINGS, decoded, split, unchanged
from graft.data.read import read
from graft.data.table import Reject, Table, refuse
from graft.errors import DataError, UsageError, nearest
from graft.evaluate.log_odds import Contrasted, log_odds
from graft.recipes.watch import Watch
from graft.text.word_list import key, spans

SIZE = 1000.0
"""Words of text that the prior weighs as much as, where nobody says."""

TOGETHER, ENGLISH = "both", "english"
"""Priors by name: the two sides put together, and the package's list of English."""

GROUPS_SHOWN = 12

Texts = str | Path | Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two bodies of text.

    Attributes:
        name: its file, or its group.
        texts: how many texts it has.
        words: how many words, or, for n of 2, pairs of words.
    """

    name: str
    texts: int
    words: int


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """What sets two bodies of text apart.

    Attributes:
        sides: the two.
        words: every word of either, those that speak most for the first side first.
        n: how many words in a row are compared.
        prior: what the prior was.
        prior_size: how many words it weighed as much as.
    """

    sides: tuple[Side, Side]
    words: list[Contrasted]
    n: int
    prior: str
    prior_size: float

    def top(self, count: int) -> tuple[list[Contrasted], list[Contrasted]]:
        """The words that speak most for each side, so many at most; 0 for all of them."""
        first = [one for one in self.words if one.z > 0]
        second = [one for one in reversed(self.words) if one.z < 0]
        return (first[:count], second[:count]) if count else (first, second)

    def as_dict(self, top: int = 0) -> dict[str, Any]:
        """What ``--json`` prints."""
        named = dict(zip(("first", "second"), self.top(top), strict=True))
        return {
            "sides": [asdict(side) for side in self.sides],
            "n": self.n,
            "prior": self.prior,
            "prior_size": self.prior_size,
            "different_words": len(self.words),
            **{name: [asdict(one) for one in words] for name, words in named.items()},
        }


def contrast(
    a: Texts,
    b: Texts | None = None,
    *,
    column: str | None = None,
    by: str | None = None,
    groups: Sequence[str] | None = None,
    n: int = 1,
    prior: str | Path | Mapping[str, float] = TOGETHER,
    prior_size: float = SIZE,
    encoding: str | None = None,
    max_rejects: int = 0,
    quotes: bool = True,
    watch: Watch | None = None,
) -> Contrast:
    """Compare the words of two bodies of text.

    Args:
        a: texts; or a .txt file with one on each line; or a table.
        b: the same; None where `a` is a table whose column `by` says which side a text is on.
        column: the column of a table that holds the texts; default: "text".
        by: the column that holds the groups.
        groups: the two to compare, the first first, where there are more.
        n: 1 for words, 2 for pairs of words in a row, and so on.
        prior: "both", the two sides together; "english", the package's list, for n of 1; a .txt file, or a table, of
            other texts; or counts by word.
        prior_size: how many words of text the prior weighs as much as; the more, the less rare words stand out.
        encoding: of the files, if not UTF-8.
        max_rejects: rows of a table that may be unusable.
        quotes: whether fields of csv and tsv may be quoted.
        watch: told what was found.

    Raises:
        DataError: a file cannot be read, or has no words, or other than two groups.
        UsageError: options that make no sense together.
    """
    watch = watch or Watch(quiet=True)
    if n < 1 or not prior_size > 0:
        raise UsageError(
            f"n is {n} and prior_size {prior_size:g}; expected 1 or more words in a row, and a size above 0"
        )
    reading = _Reading(column=column, encoding=encoding, max_rejects=max_rejects, quotes=quotes, watch=watch)
    (names, texts) = _sides(a, b, by, groups, reading)
    counts = [_counted(each, n) for each in texts]
    _check(names, counts, n)
    shares, called = _prior(prior, counts, n, reading)
    sides = [Side(name=names[one], texts=len(texts[one]), words=sum(counts[one].values())) for one in (0, 1)]
    words = log_odds(counts[0], counts[1], shares, prior_size)
    return Contrast(sides=(sides[0], sides[1]), words=words, n=n, prior=called, prior_size=prior_size)


def _check(names: Sequence[str], counts: Sequence[Counter[str]], n: int) -> None:
    """Refuse sides without words, and two of a single one."""
    what = "word" if n == 1 else f"row of {n} words"
    for name, count in zip(names, counts, strict=True):
        if not count:
            raise DataError(f"{name}: there is no {what} in it")
    if len(counts[0].keys() | counts[1].keys()) == 1:
        raise DataError(f"{names[0]} and {names[1]} have one and the same {what}, {next(iter(counts[0]))!r}")


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """How files are to be read."""

    column: str | None
    encoding: str | None
    max_rejects: int
    quotes: bool
    watch: Watch

    def texts(self, path: Path) -> list[str]:
        """The lines of a text file that are not blank, or a column of a table."""
        if _packed(path)[0] != ".txt":
            table = self.table(path)
            return self.column_of(table)[0]
        if self.column is not None or self.max_rejects or not self.quotes:
            raise UsageError(f"{path}: a text file has no columns; leave out --column, --max-rejects and --no-quotes")
        with unchanged(path):
            lines = list(split(path, decoded(path, _packed(path)[1], self.encoding)[1]))
        texts = [line for line in lines if line.strip()]
        blank = f", {len(lines) - len(texts):,} of them blank and left out" if len(texts) < len(lines) else ""
        self.watch.note(f"{path}: {len(lines):,} lines, each a text{blank}")
        return texts

    def table(self, path: Path) -> Table:
        return read(path, encoding=self.encoding, max_rejects=self.max_rejects, quotes=self.quotes)

    def column_of(self, table: Table, by: str | None = None) -> tuple[list[str], list[str]]:
        """The texts of a table, and the group of each where a column has them."""
        name = _column(table, self.column or "text", "--column")
        group = None if by is None else _column(table, by, "--by")
        texts, groups, rejected = [], [], list(table.rejected)
        for line, row in zip(table.lines, table.rows, strict=True):
            text, side = row.get(name), None if group is None else row.get(group)
            bad = name if not isinstance(text, str) or not text.strip() else None
            bad = group if bad is None and group is not None and (side is None or side == "") else bad
            if bad is not None:
                rejected.append(Reject(line=line, reason=f"{bad!r} is empty or not text", text=str(text or "")))
                continue
            texts.append(str(text))
            groups.append(str(side))
        refuse(table.path, len(texts) + len(rejected), rejected, self.max_rejects)
        self.watch.note(
            f"{table.path}: {table.format}; texts from {name!r}{f', groups from {group!r}' if group else ''}; "
            f"{len(texts) + len(rejected):,} rows read = {len(texts):,} kept + {len(rejected):,} rejected"
        )
        return texts, groups


def _packed(path: Path) -> tuple[str, str]:
    """A file's format, and what it is packed with."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packing = suffixes.pop() if suffixes and suffixes[-1] in PACKINGS else ""
    return (suffixes[-1] if suffixes else ""), packing


def _column(table: Table, name: str, option: str) -> str:
    if name not in table.names:
        raise DataError(f"{table.path}: no column {name!r}; name one with {option}: {nearest(name, table.names)}")
    return name


def _sides(
    a: Texts, b: Texts | None, by: str | None, groups: Sequence[str] | None, reading: _Reading
) -> tuple[list[str], list[list[str]]]:
    """The names and texts of the two sides."""
    if b is None:
        if by is None or not isinstance(a, str | Path):
            raise UsageError("one body of text; give another to compare it with, or a table and --by COLUMN")
        return _groups(Path(a), by, groups, reading)
    if by is not None or groups:
        raise UsageError("--by and --groups split one table; leave them out where two bodies of text are given")
    names = [str(one) if isinstance(one, str | Path) else place for one, place in zip((a, b), "AB", strict=True)]
    texts = [reading.texts(Path(one)) if isinstance(one, str | Path) else list(one) for one in (a, b)]
    return names, texts


def _groups(path: Path, by: str, groups: Sequence[str] | None, reading: _Reading) -> tuple[list[str], list[list[str]]]:
    """The two groups of a table, in the order given, else as they come."""
    if _packed(path)[0] == ".txt":
        raise UsageError(f"{path}: a text file has no columns; --by takes a table, such as a .csv")
    texts, labels = reading.column_of(reading.table(path), by)
    found = Counter(labels)
    shown = ", ".join(f"{name!r} ({count:,})" for name, count in found.most_common(GROUPS_SHOWN))
    more = f" and {len(found) - GROUPS_SHOWN:,} more" if len(found) > GROUPS_SHOWN else ""
    if groups is None and len(found) != 2:
        raise DataError(
            f"{path}: {by!r} has {len(found):,} group{'s' * (len(found) != 1)}, two are compared: {shown}{more}"
            + (". Choose two, as in --groups A,B" if len(found) > 2 else "")
        )
    chosen = list(groups or found)
    if len(set(chosen)) != 2 or len(chosen) != 2:
        raise UsageError(f"--groups names {len(chosen)}: {', '.join(chosen)}; two different ones are compared")
    for name in chosen:
        if name not in found:
            raise DataError(f"{path}: no row has the group {name!r} in {by!r}; found {shown}{more}")
    return chosen, [[text for text, label in zip(texts, labels, strict=True) if label == name] for name in chosen]


def _counted(texts: Sequence[str], n: int) -> Counter[str]:
    """How often each word, or row of n words, occurs."""
    return Counter(one for text in texts for one in _rows(text, n))


def _rows(text: str, n: int) -> Iterator[str]:
    """Each n words in a row with nothing but white space or a hyphen between them."""
    found = spans(text)
    words = [key(text[start:end]) for start, end in found]
    joined = [not text[one[1] : other[0]].strip(" \t-") for one, other in pairwise(found)]
    for first in range(len(words) - n + 1):
        if all(joined[first : first + n - 1]):
            yield " ".join(words[first : first + n])


def _prior(
    prior: str | Path | Mapping[str, float], counts: Sequence[Counter[str]], n: int, reading: _Reading
) -> tuple[dict[str, float], str]:
    """How frequent each word is in general, and what says so.

    Words that a prior of its own lacks count as if it had them once; all others once more.
    """
    both = counts[0] + counts[1]
    if prior == TOGETHER:
        return dict(both), "both sides together"
    if isinstance(prior, Mapping):
        known, called = dict(prior), "counts given"
    elif prior == ENGLISH:
        if n > 1:
            raise UsageError(
                f"the package's list has single words, n is {n}; leave --prior out, or give a file of texts"
            )
        from graft.text.word_list import english

        known, called = {key(word): float(count) for word, count in english().counts.items()}, "the package's English"
    else:
        known, called = dict(_counted(reading.texts(Path(prior)), n)), str(prior)
    return {word: known.get(word, 0) + 1 for word in both}, called

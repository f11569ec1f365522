"""Words: raw text split as CoNLL's files have it, and words as token ids, in windows where they are too many.

The rule. White space ends a word. Runs of letters, digits and their accents are words, and stay whole over a single

    -  '  .  &  /  _  @  +  between letters or digits     AL-AIN, O'Brien, example.com, AT&T, and/or
    ,  :                    between digits                1,250, 10:30

and so do web addresses, single letters and letters with full stops between (``J.``, ``U.S.``), the short forms of
TITLES, money (``US$``) and signed or broken numbers (``+44``, ``.5``). English endings stand apart (``Merkel 's``,
``do n't``). Everything else is a word for each sign, but runs of the same sign (``...``), signs joined into one picture
(an emoji with its skin colour, two letters of a flag), and invisible signs, which go with what stands before them. A
Chinese character is a word, as in BERT. Of the words of CoNLL-2003, joined with spaces, 99.6 % come back as they were;
most others are the numbers of lists (``2.``).
"""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from graft.errors import DataError, UsageError
from graft.text import Encoding, Tokenizer

TITLES = frozenset(
    ("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Jr", "Sr", "Gen", "Col", "Lt", "Sgt", "Gov", "Sen", "Rep", "Rev", "vs")
    + ("Inc", "Corp", "Co", "Ltd", "Bros")
)
"""Short forms that keep their full stop."""

ENDINGS = ("s", "re", "ve", "ll", "d", "m")
"""What an apostrophe begins, in English."""

OVERLAP = 4
"""Neighbouring windows share at least one token in so many."""

_CHINESE = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_WORD = re.compile(
    r"a+://[^ ]*[a1]m*"
    r"|am*(?:\.am*(?![a1]))+(?:\.(?:-(?:[a1]m*)+)*)?"
    r"|a{1,3}\$"
    r"|(?:(?<![a1m.])[.+](?=1))?(?:[a1]m*)+(?:(?:[-'.&/_@+](?=[a1])|(?<=1)[,:](?=1))(?:[a1]m*)+)*"
    r"|cm*|rm*rm*|pm*(?:jm*pm*)*|([^a1cmpr ])\1*m*|[^ ]m*"
)
_ENDING = re.compile(rf".(n['’]t|['’](?:{'|'.join(ENDINGS)}))$", re.IGNORECASE | re.DOTALL)


def split(text: str) -> list[tuple[int, int]]:
    """The words of a text as characters (first, last + 1), by the rule above.

    >>> text = "Mr. O'Brien's U.S. trip (10:30)..."
    >>> [text[first:end] for first, end in split(text)]
    ['Mr.', "O'Brien", "'s", 'U.S.', 'trip', '(', '10:30', ')', '...']
    """
    kinds = "".join(map(_kind, text))
    found: list[tuple[int, int]] = []
    for match in _WORD.finditer(kinds):
        first, end = match.span()
        if found and found[-1][1] == first and _belong(text[slice(*found[-1])], text[first:end]):
            found[-1] = (found[-1][0], end)
        else:
            found += _without_ending(text, first, end)
    return found


def _belong(word: str, after: str) -> bool:
    """Whether what follows at once is the full stop of a short form, or the rest of an English ending."""
    if after == ".":
        return word in TITLES or (len(word) == 1 and word.isupper())
    return word in ("'", "’") and after.lower() in ENDINGS


def _without_ending(text: str, first: int, end: int) -> list[tuple[int, int]]:
    ending = _ENDING.search(text, first, end)
    return [(first, ending.start(1)), (ending.start(1), end)] if ending else [(first, end)]


@lru_cache(2**14)
def _kind(sign: str) -> str:
    """What a sign is: a letter, 1 digit, c Chinese, r half a flag, p other, m goes with the one before, j joins."""
    category, code = unicodedata.category(sign), ord(sign)
    if code < 128 and category[0] in "PS":
        return sign
    if sign == "’":
        return "'"
    if category[0] == "Z" or category == "Cc":
        return " "
    if any(first <= code <= last for first, last in _CHINESE):
        return "c"
    if 0x1F1E6 <= code <= 0x1F1FF:
        return "r"
    if code == 0x200D:
        return "j"
    if category[0] == "M" or category == "Cf" or 0x1F3FB <= code <= 0x1F3FF:
        return "m"
    return {"L": "a", "N": "1"}.get(category[0], "p")


@dataclass(frozen=True, slots=True)
class Windows:
    """One sentence's words as token ids.

    Attributes:
        ids: of each window, special tokens included; no window where no word has a token.
        types: token types of each, where the frame has them.
        places: for each word, the window it has most context in, and the place of its first token there; None for a
            word the tokenizer makes nothing of.
    """

    ids: list[list[int]]
    types: list[list[int] | None]
    places: list[tuple[int, int] | None]


def encode(
    tokenizer: Tokenizer,
    sentences: Sequence[Sequence[str]],
    *,
    limit: int | None = None,
    overflow: str = "truncate",
) -> Iterator[Windows]:
    """Turn sentences, given as words, into token ids: the words with a space between, in the frame of single texts.

    Args:
        tokenizer: the model's.
        sentences: words.
        limit: most tokens in a window, special tokens included.
        overflow: beyond the limit, "error" raises; nothing is ever cut.

    Raises:
        DataError: a sentence beyond the limit, or what `Tokenizer.encode` raises.
        UsageError: the limit leaves no room beside the special tokens.
    """
    whole = tokenizer.encode([" ".join(words) for words in sentences], offsets=True)
    for number, (words, encoding) in enumerate(zip(sentences, whole, strict=True)):
        if limit is not None and len(encoding.ids) > limit and overflow == "error":
            raise DataError(
                f"sentence {number} (counting from 0) has {len(encoding.ids)} tokens with its special tokens, the "
                f"limit is {limit}. Shorten it, or let it be read in windows (overflow 'truncate' cuts nothing here)"
            )
        yield _windows(words, encoding, limit)


def _windows(words: Sequence[str], encoding: Encoding, limit: int | None) -> Windows:
    own = [place for place, segment in enumerate(encoding.segments or ()) if segment >= 0]
    if not own:
        return Windows([], [], [None] * len(words))
    start, end = own[0], own[-1] + 1
    specials = len(encoding.ids) - len(own)
    if limit is not None and limit <= specials:
        raise UsageError(f"the limit of {limit} tokens leaves no room beside {specials} special tokens: raise it")
    cuts = list(cut(len(own), len(own) if limit is None else limit - specials))

    def window(values: list[int], first: int, last: int) -> list[int]:
        return [*values[:start], *values[start + first : start + last], *values[end:]]

    types = encoding.types
    return Windows(
        [window(encoding.ids, *bounds) for bounds in cuts],
        [None if types is None else window(types, *bounds) for bounds in cuts],
        [None if first is None else _best(first, cuts, start, len(own)) for first in _firsts(words, encoding, own)],
    )


def cut(tokens: int, room: int) -> Iterator[tuple[int, int]]:
    """Windows of at most ``room`` tokens over so many, evenly spread, neighbours sharing a quarter or more.

    >>> list(cut(10, 4))
    [(0, 4), (3, 7), (6, 10)]
    """
    step = max(1, room - room // OVERLAP)
    count = 1 + max(0, -(-(tokens - room) // step))
    for number in range(count):
        first = 0 if count == 1 else (tokens - room) * number // (count - 1)
        yield first, min(first + room, tokens)


def _best(token: int, cuts: list[tuple[int, int]], start: int, tokens: int) -> tuple[int, int]:
    """The window in which the nearer cut lies furthest from a token; the text's own ends are no cuts."""

    def context(bounds: tuple[int, int]) -> int:
        first, end = bounds
        left = token - first if first else tokens
        return min(left, end - 1 - token if end < tokens else tokens) if first <= token < end else -1

    number = max(range(len(cuts)), key=lambda one: context(cuts[one]))
    return number, start + token - cuts[number][0]


def _firsts(words: Sequence[str], encoding: Encoding, own: list[int]) -> list[int | None]:
    """The first token of each word, counted among the text's own; a token belongs where its first visible sign is."""
    text, starts = " ".join(words), [0]
    for each in words:
        starts.append(starts[-1] + len(each) + 1)
    found: list[int | None] = [None] * len(words)
    for number, token in enumerate(own):
        first, end = (encoding.offsets or ())[token]
        shown = end - len(text[first:end].lstrip())
        if shown < end:
            word = bisect.bisect_right(starts, shown) - 1
            found[word] = number if found[word] is None else found[word]
    return found

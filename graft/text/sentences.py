"""Where a text's sentences begin and end, by rule: marks that end one, blank lines, words that only look like it."""

from __future__ import annotations

import re

ABBREVIATIONS = frozenset(
    # titles, companies, references, months; then German and French
    ("mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "gen", "col", "maj", "capt", "lt", "sgt", "rev", "hon", "gov")
    + ("sen", "rep", "pres", "inc", "ltd", "co", "corp", "no", "vs", "etc", "e.g", "i.e", "cf", "al", "fig", "vol")
    + ("pp", "approx", "dept", "est", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov")
    + ("dec", "bzw", "z.b", "d.h", "usw", "ca", "nr", "mme", "mlle")
)
"""Words whose full stop ends no sentence where another word follows; written without their last stop."""

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s+)|[。！？]+[」』”]*")
_NEXT = re.compile(r"\s*[\"'“‘«(\[¿¡]*(\S)")
_LAST = re.compile(r"(\S+?)\.[\"'”’»)\]]*$")


def sentences(text: str) -> list[tuple[int, int]]:
    """First character and the one after the last of each sentence; space around them belongs to none.

    A sentence ends at . ! ? or … before a space, unless the next word begins with a small letter or the stop belongs to
    an abbreviation or an initial; at the full stops of Chinese and Japanese; and at a blank line.

    >>> text = "Dr. Who paid $1.5m. Why? He likes J. R. Smith."
    >>> [text[start:end] for start, end in sentences(text)]
    ['Dr. Who paid $1.5m.', 'Why?', 'He likes J. R. Smith.']
    """
    found: list[tuple[int, int]] = []
    start = 0
    for mark in [*_PARAGRAPH.finditer(text), None]:
        stop = len(text) if mark is None else mark.start()
        found += _of_paragraph(text, start, stop)
        start = stop if mark is None else mark.end()
    return found


def _of_paragraph(text: str, start: int, stop: int) -> list[tuple[int, int]]:
    found = []
    for mark in _END.finditer(text, start, stop):
        if _ends(text, start, mark, stop):
            found.append((start, mark.end()))
            start = mark.end()
    return [one for one in (_trimmed(text, *pair) for pair in [*found, (start, stop)]) if one[0] < one[1]]


def _ends(text: str, start: int, mark: re.Match[str], stop: int) -> bool:
    """Whether a mark ends the sentence that began at `start`."""
    after = _NEXT.match(text, mark.end(), stop)
    if not mark.group().startswith("."):
        return after is None or not after.group(1).islower()
    if after is not None and after.group(1).islower():
        return False
    last = _LAST.search(text, start, mark.end())
    word = last.group(1).lstrip("\"'“‘«([").casefold() if last and mark.group().rstrip("\"'”’»)]") == "." else ""
    return word not in ABBREVIATIONS and not (len(word) == 1 and word.isalpha() and word != "i")


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    own = text[start:end]
    return start + len(own) - len(own.lstrip()), end - (len(own) - len(own.rstrip()))

"""Words of a text that may be mistyped, each with what may have been meant, spelled as it would stand there."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graft.text.spelling import MISTYPED, SPLIT, Channel
from graft.text.word_list import key, spans

CONFUSED = 0.002
"""How many words of a text are mistyped as another word of the list."""

REAL_WORD_FAR = 10.0
"""Words of the list that cost more to mistype are not taken for one another."""

COMMON = 0.01
"""How often a word with a capital inside a sentence is one that is spelled without, against what the list says."""

AGAIN, MOST_AGAIN = math.log(5.0), 2
"""Each time more that a text has the same unlisted word it is so much likelier meant; so often at most, for there are
slips that a writer makes every time."""

_BEGINS = re.compile(r"(?:^|[.!?:\n]|[“\"‘'(*•-])[\s“\"‘'(*]*$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A stretch of a text that may not be what was meant.

    Attributes:
        start: its first character.
        end: the character after its last.
        choices: what may have been meant; first of all the stretch as it stands.
        channel: for each, log P(what stands there | it was meant).
        language: for each, its log-probability by the word list alone.
        listed: whether the list has it as it stands.
    """

    start: int
    end: int
    choices: tuple[str, ...]
    channel: tuple[float, ...]
    language: tuple[float, ...]
    listed: bool = False


def find(text: str, channel: Channel, *, most: int = 8, real_words: bool = False) -> list[Suspect]:
    """The suspects of a text, in order; none shares a character with another.

    Capitals (initials, abbreviations), single letters, and words with capitals inside, are left alone.

    Args:
        text: the text.
        channel: says which words may have been meant.
        most: how many of them at most, beside the word itself.
        real_words: words of the list are suspects, too.
    """
    words = spans(text)
    found: list[Suspect] = []
    shouted, times = text.isupper(), Counter(key(text[start:end]) for start, end in words)
    for number, (start, end) in enumerate(words):
        typed = text[start:end]
        if (found and start < found[-1].end) or _left_alone(typed, shouted):
            continue
        if not channel.words.knows(typed):
            one = _unlisted(text, start, end, channel, most, AGAIN * min(times[key(typed)] - 1, MOST_AGAIN))
            found.append(_joined(text, words, number, one, found, channel))
        elif real_words and (choices := _confusable(typed, channel, most)):
            found.append(_suspect(start, end, typed, math.log1p(-CONFUSED), _listed_log(typed, channel), choices, True))
    return found


def _left_alone(typed: str, shouted: bool) -> bool:
    stem = typed[:-2] if key(typed).endswith("'s") else typed
    inside = any(sign.isupper() for sign in stem[1:])
    return len(stem) < 2 or (inside and not (shouted and stem.isupper()))


def _suspect(
    start: int,
    end: int,
    typed: str,
    own: float,
    language: float,
    choices: Sequence[tuple[str, float, float]],
    listed: bool = False,
) -> Suspect:
    """Put together the word itself and what else was meant: (text, channel, language)."""
    return Suspect(
        start=start,
        end=end,
        choices=(typed, *(text for text, _, _ in choices)),
        channel=(own, *(log for _, log, _ in choices)),
        language=(language, *(log for _, _, log in choices)),
        listed=listed,
    )


def _unlisted(text: str, start: int, end: int, channel: Channel, most: int, again: float) -> Suspect:
    """A word the list lacks: words of the list, two of them written as one, or the word itself."""
    typed = text[start:end]
    stem, rest = (typed[:-2], typed[-2:]) if key(typed).endswith("'s") else (typed, "")
    inside = stem[:1].isupper() and not stem.isupper() and not _BEGINS.search(text, max(0, start - 8), start)
    edited = [(meant, log) for meant, log in channel.candidates(stem)] + [*channel.splits(stem)]
    scored = []
    for meant, log in edited:
        odd = math.log(COMMON) if inside and meant[:1].islower() else 0.0
        scored.append((like(meant, stem) + rest, log + math.log(MISTYPED), channel.log_probability(meant) + odd))
    scored.sort(key=lambda one: -one[1] - one[2])
    own = channel.log_unlisted(stem, name=stem[:1].isupper())
    return _suspect(start, end, typed, math.log1p(-MISTYPED) + again, own, scored[:most])


def _confusable(typed: str, channel: Channel, most: int) -> list[tuple[str, float, float]]:
    """Other words of the list that a word of the list is easily mistyped for."""
    near = [(meant, log) for meant, log in channel.candidates(typed) if log > -REAL_WORD_FAR][:most]
    return [(like(meant, typed), log + math.log(CONFUSED), channel.log_probability(meant)) for meant, log in near]


def _listed_log(typed: str, channel: Channel) -> float:
    return channel.log_probability(typed) if typed in channel.words else channel.log_probability(typed[:-2])


def _joined(
    text: str,
    words: Sequence[tuple[int, int]],
    number: int,
    one: Suspect,
    before: Sequence[Suspect],
    channel: Channel,
) -> Suspect:
    """The suspect, or, where it and a neighbour make a word of the list, one over both."""
    for other in (number + 1, number - 1):
        if not 0 <= other < len(words):
            continue
        (start, left_end), (right, end) = sorted([words[number], words[other]])
        taken = before and start < before[-1].end
        if (
            taken
            or text[left_end:right] not in (" ", "-")
            or text[start:left_end] + text[right:end] not in channel.words
        ):
            continue
        meant = channel.words.spelled(text[start:left_end] + text[right:end])
        return _over_both(text, start, end, one, meant, channel, slice(*words[other]))
    return one


def _over_both(text: str, start: int, end: int, one: Suspect, meant: str, channel: Channel, other: slice) -> Suspect:
    beside = text[other]
    log = _listed_log(beside, channel) if channel.words.knows(beside) else channel.log_unlisted(beside)
    wrapped = [
        (text[start : one.start] + choice + text[one.end : end], own, language + log)
        for choice, own, language in zip(one.choices, one.channel, one.language, strict=True)
    ]
    whole = like(meant, text[start:end].replace(" ", "").replace("-", ""))
    joined = (whole, math.log(MISTYPED) - SPLIT, channel.log_probability(meant))
    typed, own, language = wrapped[0]
    return _suspect(start, end, typed, own, language, [*wrapped[1:], joined])


def like(meant: str, typed: str) -> str:
    """A word in the case and with the apostrophe of what was typed.

    >>> like("receive", "Recieve"), like("Paris", "pariss"), like("don't", "DONT"), like("a lot", "Alot")
    ('Receive', 'Paris', "DON'T", 'A lot')
    """
    if len(typed) > 1 and typed.isupper():
        meant = meant.upper()
    elif typed[:1].isupper():
        meant = meant[:1].upper() + meant[1:]
    return meant.replace("'", "’") if "’" in typed else meant


def changed(text: str, suspects: Sequence[Suspect], chosen: Sequence[int]) -> str:
    """The text with the choices made."""
    return "".join(_pieces(text, suspects, chosen))


def _pieces(text: str, suspects: Sequence[Suspect], chosen: Sequence[int]) -> Iterator[str]:
    place = 0
    for one, choice in zip(suspects, chosen, strict=True):
        yield text[place : one.start]
        yield one.choices[choice]
        place = one.end
    yield text[place:]

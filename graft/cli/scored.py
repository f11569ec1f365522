"""How scored texts, and words that may come next, are shown: unlikely words in colour on a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from graft.cli.output import bar, one_line, shortened, write, write_columns

if TYPE_CHECKING:
    from graft.heads import Answer, Piece

COLOURS = ((9.97, "\x1b[31m", "red: less likely than 1 in 1,000"), (6.64, "\x1b[33m", "yellow: than 1 in 100"))
"""From so many bits on, how a piece is marked, and what that says."""

PLAIN = "\x1b[0m"


def coloured() -> bool:
    """Whether standard output is a terminal that is to have colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def brief(answer: Answer) -> str:
    """A score, or the words that may come next, on one line."""
    if answer.log_probability is None:
        return "  ".join(
            f"{one_line(str(one.text))} {one.probability:.3f}" for one in (answer, *(answer.alternatives or ()))
        )
    rank = "" if answer.rank is None else f"{answer.rank}.  "
    behind = "" if answer.behind is None else f"  {0 - answer.behind:+.3f}"
    return f"{rank}{answer.log_probability:.3f}{behind}  perplexity {_short(answer.perplexity or 0)}"


def show(text: str, answer: Answer, *, single: bool) -> None:
    """Print one answer."""
    if answer.log_probability is None:
        _suggest(text, answer, single)
        return
    line = summary(answer) if single else brief(answer)
    write(line if single else f"{line}  {text_of(text, answer, len(line) + 2)}")
    if single and answer.pieces is not None:
        _pieces(text, answer.pieces)


def summary(answer: Answer) -> str:
    """A score in words."""
    pseudo = "pseudo-" if str(answer.measure).startswith("pseudo") else ""
    first = "; first token not scored" if answer.unscored == 1 else ""
    return (
        f"{pseudo}log-probability {answer.log_probability:.3f} ({answer.bits:.1f} bits), {pseudo}perplexity "
        f"{_short(answer.perplexity or 0)}, {answer.tokens} tokens{first}"
    )


def text_of(text: str, answer: Answer, used: int) -> str:
    """A text beside its score: in colour, or each piece with its bits, where those were asked for."""
    if answer.pieces is None:
        return shortened(text, used)
    if coloured():
        return marked(text, answer.pieces)
    return " ".join(f"{one_line(one.text) or '_'}:{_bits(one)}" for one in answer.pieces)


def marked(text: str, pieces: tuple[Piece, ...]) -> str:
    """A text with its unlikely pieces in colour."""
    parts, place = [], 0
    for one in pieces:
        colour = next((code for bits, code, _ in COLOURS if one.bits is not None and one.bits >= bits), "")
        shown, start = _clean(text[max(place, one.start) : one.end]), max(place, one.start)
        parts += [_clean(text[place:start]), f"{colour}{shown}{PLAIN}" if colour and shown else shown]
        place = max(place, one.end)
    return "".join(parts) + _clean(text[place:])


def _clean(text: str) -> str:
    """Without what could steer the terminal; spaces stay."""
    return "".join(sign if sign.isprintable() else " " if sign.isspace() else repr(sign)[1:-1] for sign in text)


def _pieces(text: str, pieces: tuple[Piece, ...]) -> None:
    if coloured():
        write(marked(text, pieces))
        write(f"({'; '.join(said for _, _, said in COLOURS)})")
    rows = [
        [_clean(one.text), "" if one.log_probability is None else f"{one.log_probability:.3f}", _bits(one)]
        for one in pieces
    ]
    write_columns([["", "log-probability", "bits"], *rows])


def _bits(piece: Piece) -> str:
    return "-" if piece.bits is None else f"{piece.bits:.1f}"


def _suggest(text: str, answer: Answer, single: bool) -> None:
    if not single:
        line = brief(answer)
        write(f"{line}  {shortened(text, len(line) + 2)}")
        return
    every = (answer, *(answer.alternatives or ()))
    write_columns([[one_line(str(one.text)), f"{one.probability:.3f}", bar(one.probability or 0)] for one in every])


def _short(number: float) -> str:
    return f"{number:,.2f}" if number < 1e6 else f"{number:.3g}"

"""How a corrected text is shown: what was changed, marked in the text, and how sure that is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from graft.cli.output import one_line, write, write_columns

if TYPE_CHECKING:
    from graft.heads import Answer, Correction

OTHERS = 3
"""Other candidates shown."""


def marked(text: str, corrections: Sequence[Correction], arrow: str = "->") -> str:
    """A text with its changes in brackets.

    >>> from graft.heads import Correction
    >>> slip = Correction(start=3, end=7, text="wsa", replacement="was", probability=0.9, candidates={"was": 0.9})
    >>> marked("it wsa. ", [slip])
    'it [wsa -> was] '
    """
    parts, place = [], 0
    for one in corrections:
        if one.text != one.replacement:
            parts.append(f"{text[place : one.start]}[{one.text} {arrow} {one.replacement}]")
            place = one.end
    return "".join(parts) + text[place:]


def show(text: str, answer: Answer) -> None:
    """Print the text with its changes marked, and a line for each with its probability and what else was likely."""
    utf8 = (sys.stdout.encoding or "").lower().startswith("utf")
    arrow = "→" if utf8 else "->"
    write(one_line(marked(text, answer.corrections or (), arrow)))
    rows = []
    for one in answer.corrections or ():
        others = [f"{one_line(name)} {share:.3f}" for name, share in one.candidates.items() if name != one.replacement]
        kept = "left as it is" if one.text == one.replacement else f"{arrow} {one_line(one.replacement)}"
        rows.append([one_line(one.text), kept, f"{one.probability:.3f}", ", ".join(others[:OTHERS])])
    write_columns(rows)

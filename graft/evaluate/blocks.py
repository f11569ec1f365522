"""What a report is made of: plain data that report.html turns into HTML, escaping every text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from markupsafe import Markup

Tone: TypeAlias = Literal["", "good", "bad"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place of a table.

    Attributes:
        text: what it says.
        note: said after it, smaller.
        share: 0 to 1, drawn as a bar or, in a matrix, as a shade.
        tone: good and bad are coloured.
    """

    text: str
    note: str = ""
    share: float | None = None
    tone: Tone = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under column titles; the first column names the row.

    Attributes:
        columns: titles.
        rows: as many cells each as there are columns.
        caption: what the table shows.
        marked: places of rows that stand out.
        matrix: shades instead of bars, and upright column titles.
        words: places of columns after the first that hold words, not figures.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    marked: frozenset[int] = frozenset()
    matrix: bool = False
    words: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Plots:
    """Drawings of ``graft.evaluate.plots`` side by side where there is room."""

    kind: ClassVar[str] = "plots"
    drawings: Sequence[Markup]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A few sentences; a warning stands out."""

    kind: ClassVar[str] = "paragraph"
    text: str
    warning: bool = False


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names with values, as key figures."""

    kind: ClassVar[str] = "facts"
    values: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Said:
    """One thing said of a text: what it is, its value, a few words after it."""

    name: str
    value: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Words of a quoted text, marked where they have a label."""

    text: str
    label: str = ""
    tone: Tone = ""


@dataclass(frozen=True, kw_only=True)
class Quote:
    """A user's text with what is said of it; where it is given in pieces, those are shown."""

    text: str
    said: Sequence[Said]
    pieces: Sequence[Piece] = ()


@dataclass(frozen=True, kw_only=True)
class Quotes:
    """Texts, one below the other; the end of a very long one is replaced by its length."""

    kind: ClassVar[str] = "quotes"
    items: Sequence[Quote]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Blocks that stay folded until the reader opens them."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: Sequence[Block]


Block: TypeAlias = Table | Plots | Paragraph | Facts | Quotes | Fold


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a page."""

    title: str
    blocks: Sequence[Block]
    intro: str = ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report.

    Attributes:
        title: of the page and the browser's tab.
        summary: key facts, shown first.
        sections: in the order shown.
        lead: the finding in a sentence or two, under the title.
        footer: how the figures were made.
    """

    title: str
    summary: Mapping[str, str]
    sections: Sequence[Section]
    lead: str = ""
    footer: Sequence[str] = field(default=())

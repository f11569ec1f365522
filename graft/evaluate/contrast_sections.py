"""The page about what sets two bodies of text apart: two drawings and a table for each side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from graft.evaluate.blocks import Cell, Plots, Section, Table
from graft.evaluate.drawing import ACCENT, INK, MUTED, SECOND, render
from graft.evaluate.log_odds import SIGNIFICANT, Contrasted
from graft.evaluate.wording import printable

NAMED = 10
"""Words of each side that are named beside the points."""

DRAWN = 12
"""Words of each side drawn with their intervals."""

POINTS = 4000
"""Points drawn at most: those furthest from zero, and an even choice of the others."""


def contrast_section(
    names: Sequence[str], first: Sequence[Contrasted], second: Sequence[Contrasted], top: int = 30
) -> Section:
    """What sets two bodies of text apart.

    Args:
        names: of the two.
        first: every word that speaks for the first, the strongest first.
        second: the same for the second.
        top: words of each side in the tables.
    """
    drawings = [_strongest(names, first[:DRAWN], second[:DRAWN]), _points(names, first, second)]
    caption = (
        "Left: the log-odds ratio of the strongest words with 95% intervals. Right: every word by how often both sides "
        f"have it together; within the dashed lines (|z| < {SIGNIFICANT:g}) are words that chance alone may explain. "
        "Where thousands of words are compared, chance alone takes one in twenty beyond them."
    )
    tables = [_table(name, words[:top], names) for name, words in zip(names, (first, second), strict=True)]
    return Section(title="Words that set them apart", blocks=[Plots(drawings=drawings, caption=caption), *tables])


def _table(name: str, words: Sequence[Contrasted], names: Sequence[str]) -> Table:
    most = max((abs(one.z) for one in words), default=1.0)
    rows = [
        [
            Cell(text=one.word),
            Cell(text=f"{one.z:+.2f}", share=abs(one.z) / most),
            Cell(text=f"{one.log_odds:+.3f}"),
            *(Cell(text=f"{count:,}", note=f"{rate:,.0f} per million") for count, rate in _counts(one)),
        ]
        for one in words
    ]
    columns = ["Word", "z", "Log-odds ratio", *(f"Count in {each}" for each in names)]
    return Table(columns=columns, rows=rows, caption=f"Words of {name}.")


def _counts(one: Contrasted) -> list[tuple[int, float]]:
    return list(zip(one.counts, one.per_million, strict=True))


def _short(name: str, width: int = 28) -> str:
    """The last part of a name, for drawings."""
    return textwrap.shorten(printable(name.rstrip("/").rpartition("/")[2] or name), width, placeholder="…")


def _strongest(names: Sequence[str], first: Sequence[Contrasted], second: Sequence[Contrasted]) -> Markup:
    """A dot with its interval for each of the strongest words, the first side's above."""
    words = [*first, *reversed(second)]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for place, one in enumerate(words):
            colour, reach = (ACCENT if one.z > 0 else SECOND), SIGNIFICANT * one.deviation
            axes.plot([one.log_odds - reach, one.log_odds + reach], [place, place], color=colour, linewidth=2)
            axes.plot([one.log_odds], [place], "o", color=colour, markersize=5.5)
        axes.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(words)), [textwrap.shorten(printable(one.word), 26) for one in words])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(words) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set(xlabel=f"← {_short(names[1])}  |  log-odds ratio  |  {_short(names[0])} →")

    told = "; ".join(f"{one.word} {one.log_odds:+.2f} (z {one.z:+.1f})" for one in words)
    return render(draw, 0.9 + 0.215 * len(words), f"The strongest words of {names[0]} and {names[1]}: {told}")


def _points(names: Sequence[str], first: Sequence[Contrasted], second: Sequence[Contrasted]) -> Markup:
    """Every word by its count and z-score; the strongest are named in a column on the right."""
    shown = [*_thinned(first), *_thinned(second)]
    named = [*first[:NAMED], *reversed(second[:NAMED])]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        counts = np.array([sum(one.counts) for one in shown], dtype=np.float64)
        z = np.array([one.z for one in shown])
        for side, colour in ((z > 0, ACCENT), (z < 0, SECOND)):
            axes.plot(counts[side], z[side], "o", color=colour, markersize=3, alpha=0.4, markeredgewidth=0)
        for level in (-SIGNIFICANT, SIGNIFICANT):
            axes.axhline(level, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        axes.set(xlabel="count on both sides", ylabel=f"← {_short(names[1], 16)}  |  z  |  {_short(names[0], 16)} →")
        low, high = axes.get_ylim()
        step = (high - low) / 29
        right = axes.get_xlim()[1]
        for one, place in zip(named, _spread([one.z for one in named], step, low, high), strict=True):
            colour = ACCENT if one.z > 0 else SECOND
            axes.plot([sum(one.counts), right], [one.z, place], color=colour, linewidth=0.4, alpha=0.35, clip_on=False)
            text = " " + textwrap.shorten(printable(one.word), 22)
            axes.text(right, place, text, color=colour, fontsize=8.5, va="center", ha="left", clip_on=False)
        axes.set_xlim(right=right)
        axes.set_ylim(low, high)

    told = f"{len(shown)} words by count and z-score; strongest: {', '.join(one.word for one in named)}"
    return render(draw, 0.9 + 0.215 * 2 * DRAWN, told)


def _thinned(words: Sequence[Contrasted]) -> list[Contrasted]:
    """The strongest half of what may be drawn, and an even choice of the rest."""
    most = POINTS // 2
    if len(words) <= most:
        return list(words)
    rest = words[most // 2 :]
    picked = np.unique(np.linspace(0, len(rest) - 1, most // 2).astype(int))
    return [*words[: most // 2], *(rest[place] for place in picked)]


def _spread(wanted: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Places from top to bottom as near to those wanted, which fall, as a distance of ``step`` between them lets them.

    >>> _spread([5.0, 5.0, -5.0], 1.0, -6.0, 6.0)
    [5.0, 4.0, -5.0]
    """
    places = []
    last = high + step
    for one in wanted:
        last = min(one, last - step)
        places.append(last)
    floor = low
    for number in reversed(range(len(places))):
        places[number] = max(places[number], floor)
        floor = places[number] + step
    return places

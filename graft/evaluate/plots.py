"""The plots of a report: dots with whiskers, reliability, training curves, scatter."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from graft.evaluate.drawing import ACCENT, INK, MUTED, SECOND, render
from graft.evaluate.intervals import Floats, Interval, wilson
from graft.evaluate.metrics import Bin
from graft.evaluate.wording import printable

POINTS = 1000
"""Points of a scatter plot drawn at most, to keep a page small."""

LINE_POINTS = 240
"""Points of a curve drawn at most; beyond that each is a mean of neighbours."""


def whiskers(title: str, names: Sequence[str], scores: Sequence[Interval | None], chosen: Sequence[bool]) -> Markup:
    """Draw a dot with its interval for each name, top to bottom; the chosen ones stand out."""
    lines = ["\n".join(textwrap.wrap(printable(name), 24) or [""]) for name in names]
    height = 0.9 + sum(0.17 + 0.16 * (line.count("\n") + 1) for line in lines)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for place, (score, marked) in enumerate(zip(scores, chosen, strict=True)):
            if score is not None:
                colour = ACCENT if marked else MUTED
                axes.plot([score.low, score.high], [place, place], color=colour, linewidth=2.6 if marked else 1.8)
                axes.plot([score.value], [place], "o", color=colour, markersize=7 if marked else 5.5)
        axes.set_yticks(range(len(lines)), lines)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(title)

    told = (f"{name}: {score}" if score else f"{name}: no value" for name, score in zip(names, scores, strict=True))
    return render(draw, height, f"{title} with 95% intervals. " + "; ".join(told))


def reliability(bins: Sequence[Bin], name: str = "") -> Markup:
    """Draw how often answers are right against how sure they are, over the number of rows in each bin."""

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        above.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        confidence, accuracy = [one.confidence for one in bins], [one.accuracy for one in bins]
        chance = [wilson(round(one.accuracy * one.count), one.count) for one in bins]
        above.vlines(confidence, [one.low for one in chance], [one.high for one in chance], color=ACCENT, alpha=0.45)
        above.plot(confidence, accuracy, "o-", color=ACCENT, markersize=5, linewidth=1.2)
        above.set(xlim=(0, 1.01), ylim=(0, 1.03), ylabel="share right", title=name)
        widths = [one.high - one.low for one in bins]
        below.bar([one.low for one in bins], [one.count for one in bins], widths, align="edge", color=MUTED, alpha=0.6)
        below.set(xlabel="probability given to the answer", ylabel="rows")
        below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        for axes in (above, below):
            axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        above.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))

    told = (f"sure {one.confidence:.0%}, right {one.accuracy:.0%}, {one.count} rows" for one in bins)
    return render(draw, 4.2, f"Reliability diagram{name and ' '}{name.lower()}. " + "; ".join(told))


def curves(title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, best: float | None = None) -> Markup:
    """Draw one line per name over training steps, with a mark at the step that was kept.

    A line of many values is averaged over neighbouring steps, ``steps_per_point`` each.
    """
    thinned = {name: _thin(points) for name, points in series.items()}

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for place, (name, points) in enumerate(thinned.items()):
            style = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 2, 1.5, 2)))[place // 2 % 4]
            marker = "o" if len(points) < 25 else None
            colour = (ACCENT, SECOND)[place % 2]
            axes.plot(*points.T, color=colour, linestyle=style, marker=marker, markersize=4, label=printable(name))
        if best is not None:
            axes.axvline(best, color=MUTED, linewidth=1, linestyle=(0, (2, 2)), label="kept")
        axes.set(xlabel="step", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if len(thinned) > 1 or best is not None:
            axes.legend(fontsize=10)

    told = (f"{name} from {points[0][1]:.4g} to {points[-1][1]:.4g}" for name, points in series.items() if points)
    return render(draw, 2.9, f"{title} over training steps: " + "; ".join(told))


def scatter(target: Sequence[float], prediction: Sequence[float]) -> Markup:
    """Draw predictions against the truth; at most ``POINTS`` rows, evenly picked."""
    picked = np.unique(np.linspace(0, len(target) - 1, min(len(target), POINTS)).astype(int))
    x, y = (np.asarray(column, dtype=np.float64)[picked] for column in (target, prediction))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(x, y, "o", color=ACCENT, markersize=4, alpha=0.45, markeredgewidth=0)
        axes.set(xlabel="true", ylabel="predicted")

    return render(
        draw, 3.8, f"Predicted against true values of {len(picked)} rows; the dashed line is a perfect answer."
    )


def steps_per_point(n: int) -> int:
    """How many values each point of a curve of n values stands for."""
    return -(-n // LINE_POINTS) if n else 1


def _thin(points: Sequence[tuple[float, float]]) -> Floats:
    values = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    each = steps_per_point(len(values))
    starts = range(0, len(values), each)
    return np.vstack([values[start : start + each].mean(0) for start in starts]) if each > 1 else values

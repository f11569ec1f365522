"""``graft contrast``: which words set two bodies of text apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from graft.cli.options import AsJson, Encoding, MaxRejects, NoQuotes, Quiet, watching
from graft.cli.output import one_line, write, write_columns, write_json
from graft.errors import UsageError

if TYPE_CHECKING:
    from graft.evaluate.log_odds import Contrasted
    from graft.recipes.contrast import Contrast

First = Annotated[
    str, Argument(metavar="A", help="A .txt file with a text on each line, or a table (csv, tsv, jsonl, parquet).")
]
Second = Annotated[
    str | None, Argument(metavar="B", help="What to compare it with; not where --by splits one table in two.")
]
Column = Annotated[str | None, Option(metavar="NAME", help="The column of a table with the texts; default: text.")]
By = Annotated[str | None, Option(metavar="NAME", help="The column of A that says which of two groups a text is of.")]
Groups = Annotated[str | None, Option(metavar="X,Y", help="The two groups to compare, where --by has more.")]
Number = Annotated[int, Option("--n", "-n", metavar="N", min=1, max=5, help="How many words in a row to compare.")]
Prior = Annotated[
    str,
    Option(
        metavar="PRIOR",
        help="How frequent words are in general: both (A and B together), english (the package's list), or a file of "
        "other texts.",
    ),
]
PriorSize = Annotated[
    float | None,
    Option(metavar="N", help="Words of text the prior weighs as much as; more: rare words count less; default: 1000."),
]
Top = Annotated[int, Option(metavar="N", min=0, help="How many words of each side to print; 0: all.")]
Report = Annotated[str | None, Option(metavar="FILE.html", help="Also write a page to look at: two plots, and tables.")]


def contrast(
    a: First,
    b: Second = None,
    column: Column = None,
    by: By = None,
    groups: Groups = None,
    n: Number = 1,
    prior: Prior = "both",
    prior_size: PriorSize = None,
    top: Top = 15,
    encoding: Encoding = None,
    max_rejects: MaxRejects = 0,
    no_quotes: NoQuotes = False,
    report: Report = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the words that set two bodies of text apart."""
    if report is not None and not report.lower().endswith((".html", ".htm")):
        raise UsageError(f"--report {report}: the report is a web page; name it *.html")
    if b is not None and "=" in b and not Path(b).exists():
        raise UsageError(f"{b!r} stands where the second text file would; behind one table write --{b}")
    from graft.recipes.contrast import SIZE
    from graft.recipes.contrast import contrast as recipe

    watch = watching(quiet)
    done = recipe(
        a,
        b,
        column=column,
        by=by,
        groups=None if groups is None else [name.strip() for name in groups.split(",")],
        n=n,
        prior=prior,
        prior_size=SIZE if prior_size is None else prior_size,
        encoding=encoding,
        max_rejects=max_rejects,
        quotes=not no_quotes,
        watch=watch,
    )
    if report is not None:
        write_page(Path(report), done)
        watch.note(f"report written to {report}")
    if as_json:
        write_json(done.as_dict(top) | ({"report": report} if report else {}))
    else:
        _show(done, top)


def _show(done: Contrast, top: int) -> None:
    """Two tables, one below the other."""
    names = [one_line(side.name) for side in done.sides]
    for name, words in zip(names, done.top(top), strict=True):
        write(f"more in {name}")
        write_columns([["word" if done.n == 1 else "words", "z", "log-odds", *names], *map(_row, words)])
        write()
    what = "words" if done.n == 1 else f"rows of {done.n} words"
    counted = "; ".join(f"{side.words:,} {what} in {side.texts:,} texts" for side in done.sides)
    write(f"{counted}; prior: {one_line(done.prior)}, as {done.prior_size:,g} {what}")


def _row(one: Contrasted) -> list[str]:
    return [one_line(one.word), f"{one.z:+.2f}", f"{one.log_odds:+.3f}", *(f"{count:,}" for count in one.counts)]


def write_page(path: Path, done: Contrast) -> None:
    """What was found, as one page."""
    from graft.evaluate import report
    from graft.evaluate.contrast_sections import contrast_section

    names = [side.name for side in done.sides]
    first, second = done.top(0)
    page = report.Page(
        title=f"{names[0]} and {names[1]}",
        lead="Words that set the two apart, by log-odds ratios with an informative Dirichlet prior.",
        summary={
            **{f"Words of {side.name}": f"{side.words:,}" for side in done.sides},
            "Different": f"{len(done.words):,}",
            "Prior": f"{done.prior}, {done.prior_size:,g}",
        },
        sections=[contrast_section(names, first, second)],
        footer=["z: the log-odds ratio over its standard deviation (Monroe, Colaresi & Quinn 2008, section 3.5.1)."],
    )
    report.write_report(path, page)

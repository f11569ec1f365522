"""WikiText (Merity et al. 2017) as lm-eval measures it: page by page, with the marks of its tokenization undone.

A page begins at a heading of the first level (" = Title = "). Words and bytes are counted before the marks are undone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from graft.benchmarks.perplexity import Perplexity, counted
from graft.data.table import Table
from graft.tasks import Row

PLAIN = (
    ("s '", "s'"),
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    *((f" {sign} ", f"{sign} ") for sign in ":;.!?,"),
)
INSIDE = (("\\(", "[^)]", "\\)"), ("\\[", "[^\\]]", "\\]"), ("{", "[^}]", "}"), ('"', '[^"]', '"'), ("'", "[^']", "'"))
LAST = (
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" \u00b0 ", "\u00b0"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)
"""What was written, and what stood there; between brackets and quotation marks the spaces at both ends go."""


class WikiText(Perplexity):
    """Pages of Wikipedia."""

    name = "wikitext"

    def reshape(self, table: Table) -> Table:
        """A text file as its pages."""
        if not table.format.startswith("txt"):
            return table
        found = [(line, page) for text in table.rows for line, page in pages(text["text"])]
        return replace(table, rows=[{"text": page} for _, page in found], lines=[line for line, _ in found])

    def row(self, texts: Sequence[str], line: int) -> Row:
        """A page, with its words and bytes as they were."""
        return Row((undone(texts[0]),), counted(texts[0]), line)


def pages(text: str) -> Iterator[tuple[int, str]]:
    """The pages of a file with the lines they begin on."""
    page: list[str] = []
    begun = 1
    for number, line in enumerate(text.split("\n"), 1):
        shown = line.strip()
        if shown.startswith("= ") and shown.endswith(" =") and not shown.startswith("= ="):
            if "".join(page).strip():
                yield begun, "\n".join(page)
            page, begun = [], number
        page.append(line)
    if "".join(page).strip():
        yield begun, "\n".join(page)


def undone(page: str) -> str:
    """A page as it was before it was cut into tokens.

    >>> undone(" It is ( 2 @.@ 5 ) , they say . ")
    ' It is (2.5), they say. '
    """
    for old, new in PLAIN:
        page = page.replace(old, new)
    for first, inner, last in INSIDE:
        page = re.sub(rf"({first})\s*({inner}*?)\s*({last})", r"\1\2\3", page)
    for old, new in LAST:
        page = page.replace(old, new)
    return page


BENCHMARK = WikiText()

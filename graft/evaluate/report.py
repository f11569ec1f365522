"""One self-contained HTML page per run: no scripts, no requests, light and dark, wide and narrow.

Build a ``Page`` from sections and write it:

    page = Page(title="Tickets", summary={"Rows": "1,204"}, sections=[scores_section(scores, rows=1204)])
    write_report(Path("run/report.html"), page)

Every text is escaped where it enters the page, and the page's own policy forbids scripts, frames and requests besides.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from graft.evaluate.blocks import (
    Block,
    Cell,
    Facts,
    Fold,
    Page,
    Paragraph,
    Plots,
    Quote,
    Quotes,
    Said,
    Section,
    Table,
)
from graft.evaluate.run_sections import Candidate, DataSummary, comparison, data_section, training_section
from graft.evaluate.sections import (
    Mistake,
    Prediction,
    calibrated_section,
    calibration_section,
    classified_sections,
    confusion_section,
    mistakes_section,
    per_label_section,
    predictions_section,
    regression_section,
    reliance_section,
    scores_section,
    worst_mistakes,
    written_section,
)
from graft.evaluate.wording import printable
from graft.files import replacing
from graft.version import __version__

__all__ = [
    "Block",
    "Candidate",
    "Cell",
    "DataSummary",
    "Facts",
    "Fold",
    "Mistake",
    "Page",
    "Paragraph",
    "Plots",
    "Prediction",
    "Quote",
    "Quotes",
    "Said",
    "Section",
    "Table",
    "calibrated_section",
    "calibration_section",
    "classified_sections",
    "comparison",
    "confusion_section",
    "data_section",
    "html",
    "mistakes_section",
    "per_label_section",
    "predictions_section",
    "regression_section",
    "reliance_section",
    "scores_section",
    "training_section",
    "worst_mistakes",
    "write_report",
    "written_section",
]

LONGEST = 1200
"""Characters of a quoted text that are shown."""


def html(page: Page) -> str:
    """Turn a page into HTML."""
    return _template().render(page=page, version=__version__, longest=LONGEST)


def write_report(path: Path, page: Page) -> None:
    """Write a page as one HTML file; whatever goes wrong, an older report there stays whole.

    Raises:
        StorageError: the file cannot be written.
    """
    content = html(page)
    with replacing(path) as new:
        new.write_text(content, encoding="utf-8")


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("graft.evaluate", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_presentable,
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("report.html")


def _breakable(text: str) -> Markup:
    """Let a line break after an underscore: label names have no other place for it."""
    return Markup("_<wbr>").join(printable(text).split("_"))


def _presentable(value: Any) -> Any:
    return printable(value) if type(value) is str else value

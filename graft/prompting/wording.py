"""How a task is put into words, for models that read it as text and write the answer."""

from __future__ import annotations

from dataclasses import dataclass

from graft.errors import UsageError
from graft.grafted import Model
from graft.sealed import Text

PLACE = "{}"
MASK = "{mask}"
"""Where a model that fills masks is to answer."""


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How a task of labels or scores is put to models that read and write text: templates with {} for each text.

    Attributes:
        prefixed: for encoder-decoders, which are trained with it too.
        continued: for decoders, which continue it.
        masked: for models that fill masks; "" where the task cannot be put so. {mask} is where the answer goes.
        named: for models that compare or entail: a statement with {} for the label; "" where there is none.
    """

    prefixed: str
    continued: str
    masked: str = ""
    named: str = ""


def filled(template: str, text: Text) -> str:
    """The text, or both of a pair, in the places a template has for them."""
    if isinstance(text, str):
        return template.replace(PLACE, text)
    before, between, after = template.split(PLACE)
    return f"{before}{text[0]}{between}{text[1]}{after}"


def check(template: str, places: int = 1) -> str:
    """The template, if it has exactly the places the texts need.

    Raises:
        UsageError: it has fewer, or more.
    """
    if template.count(PLACE) != places:
        where = "where the text goes" if places == 1 else "where the texts go"
        count = "one" if places == 1 else str(places)
        raise UsageError(f"the template {template!r} needs exactly {count} {PLACE}, {where}")
    return template


def usual(model: Model, prefixed: str, continued: str) -> str:
    """The template a model knows: the prefix encoder-decoders are trained with, or what a decoder continues."""
    return continued if model.backbone.decoder is None else prefixed

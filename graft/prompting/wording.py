"""How a task is put into words, for models that read it as text and write the answer."""

from __future__ import annotations

from graft.errors import UsageError
from graft.grafted import Model

PLACE = "{}"


def filled(template: str, text: str) -> str:
    """The text in its place in a template."""
    return template.replace(PLACE, text)


def check(template: str) -> str:
    """The template, if it has exactly one place for the text.

    Raises:
        UsageError: it has none, or several.
    """
    if template.count(PLACE) != 1:
        raise UsageError(f"the template {template!r} needs exactly one {PLACE}, where the text goes")
    return template


def usual(model: Model, prefixed: str, continued: str) -> str:
    """The template a model knows: the prefix encoder-decoders are trained with, or what a decoder continues."""
    return continued if model.backbone.decoder is None else prefixed

"""Translate: a text becomes the same in another language."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from graft.data.columns import Role
from graft.data.table import Table
from graft.errors import UsageError
from graft.grafted import Model
from graft.prompting import wording
from graft.tasks.summarize import SummarizeTask

LANGUAGES = MappingProxyType(
    {
        "en": "English",
        "de": "German",
        "fr": "French",
        "ro": "Romanian",
        "es": "Spanish",
        "it": "Italian",
        "nl": "Dutch",
        "pt": "Portuguese",
        "cs": "Czech",
        "pl": "Polish",
        "ru": "Russian",
        "tr": "Turkish",
        "zh": "Chinese",
        "ja": "Japanese",
        "ar": "Arabic",
        "hi": "Hindi",
    }
)
"""Names of languages as prompts spell them, by the codes columns are named with."""

NESTED = "translation"


class TranslateTask(SummarizeTask):
    """Text-to-text, with the two languages named in the template."""

    name = "translate"
    primary = "chrf"
    roles = (
        Role(name="source", aliases=("src", "from", "text")),
        Role(name="target", aliases=("tgt", "to")),
    )

    def reshape(self, table: Table) -> Table:
        """A lone column of objects with two languages, {"en": ..., "de": ...}, as two columns."""
        if table.names != (NESTED,) or not all(isinstance(row.get(NESTED), dict) for row in table.rows):
            return table
        rows = [dict(row[NESTED]) for row in table.rows]
        names = list(dict.fromkeys(name for row in rows for name in row))
        return dataclasses.replace(table, names=tuple(names), rows=rows)

    def usual(self, model: Model, columns: Mapping[str, str]) -> str:
        """T5's "translate English to German: {}", or "English: {} German:" for decoders, from the names of the columns.

        Raises:
            UsageError: they name no languages.
        """
        names = [_language(columns.get(role, "")) for role in ("source", "target")]
        if None in names:
            raise UsageError(
                "translate needs to know the languages: name the columns by them (--columns "
                "source=en,target=de), or give --template 'translate English to German: {}'"
            )
        return wording.usual(model, f"translate {names[0]} to {names[1]}: {{}}", f"{names[0]}: {{}}\n{names[1]}:")


def _language(column: str) -> str | None:
    folded = column.strip().casefold()
    return LANGUAGES.get(folded) or next((name for name in LANGUAGES.values() if name.casefold() == folded), None)


TASK = TranslateTask()

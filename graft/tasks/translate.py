"""Translate: a text becomes the same in another language."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from graft.data.columns import Role
from graft.data.table import Table
from graft.errors import UsageError, listed, nearest
from graft.generate.beam import Beams
from graft.grafted import Model
from graft.prompting import wording
from graft.tasks.summarize import SummarizeTask
from graft.writing import write

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
        "bg": "Bulgarian",
        "da": "Danish",
        "el": "Greek",
        "fa": "Persian",
        "fi": "Finnish",
        "he": "Hebrew",
        "hi": "Hindi",
        "hu": "Hungarian",
        "id": "Indonesian",
        "ko": "Korean",
        "no": "Norwegian",
        "sv": "Swedish",
        "uk": "Ukrainian",
        "vi": "Vietnamese",
    }
)
"""Names of languages as prompts spell them, by the codes columns are named with."""

NESTED = "translation"


class TranslateTask(SummarizeTask):
    """Text-to-text, with the two languages named in the template."""

    name = "translate"
    primary = "chrf"
    options = ("longest", "n", "template", "source", "target", *write.SETTINGS, *write.BEAMS)
    combines = False
    stop = ("\n",)
    command = "'The house is small.' --from en --to de"
    python = 'graft.run("translate", ["The house is small."], model=model, source="en", target="de")'
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
        names = [language(columns.get(role, "")) for role in ("source", "target")]
        if None in names:
            raise UsageError(
                "translate needs to know the languages: say --from en --to de, or, where there are columns, name them "
                "by the languages (--columns source=en,target=de), or give --template 'translate English to German: "
                f"{{}}'{_trained(model)}"
            )
        return wording.usual(model, f"translate {names[0]} to {names[1]}: {{}}", f"{names[0]}: {{}}\n{names[1]}:")

    def several(self, n: int) -> Beams:
        """The most probable ones."""
        return Beams(beams=max(4, 2 * n), n=n)

    def picks(self, model: Model) -> bool:
        """A translation is always written."""
        return False

    def template_for(self, model: Model, options: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """The words around a text, from the languages where they are given.

        Raises:
            UsageError: an unknown language, only one, or a template as well.
        """
        given = {role: options[role] for role in ("source", "target") if options.get(role) is not None}
        if not given:
            return super().template_for(model, options)
        if options.get("template") is not None:
            raise UsageError("the template says the languages: leave --from and --to out, or the template")
        if len(given) < 2:
            raise UsageError(
                f"translate needs both languages: --from and --to, such as --from en --to de{_trained(model)}"
            )
        for name in given.values():
            if language(str(name)) is None:
                known = [*LANGUAGES, *LANGUAGES.values()]
                raise UsageError(f"unknown language {str(name)!r:.40}: {nearest(str(name), known)}{_trained(model)}")
        pairs, pair = directions(model), tuple(str(language(str(given[role]))) for role in ("source", "target"))
        untrained = f"this model's config does not list {pair[0]} to {pair[1]}; it lists {listed_pairs(pairs)}"
        return self.usual(model, given), (untrained,) if pairs and pair not in pairs else ()


def language(name: str) -> str | None:
    """A language's name, from it or from its code; None where it is not known."""
    folded = name.strip().casefold()
    return LANGUAGES.get(folded) or next((name for name in LANGUAGES.values() if name.casefold() == folded), None)


def directions(model: Model) -> list[tuple[str, str]]:
    """The languages from and to which a model's config says it translates (T5's task_specific_params)."""
    named = model.published.get("task_specific_params")
    found = []
    for one in named.values() if isinstance(named, dict) else ():
        prefix = one.get("prefix") if isinstance(one, dict) else None
        match = re.match(r"translate (\w+) to (\w+)", prefix) if isinstance(prefix, str) else None
        if match:
            found.append((match[1], match[2]))
    return found


def listed_pairs(pairs: Sequence[tuple[str, str]]) -> str:
    """For a message."""
    return listed(f"{first} to {second}" for first, second in pairs)


def _trained(model: Model) -> str:
    pairs = directions(model)
    return f". This model was trained for {listed_pairs(pairs)}" if pairs else ""


TASK = TranslateTask()

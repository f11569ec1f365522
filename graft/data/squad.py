"""SQuAD's JSON, versions 1.1 and 2.0: articles of paragraphs, each with its questions; every question becomes a row.

    {"version": ..., "data": [{"title": ..., "paragraphs": [{"context": ..., "qas": [
        {"id": ..., "question": ..., "answers": [{"text": ..., "answer_start": ...}], "is_impossible": ...}]}]}]}

Sources: Rajpurkar et al. 2016 (arXiv:1606.05250), 2018 (arXiv:1806.03822). Plausible answers of 2.0 are no answers and
are not read. Rows have no lines of their own here; they are numbered as their questions come, from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from graft.data.jsonl import strict
from graft.data.table import Reject, Table
from graft.errors import DataError
from graft.files import JSON_BYTES

NAMES = ("id", "title", "question", "context", "answers", "is_impossible")
_START = re.compile(
    r'\s*\{\s*(?:"version"\s*:\s*(?:"[^"]*"|[\d.]+)\s*,\s*)?"data"\s*:\s*\[\s*(?:\]|\{\s*"(?:title|paragraphs)"\s*:)'
)


def begins(text: str) -> bool:
    r"""Tell SQuAD's JSON from JSON lines by how the file begins.

    >>> begins('{"version": "1.1", "data": [{"title": "Rome"'), begins('{"data": [1, 2]}\n')
    (True, False)
    """
    return _START.match(text) is not None


def parse(path: Path, texts: Iterator[str]) -> Table:
    """Read all questions of a file, each with its context.

    Args:
        path: the file, for messages.
        texts: its text, in blocks.

    Raises:
        DataError: not valid JSON, too large, or not laid out as SQuAD is; the message names article and paragraph.
    """
    try:
        content = strict(_joined(path, texts), "expected one JSON object with articles under 'data'")
    except ValueError as error:
        raise DataError(f"{path}: {error}. Mend the file, or fetch it again") from error
    table = Table(path=path, names=(), rows=[], lines=[], rejected=[], format="SQuAD JSON")
    for number, (title, context, question) in enumerate(_questions(path, content), start=1):
        if not isinstance(question, dict):
            found = f"the question is {type(question).__name__}, expected an object with id, question and answers"
            table.rejected.append(Reject(line=number, reason=found, text=str(question), file=str(path)))
            continue
        own = {name: question[name] for name in NAMES if name in question}
        table.rows.append({"title": title, **own, "context": context})
        table.lines.append(number)
    present = {name for row in table.rows for name in row}
    return replace(table, names=tuple(name for name in NAMES if name in present))


def _joined(path: Path, texts: Iterator[str]) -> str:
    parts, size = [], 0
    for text in texts:
        parts.append(text)
        size += len(text)
        if size > JSON_BYTES:
            raise DataError(f"{path}: more than {JSON_BYTES:,} characters of JSON, the most that is read. Split it")
    return "".join(parts)


def _questions(path: Path, content: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Title, context and question of each row to be."""
    for article_number, article in enumerate(_list(path, content, "data", "the file"), start=1):
        where = f"article {article_number}"
        paragraphs = _list(path, article, "paragraphs", where)
        title = str(article.get("title", ""))
        for number, paragraph in enumerate(paragraphs, start=1):
            for question in _list(path, paragraph, "qas", f"{where} ({title[:60]!r}), paragraph {number}"):
                yield title, paragraph.get("context"), question


def _list(path: Path, holder: Any, key: str, where: str) -> list[Any]:
    """The list under a key; whoever lacks it has rows that nobody could count."""
    if not isinstance(holder, dict):
        raise DataError(f"{path}: {where} is {type(holder).__name__}, expected an object with a list {key!r}")
    found = holder.get(key)
    if not isinstance(found, list):
        what = "is missing" if key not in holder else f"is {type(found).__name__}, expected a list"
        raise DataError(f"{path}: {where}: {key!r} {what}. SQuAD's JSON has data, paragraphs and qas")
    return found

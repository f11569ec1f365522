"""Summarize: a document becomes a few sentences, written by a model that reads and writes text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graft.data.columns import Role
from graft.data.table import Reject, Table
from graft.errors import UsageError
from graft.generate.sampling import Sampling
from graft.generate.write import write
from graft.grafted import Model
from graft.heads import Answer, Head
from graft.inference import Progress
from graft.prompting import laying, wording
from graft.sealed import Text
from graft.tasks import Outputs, Row, Task
from graft.train import text
from graft.train.example import Example

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval
    from graft.evaluate.report import Section

LONGEST = 128
"""Tokens of an answer where training says nothing."""


class SummarizeTask(Task):
    """Text-to-text (Raffel et al. 2020); decoders continue the document with what follows "TL;DR:" (Radford 2019)."""

    name = "summarize"
    head = "next"
    keeps_head = True
    primary = "rougeL"
    options = ("longest",)
    roles: tuple[Role, ...] = (
        Role(name="document", aliases=("article", "text", "body", "content", "source")),
        Role(name="summary", aliases=("highlights", "abstract", "headline", "title", "target")),
    )

    def usual(self, model: Model, columns: Mapping[str, str]) -> str:
        """The template where the user gives none."""
        return wording.usual(model, "summarize: {}", "{}\nTL;DR:")

    def settings(
        self, model: Model, rows: Sequence[Row], columns: Mapping[str, str], template: str | None
    ) -> dict[str, Any]:
        """The template, and how long answers get: as the longest target, and a quarter more."""
        lengths = [len(one.ids) for one in model.tokenizer.encode([str(row.target) for row in rows])]
        chosen = self.usual(model, columns) if template is None else wording.check(template)
        return {"template": chosen, "longest": max(lengths, default=LONGEST) * 5 // 4 + 1}

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Rows with two texts."""
        source, target = (role.name for role in self.roles)
        kept, rejected = [], []
        for line, values in zip(table.lines, table.rows, strict=True):
            texts = {role: values.get(columns[role]) for role in (source, target) if role in columns}
            bad = [role for role, found in texts.items() if not isinstance(found, str) or not found.strip()]
            if bad:
                reason = f"{columns[bad[0]]!r} is empty or not text"
                rejected.append(Reject(line=line, reason=reason, text=str(texts[source] or "")))
            else:
                kept.append(Row((str(texts[source]),), texts.get(target), line))
        return kept, rejected

    def examples(self, model: Model, rows: Sequence[Row]) -> tuple[Sequence[Example], int]:
        """The document in its template, and the summary to write."""
        sources = self._sources(model, [str(row.inputs[0]) for row in rows])
        return text.examples(model, sources, [str(row.target) for row in rows], [row.line for row in rows])

    def outputs(self, model: Model, rows: Sequence[Row], progress: Progress | None = None) -> Outputs:
        """What the model writes."""
        answers = self.answer(model, [str(row.inputs[0]) for row in rows], progress)
        cut = sum(answer.truncated_tokens for answer in answers)
        return Outputs(values=[answer.text for answer in answers], truncated_tokens=cut)

    def measure(self, head: Head, values: Sequence[str], rows: Sequence[Row]) -> dict[str, Interval]:
        """ROUGE and chrF."""
        from graft.evaluate.overlap import written

        return written([str(row.target) for row in rows], values)

    def sections(
        self, head: Head, values: Sequence[str], rows: Sequence[Row], scores: Mapping[str, Interval]
    ) -> list[Section]:
        """Some texts beside what they should be."""
        from graft.evaluate import report

        shown = list(zip(rows, values, strict=True))[:: max(1, len(rows) // 12)][:12]
        return [report.written_section([(str(row.inputs[0]), str(row.target), given) for row, given in shown])]

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """What the model writes for each text, the most probable token at each step.

        Args:
            model: with a head that predicts the next token.
            inputs: texts.
            progress: told how many are done.
            **options: `longest`, the most tokens of an answer.

        Raises:
            UsageError: an input is a pair, or longest is no number of tokens.
        """
        plain = [one for one in inputs if isinstance(one, str)]
        if len(plain) != len(inputs):
            raise UsageError(f"{self.name} reads single texts, found pairs")
        longest = _longest(model, options.get("longest"))
        questions = laying.prompts(model, self._sources(model, plain), room=longest)
        ends, ids = {laying.end_token(model)}, [one.ids for one in questions]
        found = write(model, ids, Sampling(max_tokens=longest, temperature=0), end=ends, progress=progress)
        return [
            Answer(text=request.completions[0].text.strip(), truncated_tokens=one.truncated_tokens)
            for request, one in zip(found, questions, strict=True)
        ]

    def _sources(self, model: Model, texts: Sequence[str]) -> list[str]:
        template = model.settings.template or self.usual(model, {})
        return [wording.filled(template, one) for one in texts]


def _longest(model: Model, asked: Any) -> int:
    longest = asked if asked is not None else model.settings.longest or LONGEST
    if not isinstance(longest, int) or isinstance(longest, bool) or longest < 1:
        raise UsageError(f"longest is {asked!r}, expected a number of tokens, at least 1")
    return longest


TASK = SummarizeTask()

"""Summarize: a document becomes a few sentences, written by a model that writes, or picked by one that does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graft import tasks
from graft.data.columns import Role
from graft.data.table import Reject, Table
from graft.errors import UsageError
from graft.generate.beam import Beams
from graft.grafted import Model
from graft.heads import Answer, Head
from graft.inference import Progress
from graft.prompting import laying, wording
from graft.sealed import Text
from graft.tasks import Outputs, Row, Task
from graft.train import text
from graft.train.example import Example
from graft.writing import write
from graft.writing.central import picked
from graft.writing.length import Length, check_number
from graft.writing.text_to_text import LONGEST, Wishes, answers, sampling_of
from graft.writing.vocabulary import Vocabulary

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval
    from graft.evaluate.report import Section

SENTENCES = 3
"""Sentences of a summary that is picked, where nothing is said."""


class SummarizeTask(Task):
    """Text-to-text (Raffel et al. 2020); decoders continue the document with what follows "TL;DR:" (Radford 2019).

    Encoders pick sentences (`graft.writing.central`).

    Attributes:
        combines: what is written of the parts of a long text is gone over again.
        stop: what ends the answer of a decoder that was not adapted to this.
    """

    name = "summarize"
    head = "next"
    keeps_head = True
    primary = "rougeL"
    options: tuple[str, ...] = (
        *("longest", "n", "template", "words", "characters", "sentences", "vocabulary"),
        *write.SETTINGS,
        *write.BEAMS,
    )
    overflows = ("truncate", "error", "window")
    answering_only = ("window",)
    combines = True
    stop: tuple[str, ...] = ("\n\n",)
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
        targets, template = [str(row.target) for row in rows], model.settings.template or self.usual(model, {})
        sources, cut = laying.fitted(model, template, [row.inputs[0] for row in rows], text.room(model, targets))
        made, more = text.examples(model, sources, targets, [row.line for row in rows])
        return made, sum(cut) + more

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
        """What the model writes for each text, the most probable token at each step unless it is told to draw.

        Args:
            model: with a head that predicts the next token; for summaries also an encoder, which picks sentences.
            inputs: texts.
            progress: told how many are done.
            **options: `longest`, the most tokens of an answer; `n` different ones; `template`; any setting of
                `graft.generate.sampling.Sampling`; for summaries `words`, `characters` and `sentences`, the most there
                may be, and `vocabulary`, the words to write with (a number of the most frequent, or a file).

        Raises:
            ModelError: the model does not write.
            UsageError: an input is a pair, or an option makes no sense.
            DataError: a text is empty, or does not fit where the overflow rule is "error".
        """
        plain = [one for one in inputs if isinstance(one, str)]
        if len(plain) != len(inputs):
            raise UsageError(f"{self.name} reads single texts, found pairs")
        wanted = write.number_of(options)
        length, most = Length.of(options), options.get("sentences")
        check_number("sentences", most)
        words = None if options.get("vocabulary") is None else Vocabulary(str(options["vocabulary"]))
        if self.picks(model):
            _refuse_writing(model, options)
            return picked(model, plain, wanted, most or SENTENCES, length, words, progress)
        write.needs_head(model, self.name, tasks.able(model))
        template, notes = self.template_for(model, options)
        if words is not None and options.get("allowed") is None:
            options = {**options, "allowed": words.allowed(model)}
        stop = () if laying.two_stacks(model) or model.settings.task == self.name else self.stop
        wishes = Wishes(
            template=template,
            sampling=sampling_of(model, options, length=length, stop=stop),
            n=wanted,
            beams=write.searching(options, wanted, self.several(wanted)),
            length=length,
            sentences=most,
            vocabulary=words,
            windows=model.settings.overflow == "window",
            combine=self.combines,
            notes=notes,
        )
        return answers(model, plain, wishes, progress)

    def several(self, n: int) -> Beams:
        """How so many different texts are found where nothing is said of how: by groups that avoid one another."""
        return Beams(beams=2 * n, n=n, groups=n, diversity=1.0 if n > 1 else 0.0)

    def picks(self, model: Model) -> bool:
        """Whether the model has nothing to write with, and sentences are picked instead."""
        return model.head is None or model.head.kind != "next"

    def template_for(self, model: Model, options: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """The words around a text, and what is to be said of them.

        Raises:
            UsageError: a template without a place for the text.
        """
        given = options.get("template")
        return (model.settings.template or self.usual(model, {}) if given is None else wording.check(given)), ()


def _refuse_writing(model: Model, options: Mapping[str, Any]) -> None:
    """Picking takes none of the settings of writing."""
    for name in (*write.SETTINGS, *write.BEAMS, "longest", "template"):
        if options.get(name) is not None:
            raise UsageError(
                f"{model.folder}: this model picks sentences and does not write; leave {name} out, or give one that "
                "writes, such as t5-small"
            )


TASK = SummarizeTask()

"""Tasks of labels and scores in words: for models that write their answer, and for those that are only asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graft import transfer
from graft.data.table import Reject, Table
from graft.errors import UsageError
from graft.grafted import Model
from graft.heads import Answer, Classify, Head, Regress
from graft.inference import Progress
from graft.prompting.ask import Asked, Scored, asked, route, template_for
from graft.prompting.laying import answers, fitted
from graft.prompting.prompt import Prompt, from_settings, spoken, written_steps
from graft.sealed import Text
from graft.tasks import Outputs, Row, Task
from graft.train import text
from graft.train.example import Example
from graft.transfer import Prompter, Solver, Strategy

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval
    from graft.evaluate.report import Section

FORMS = ("head", "text")


def formed(task: Task, model: Model, form: str | None, strategy: str, settings: Mapping[str, Any]) -> Task:
    """The task as it is to be adapted: with a head, or in words.

    Words are for strategies that only ask, and by default for encoder-decoders, which are trained to write.

    Raises:
        UsageError: the task, the model or the strategy does not allow the form.
    """
    if form not in (None, *FORMS):
        raise UsageError(f"form is {form!r}, expected head or text")
    chosen = transfer.make(strategy, settings)
    if isinstance(chosen, Prompter):
        if task.wording is None or form == "head":
            fits = "has labels or scores to ask for" if form is None else "is put in words; leave --form out"
            raise UsageError(f"strategy {strategy} needs a task that {fits}; {task.name} is not one")
        return InWords(task)
    if task.wording is None:
        if form is not None and form != ("text" if task.head == "next" else "head"):
            raise UsageError(f"{task.name} has one form only; leave --form out")
        return task
    writes = model.head is not None and model.head.kind == "next"
    if form == "text" and not (writes and isinstance(chosen, Strategy)):
        needs = "a model that writes (T5, GPT, Llama)" if not writes else "a strategy that trains it, such as full"
        raise UsageError(f"--form text needs {needs}")
    usual = writes and route(model) == "prefixed" and not isinstance(chosen, Solver)
    return InWords(task, learned=True) if form == "text" or (form is None and usual) else task


def in_words(task: Task, model: Model) -> Task:
    """The task as a model was adapted to it."""
    if model.settings.prompt is None or model.settings.task != task.name:
        return task
    worded = InWords(task)
    worded.use(model)
    return worded


class InWords(Task):
    """Another task, whose labels are written instead of numbered; their probabilities are those of their words.

    Scores are written as numbers, in steps (Raffel et al. 2020, section 2.4, rounds to 0.2 where they go from 0 to 5);
    the answer is their mean, weighed by probability.
    """

    head = "next"
    keeps_head = True

    def __init__(self, inner: Task, learned: bool = False) -> None:
        """Put a task in words.

        Args:
            inner: the task.
            learned: whether the model is trained to write the words.
        """
        self.inner, self.learned = inner, learned
        self.name, self.primary, self.roles = inner.name, inner.primary, inner.roles
        self.options = ()
        self._prompt: Prompt | None = None

    def fits(self, kind: str | None) -> bool:
        """Any model can be asked."""
        return True

    def reshape(self, table: Table) -> Table:
        """As the task itself."""
        return self.inner.reshape(table)

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """As the task itself."""
        return self.inner.read(table, columns)

    def settings(
        self, model: Model, rows: Sequence[Row], columns: Mapping[str, str], template: str | None
    ) -> dict[str, Any]:
        """The template, and the labels with their words.

        Raises:
            UsageError: rows with several labels each, or a task that such a model cannot be asked for.
        """
        assert self.inner.wording is not None
        chosen = template_for(model, self.inner.wording, template)
        if self.inner.head == "regress":
            self.inner.learn(rows)
            labels = written_steps([float(row.target) for row in rows])
        else:
            learned = self.inner.learn(rows)
            if learned.get("problem") == "multi":
                raise UsageError("several labels for one text cannot be answered in words; use --form head")
            labels = list(learned["labels"])
        words = {label: label for label in labels} if self.inner.head == "regress" else spoken(labels)
        self._prompt = prompt = Prompt(words=words, numbers=self.inner.head == "regress", learned=self.learned)
        if self.learned:
            Asked(model, prompt, chosen)  # words that cannot be written are refused before they are learned
        return {"template": chosen, "prompt": prompt.as_dict()}

    def word(self, row: Row) -> str:
        """The row's label; of scores the nearest that is written."""
        prompt = self._known()
        if not prompt.numbers:
            return str(row.target)
        return min(prompt.labels, key=lambda label: abs(float(label) - float(row.target)))

    def examples(self, model: Model, rows: Sequence[Row]) -> tuple[Sequence[Example], int]:
        """The text in its template, and the label's words to write."""
        prompt = self.use(model)
        self.measured(rows)
        room = max(map(len, answers(model, list(prompt.words.values())))) + 1
        sources, cut = fitted(model, str(model.settings.template), [row.inputs[0] for row in rows], room)
        wanted = [prompt.words[self.word(row)] for row in rows]
        made, more = text.examples(model, sources, wanted, [row.line for row in rows])
        return made, sum(cut) + more

    def outputs(self, model: Model, rows: Sequence[Row], progress: Progress | None = None) -> Outputs:
        """A score for each label (B, C), or the number they speak of (B, 1)."""
        found = self._scores(model, [row.inputs[0] for row in rows], progress)
        left, texts = sum(found.examples_left_out), sum(count > 0 for count in found.examples_left_out)
        note = f"{left:,} worked examples did not fit before {texts:,} of {len(rows):,} texts and were left out"
        cut = sum(found.truncated_tokens)
        return Outputs(values=found.values, truncated_tokens=cut, notes=(note,) if left else ())

    def measure(self, head: Head, values: Tensor, rows: Sequence[Row]) -> dict[str, Interval]:
        """As the task itself."""
        return self.inner.measure(self._stand_in(), values, rows)

    def sections(
        self, head: Head, values: Tensor, rows: Sequence[Row], scores: Mapping[str, Interval]
    ) -> list[Section]:
        """As the task itself."""
        return self.inner.sections(self._stand_in(), values, rows, scores)

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """A label with its probability, or a score, for each input."""
        found = self._scores(model, inputs, progress)
        answers = self._stand_in().decode(found.values, found.truncated_tokens)
        left_out = [count or None for count in found.examples_left_out]
        return [
            dataclasses.replace(answer, examples_left_out=left) for answer, left in zip(answers, left_out, strict=True)
        ]

    def measured(self, rows: Sequence[Row]) -> None:
        """Refuse labels the model does not have, by name and line."""
        if not self._known().numbers:
            for row in rows:
                self.inner.target(row, self._stand_in())

    def _scores(self, model: Model, inputs: Sequence[Text], progress: Progress | None) -> Scored:
        prompt = self.use(model)
        assert self.inner.wording is not None
        pairs = self.inner.wording.prefixed.count("{}") == 2
        if not all(isinstance(one, tuple) is pairs for one in inputs):
            raise UsageError(f"{self.name} reads {'pairs of texts' if pairs else 'single texts, found pairs'}")
        found = asked(model, prompt, str(model.settings.template)).scores(inputs, progress)
        if not prompt.numbers:
            return dataclasses.replace(found, values=found.values.float())
        numbers = torch.tensor([float(label) for label in prompt.labels], dtype=torch.float64)
        return dataclasses.replace(found, values=(found.values.softmax(-1) @ numbers)[:, None].float())

    def use(self, model: Model) -> Prompt:
        """The prompt in a model's settings; heads for metrics and answers have its labels."""
        self._prompt = from_settings(model.settings.prompt)
        return self._prompt

    def _known(self) -> Prompt:
        assert self._prompt is not None
        return self._prompt

    def _stand_in(self) -> Head:
        """A head with the labels, whose weights nobody looks at: what the metrics and the answers are made by."""
        prompt = self._known()
        return Regress(1) if prompt.numbers else Classify(1, labels=prompt.labels)

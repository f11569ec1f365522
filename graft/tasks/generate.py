"""Generate: a model goes on with a prompt; a model that reads and writes answers it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from graft import tasks
from graft.data.columns import Role
from graft.data.table import Reject, Table
from graft.errors import UsageError
from graft.generate.request import Completion
from graft.generate.sampling import Sampling
from graft.grafted import Model
from graft.heads import Answer
from graft.inference import Progress
from graft.prompting.laying import two_stacks
from graft.sealed import Text
from graft.tasks import Row, Task
from graft.writing import write

USUAL: Mapping[str, Any] = {"temperature": 0.8, "top_p": 0.95}
"""How tokens are drawn where the user does not say."""


NOT_LEARNED = (
    "generate is done with models as they are (`graft run generate`), and not learned or evaluated; to let a model "
    "write like your texts, go on with its pretraining: `graft finetune DATA --task language`"
)


class GenerateTask(Task):
    """Continuations, drawn token by token (Holtzman et al. 2020, "The curious case of neural text degeneration")."""

    name = "generate"
    head = "next"
    options = ("n", "on_text", "seeds", *write.SETTINGS, *write.BEAMS)
    roles = (Role(name="text", aliases=("prompt", "sentence", "content", "body", "document")),)
    command = "'Really liked this movie!' --n 3"
    python = 'graft.run("generate", ["Really liked this movie!"], model=model, n=3)'

    def fits(self, kind: str | None) -> bool:
        """Done with models as they are: no model is adapted to it."""
        return False

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Prompts."""
        column = columns["text"]
        kept, rejected = [], []
        for line, values in zip(table.lines, table.rows, strict=True):
            text = values.get(column)
            if isinstance(text, str) and text.strip():
                kept.append(Row((text,), None, line))
            else:
                rejected.append(Reject(line=line, reason=f"{column!r} is empty or not text", text=str(text or "")))
        return kept, rejected

    def learn(self, rows: Sequence[Row]) -> dict[str, Any]:
        """There is nothing to learn.

        Raises:
            UsageError: always.
        """
        raise UsageError(NOT_LEARNED)

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """Continuations of each prompt: the first as the answer, others as its alternatives.

        Args:
            model: with a head that predicts the next token.
            inputs: prompts.
            progress: told how many are done.
            **options: `n`, how many for each; any setting of `graft.generate.sampling.Sampling`, by its name, of which
                temperature is 0.8, top_p 0.95 and max_tokens 128, or what there is room for, where nothing is said;
                `beams` and the other settings of `graft.generate.beam.Beams`, to search for the most probable texts;
                `on_text`, called with the number of a continuation and its next piece of text, as it comes; `seeds`,
                one for each prompt, in place of seed.

        Raises:
            ModelError: the model does not write.
            UsageError: an input is a pair, or a setting makes no sense.
            DataError: a prompt is empty, or leaves no room.
        """
        write.needs_head(model, self.name, tasks.able(model))
        plain = [one for one in inputs if isinstance(one, str)]
        if len(plain) != len(inputs):
            raise UsageError(f"{self.name} reads single texts, found pairs")
        n, on_text, seeds = write.number_of(options), options.get("on_text"), options.get("seeds")
        settings = {name: value for name, value in options.items() if name in write.SETTINGS and value is not None}
        most = settings.get("max_tokens")
        beams = write.searching(options, n)
        sampling = write.drawn(Sampling.of({**USUAL, **settings}))
        if beams is not None:
            _refuse_drawing(settings)
            sampling = Sampling.of({"temperature": 0, **settings})
        sources = write.prompts(model, plain, most)
        if most is None and model.limit is not None and not two_stacks(model):
            room = model.limit - max(map(len, sources), default=0)
            sampling = dataclasses.replace(sampling, max_tokens=max(1, min(sampling.max_tokens, room)))
        if beams is not None:
            found = write.several(model, sources, sampling, n, beams, progress)
            answers = [_answer(model, *one, sampling) for one in zip(sources, found, strict=True)]
            return answers if on_text is None else _told(answers, on_text)
        how = [dataclasses.replace(sampling, seed=seed) for seed in seeds or [sampling.seed] * len(sources)]
        done = write.write(model, sources, how, n=n, progress=progress, on_text=on_text)
        answers = []
        for source, request, one in zip(sources, done, how, strict=True):
            before = None if one.prompt_logprobs is None else write.shown(model, request.prompt_logprobs)
            answer = _answer(model, source, request.completions, one)
            answers.append(dataclasses.replace(answer, prompt_logprobs=before))
        return answers


def _told(answers: list[Answer], on_text: write.OnText) -> list[Answer]:
    """What a search found is told when it is done: before that, any of it may still change."""
    for answer in answers:
        for number, one in enumerate((answer, *(answer.alternatives or ()))):
            on_text(number, one.text or "")
    return answers


def _refuse_drawing(settings: Mapping[str, Any]) -> None:
    for name in (*write.DRAWN, "logprobs", "prompt_logprobs"):
        if settings.get(name) is not None:
            raise UsageError(f"a search by beams draws nothing; leave {name} out, or the beams")


def _answer(model: Model, source: Sequence[int], every: Sequence[Completion], sampling: Sampling) -> Answer:
    shown = sampling.logprobs is not None
    first, *others = (write.told(model, one, logprobs=shown) for one in every)
    usage = {"prompt_tokens": len(source), "completion_tokens": sum(one.tokens for one in every)}
    seed = None if sampling.greedy else sampling.seed
    return dataclasses.replace(first, alternatives=tuple(others) or None, usage=usage, seed=seed)


TASK = GenerateTask()

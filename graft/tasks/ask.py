"""Ask: a question about a text is answered with a stretch of that text, or with "no answer" where it holds none.

Extractive question answering (Devlin et al. 2019, section 4.2): the head gives every token a logit for being the first
of the answer and one for being the last. Texts of any length are read in overlapping windows; where a window does not
hold the answer, its target is the classification token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graft import tasks
from graft.data.columns import Role
from graft.data.gold import Gold, gold
from graft.data.table import Reject, Table
from graft.errors import DataError, ModelError, UsageError, listed
from graft.generate.beam import Beams
from graft.grafted import Model
from graft.heads import Answer, Head, Span
from graft.heads.spans import Part, rank
from graft.inference import Progress, check_encodings
from graft.prompting.laying import two_stacks
from graft.sealed import Text
from graft.tasks import Outputs, Row, Task
from graft.text.windows import Windows, characters_of, tokens_of, windows
from graft.train.example import Example
from graft.writing import questions, write
from graft.writing.text_to_text import sampling_of

if TYPE_CHECKING:
    from graft.evaluate.metrics import Interval
    from graft.evaluate.report import Section

WINDOW = 512
"""Tokens of a window where the model sets no limit."""

AT_ONCE = 64
"""Questions in work at once: enough for full batches, few enough that long texts keep memory flat."""

NEVER, EVEN = 1.0, 0.5
"""Thresholds on the probability of "no answer": never said; said where it is the more probable."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How answers are chosen.

    Attributes:
        n: answers given, the alternatives included.
        threshold: no answer is given where its probability is above this; 1 always answers.
        stride: tokens from the start of one window to the next; None: 128, or half a window.
        longest: most tokens of an answer.
    """

    n: int = 1
    threshold: float = EVEN
    stride: int | None = None
    longest: int = 30

    def __post_init__(self) -> None:
        for name, least, most in (("n", 1, 1000), ("stride", 1, None), ("longest", 1, 10_000), ("threshold", 0, 1)):
            value, whole = getattr(self, name), name != "threshold"
            if value is None and name == "stride":
                continue
            number = isinstance(value, int) or (isinstance(value, float) and not whole)
            if not number or isinstance(value, bool) or not least <= value or (most is not None and value > most):
                kind = "a whole number" if whole else "a number"
                room = f"from {least} to {most:,}" if most is not None else f"of at least {least}"
                raise UsageError(f"{name} is {value!r:.40}, expected {kind} {room}")


class AskTask(Task):
    """Extractive question answering with windows and "no answer"."""

    name = "ask"
    head = "span"
    primary = "f1"
    options = ("n", "threshold", "stride", "longest", "template", *write.SETTINGS, *write.BEAMS)
    windows = True
    command = "'When does the season start?' --context text.txt"
    python = 'graft.run("ask", [("When does the season start?", open("text.txt").read())], model=model)'
    roles = (
        Role(name="question", aliases=("query",)),
        Role(name="context", aliases=("passage", "paragraph", "document", "text")),
        Role(name="answer", aliases=("answers",)),
        Role(name="answer_start", aliases=("start",), required=False),
        Role(name="is_impossible", required=False),
        Role(name="id", aliases=("qid", "question_id"), required=False),
    )

    def read(self, table: Table, columns: Mapping[str, str]) -> tuple[list[Row], list[Reject]]:
        """Questions with a context, and right answers that stand in it where they are said to."""
        kept, rejected = [], []
        for line, values in zip(table.lines, table.rows, strict=True):
            given = {role: values.get(column) for role, column in columns.items()}
            name = "" if given.get("id") is None else str(given["id"])
            try:
                pair = (_text(given, "question"), _text(given, "context"))
                target = _gold(pair[1], given, name) if "answer" in columns else None
            except ValueError as error:
                reason = f"question {name!r}: {error}" if name else str(error)
                rejected.append(Reject(line=line, reason=reason, text=str(given["question"] or "")))
            else:
                kept.append(Row((pair,), target, line))
        return kept, rejected

    def learn(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Nothing, but questions without any answer teach nothing.

        Raises:
            DataError: no question has an answer.
        """
        if not any(row.target.answers for row in rows):
            raise DataError(f"none of the {len(rows)} questions has an answer; there is nothing to learn")
        return {}

    def answering(self, rows: Sequence[Row]) -> dict[str, Any]:
        """From questions that all have answers: always to answer. From others a threshold, to be found."""
        return {"threshold": NEVER if all(row.target.answers for row in rows) else None}

    def tune(self, model: Model, rows: Sequence[Row]) -> dict[str, Any]:
        """The threshold with the highest F1; even, where the rows set aside are all of one kind."""
        from graft.evaluate.questions import best_threshold  # only where something is scored

        right = _right(rows)
        if all(right) or not any(right):
            return {"threshold": EVEN}
        given = _answers(model, _pairs(rows), replace(_rules(model, {}), threshold=NEVER))
        return {"threshold": best_threshold([one.no_answer or 0.0 for one in given], _texts(given), right)}

    def examples(self, model: Model, rows: Sequence[Row]) -> tuple[list[Example], int]:
        """One example for each window of each row."""
        examples, cut = [], 0
        rules = _rules(model, {})
        for row, (_, context), read in zip(rows, _pairs(rows), _windowed(model, _pairs(rows), rules), strict=True):
            span = _span(row, context, read)
            for part in read.parts:
                inside = span is not None and part.start <= span[0] and span[1] < part.end
                shift = part.first - part.start
                places = [place + shift for place in span] if span is not None and inside else [part.none] * 2
                examples.append(Example((part.ids,), (part.types,), torch.tensor(places), row.line))
            cut += read.truncated_tokens
        return examples, cut

    def outputs(self, model: Model, rows: Sequence[Row], progress: Progress | None = None) -> Outputs:
        """An answer for each row."""
        given = _answers(model, _pairs(rows), _rules(model, {}), progress)
        return Outputs(values=given, truncated_tokens=sum(one.truncated_tokens for one in given))

    def measure(self, head: Head, values: Sequence[Answer], rows: Sequence[Row]) -> dict[str, Interval]:
        """Exact match and F1; where some questions have no answer, also on each kind alone."""
        from graft.evaluate.questions import question_scores  # scipy: only where something is scored

        return question_scores(_texts(values), _right(rows))

    def sections(
        self, head: Head, values: Sequence[Answer], rows: Sequence[Row], scores: Mapping[str, Interval]
    ) -> list[Section]:
        """How answers are wrong, and the wrong ones the model was surest of."""
        from graft.evaluate import questions as scored
        from graft.evaluate.wording import around

        wrong = []
        for answer, (question, context), row in zip(values, _pairs(rows), rows, strict=True):
            right = [place.text for place in row.target.answers]
            if not scored.exact(answer.text or "", right):
                given = (answer.start, answer.end) if answer.start is not None and answer.end is not None else None
                start, end = given or ((row.target.answers[0].start, row.target.answers[0].end) if right else (0, 0))
                wrong.append(
                    scored.Wrong(
                        question=question,
                        right=right,
                        given=answer.text or "",
                        probability=answer.score or 0.0,
                        around=around(context, start, end),
                    )
                )
        return [scored.wrong_answers_section(wrong, total=len(rows))]

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """An answer for each pair of a question and a text; models that write also take a question alone.

        Args:
            model: one with a span head: adapted to this task, or published so; or one that writes.
            inputs: pairs (question, text), or questions.
            progress: told how many are done.
            **options: `n`, how many answers; `threshold`, the probability of "no answer" above which none is given;
                `stride`, tokens from one window to the next; `longest`, most tokens of an answer. Of models that write
                also `template`, and the settings of sampling and of searching by beams.

        Raises:
            UsageError: the model neither points at answers nor writes them, does not read such an input, or an option
                makes no sense.
            DataError: an empty question or text.
        """
        for number, text in enumerate(inputs):
            for what, one in zip(("question", "text"), (text,) if isinstance(text, str) else text, strict=False):
                if not isinstance(one, str) or not one.strip():
                    raise DataError(f"input {number} (counting from 0): the {what} is empty or not text")
        if isinstance(model.head, Span):
            return _answers(model, _only_pairs(inputs), _rules(model, _of_span(model, options)), progress)
        if model.head is None or model.head.kind != "next":
            can = listed(tasks.able(model)) or "nothing as it is"
            raise UsageError(
                f"{model.folder}: this model does not point at answers; adapt it with `graft finetune --task ask`, or "
                "give one published for extractive question answering (...ForQuestionAnswering), or one that writes "
                f"(gpt2, t5-small). It can do: {can}"
            )
        return questions.answers(model, inputs, _asking(model, options), progress)


def _only_pairs(inputs: Sequence[Text]) -> list[tuple[str, str]]:
    pairs = [text for text in inputs if isinstance(text, tuple)]
    if len(pairs) != len(inputs):
        raise UsageError(
            "no text to look for answers in: ask reads a question with a text; give pairs (on the command line: a "
            "question and --context TEXT|FILE). Only models that write, such as gpt2 and t5-small, do without"
        )
    return pairs


def _of_span(model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a model that points; it has no use for those of writing."""
    known = Rules.__dataclass_fields__
    for name in options:
        if name not in known:
            raise UsageError(f"{model.folder}: this model points at answers and does not write them; leave {name} out")
    return dict(options)


def _asking(model: Model, options: Mapping[str, Any]) -> questions.Asking:
    """How a model that writes is asked."""
    if options.get("stride") is not None:
        raise UsageError("stride is for models that point at answers; others read windows of whole sentences")
    rules = {name: options[name] for name in ("n", "threshold", "longest") if options.get(name) is not None}
    n = Rules(**rules).n
    stop = () if two_stacks(model) else questions.STOP
    return questions.Asking(
        sampling=sampling_of(model, options, usual=questions.LONGEST, stop=stop),
        n=n,
        beams=write.searching(options, n, Beams(beams=max(4, 2 * n), n=n)),
        threshold=options.get("threshold"),
        template=options.get("template"),
    )


def _text(given: Mapping[str, Any], role: str) -> str:
    text = given.get(role)
    if not isinstance(text, str):
        raise ValueError(f"the {role} is {'missing' if text is None else 'not text'}")
    if not text.strip():
        raise ValueError(f"the {role} is empty")
    return text


def _gold(context: str, given: Mapping[str, Any], name: str) -> Gold:
    return gold(context, given.get("answer"), given.get("answer_start"), given.get("is_impossible"), name)


def _pairs(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(str(row.inputs[0][0]), str(row.inputs[0][1])) for row in rows]


def _texts(answers: Sequence[Answer]) -> list[str]:
    return [one.text or "" for one in answers]


def _right(rows: Sequence[Row]) -> list[list[str]]:
    return [[place.text for place in row.target.answers] for row in rows]


def _rules(model: Model, options: Mapping[str, Any]) -> Rules:
    """The rules kept with the model, and over them what was asked for."""
    known = set(Rules.__dataclass_fields__)
    kept = {name: value for name, value in model.settings.answering.items() if name in known and value is not None}
    try:
        own = Rules(**kept)
    except UsageError as error:
        raise ModelError(f"{model.folder}: graft.json: {error}") from error
    return replace(own, **options)


def _windowed(model: Model, pairs: Sequence[tuple[str, str]], rules: Rules) -> Iterator[Windows]:
    """Each pair as windows the model can read.

    Raises:
        DataError: a text without tokens; one that does not fit, where the overflow rule is "error".
    """
    tokenizer, limit = model.tokenizer, model.limit or WINDOW
    mark = tokenizer.special_tokens.get("cls_token")
    none = None if mark is None else tokenizer.token_id(mark)
    for start in range(0, len(pairs), AT_ONCE):
        encodings = tokenizer.encode(pairs[start : start + AT_ONCE], offsets=True)
        check_encodings(encodings, model.backbone.config, model.folder)
        for number, encoding in enumerate(encodings, start):
            for what, segment in (("question", 0), ("text", 1)):
                if segment not in (encoding.segments or ()):
                    raise DataError(f"the {what} {pairs[number][segment][:60]!r} has nothing that the tokenizer knows")
            read = windows(encoding, limit, step=_step(rules.stride, encoding.ids, limit), none=none)
            if model.settings.overflow == "error" and (len(read.parts) > 1 or read.truncated_tokens):
                raise DataError(
                    f"the question {pairs[number][0][:60]!r} and its text have {len(encoding.ids)} tokens, the limit "
                    f"is {limit}. Shorten the text, or choose overflow=truncate, which reads it in windows"
                )
            yield read


def _step(stride: int | None, ids: Sequence[int], limit: int) -> int | None:
    """The stride matters only where one window is not enough."""
    return stride if len(ids) > limit else None


def _span(row: Row, context: str, read: Windows) -> tuple[int, int] | None:
    """The tokens to learn; None where there is no answer.

    Raises:
        DataError: no token stands for any of the answer's characters.
    """
    if not row.target.answers:
        return None
    place = row.target.answers[0]
    span = tokens_of(read.offsets, place.start, place.end)
    if span is None:
        raise DataError(
            f"line {row.line}: this model's tokenizer passes over the whole answer {place.text[:60]!r}, so that it "
            "cannot be learned; leave the row out"
        )
    return span


def _answers(
    model: Model, pairs: Sequence[tuple[str, str]], rules: Rules, progress: Progress | None = None
) -> list[Answer]:
    """Read all windows, and choose the answers of each pair."""
    assert model.head is not None
    answers: list[Answer] = []
    for start in range(0, len(pairs), AT_ONCE):
        chunk = pairs[start : start + AT_ONCE]
        read = list(_windowed(model, chunk, rules))
        parts = [part for one in read for part in one.parts]
        logits = iter(model.pooled([part.ids for part in parts], [part.types for part in parts], model.head))
        for (_, context), one in zip(chunk, read, strict=True):
            answers.append(_chosen(context, one, [next(logits) for _ in one.parts], rules))
        if progress is not None:
            progress(len(chunk))
    return answers


def _chosen(context: str, read: Windows, logits: Sequence[Tensor], rules: Rules) -> Answer:
    """The best answers to one question, as stretches of the context."""
    shown = [Part(part.first, part.start, part.end, part.none) for part in read.parts]
    ranked, none = rank(logits, shown, longest=rules.longest, n=4 * rules.n + 16)
    found: dict[tuple[int, int], Answer] = {}
    for one in ranked:  # tokens that share a character may stand for the same characters
        start, end = characters_of(context, read.offsets, one.first, one.last)
        if start < end:
            better = Answer(text=context[start:end], start=start, end=end, score=one.probability)
            found.setdefault((start, end), better)
    best = list(found.values())[: rules.n]
    said = best and not none > rules.threshold
    first = best.pop(0) if said else Answer(text="", score=none)
    return replace(
        first,
        no_answer=none,
        alternatives=tuple(best[: rules.n - 1]),
        windows=len(read.parts),
        truncated_tokens=read.truncated_tokens,
    )


TASK = AskTask()

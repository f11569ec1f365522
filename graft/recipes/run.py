"""Run: a task on texts, with a model as it is or as adapted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graft import tasks
from graft.errors import UsageError
from graft.grafted import Model
from graft.heads import Answer, Classify, Regress
from graft.loading import load
from graft.recipes.watch import Bar, Watch
from graft.recipes.zero_shot import TEMPLATE, ZeroShot
from graft.sealed import Text


def run(
    task: str,
    texts: Sequence[Text],
    *,
    model: str | Path | Model,
    labels: Sequence[str] | None = None,
    template: str = TEMPLATE,
    dtype: str = "auto",
    watch: Watch | None = None,
) -> list[Answer]:
    """Do a task on texts.

    Args:
        task: "classify", "similarity" or "embed".
        texts: the texts; for similarity pairs of texts.
        model: a folder, a name, or a loaded model.
        labels: for classify with a model that has no labels of its own: names to choose from (zero-shot).
        template: the sentence a label name is put into for zero-shot.
        dtype: what to compute in.
        watch: where progress goes; silent by default.

    Returns:
        One answer for each text, in order.

    Raises:
        UsageError: an unknown task, or one this model cannot do.
        GraftError: the model cannot be used.
    """
    watch = watch or Watch(quiet=True)
    tasks.find(task)
    opened = model if isinstance(model, Model) else load(model, dtype=dtype)
    with watch.bar(task, len(texts)) as bar:
        if task == "classify":
            return _classify(opened, texts, labels, template, bar)
        if task == "similarity":
            return _similarity(opened, texts, bar)
        return _embed(opened, texts, bar)


def _classify(
    model: Model, texts: Sequence[Text], labels: Sequence[str] | None, template: str, bar: Bar
) -> list[Answer]:
    if labels:
        if isinstance(model.head, Classify):
            own = ", ".join(model.head.labels)
            raise UsageError(f"{model.folder}: this model has labels of its own ({own}); leave --labels out")
        plain = [text for text in texts if isinstance(text, str)]
        if len(plain) != len(texts):
            raise UsageError("choosing from labels reads single texts, found pairs")
        return ZeroShot(model, labels, template).answer(plain, bar.advance)
    if not isinstance(model.head, Classify):
        raise UsageError(
            f"{model.folder}: this model has no labels of its own; name some to choose from "
            "(--labels billing,delivery,other), or adapt it with `graft finetune`"
        )
    return _all(model.answer(list(texts), bar.advance))


def _similarity(model: Model, texts: Sequence[Text], bar: Bar) -> list[Answer]:
    pairs = [text for text in texts if isinstance(text, tuple)]
    if len(pairs) != len(texts):
        raise UsageError("similarity compares two texts; give pairs (on the command line: a text and --with another)")
    if isinstance(model.head, Regress):
        return _all(model.answer(pairs, bar.advance))
    flat = [text for pair in pairs for text in pair]
    cut = [encoding.truncated_tokens for encoding in model.encode(flat)]
    rows = model.embed(flat, None)
    bar.advance(len(pairs))
    return [
        Answer(score=float(rows[2 * n] @ rows[2 * n + 1]), truncated_tokens=cut[2 * n] + cut[2 * n + 1])
        for n in range(len(pairs))
    ]


def _embed(model: Model, texts: Sequence[Text], bar: Bar) -> list[Answer]:
    cut = [encoding.truncated_tokens for encoding in model.encode(texts)]
    rows = model.embed(texts, bar.advance)
    return [Answer(embedding=tuple(row.tolist()), truncated_tokens=one) for row, one in zip(rows, cut, strict=True)]


def _all(answers: Answer | list[Answer]) -> list[Answer]:
    return answers if isinstance(answers, list) else [answers]

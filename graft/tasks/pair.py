"""Pair: how two texts relate, as a label: entailment, paraphrase, answer and question; both are read together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graft.data.columns import Role
from graft.errors import UsageError
from graft.grafted import Model
from graft.heads import Answer, Classify
from graft.inference import Progress
from graft.sealed import Text
from graft.tasks import answered
from graft.tasks.classify import ClassifyTask
from graft.tasks.similarity import COMMAND, PAIR, PYTHON, only_pairs


class PairTask(ClassifyTask):
    """Classification of two texts. Rows labelled ``-``, on which SNLI's readers did not agree, are rejected."""

    name = "pair"
    options = ()
    command, python = COMMAND, PYTHON
    reads = tuple(role.name for role in PAIR)
    unlabelled = ("-",)
    roles = (
        *PAIR,
        Role(name="label", aliases=("gold_label", "relation", "class", "category", "is_duplicate", "target")),
    )

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """The model's label for each pair.

        Raises:
            UsageError: an input is not a pair, or the model has no labels.
        """
        pairs = only_pairs(self.name, inputs)
        if not isinstance(model.head, Classify):
            raise UsageError(
                f"{model.folder}: this model has no labels; adapt one with `graft finetune DATA --task {self.name}`"
            )
        return answered(model, pairs, progress)


TASK = PairTask()

"""Pair: how two texts relate, as a label: entailment, paraphrase, answer and question; both are read together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graft.data.columns import Role
from graft.errors import UsageError
from graft.grafted import Model
from graft.heads import Answer, Classify
from graft.inference import Progress
from graft.prompting.wording import Wording
from graft.sealed import Text
from graft.tasks import answered
from graft.tasks.classify import ClassifyTask
from graft.tasks.similarity import COMMAND, PAIR, PYTHON, only_pairs


class PairTask(ClassifyTask):
    """Classification of two texts. Rows labelled ``-``, on which SNLI's readers did not agree, are rejected."""

    name = "pair"
    options = ("labels", "template")
    command, python = COMMAND, PYTHON
    reads = tuple(role.name for role in PAIR)
    unlabelled = ("-",)
    wording = Wording(
        prefixed="pair sentence1: {} sentence2: {}",
        continued="First: {}\nSecond: {}\nLabel:",
        masked="{} {mask}, {}",
    )
    roles = (
        *PAIR,
        Role(name="label", aliases=("gold_label", "relation", "class", "category", "is_duplicate", "target")),
    )

    def answer(
        self, model: Model, inputs: Sequence[Text], progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """The model's label for each pair; or, of a model that writes or fills masks, the best of the names given.

        Args:
            model: the model.
            inputs: pairs of texts.
            progress: told how many are done.
            **options: `labels`, names to choose from, and `template`, the words around the two texts.

        Raises:
            UsageError: an input is not a pair, or the model has no labels and none are given.
        """
        pairs = only_pairs(self.name, inputs)
        if labels := options.get("labels"):
            return self._zero_shot(model, pairs, labels, options.get("template"), progress)
        if not isinstance(model.head, Classify):
            raise UsageError(
                f"{model.folder}: this model has no labels; adapt one with `graft finetune DATA --task {self.name}`, "
                "or give one that writes (t5-small) with labels to choose from (--labels entailment,contradiction)"
            )
        return answered(model, pairs, progress)


TASK = PairTask()

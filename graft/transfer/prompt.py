"""Prompting: nothing learns; a few rows are shown to the model beside the text in question (Brown et al. 2020)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from graft.errors import UsageError, nearest
from graft.grafted import Model
from graft.prompting.ask import Asked
from graft.prompting.choose import balanced
from graft.prompting.prompt import SELECTIONS, from_settings, spoken
from graft.sealed import Text

MOST = 64
"""Worked examples a prompt may ask for."""


@dataclass(frozen=True, kw_only=True)
class Prompting:
    """Zero- and few-shot: the labels' words are scored after a prompt, at a mask, or by what entails or resembles them.

    Attributes:
        shots: worked examples before a text; 0 shows none.
        selection: "balanced": the same ones for every text, drawn by the seed, the labels in turn; "nearest": for each
            text those training rows that are nearest to it.
        calibrate: divide by the shares of a text without content (Zhao et al. 2021, contextual calibration).
        candidates: most training rows kept to choose the nearest from.
        encoder: what embeds to find them: "model", "default", or the name of a model.
        words: what stands for a label, as in positive=great; a label without one is its own name.
    """

    name: ClassVar[str] = "prompt"
    shots: int = 0
    selection: str = "balanced"
    calibrate: bool = False
    candidates: int = 500
    encoder: str = "model"
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise UsageError(f"selection is {self.selection!r}: {nearest(self.selection, SELECTIONS)}")
        if not 0 <= self.shots <= MOST:
            raise UsageError(f"shots is {self.shots}, expected 0 to {MOST}")
        if self.candidates < max(self.shots, 1):
            raise UsageError(f"candidates is {self.candidates}, expected at least as many as shots, {self.shots}")

    def prompt(
        self,
        model: Model,
        texts: Sequence[Text],
        labels: Sequence[str],
        *,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, Any]:
        """Choose what the prompt shows, and keep it in the model's settings.

        Args:
            model: with a template and the labels in its settings.
            texts: the training rows.
            labels: their labels.
            seed: of what is drawn.
            progress: told how many rows are done.

        Raises:
            UsageError: more examples than rows, words for labels there are not, or a model that takes no examples.
        """
        before = from_settings(model.settings.prompt)
        asked = self.candidates if self.selection == "nearest" else self.shots
        count = min(asked, len(texts)) if self.selection == "nearest" else asked
        chosen = balanced(labels, count, seed) if self.shots else []
        prompt = dataclasses.replace(
            before,
            words=spoken(before.labels, self.words) if self.words else before.words,
            shots=self.shots,
            selection=self.selection,
            encoder=self.encoder,
            calibrate=self.calibrate,
            examples=tuple((texts[index], labels[index]) for index in chosen),
        )
        template = str(model.settings.template)
        if self.calibrate and (self.selection == "balanced" or not self.shots):
            prompt = dataclasses.replace(prompt, selection="balanced")
            found = Asked(model, prompt, template).content_free(texts[0])
            prompt = dataclasses.replace(prompt, content_free=tuple(found))
        else:
            Asked(model, prompt, template)  # whatever cannot be asked is refused now
        model.settings = dataclasses.replace(model.settings, prompt=prompt.as_dict())
        if progress is not None:
            progress(len(texts))
        left = {"rows_left_out": len(texts) - len(chosen)} if self.selection == "nearest" and self.shots else {}
        return {"shots": self.shots, "rows_kept": len(chosen), **left}


STRATEGY = Prompting

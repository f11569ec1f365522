"""Asking a model for labels in words, by whatever it can do: continue, fill a mask, tell what entails what, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from graft import hub
from graft.errors import ModelError, UsageError
from graft.generate.score import fill, score
from graft.grafted import Model
from graft.heads import Classify
from graft.inference import Progress, in_step, told
from graft.loading import load
from graft.prompting.choose import Neighbours
from graft.prompting.laying import answers, end_token, fitted, prompts, room_for, two_stacks
from graft.prompting.prompt import CONTENT_FREE, Prompt
from graft.prompting.wording import MASK, PLACE, Wording, check, filled
from graft.prompting.zero_shot import ZeroShot
from graft.sealed import Text

CUTTING = ("truncate", "error")
"""Overflow rules for texts in prompts."""

SEPARATOR = "\n\n"
"""Between worked examples."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What was found for some texts.

    Attributes:
        values: log-probability of each label's words, or what stands for it, float64 (n, C); softmax makes shares.
        truncated_tokens: tokens of each text that did not fit.
        examples_left_out: worked examples that did not fit before each text.
        windows: how many windows each was read in, for models that read long texts so; empty for others.
    """

    values: Tensor
    truncated_tokens: list[int]
    examples_left_out: list[int]
    windows: tuple[int, ...] = ()


def route(model: Model) -> str:
    """What a model can be asked by: the name of a field of Wording."""
    kind = None if model.head is None else model.head.kind
    if kind == "next":
        return "prefixed" if two_stacks(model) else "continued"
    return "masked" if kind == "mask" else "named"


def template_for(model: Model, wording: Wording, given: str | None) -> str:
    """The template given, or the task's own for what the model can do.

    Raises:
        UsageError: it lacks a place, or the task cannot be put to such a model.
    """
    how = route(model)
    usual: str = getattr(wording, how)
    if not usual:
        raise UsageError(
            f"{model.folder}: this task needs a model that writes text (T5, GPT, Llama); "
            f"it cannot be asked of one that {'fills masks' if how == 'masked' else 'compares texts'}"
        )
    template = check(usual if given is None else given, usual.count(PLACE))
    if how == "masked" and template.count(MASK) != 1:
        raise UsageError(f"the template {template!r} needs exactly one {MASK}, where the model is to answer")
    return template


def entailment(model: Model) -> int | None:
    """The number of the label that says a first text entails a second; None where the model has none."""
    labels = model.head.labels if isinstance(model.head, Classify) else ()
    names = [name.strip().casefold() for name in labels]
    return names.index("entailment") if "entailment" in names else None


def asked(model: Model, prompt: Prompt, template: str) -> Asked:
    """An Asked for a model; the same one for the same prompt, as examples are embedded only once."""
    known: Asked | None = vars(model).get("asked")
    if known is None or known.prompt != prompt or known.template != template:
        known = vars(model)["asked"] = Asked(model, prompt, template)
    return known


class Asked:
    """A model with a prompt."""

    def __init__(self, model: Model, prompt: Prompt, template: str) -> None:
        """Prepare to ask.

        Raises:
            UsageError: worked examples for a model that takes none, or a word the vocabulary does not have.
        """
        self.model, self.prompt, self.template = model, prompt, template
        self._neighbours: Neighbours | None = None
        how = route(model)
        if prompt.shots and how == "named":
            raise UsageError(
                f"{model.folder}: worked examples need a model that predicts words, and this one has no such head; "
                "use shots=0, or learn from the rows: strategy probe"
            )
        if how == "named":
            self._entails = entailment(model)
            self._names = None if self._entails is not None else ZeroShot(model, list(prompt.words.values()), template)
        else:
            self._answers = answers(model, list(prompt.words.values()))
            self._check_answers()

    def scores(self, texts: Sequence[Text], progress: Progress | None = None) -> Scored:
        """The labels' scores for texts, calibrated where the prompt says so.

        Raises:
            UsageError: an overflow rule for which a prompt has no use: of what does not fit, it keeps the beginning.
        """
        if route(self.model) != "named" and self.model.settings.overflow not in CUTTING:
            raise UsageError(
                f"{self.model.folder}: a text in a prompt is read at once; choose overflow={' or '.join(CUTTING)}"
            )
        if not texts:
            return Scored(values=torch.zeros(0, len(self.prompt.words)), truncated_tokens=[], examples_left_out=[])
        shown = self._shown(texts)
        found = self._raw(texts, shown, progress)
        if not self.prompt.calibrate:
            return found
        return replace(found, values=found.values - self._reference(texts[0], shown))

    def content_free(self, like: Text) -> list[float]:
        """The scores of a text without content, shaped like this one, behind the fixed examples."""
        found = self._raw([_empty(like)], self._fixed(1), None)
        return [float(value) for value in found.values[0]]

    def _reference(self, like: Text, shown: list[list[int]]) -> Tensor:
        if self.prompt.content_free:
            return torch.tensor(self.prompt.content_free, dtype=torch.float64)
        return self._raw([_empty(like)] * len(shown), shown, None).values

    def _raw(self, texts: Sequence[Text], shown: list[list[int]], progress: Progress | None) -> Scored:
        ways = {"named": self._named, "masked": self._filled}
        found = ways.get(route(self.model), self._written)(texts, shown, progress)
        return replace(found, values=found.values.double())

    def _shown(self, texts: Sequence[Text]) -> list[list[int]]:
        """Numbers of the examples shown before each text."""
        prompt = self.prompt
        if prompt.selection != "nearest" or not prompt.shots:
            return self._fixed(len(texts))
        if self._neighbours is None:
            encoder = self.model
            if prompt.encoder != "model":
                encoder = load(hub.ENCODER if prompt.encoder == "default" else prompt.encoder)
            self._neighbours = Neighbours(encoder, [text for text, _ in prompt.examples])
        return self._neighbours.nearest(texts, prompt.shots)

    def _fixed(self, texts: int) -> list[list[int]]:
        shown = list(range(len(self.prompt.examples))) if self.prompt.selection == "balanced" else []
        return [shown] * texts

    def _laid(self, texts: Sequence[Text], shown: Sequence[list[int]], template: str, room: int) -> _Laid:
        """Every text in its template, behind as many of its examples as fit."""
        worked = [self._worked(text, label) for text, label in self.prompt.examples]
        bare, cut = fitted(self.model, template, texts, room)
        sources, waiting = [], [list(one) for one in shown]
        limit, tokenizer = room_for(self.model, room), self.model.tokenizer
        sources = [SEPARATOR.join([*(worked[n] for n in one), last]) for one, last in zip(waiting, bare, strict=True)]
        while limit is not None:
            over = [
                place
                for place, encoding in enumerate(tokenizer.encode(sources, limit=limit))
                if encoding.truncated_tokens and waiting[place]
            ]
            if not over:
                break
            for place in over:
                waiting[place].pop(0)
                sources[place] = SEPARATOR.join([*(worked[n] for n in waiting[place]), bare[place]])
        left = [len(asked) - len(kept) for asked, kept in zip(shown, waiting, strict=True)]
        return _Laid(sources=sources, cut=cut, left_out=left)

    def _worked(self, text: Text, label: str) -> str:
        """An example with its answer."""
        word, source = self.prompt.words[label], filled(self.template, text)
        return source.replace(MASK, word) if route(self.model) == "masked" else f"{source} {word}"

    def _written(self, texts: Sequence[Text], shown: Sequence[list[int]], progress: Progress | None) -> Scored:
        """By the log-probability of writing each word next."""
        model, ids = self.model, self._answers
        if self.prompt.learned or two_stacks(model):
            ids = [[*one, end_token(model)] for one in ids]
        room = max(map(len, ids))
        laid = self._laid(texts, shown, self.template, room)
        sources = [one.ids for one in prompts(model, laid.sources, room)]
        values = torch.tensor(score(model, sources, [ids] * len(sources), progress))
        return Scored(values=values, truncated_tokens=laid.cut, examples_left_out=laid.left_out)

    def _filled(self, texts: Sequence[Text], shown: Sequence[list[int]], progress: Progress | None) -> Scored:
        """By the log-probability of each word at the mask; a word of several tokens at as many masks."""
        model, name = self.model, self.model.tokenizer.special_tokens["mask_token"]
        values = torch.zeros(len(texts), len(self._answers))
        sizes = sorted({len(ids) for ids in self._answers})
        cut = left = [0] * len(texts)
        for size in sizes:
            laid = self._laid(texts, shown, self.template.replace(MASK, " ".join([name] * size)), 0)
            encodings = model.encode(laid.sources)
            columns = [place for place, ids in enumerate(self._answers) if len(ids) == size]
            last = progress if size == sizes[-1] else None
            ids, types = [one.ids for one in encodings], [one.types for one in encodings]
            values[:, columns] = fill(model, ids, types, [self._answers[place] for place in columns], last)
            cut, left = laid.cut, laid.left_out  # those of the longest words
        return Scored(values=values, truncated_tokens=cut, examples_left_out=left)

    def _named(self, texts: Sequence[Text], shown: Sequence[list[int]], progress: Progress | None) -> Scored:
        """By how much a text entails, or how near it lies to, a statement that names the label."""
        plain = [text for text in texts if isinstance(text, str)]
        if len(plain) != len(texts):
            raise UsageError("naming labels reads single texts, found pairs")
        model, none = self.model, [0] * len(plain)
        if self._names is not None:
            how, values = told(model.windows(plain), model.settings), self._names.logits(plain, progress)
            return Scored(values=torch.from_numpy(values), **_read(how), examples_left_out=none)
        statements = [filled(self.template, word) for word in self.prompt.words.values()]
        every, read = len(statements), model.windows([(text, one) for text in plain for one in statements])
        rows = model.outputs(read, model.head, in_step(progress, len(plain), len(read)))
        values_NC = torch.stack(rows)[:, self._entails].reshape(len(plain), every)
        how = told(read, model.settings)
        worst = [max(how[n * every : (n + 1) * every], key=_unread) for n in range(len(plain))]
        return Scored(values=values_NC, **_read(worst), examples_left_out=none)

    def _check_answers(self) -> None:
        special, tokenizer = self.model.tokenizer.special_tokens, self.model.tokenizer
        if route(self.model) == "masked" and "mask_token" not in special:
            raise ModelError(f"{self.model.folder}: the vocabulary has no mask to fill (mask_token)")
        unknown = tokenizer.token_id("unk_token") if "unk_token" in special else None
        for word, ids in zip(self.prompt.words.values(), self._answers, strict=True):
            if not ids or unknown in ids:
                raise UsageError(
                    f"the vocabulary of {self.model.folder} cannot write {word!r}; let another word stand for this "
                    "label (strategy prompt: words=label=word), or use --form head"
                )


def _unread(how: dict[str, Any]) -> tuple[int, int]:
    return how["truncated_tokens"], how["windows"] or 0


def _read(how: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How each text was read, as Scored has it."""
    windows = tuple(one["windows"] for one in how if one["windows"] is not None)
    return {"truncated_tokens": [one["truncated_tokens"] for one in how], "windows": windows}


@dataclass(frozen=True, kw_only=True)
class _Laid:
    sources: list[str]
    cut: list[int]
    left_out: list[int]


def _empty(like: Text) -> Text:
    return CONTENT_FREE if isinstance(like, str) else (CONTENT_FREE, CONTENT_FREE)

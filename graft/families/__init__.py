"""Published architectures: one file each, named as its model_type, exporting one FAMILY. Data, not code."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from graft.errors import ModelError, listed, nearest
from graft.model.config import Config
from graft.model.transformer import Transformer
from graft.text import Frame
from graft.weights import Rule, linear, prefixed

Published = Mapping[str, Any]
"""A published configuration: the content of config.json."""


Options = Callable[[Published], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Grafting:
    """A head a family is published with.

    Attributes:
        kind: name of our head, as in graft.heads.
        rules: where its tensors lie; our names begin with ``head.``.
        options: what the head must know, from the published configuration.
        publish: the same backwards: options of our head -> entries of config.json.
        prefix: what files put before the backbone's names, where it is not the family's prefix.
    """

    kind: str
    rules: Sequence[Rule] = ()
    options: Options = lambda published: {}
    publish: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda options: {}
    prefix: str | None = None


Fresh = Mapping[str, float | Callable[[Tensor], object]]
"""Patterns of our names -> the standard deviation of fresh weights, or what fills them in place; the first found holds.

A head's names begin with its kind. Norms are 1 and not to be named; biases, where not named, are 0.
"""

Refine = Callable[[Published, dict[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a published architecture maps onto ours.

    Attributes:
        name: the model_type of its config.json.
        bare: the published class without a head.
        encoder: the published class of an encoder without its decoder, where there are two.
        keys: entries of config.json -> fields of our Config; several fields may take one entry's value.
        defaults: values of entries that may be absent, or null where the value is 0 or None; the others must be there.
        supported: entries that must have this value (or be absent): another would silently compute something else.
        fixed: fields of our Config that are the same in every model of the family.
        refine: from the published configuration and the fields so far, further fields, or better values.
        entries: further entries of config.json, from our Config.
        rules: the backbone's tensors; ours begin with ``backbone.``, or ``head.`` for parts a head takes over.
        heads: published class -> head.
        frame: special tokens around one or two segments.
        adapted: those that adapting to a task puts where the frame has none.
        symmetric: a task in which the order of two texts does not matter has them read in both orders.
        auxiliary: weight of a language model's loss beside a task's, where nothing is said.
        prefix: what files of a class with a head put before the backbone's names.
        backbone: the class that runs it.
        config_type: our Config, or one with what this family alone needs.
        fresh: the weights that do not begin with Config's standard deviation.
        file: name of its configuration; beside options.json the weights are HDF5, elsewhere safetensors.
        words: for families that read words: number and words of a sequence -> its character ids.
    """

    name: str
    bare: str
    keys: Mapping[str, str | tuple[str, ...]]
    rules: Sequence[Rule]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    supported: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    refine: Refine = lambda published, values: {}
    entries: Callable[[Config], dict[str, Any]] = lambda config: {}
    heads: Mapping[str, Grafting] = field(default_factory=dict)
    frame: Frame = field(default_factory=Frame)
    adapted: Frame = field(default_factory=Frame)
    symmetric: bool = False
    auxiliary: float = 0.0
    prefix: str = ""
    backbone: type[Transformer] = Transformer
    config_type: type[Config] = Config
    fresh: Callable[[Any], Fresh] = lambda config: {}
    encoder: str = ""
    file: str = "config.json"
    words: Callable[[int, Sequence[Any]], list[Sequence[int]]] | None = None

    def config(self, published: Published) -> Config:
        """config.json -> Config.

        Raises:
            ModelError: entries are missing, ask for what Graft does not have, or make no sense.
        """
        only(published, **self.supported)
        required(published, *(key for key in self.keys if key not in self.defaults))
        values: dict[str, Any] = dict(self.fixed)
        for key, ours in self.keys.items():
            default, given = self.defaults.get(key), published.get(key)
            absent = key not in published or given is None and not default
            value = default if absent else given
            names = (ours,) if isinstance(ours, str) else ours
            values |= dict.fromkeys(names, activation(value) if names[0] == "activation" else value)
        return self.config_type(**{**values, **self.refine(published, values)})

    def publish(self, config: Config) -> dict[str, Any]:
        """Config -> config.json."""
        record: dict[str, Any] = {"model_type": self.name}
        for key, ours in self.keys.items():
            name = ours if isinstance(ours, str) else ours[0]
            value = getattr(config, name)
            record[key] = _published_activation(value) if name == "activation" else value
        return record | self.entries(config)

    def architecture(self, kind: str) -> str:
        """The published class whose head is of this kind.

        Raises:
            ModelError: the family is published with no such head.
        """
        for name, grafting in self.heads.items():
            if grafting.kind == kind:
                return name
        kinds = sorted({grafting.kind for grafting in self.heads.values()})
        raise ModelError(f"{self.name} models have no {kind!r} head; this family has: {', '.join(kinds) or 'none'}")

    def table(self, architecture: str) -> list[Rule]:
        """Every rule of files of one published class, as that class writes them."""
        if architecture not in self.heads:
            return list(self.rules)
        return [*prefixed(self.rules, self.before(architecture)), *self.heads[architecture].rules]

    def before(self, architecture: str) -> str:
        """What files of a class with a head put before the backbone's names."""
        own = self.heads[architecture].prefix if architecture in self.heads else None
        return self.prefix if own is None else own

    def places(self, architecture: str) -> set[str]:
        """Names, without ``head.``, of the tensors beyond the backbone that files of one published class may hold."""
        rules = self.heads[architecture].rules if architecture in self.heads else self.rules
        return {name.removeprefix("head.") for rule in rules for name in rule.names if name.startswith("head.")}


def names() -> list[str]:
    """The families this package has, by its own listing: each model_type, its hyphens as underscores."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(model_type: object) -> Family:
    """The family of a config.json's model_type. The name is compared with our own listing, never imported as it stands.

    Raises:
        ModelError: there is no such family.
    """
    own = {name.replace("_", "-"): name for name in names()}
    wanted = str(model_type)[:60].replace("_", "-")
    if wanted not in own:
        raise ModelError(f"model_type {model_type!r:.60} is not one Graft knows: {nearest(wanted, own)}")
    family = importlib.import_module(f"{__name__}.{own[wanted]}").FAMILY
    assert isinstance(family, Family)
    return family


def required(published: Published, *keys: str) -> list[Any]:
    """Values of a published configuration that have no safe default.

    Raises:
        ModelError: naming every one that is missing.
    """
    missing = [key for key in keys if published.get(key) is None]
    if missing:
        raise ModelError(f"config.json lacks {', '.join(missing)}")
    return [published[key] for key in keys]


def only(published: Published, **supported: Any) -> None:
    """Refuse variants of an architecture that would silently compute something else.

    Raises:
        ModelError: naming each option, its value and the supported one.
    """
    faults = [
        f"{key} is {published[key]!r:.60}, only {value!r} is supported"
        for key, value in supported.items()
        if published.get(key, value) not in (value, None)
    ]
    if faults:
        raise ModelError("config.json asks for what Graft does not have: " + "; ".join(faults))


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def activation(published: object) -> str:
    """Our name of a published activation.

    Raises:
        ModelError: there is none.
    """
    if not isinstance(published, str) or published not in ACTIVATIONS:
        meant = nearest(str(published)[:60], ACTIVATIONS)
        raise ModelError(f"config.json has the activation {published!r:.60}: {meant}")
    return ACTIVATIONS[published]


def _published_activation(ours: str) -> str:
    return next(theirs for theirs, name in ACTIVATIONS.items() if name == ours)


def named(published: Published) -> str:
    """The published class."""
    return str((published.get("architectures") or [""])[0])


def rate(published: Published, key: str, default: float) -> float:
    """A dropout rate of a published configuration; null stands for the default.

    Raises:
        ModelError: no number from 0 to below 1.
    """
    value = published.get(key)
    if value is None:
        return default
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ModelError(f"{key} is {value!r:.60}, expected at least 0 and below 1")
    return value


MOST_LABELS = 2**20

PROBLEMS = {
    "single_label_classification": "single",
    "multi_label_classification": "multi",
    "regression": "regression",
}


def label_options(published: Published) -> dict[str, Any]:
    """Label names and kind of problem of a published classifier.

    Raises:
        ModelError: labels that are not numbered 0, 1, 2, ... or share a name, or an unknown kind of problem.
    """
    labels = label_names(published)
    stated = published.get("problem_type")
    if stated is not None and stated not in list(PROBLEMS):
        raise ModelError(f"problem_type is {stated!r:.60}: {nearest(str(stated)[:60], PROBLEMS)}")
    if stated == "regression" and len(labels) != 1:
        raise ModelError(f"problem_type is 'regression' with {len(labels)} labels, expected 1: {listed(labels):.200}")
    inferred = "regression" if len(labels) == 1 else "single"
    return {"labels": labels, "problem": inferred if stated is None else PROBLEMS[stated]}


def label_names(published: Published) -> tuple[str, ...]:
    """Label names of a published configuration, by number.

    Raises:
        ModelError: labels that are not numbered 0, 1, 2, ... or share a name.
    """
    named = published.get("id2label")
    if not named:
        count = published.get("num_labels", 2)
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_LABELS:
            raise ModelError(f"num_labels is {count!r:.60}, expected a whole number from 1 to {MOST_LABELS}")
        return tuple(f"LABEL_{number}" for number in range(count))
    if not isinstance(named, dict) or not all(isinstance(name, str | int | float) for name in named.values()):
        raise ModelError(f"id2label must be an object of numbers to names, found {named!r:.60}")
    if set(named) != set(wanted := [str(number) for number in range(len(named))]):
        raise ModelError(f"id2label must number its labels 0 to {len(named) - 1}, found {listed(named):.200}")
    names = tuple(str(named[number]) for number in wanted)
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ModelError(f"id2label gives several labels the name {twice[0]!r:.60}")
    return names


def publish_labels(options: Mapping[str, Any]) -> dict[str, Any]:
    """The way back: entries of config.json for a classifier's labels; a head without labels is a regression."""
    said = next(theirs for theirs, ours in PROBLEMS.items() if ours == options.get("problem", "regression"))
    return {**publish_names({"labels": ("score",), **options}), "problem_type": said}


def publish_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """The way back, label names alone."""
    return {
        "id2label": {str(number): name for number, name in enumerate(options["labels"])},
        "label2id": {name: number for number, name in enumerate(options["labels"])},
    }


def tied(published: Published, default: bool) -> bool:
    """Whether the output matrix is the token embedding.

    Raises:
        ModelError: neither true nor false.
    """
    if not isinstance(value := published.get("tie_word_embeddings", default), bool):
        raise ModelError(f"tie_word_embeddings is {value!r:.60}, expected true or false")
    return value


def publish_tied(options: Mapping[str, Any]) -> dict[str, Any]:
    """The way back."""
    return {"tie_word_embeddings": options["tied"]}


def next_token(*more: Rule, default: bool) -> Grafting:
    """The usual head of a language model, with rules for what lies beside it, tied by default or not."""
    rules = [*linear("lm_head", "head.output", bias=False, optional=True), *more]
    return Grafting(
        kind="next", rules=rules, options=lambda published: {"tied": tied(published, default)}, publish=publish_tied
    )


def classifier(options: Options, *rules: Rule) -> Grafting:
    """A head for one sequence or a pair; the options besides the labels."""
    return Grafting(
        kind="classify",
        rules=rules,
        options=lambda published: {**label_options(published), **options(published)},
        publish=publish_labels,
    )


LAST_TOKEN = classifier(lambda _: {"pool": "last", "bias": False}, *linear("score", "head.output", bias=False))
"""The usual classifier of decoders."""


def decoder_dropout(published: Published) -> float:
    """Before the token classifiers of decoders: unless stated otherwise, a tenth."""
    return rate(published, "classifier_dropout", rate(published, "hidden_dropout", 0.1))


def tag(theirs: str, dropout: Callable[[Published], float] = decoder_dropout) -> Grafting:
    """Token classification: dropout and one linear layer, under its published name."""
    return Grafting(
        kind="tag",
        rules=linear(theirs, "head.output"),
        options=lambda published: {"labels": label_names(published), "dropout": dropout(published)},
        publish=publish_names,
    )


def span(dropout: Callable[[Published], float] = lambda published: 0.0, prefix: str | None = None) -> Grafting:
    """Extractive question answering: one linear layer."""
    rules = linear("qa_outputs", "head.output")
    return Grafting(kind="span", rules=rules, options=lambda published: {"dropout": dropout(published)}, prefix=prefix)


def mask(options: Options, *rules: Rule, kind: str = "mask") -> Grafting:
    """Filling masks, or predicting the next token the same way, and what lies beside that head."""
    return Grafting(kind=kind, rules=rules, options=options, publish=publish_tied)

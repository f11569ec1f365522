"""Published architectures: one file each, named as its model_type, exporting one FAMILY. Data, not code."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graft.errors import ModelError, nearest
from graft.model.config import Config
from graft.model.transformer import Transformer
from graft.text import Frame
from graft.weights import Rule, prefixed

Published = Mapping[str, Any]
"""A published configuration: the content of config.json."""


@dataclass(frozen=True, kw_only=True)
class Grafting:
    """A head a family is published with.

    Attributes:
        kind: name of our head, as in graft.heads.
        rules: where its tensors lie; our names begin with ``head.``.
        options: what the head must know, from the published configuration.
        publish: the same backwards: options of our head -> entries of config.json.
    """

    kind: str
    rules: Sequence[Rule] = ()
    options: Callable[[Published], dict[str, Any]] = lambda published: {}
    publish: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda options: {}


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a published architecture maps onto ours.

    Attributes:
        name: the model_type of its config.json.
        bare: the published class without a head.
        config: published configuration -> ours.
        publish: ours -> published.
        rules: the backbone's tensors; ours begin with ``backbone.``, or ``head.`` for parts a head takes over.
        heads: published class -> head.
        frame: special tokens around one or two segments.
        prefix: what files of a class with a head put before the backbone's names.
        backbone: the class that runs it.
    """

    name: str
    bare: str
    config: Callable[[Published], Config]
    publish: Callable[[Config], dict[str, Any]]
    rules: Sequence[Rule]
    heads: Mapping[str, Grafting] = field(default_factory=dict)
    frame: Frame = field(default_factory=Frame)
    prefix: str = ""
    backbone: type[Transformer] = Transformer

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
        return [*prefixed(self.rules, self.prefix), *self.heads[architecture].rules]


def names() -> list[str]:
    """The families this package has, by its own listing."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(model_type: object) -> Family:
    """The family of a config.json's model_type. The name is compared with our own listing, never imported as it stands.

    Raises:
        ModelError: there is no such family.
    """
    own = names()
    if model_type not in own:
        raise ModelError(f"model_type {model_type!r} is not one Graft knows: {nearest(str(model_type), own)}")
    family = importlib.import_module(f"{__name__}.{own[own.index(str(model_type))]}").FAMILY
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
        f"{key} is {published[key]!r}, only {value!r} is supported"
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
    if published not in ACTIVATIONS:
        raise ModelError(f"config.json has the activation {published!r}: {nearest(str(published), ACTIVATIONS)}")
    return ACTIVATIONS[str(published)]


PROBLEMS = {
    "single_label_classification": "single",
    "multi_label_classification": "multi",
    "regression": "regression",
}


def label_options(published: Published) -> dict[str, Any]:
    """Label names and kind of problem of a published classifier.

    Raises:
        ModelError: id2label does not number its labels 0, 1, 2, ...
    """
    named = published.get("id2label") or {str(n): f"LABEL_{n}" for n in range(published.get("num_labels") or 2)}
    try:
        numbered = {int(number): str(name) for number, name in named.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"config.json: id2label must map numbers to names: {error}") from error
    if sorted(numbered) != list(range(len(numbered))):
        raise ModelError(
            f"config.json: id2label must number its labels 0 to {len(numbered) - 1}, found {sorted(numbered)}"
        )
    problem = PROBLEMS.get(str(published.get("problem_type")), "regression" if len(numbered) == 1 else "single")
    return {"labels": tuple(numbered[n] for n in sorted(numbered)), "problem": problem}


def publish_labels(options: Mapping[str, Any]) -> dict[str, Any]:
    """The way back: entries of config.json for a classifier's labels."""
    names = {ours: theirs for theirs, ours in PROBLEMS.items()}
    return {
        "id2label": {str(number): name for number, name in enumerate(options["labels"])},
        "label2id": {name: number for number, name in enumerate(options["labels"])},
        "problem_type": names[options["problem"]],
    }

"""graft.json: what a saved model needs beside its weights, with golden inputs that prove it still answers the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from graft.errors import ModelError
from graft.files import read_json, write_json
from graft.version import __version__

NAME = "graft.json"
FORMAT = 1
TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.25, torch.float16: 0.05}
"""How far an output may be from its golden value, as a share of the largest golden value (at least 1)."""

Text = str | tuple[str, str]

Overflow = Literal["truncate", "head_tail", "window", "error"]
OVERFLOWS: tuple[Overflow, ...] = ("truncate", "head_tail", "window", "error")
"""What may happen to texts longer than the model."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Inputs with the outputs the model gave when it was saved, in float32."""

    inputs: tuple[Text, ...]
    outputs: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Probabilities made to mean what they say (temperature scaling, Guo et al. 2017).

    Attributes:
        temperature: what the logits were divided by; weights and bias of the last layer already are.
        rows: development rows it was found on.
    """

    temperature: float
    rows: int


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """When a model had better not answer.

    Attributes:
        threshold: the least probability of an answer that is to be relied on.
        precision: share of right answers it was chosen for.
        rows: development rows it was chosen on.
    """

    threshold: float
    precision: float
    rows: int


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is to be used.

    Attributes:
        task: the task it was adapted to.
        limit: longest input in tokens, special tokens included; longer ones are handled as `overflow` says.
        template: the words around a text, with {} in its place, for models that read and write text.
        longest: the most tokens such a model writes.
        prompt: how labels are asked for and answered in words (`graft.prompting.prompt.Prompt`).
        overflow: "truncate" reads the beginning and reports the rest; "head_tail" reads beginning and end and reports
            the rest; "window" reads all, in overlapping windows whose outputs are averaged; "error" refuses.
        both_orders: a pair is read in both orders, and what the head makes of them is added (Radford et al. 2018,
            section 3.3).
        calibration: how the probabilities were adjusted.
        abstention: below which probability an answer is marked as not to be relied on.
        made: how it came to be: strategy, base model, data fingerprint, seed, versions.
        golden: inputs and outputs to replay.
        base: of an adapter: `reference` and `sha256` of the model whose frozen weights it needs.
        answering: what the task's answers depend on beside the weights, by name (a threshold).
    """

    task: str | None = None
    limit: int | None = None
    template: str | None = None
    longest: int | None = None
    prompt: dict[str, Any] | None = None
    overflow: Overflow = "truncate"
    both_orders: bool = False
    calibration: Calibration | None = None
    abstention: Abstention | None = None
    made: dict[str, Any] = field(default_factory=dict)
    golden: Golden | None = None
    base: dict[str, str] | None = None
    answering: dict[str, Any] = field(default_factory=dict)


Numbers = TypeVar("Numbers", Calibration, Abstention)


def read(folder: Path) -> Settings:
    """Settings of a folder; the defaults where it has no graft.json.

    Raises:
        ModelError: the file is damaged, or from a newer format.
    """
    path = folder / NAME
    if not path.is_file():
        return Settings()
    content = read_json(path)
    if content.get("graft") != FORMAT:
        raise ModelError(f"{path}: format {content.get('graft')!r}, this version of Graft reads {FORMAT}")
    try:
        golden = content.get("golden")
        settings = Settings(
            task=content.get("task"),
            limit=content.get("limit"),
            template=content.get("template"),
            longest=content.get("longest"),
            prompt=content.get("prompt"),
            overflow=content.get("overflow", "truncate"),
            both_orders=content.get("both_orders", False),
            calibration=_numbers(Calibration, content.get("calibration")),
            abstention=_numbers(Abstention, content.get("abstention")),
            made=dict(content.get("made", {})),
            golden=_golden(golden) if golden else None,
            base=content.get("base"),
            answering=dict(content.get("answering", {})),
        )
        _check(settings)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{path}: damaged: {type(error).__name__}: {error}") from error
    return settings


_VALID: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("task", lambda task: task is None or isinstance(task, str), "a name"),
    ("limit", lambda count: count is None or (type(count) is int and count > 0), "a number of tokens"),
    ("longest", lambda count: count is None or (type(count) is int and count > 0), "a number of tokens"),
    (
        "template",
        lambda words: words is None or (isinstance(words, str) and words.count("{}") in (1, 2)),
        "a text with one {}, or two for pairs",
    ),
    ("prompt", lambda prompt: prompt is None or isinstance(prompt, dict), "an object"),
    ("overflow", lambda rule: rule in OVERFLOWS, " or ".join(map(repr, OVERFLOWS))),
    ("both_orders", lambda both: isinstance(both, bool), "true or false"),
    (
        "base",
        lambda base: base is None or (isinstance(base, dict) and all(isinstance(one, str) for one in base.values())),
        "reference and sha256",
    ),
)
"""Of what a file may hold: the field, whether its value can be one, and what was expected."""


def _check(settings: Settings) -> None:
    for name, valid, expected in _VALID:
        value = getattr(settings, name)
        if not valid(value):
            raise ValueError(f"{name} is {value!r:.60}, expected {expected}")


def _numbers(kind: type[Numbers], content: Any) -> Numbers | None:
    """An object of numbers: shares from 0 to 1, a temperature above 0, a whole number of rows."""
    if content is None:
        return None
    given = {field.name: content[field.name] for field in dataclasses.fields(kind)}
    for name, value in given.items():
        most = math.inf if name in ("rows", "temperature") else 1.0
        if isinstance(value, bool) or not isinstance(value, int if name == "rows" else int | float):
            raise ValueError(f"{kind.__name__.lower()}: {name} is {value!r:.60}, expected a number")
        if not (0 <= value <= most and value < math.inf) or (name == "temperature" and not value):
            raise ValueError(f"{kind.__name__.lower()}: {name} is {value!r:.60}, which is out of range")
    return kind(**given)


def _golden(content: dict[str, Any]) -> Golden:
    inputs = tuple(one if isinstance(one, str) else (str(one[0]), str(one[1])) for one in content["inputs"])
    outputs = tuple(tuple(float(value) for value in row) for row in content["outputs"])
    if len(inputs) != len(outputs):
        raise ValueError(f"{len(inputs)} golden inputs with {len(outputs)} outputs")
    if not all(math.isfinite(value) for row in outputs for value in row):
        raise ValueError("a golden output is not finite")
    return Golden(inputs=inputs, outputs=outputs)


def write(folder: Path, settings: Settings) -> None:
    """Write graft.json, last: it lists all files of the folder."""
    files = sorted({NAME, *(path.name for path in folder.iterdir())})
    write_json(folder / NAME, {"graft": FORMAT, "version": __version__, **dataclasses.asdict(settings), "files": files})


def files(folder: Path) -> list[str]:
    """Names of the files that were written with graft.json; none where there is no readable one."""
    try:
        listed = read_json(folder / NAME).get("files")
    except ModelError:
        return []
    return [str(name) for name in listed] if isinstance(listed, list) else []


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A golden input, one of so many, whose output is another than when the model was saved."""

    of: int
    input: Text
    expected: Sequence[float]
    found: Sequence[float]


def drifts(golden: Golden, outputs: Sequence[Tensor], dtype: torch.dtype) -> list[Drift]:
    """Where outputs are further from the golden ones than computing in a dtype explains."""
    drifted = []
    for text, expected, output in zip(golden.inputs, golden.outputs, outputs, strict=True):
        found = output.detach().float().flatten().tolist()
        bound = TOLERANCE[dtype] * max(1.0, *(abs(value) for value in expected))
        if len(found) != len(expected) or not all(abs(a - b) <= bound for a, b in zip(found, expected, strict=True)):
            drifted.append(Drift(of=len(golden.inputs), input=text, expected=expected, found=found))
    return drifted


def compare(folder: Path, golden: Golden, outputs: Sequence[Tensor], dtype: torch.dtype) -> None:
    """Compare outputs with the golden ones.

    Raises:
        ModelError: an output has drifted; the first such input and both outputs are shown.
    """
    refuse(folder, drifts(golden, outputs, dtype))


def refuse(folder: Path, drifted: Sequence[Drift]) -> None:
    """Refuse a model that has drifted.

    Raises:
        ModelError: there is any drift; the first such input and both outputs are shown.
    """
    if drifted:
        first = drifted[0]
        raise ModelError(
            f"{folder}: {len(drifted)} of {first.of} golden inputs give another output than when the model "
            f"was saved. First: {first.input!r} gave {short(first.expected)}, now {short(first.found)}. "
            "The folder was changed or is damaged"
        )


def short(values: Sequence[float]) -> str:
    """The first numbers of an output.

    >>> short([0.25, 1.0, 2.0, 3.0, 4.0])
    '[0.25, 1, 2, 3, ...]'
    """
    shown = ", ".join(f"{value:.4g}" for value in values[:4])
    return f"[{shown}{', ...' if len(values) > 4 else ''}]"

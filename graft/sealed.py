"""graft.json: what a saved model needs beside its weights, with golden inputs that prove it still answers the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
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
        overflow: "truncate" reads the beginning and reports the rest; "head_tail" reads beginning and end and reports
            the rest; "window" reads all, in overlapping windows whose outputs are averaged; "error" refuses.
        calibration: how the probabilities were adjusted.
        abstention: below which probability an answer is marked as not to be relied on.
        made: how it came to be: strategy, base model, data fingerprint, seed, versions.
        golden: inputs and outputs to replay.
    """

    task: str | None = None
    limit: int | None = None
    template: str | None = None
    longest: int | None = None
    overflow: Overflow = "truncate"
    calibration: Calibration | None = None
    abstention: Abstention | None = None
    made: dict[str, Any] = field(default_factory=dict)
    golden: Golden | None = None


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
            overflow=content.get("overflow", "truncate"),
            calibration=_numbers(Calibration, content.get("calibration")),
            abstention=_numbers(Abstention, content.get("abstention")),
            made=dict(content.get("made", {})),
            golden=_golden(golden) if golden else None,
        )
        _check(settings)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{path}: damaged: {type(error).__name__}: {error}") from error
    return settings


def _check(settings: Settings) -> None:
    task, template, overflow = settings.task, settings.template, settings.overflow
    if task is not None and not isinstance(task, str):
        raise ValueError(f"task is {task!r:.60}, expected a name")
    for name in ("limit", "longest"):
        count = getattr(settings, name)
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise ValueError(f"{name} is {count!r:.60}, expected a number of tokens")
    if template is not None and not (isinstance(template, str) and template.count("{}") == 1):
        raise ValueError(f"template is {template!r:.60}, expected a text with one {{}}")
    if overflow not in OVERFLOWS:
        raise ValueError(f"overflow is {overflow!r:.60}, expected {' or '.join(map(repr, OVERFLOWS))}")


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

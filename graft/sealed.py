"""graft.json: what a saved model needs beside its weights, with golden inputs that prove it still answers the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Inputs with the outputs the model gave when it was saved, in float32."""

    inputs: tuple[Text, ...]
    outputs: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is to be used.

    Attributes:
        task: the task it was adapted to.
        limit: longest input in tokens, special tokens included; longer ones are handled as `overflow` says.
        template: the words around a text, with {} in its place, for models that read and write text.
        longest: the most tokens such a model writes.
        prompt: how labels are asked for and answered in words (`graft.prompting.prompt.Prompt`).
        overflow: "truncate" reads the beginning and reports the rest; "error" refuses.
        both_orders: a pair is read in both orders, and what the head makes of them is added (Radford et al. 2018,
            section 3.3).
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
    overflow: Literal["truncate", "error"] = "truncate"
    both_orders: bool = False
    made: dict[str, Any] = field(default_factory=dict)
    golden: Golden | None = None
    base: dict[str, str] | None = None
    answering: dict[str, Any] = field(default_factory=dict)


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
            made=dict(content.get("made", {})),
            golden=_golden(golden) if golden else None,
            base=content.get("base"),
            answering=dict(content.get("answering", {})),
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
    if not isinstance(settings.both_orders, bool):
        raise ValueError(f"both_orders is {settings.both_orders!r:.60}, expected true or false")
    if template is not None and not (isinstance(template, str) and template.count("{}") in (1, 2)):
        raise ValueError(f"template is {template!r:.60}, expected a text with one {{}}, or two for pairs")
    if settings.prompt is not None and not isinstance(settings.prompt, dict):
        raise ValueError(f"prompt is {settings.prompt!r:.60}, expected an object")
    if overflow not in ("truncate", "error"):
        raise ValueError(f"overflow is {overflow!r:.60}, expected 'truncate' or 'error'")
    base = settings.base
    if base is not None and not (isinstance(base, dict) and all(isinstance(value, str) for value in base.values())):
        raise ValueError(f"base is {base!r:.60}, expected reference and sha256")


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


def compare(folder: Path, golden: Golden, outputs: Sequence[Tensor], dtype: torch.dtype) -> None:
    """Compare outputs with the golden ones.

    Raises:
        ModelError: an output has drifted; the first such input and both outputs are shown.
    """
    drifted = []
    for text, expected, output in zip(golden.inputs, golden.outputs, outputs, strict=True):
        found = output.detach().float().flatten().tolist()
        bound = TOLERANCE[dtype] * max(1.0, *(abs(value) for value in expected))
        if len(found) != len(expected) or not all(abs(a - b) <= bound for a, b in zip(found, expected, strict=True)):
            drifted.append((text, expected, found))
    if drifted:
        text, expected, found = drifted[0]
        raise ModelError(
            f"{folder}: {len(drifted)} of {len(golden.inputs)} golden inputs give another output than when the model "
            f"was saved. First: {text!r} gave {_short(expected)}, now {_short(found)}. "
            "The folder was changed or is damaged"
        )


def _short(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values[:4])
    return f"[{shown}{', ...' if len(values) > 4 else ''}]"

"""The README.md of a saved model: a model card whose front matter the Hugging Face hub reads.

Names of files are written without their folders, and nothing of the training texts is quoted.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not listed

from graft.errors import DataError
from graft.evaluate.intervals import Interval
from graft.evaluate.metrics import method
from graft.evaluate.wording import LOWER_IS_BETTER, counted, number, printable, title

PIPELINES = {
    "ask": "question-answering",
    "choice": "multiple-choice",
    "classify": "text-classification",
    "complete": "text-generation",
    "correct": "text-generation",
    "embed": "feature-extraction",
    "generate": "text-generation",
    "language": "text-generation",
    "pair": "text-classification",
    "score": "text-generation",
    "search": "sentence-similarity",
    "similarity": "sentence-similarity",
    "summarize": "summarization",
    "tag": "token-classification",
    "translate": "translation",
}
"""Task -> the hub's name for it."""

ABILITIES = {
    "ask": "answers a question with a passage of the text it is given",
    "choice": "picks one of several endings or answers",
    "classify": "sorts texts by label",
    "complete": "completes a text",
    "correct": "corrects a text",
    "embed": "turns texts into vectors, near each other where texts mean much the same",
    "generate": "continues a text",
    "language": "knows the language of its texts, for tasks to be learned on",
    "pair": "says how two texts relate",
    "score": "says how likely a text is",
    "search": "finds the texts that fit a query",
    "similarity": "says how similar two texts are",
    "summarize": "sums up a text",
    "tag": "marks words and names in a text",
    "translate": "translates a text",
}
METRIC_TYPES = {
    "balanced_accuracy": "balanced_accuracy",
    "brier": "brier_score",
    "macro_f1": "f1",
    "matthews": "matthews_correlation",
    "micro_f1": "f1",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}
"""Our name of a metric -> the hub's, where they differ."""

TOO_LONG = {
    "error": "Texts of more than {limit} tokens are refused.",
    "truncate": "Texts of more than {limit} tokens are cut; each answer reports how many tokens were not read.",
    "head_tail": "Of texts of more than {limit} tokens beginning and end are read; each answer reports how many tokens "
    "were not.",
    "window": "Texts of more than {limit} tokens are read in windows; each answer reports how many.",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model card tells.

    Attributes:
        name: of the model, as its folder is called.
        task: such as classify; must be known.
        strategy: what learned, such as lora.
        base_model: hub name or folder of the model it was made from.
        scores: by metric.
        rows: rows that were scored.
        data: file of the training rows; only its last part is written.
        training_rows: rows learned from.
        fingerprint: of the training rows.
        seed: of the run.
        versions: name of a library -> version.
        split: which rows were scored.
        labels: names by id.
        data_id: the training data's name on the hub, where it has one.
        example: a made-up input for the examples; never a row of private data.
        command: what follows `graft run TASK`, where that is not one text.
        python: line of Python that asks the model, where it takes more than one text.
        max_tokens: longest input.
        overflow: what happens beyond it.
        calibration: how probabilities were adjusted, a sentence.
        abstention: when an answer is not to be relied on, a sentence.
        languages: ISO codes, where known.
        license: SPDX name in lower case, where known.
        relation: to the base model; adapter for lora and adapter, otherwise finetune, unless told.
        opens_in: library besides Graft that opens the folder.
        architecture: for peft, the class of transformers of the base.
        interval_method: how the intervals were made.
        notes: further limits, one sentence each.
    """

    name: str
    task: str
    strategy: str
    base_model: str
    scores: Mapping[str, Interval]
    rows: int
    data: str
    training_rows: int
    fingerprint: str
    seed: int
    versions: Mapping[str, str]
    split: str = "test"
    labels: Sequence[str] = ()
    data_id: str = ""
    example: str = "My parcel never arrived"
    command: str = ""
    python: str = ""
    max_tokens: int | None = None
    overflow: Literal["", "error", "truncate", "head_tail", "window"] = ""
    calibration: str = ""
    abstention: str = ""
    languages: Sequence[str] = ()
    license: str = ""
    relation: Literal["", "adapter", "finetune", "merge", "quantized"] = ""
    opens_in: Literal["", "transformers", "peft"] = ""
    architecture: str = "AutoModel"
    interval_method: str = method()
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.task not in PIPELINES:
            raise DataError(f"no model card for task {self.task!r}. Valid: {', '.join(sorted(PIPELINES))}")


def model_card(card: Card) -> str:
    """Write the README.md of a saved model, front matter and text."""
    front = yaml.safe_dump(_front_matter(card), sort_keys=False, allow_unicode=True, width=120)
    parts = [_opening(card), _usage(card), _training_data(card), _scores(card), _limits(card), _making(card)]
    return f"---\n{front}---\n\n" + "\n".join(part.rstrip() + "\n" for part in parts if part)


def hub_name(reference: str) -> str | None:
    """Give a model reference back where it can be a name on the hub; None for a folder."""
    try:
        validate_repo_id(reference)
    except HFValidationError:
        return None
    return None if Path(reference).exists() else reference


def _front_matter(card: Card) -> dict[str, Any]:
    base = hub_name(card.base_model)
    relation = card.relation or ("adapter" if card.strategy in ("lora", "adapter") else "finetune")
    found = {
        "language": list(card.languages),
        "license": card.license,
        "library_name": "graft",
        "pipeline_tag": PIPELINES[card.task],
        "base_model": base,
        "base_model_relation": relation if base else None,
        "datasets": [card.data_id] if card.data_id else [],
        "metrics": list(dict.fromkeys(_metric_type(name) for name in card.scores)),
        "tags": ["graft", card.task, card.strategy],
        "model-index": [{"name": _line(_leaf(card.name)), "results": [_result(card)]}] if card.scores else [],
    }
    return {name: value for name, value in found.items() if value}


def _result(card: Card) -> dict[str, Any]:
    data = _line(_leaf(card.data))
    slug = re.sub(r"[^a-z0-9]+", "-", Path(data).stem.lower()).strip("-")
    return {
        "task": {"type": PIPELINES[card.task]},
        "dataset": {"name": data, "type": card.data_id or slug or "local", "split": card.split},
        "metrics": [
            {"type": _metric_type(name), "value": round(score.value, 6), "name": title(name)}
            for name, score in card.scores.items()
        ],
    }


def _metric_type(name: str) -> str:
    return "f1" if name.startswith("f1_") else METRIC_TYPES.get(name, name)


def _opening(card: Card) -> str:
    base = hub_name(card.base_model) or _leaf(card.base_model)
    lines = [
        f"# {_plain(_leaf(card.name))}",
        "",
        f"This model {ABILITIES[card.task]}. It was made from {_plain(base)} by the strategy {_plain(card.strategy)}, "
        "with [Graft](https://pypi.org/project/graft-nlp/).",
    ]
    if card.labels:
        listed = ", ".join(_plain(label) for label in card.labels)
        lines += ["", f"{counted(len(card.labels), 'label').capitalize()}: {listed}."]
    return "\n".join(lines)


def _usage(card: Card) -> str:
    folder, example = _line(_leaf(card.name)), json.dumps(_line(card.example), ensure_ascii=False)
    ask = card.python or f"model({example})"
    given = card.command or shlex.quote(_line(card.example))
    shell = f"graft run {card.task} {given} --model {shlex.quote(folder)}"
    python = f"import graft\n\nmodel = graft.load({json.dumps(folder, ensure_ascii=False)})\n{ask}"
    blocks = ["## How to use it", "", *_fenced("bash", shell), "", *_fenced("python", python)]
    return "\n".join(blocks + _elsewhere(card, folder, example))


def _elsewhere(card: Card, folder: str, example: str) -> list[str]:
    if not card.opens_in:
        return []
    quoted, base = json.dumps(folder, ensure_ascii=False), json.dumps(hub_name(card.base_model) or "the base model")
    code = {
        "transformers": f"""from transformers import pipeline

model = pipeline({json.dumps(PIPELINES[card.task])}, model={quoted})
model({example})""",
        "peft": f"""from peft import PeftModel
from transformers import AutoConfig, {card.architecture}

base = {card.architecture}.from_pretrained({base}, config=AutoConfig.from_pretrained({quoted}))
model = PeftModel.from_pretrained(base, {quoted})""",
    }[card.opens_in]
    return ["", f"It also opens in {card.opens_in}:", "", *_fenced("python", code)]


def _training_data(card: Card) -> str:
    named = _plain(_leaf(card.data)) + (f" ({_plain(card.data_id)})" if card.data_id else "")
    rows = counted(card.training_rows, "row")
    return f"## Training data\n\n{named}: {rows} learned from. Fingerprint of the rows: `{_code(card.fingerprint)}`."


def _scores(card: Card) -> str:
    if not card.scores:
        return "## Scores\n\nThis model has not been scored."
    lines = [
        "## Scores",
        "",
        f"On {counted(card.rows, 'row')} of the {_plain(card.split)} split, which the model did not learn from.",
        "",
        "| Score | Value | 95% interval | Rows |",
        "|---|---:|---:|---:|",
    ]
    for name, score in card.scores.items():
        worse = " (lower is better)" if name in LOWER_IS_BETTER else ""
        cells = [
            title(name) + worse,
            number(score.value),
            f"{number(score.low)} to {number(score.high)}",
            f"{card.rows:,}",
        ]
        lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    return "\n".join([*lines, "", _plain(card.interval_method) + "."])


def _limits(card: Card) -> str:
    limits = [
        "The scores hold for rows like those scored; on other sources, times or groups of people it may do worse."
    ]
    if card.labels:
        limits.append("It answers with one of its labels also where none of them fits.")
    if card.abstention:
        limits.append(_plain(card.abstention))
    if card.overflow and card.max_tokens:
        limits.append(TOO_LONG[card.overflow].format(limit=f"{card.max_tokens:,}"))
    spoken = ", ".join(_plain(language) for language in card.languages)
    limits.append(
        f"Made for {spoken}; other languages were not scored."
        if spoken
        else "The languages of the training rows are not recorded; it has not been scored by language."
    )
    limits += _calibration(card) + [_plain(note) for note in card.notes]
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _calibration(card: Card) -> list[str]:
    ece, told = card.scores.get("ece"), [_plain(card.calibration)] if card.calibration else []
    if ece is None:
        return told or ["Whether its probabilities can be taken at their word was not measured."]
    error = f"{ece.value:.1%} (95% interval {ece.low:.1%} to {ece.high:.1%})"
    return [*told, f"Its probabilities are off by {error} on average (expected calibration error)."]


def _making(card: Card) -> str:
    versions = ", ".join(f"{_plain(name)} {_plain(version)}" for name, version in card.versions.items())
    return f"## How it was made\n\nStrategy: {_plain(card.strategy)}. Seed: {card.seed}. Versions: {versions}."


def _fenced(language: str, code: str) -> list[str]:
    return [f"```{language}", code, "```"]


def _leaf(path: str) -> str:
    """Last part of a path of any system, so that no folder of this machine is told."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _line(text: str) -> str:
    return " ".join(printable(text).split())


def _code(text: str) -> str:
    return _line(text).replace("`", "'")


def _plain(text: str) -> str:
    r"""One line of Markdown that shows the text as it is: no markup, no table borders, no HTML.

    >>> print(_plain("<b> a_b | c"))
    &lt;b&gt; a\_b \| c
    """
    escaped = re.sub(r"([\\`*_\[\]{}|#~$])", r"\\\1", _line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

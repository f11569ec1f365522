"""Train the grafts that come with the package: adapters and heads on the default encoder.

    scripts/train-grafts [NAME ...] [--data FOLDER] [--out graft/grafts]

For each: learns from the training file alone with the settings below, is scored once on the test file, and leaves

    OUT/NAME/          adapter_config.json, adapter_model.safetensors, config.json, graft.json, README.md (the card)
    docs/grafts/NAME.json   everything resolved: data fingerprint, plan, seconds, scores with intervals, loss by epoch

The encoder and its tokenizer are not copied: an adapter names its base. The same seed on the same machine gives the
same weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import graft
from graft import hub, sealed
from graft.recipes.watch import Watch

ROOT = Path(__file__).resolve().parent.parent
KEPT = ("adapter_config.json", "adapter_model.safetensors", "config.json", "graft.json", "README.md")
LARGEST_BYTES = 2_500_000
LORA = {"strategy": "lora", "rank": 8, "targets": "all", "seed": 0}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one graft is made.

    Attributes:
        task: of graft.finetune.
        train: file to learn from, below the data folder.
        test: file it is scored on.
        source: what the data are and under which licence.
        limits: what it cannot do.
        options: further arguments of graft.finetune.
    """

    task: str
    train: str
    test: str
    source: str
    limits: str
    options: Mapping[str, Any] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {
    "sentiment": Recipe(
        task="classify",
        train="sst2/train.csv",
        test="sst2/test.csv",
        source="SST-2, sentences of the Stanford Sentiment Treebank (Socher et al. 2013); no licence is stated for it.",
        limits="English film reviews of one sentence, lower-cased. Two labels: there is no neutral.",
        options={"epochs": 3},
    ),
    "entailment": Recipe(
        task="pair",
        train="snli/train.csv",
        test="snli/test.csv",
        source="A part of SNLI (Bowman et al. 2015), CC BY-SA 4.0: 8,863 pairs cut from its development set.",
        limits="English captions of photographs: short, concrete sentences. Negation and numbers are often missed.",
        options={"epochs": 4},
    ),
    "ask": Recipe(
        task="ask",
        train="squad/train.json",
        test="squad/test.json",
        source="A part of SQuAD 1.1 (Rajpurkar et al. 2016), CC BY-SA 4.0: 9,044 questions on Wikipedia articles.",
        limits="Every training question has an answer in its text: it will find one also where there is none.",
        options={"epochs": 3, "batch_size": 16},
    ),
    "ner": Recipe(
        task="tag",
        train="conll2003/train.txt",
        test="conll2003/test.txt",
        source="CoNLL-2003 English (Tjong Kim Sang & De Meulder 2003): Reuters news of 1996, for research use.",
        limits="Persons, organizations, locations and miscellaneous names in English news; the encoder has no case.",
        options={"epochs": 3},
    ),
    "acceptability": Recipe(
        task="classify",
        train="cola/train.csv",
        test="cola/dev.csv",
        source="CoLA (Warstadt et al. 2018), sentences of linguistics textbooks; no licence is stated for it.",
        limits="Single English sentences. A small encoder made for meaning, not for grammar, is weak at this.",
        options={"epochs": 5, "columns": {"text": "text", "label": "label"}},
    ),
}


def main() -> None:
    options = arguments()
    for name in options.names:
        train(name, RECIPES[name], options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}; default: all")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=ROOT / "graft" / "grafts")
    parser.add_argument("--logs", type=Path, default=ROOT / "docs" / "grafts")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(RECIPES)):
        parser.error(f"no recipe for {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    if not options.data.is_dir():
        parser.error(f"the data sets are not here: {options.data} does not exist; give --data")
    options.names = options.names or list(RECIPES)
    return options


def train(name: str, recipe: Recipe, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / name
        done = graft.finetune(
            options.data / recipe.train,
            task=recipe.task,
            model=hub.ENCODER,
            eval=options.data / recipe.test,
            out=made,
            watch=Watch(),
            **LORA,
            **recipe.options,
        )
        keep(made, options.out / name, recipe)
    options.logs.mkdir(parents=True, exist_ok=True)
    log = logged(done.as_dict(), done.adapted.steps)
    (options.logs / f"{name}.json").write_text(json.dumps(log, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    scores = ", ".join(f"{metric} {one['value']:.3f}" for metric, one in log["metrics"].items())
    sys.stdout.write(f"{name}: {scores}\n")


def keep(made: Path, target: Path, recipe: Recipe) -> None:
    """What an adapter needs and nothing else, with the card's last words on data and limits."""
    weight = (made / "adapter_model.safetensors").stat().st_size
    if weight > LARGEST_BYTES:
        raise SystemExit(f"{made.name}: {weight:,} bytes, a graft may have {LARGEST_BYTES:,}; lower its rank")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in KEPT:
        shutil.copy(made / file, target / file)
    card = (target / "README.md").read_text(encoding="utf-8").rstrip()
    said = f"\n\n## Where the training data come from\n\n{recipe.source}\n\n## What it cannot do\n\n{recipe.limits}\n"
    (target / "README.md").write_text(card + said, encoding="utf-8")
    sealed.write(target, sealed.read(target))
    graft.load(target, "float32", verify=True)


def logged(record: dict[str, Any], steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The run's record without this machine's paths, and the mean loss of each epoch."""
    epochs: dict[int, list[float]] = {}
    for step in steps:
        epochs.setdefault(step["epoch"] + 1, []).append(step["loss"])
    loss = {str(epoch): round(sum(each) / len(each), 4) for epoch, each in epochs.items()}
    tested = {**record["evaluated_on"], "data": Path(record["evaluated_on"]["data"]).name}
    data = "/".join(Path(record["data"]).parts[-2:])
    return {**record, "out": None, "data": data, "evaluated_on": tested, "loss_by_epoch": loss}


if __name__ == "__main__":
    main()

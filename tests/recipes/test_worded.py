"""Labels and scores in words, from the file to the saved folder and back."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from word_models import word_model

import graft
from graft import tasks
from graft.errors import GraftError, UsageError
from graft.grafted import Model
from graft.loading import load
from graft.prompting.prompt import from_settings
from graft.recipes.finetune import finetune
from graft.recipes.worded import InWords, formed, written_steps

FILLERS = [f"w{number}" for number in range(20)]
WORDS = [
    *("good", "bad", "happy", "sad", "Label:", "N/A", "This", "is", "classify:", "stsb", "sentence1:", "sentence2:"),
    *("First:", "Second:", "Similarity:", ".", *(f"{number / 20:.2f}" for number in range(21))),
    *FILLERS,
]
NAMES = ("sentence1", "sentence2", "score")
Made = Callable[[str], Path]


@pytest.fixture
def words(tiny, tmp_path: Path) -> Made:
    return lambda name: word_model(tiny(name).folder, name, tmp_path / name, WORDS)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A text is positive if it has the word good in it."""
    numbers = random.Random(0)
    texts = [(numbers.choice(["good", "bad"]), " ".join(numbers.choices(FILLERS, k=3))) for _ in range(300)]
    return table(tmp_path / "rows.csv", [(f"{one} {rest}", "happy" if one == "good" else "sad") for one, rest in texts])


def table(file: Path, rows: list[tuple[str, ...]], names: tuple[str, ...] = ("text", "label")) -> Path:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([names, *rows])
    return file


def test_encoder_decoders_learn_to_write_labels(words: Made, rows: Path, tmp_path: Path):
    """By default; the metrics are those of a head, and the folder is the published class with labels in graft.json."""
    done = finetune(rows, model=words("t5-lm"), out=tmp_path / "out", epochs=8, learning_rate=3e-3)
    assert done.record["metrics"]["accuracy"]["value"] > 0.95
    assert "nll" in done.record["metrics"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["T5ForConditionalGeneration"]
    again = load(tmp_path / "out", "float32", verify=True)
    assert again.settings.template == "classify: {}"
    assert again.settings.prompt is not None
    assert again.settings.prompt["words"] == {"happy": "happy", "sad": "sad"}
    [answer] = graft.run("classify", ["good w1 w2"], model=again)
    assert answer.label == "happy"
    assert answer.probabilities is not None
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    scores = graft.evaluate(tmp_path / "out", rows, dtype="float32").metrics
    assert scores["accuracy"].value > 0.95
    with pytest.raises(UsageError, match="has labels of its own"):
        graft.run("classify", ["good"], model=again, labels=["a", "b"])


def test_decoders_write_labels_where_asked(words: Made, rows: Path):
    done = finetune(rows, model=words("gpt2-lm"), form="text", template="{} is", epochs=8, learning_rate=3e-3)
    assert done.record["metrics"]["accuracy"]["value"] > 0.95
    assert done.model.head is not None
    assert done.model.head.kind == "next"
    headed = finetune(rows, model=words("gpt2-lm"), epochs=1)
    assert headed.model.head is not None
    assert headed.model.head.kind == "classify"


def test_scores_are_written_in_steps(words: Made, tmp_path: Path):
    """The share of the second text's words that are "good"; the answer lies between the steps."""
    numbers, made = random.Random(1), []
    for _ in range(300):
        count = numbers.randrange(4)
        words_of = ["good"] * count + numbers.choices(FILLERS, k=3 - count)
        made.append(("bad w1", " ".join(numbers.sample(words_of, 3)), f"{count / 3:.4f}"))
    options = {"task": "similarity", "model": words("t5-lm"), "epochs": 12, "learning_rate": 3e-3}
    done = finetune(table(tmp_path / "pairs.csv", made, NAMES), out=tmp_path / "out", **options)
    again = from_settings(load(tmp_path / "out", "float32").settings.prompt)
    assert done.model.settings.template == "stsb sentence1: {} sentence2: {}"
    assert done.record["metrics"]["pearson"]["value"] > 0.9
    [answer] = graft.run("similarity", [("bad w1", "good good good")], model=tmp_path / "out", dtype="float32")
    assert answer.score == pytest.approx(1.0, abs=0.25)
    assert len(again.labels) == 21
    far = table(tmp_path / "far.csv", [(f"good w{number}", "bad", str(number * 10)) for number in range(20)], NAMES)
    with pytest.raises(UsageError, match="cannot write '0'"):
        finetune(far, **options)
    with pytest.raises(UsageError, match="similarity reads pairs of texts"):
        graft.run("similarity", ["alone"], model=tmp_path / "out")


def test_steps_are_those_of_raffel_for_0_to_5():
    assert written_steps([0.0, 2.3, 5.0]) == [f"{number / 5:.1f}" for number in range(26)]
    assert written_steps([1.0, 0.0])[:3] == ["0.00", "0.05", "0.10"]
    assert written_steps([0, 100])[:3] == ["0", "5", "10"]
    assert written_steps([-1.0, 1.0])[0] == "-1.0"


def test_a_prompt_is_kept_and_does_the_same_again(words: Made, rows: Path, tmp_path: Path):
    settings = {"shots": 2, "calibrate": True, "words": "happy=good,sad=bad", "seed": 4}
    done = finetune(rows, model=words("gpt2-lm"), strategy="prompt", template="{} is", out=tmp_path / "out", **settings)
    assert done.record["found"] == {"shots": 2, "rows_kept": 2}
    kept = json.loads((tmp_path / "out" / "graft.json").read_text())["prompt"]
    assert {label for _, label in kept["examples"]} == {"happy", "sad"}
    assert len(kept["content_free"]) == 2
    again = load(tmp_path / "out", "float32", verify=True)
    texts = ["good w1", "bad w3 w4"]
    assert graft.run("classify", texts, model=again) == graft.run("classify", texts, model=done.model)
    before = load(words("gpt2-lm"), "float32")
    theirs, ours = before.state_dict(), again.state_dict()
    assert all(bool((theirs[name] == tensor).all()) for name, tensor in ours.items())
    measured = graft.evaluate(tmp_path / "out", rows, dtype="float32")
    assert measured.task == "classify"
    assert "report.html" in {file.name for file in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize("name", ["t5-lm", "bert-mask"])
def test_the_nearest_rows_are_kept_up_to_a_number(words: Made, rows: Path, tmp_path: Path, name: str):
    said: list[str] = []
    template = "{} is {mask}" if name == "bert-mask" else "{} is"
    chosen = {"shots": 3, "selection": "nearest", "candidates": 20, "calibrate": True}
    options = {"strategy": "prompt", "template": template, "watch": noting(said), **chosen}
    done = finetune(rows, model=words(name), out=tmp_path / "out", **options)
    assert done.record["found"]["rows_kept"] == 20
    assert done.record["found"]["rows_left_out"] == done.record["trained_on"] - 20
    again = load(tmp_path / "out", "float32")
    [answer] = graft.run("classify", ["good w1"], model=again)
    assert answer.examples_left_out is None
    long = " ".join(["good"] * 33)
    [answer] = graft.run("classify", [long], model=again)
    assert answer.examples_left_out == 3
    assert any("20 of " in line and "kept to choose" in line for line in said), said


def noting(said: list[str]):
    from graft.recipes.watch import Watch

    class Noting(Watch):
        def note(self, message: str) -> None:
            said.append(message)

    return Noting(quiet=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gpt2-lm", {"strategy": "prompt", "shots": 3, "selection": "best"}, "selection is 'best'"),
        ("gpt2-lm", {"strategy": "prompt", "shots": -1}, "shots is -1, expected 0 to"),
        ("gpt2-lm", {"strategy": "prompt", "shots": 9, "selection": "nearest", "candidates": 2}, "candidates is 2"),
        ("gpt2-lm", {"strategy": "prompt", "words": "glad=good"}, "expected label=word"),
        ("gpt2-lm", {"strategy": "prompt", "form": "head"}, "leave --form out"),
        ("gpt2-lm", {"form": "words"}, "form is 'words'"),
        ("gpt2-lm", {"form": "text", "strategy": "probe"}, "--form text needs a strategy that trains it"),
        ("bert-mask", {"form": "text"}, "--form text needs a model that writes"),
        ("bert-mask", {"strategy": "prompt", "template": "{}"}, r"needs exactly one \{mask\}"),
    ],
)
def test_what_cannot_be_is_refused(words: Made, rows: Path, name: str, options: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        finetune(rows, model=words(name), **options)


def test_tasks_that_are_not_put_in_words_say_so(words: Made, rows: Path, tmp_path: Path):
    model = load(words("gpt2-lm"), "float32")
    for task in ("embed", "summarize"):
        with pytest.raises(UsageError, match=f"strategy prompt needs a task that .*{task} is not one"):
            formed(tasks.find(task), model, None, "prompt", {})
    several = tmp_path / "several.jsonl"
    several.write_text("".join(json.dumps({"text": f"good w{n}", "labels": ["a", "b"]}) + "\n" for n in range(20)))
    with pytest.raises(UsageError, match="several labels for one text"):
        finetune(several, model=words("t5-lm"))


def test_labels_it_does_not_have_are_named_with_their_line(words: Made, rows: Path, tmp_path: Path):
    finetune(rows, model=words("gpt2-lm"), strategy="prompt", template="{} is", out=tmp_path / "out")
    other = table(tmp_path / "other.csv", [("good", "happy"), ("bad", "glum")])
    with pytest.raises(GraftError, match=r"other\.csv: line 3: the model has no label 'glum'"):
        graft.evaluate(tmp_path / "out", other)


def test_a_loaded_model_is_asked_by_what_it_can_do(words: Made):
    """Choosing from labels without training goes by the head a model has."""
    for name in ("gpt2-lm", "t5-lm", "bert-mask"):
        model = load(words(name), "float32")
        [answer] = graft.run("classify", ["good w1"], model=model, labels=["happy", "sad"])
        assert set(answer.probabilities or ()) == {"happy", "sad"}
        assert isinstance(model, Model)
        assert not isinstance(tasks.find("classify"), InWords)

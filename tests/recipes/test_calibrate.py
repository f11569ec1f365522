"""Rows set aside, probabilities that mean what they say wherever the folder is opened, and answers held back."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from graft import sealed, tasks
from graft.errors import DataError, UsageError
from graft.loading import load
from graft.recipes import calibrate
from graft.recipes.adapt import Plan
from graft.recipes.calibrate import aside
from graft.recipes.evaluate import evaluate
from graft.recipes.finetune import finetune
from graft.recipes.watch import Watch
from graft.sealed import Abstention, Calibration
from graft.tasks import Row

CLASSIFY = tasks.find("classify")


def rows(count: int) -> list[Row]:
    return [Row((f"text number {number}",), "ab"[number % 2], number + 2) for number in range(count)]


def noisy(path: Path, count: int, sides: tuple[str, ...] = ()) -> Path:
    """Cats miaow in a, dogs bark in o, and every fourth label is drawn by lot."""
    draw, lines = random.Random(5), ["text,label" + (",split" if sides else "")]
    for number in range(count):
        label, sign = draw.choice([("cat", "a"), ("dog", "o")])
        word = "".join(draw.choice("mw" + sign) for _ in range(8))
        told = draw.choice(["cat", "dog"]) if number % 4 == 0 else label
        lines.append(f"{word} {number},{told}" + (f",{sides[number % len(sides)]}" if sides else ""))
    path.write_text("\n".join(lines) + "\n")
    return path


class Notes(Watch):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.told: list[str] = []

    def note(self, line: str) -> None:
        self.told.append(line)


# Which rows are set aside


@pytest.mark.parametrize(("count", "dev"), [(1900, 0), (4000, 400)])
def test_by_default_where_rows_can_be_spared(count: int, dev: int):
    learned, found = aside(CLASSIFY, rows(count), [], Plan())
    assert len(found) == pytest.approx(dev, rel=0.15)
    assert len(learned) + len(found) == count
    assert not {row.line for row in learned} & {row.line for row in found}


def test_no_more_than_a_temperature_needs():
    _, found = aside(CLASSIFY, rows(60000), [], Plan())
    assert len(found) == pytest.approx(2000, rel=0.1)


@pytest.mark.parametrize("plan", [Plan(calibrate=True), Plan(precision=0.9), Plan(patience=2)])
def test_on_request(plan: Plan):
    learned, found = aside(CLASSIFY, rows(300), [], plan)
    assert len(found) == pytest.approx(30, abs=15)
    assert len(learned) == 300 - len(found)


def test_never_against_the_users_will():
    assert aside(CLASSIFY, rows(4000), rows(4000)[:900], Plan(calibrate=False)) == (rows(4000), [])
    assert aside(tasks.find("similarity"), rows(4000), [], Plan()) == (rows(4000), [])


def test_the_users_own_development_rows():
    every = rows(1000)
    learned, found = aside(CLASSIFY, every, every[:250], Plan())
    assert (learned, found) == (every[250:], every[:250])
    assert aside(CLASSIFY, every, every[:50], Plan()) == (every, []), "too few to be of use, unless asked for"
    assert aside(CLASSIFY, every, every[:50], Plan(calibrate=True))[1] == every[:50]


def test_rows_whose_label_would_be_missing_are_learned_from():
    every = [*rows(400), Row(("the only one",), "rare", 999), Row(("another only",), "odd", 1000)]
    learned, found = aside(CLASSIFY, every, every[300:], Plan(calibrate=True))
    assert {"rare", "odd"} <= {row.target for row in learned}
    assert found == every[300:400]
    several = [Row((row.inputs[0],), (row.target, "c"), row.line) for row in rows(100)]
    several[0] = Row(("x",), ("a", "rare"), 1)
    assert aside(CLASSIFY, several, several[:20], Plan(calibrate=True))[1] == several[1:20]


def test_the_rows_left_by_another_split_of_the_same_seed_are_split_anew():
    """Rows set aside for testing are those of the lowest hashes; the development rows must not be sought there."""
    train, _ = calibrate.held_out(rows(400), 0.2, 0)
    assert len(aside(CLASSIFY, train, [], Plan(patience=1))[1]) > 10


@pytest.mark.parametrize(
    ("task", "plan", "count", "message"),
    [
        ("similarity", Plan(calibrate=True), 300, "similarity gives no probabilities to calibrate"),
        ("embed", Plan(precision=0.9), 300, "embed gives no probabilities"),
        ("tag", Plan(calibrate=True), 300, "tag gives no probabilities"),
        ("ask", Plan(calibrate=True), 300, "ask gives no probabilities"),
        ("choice", Plan(precision=0.9), 300, "choice gives no probabilities"),
        ("summarize", Plan(precision=0.9), 300, "summarize gives no probabilities"),
        ("classify", Plan(precision=0.9, calibrate=False), 300, "leave calibrate=false out"),
    ],
)
def test_what_cannot_be(task: str, plan: Plan, count: int, message: str):
    with pytest.raises(UsageError, match=message):
        aside(tasks.find(task), rows(count), [], plan)


def test_patience_tuning_and_calibration_look_at_the_same_rows():
    plans = [(Plan(patience=1), ()), (Plan(calibrate=True), ()), (Plan(), ("threshold",))]
    found = [aside(CLASSIFY, rows(700), [], plan, tuned) for plan, tuned in plans]
    assert found[0] == found[1] == found[2]
    with pytest.raises(DataError, match="1 rows are too few to set some aside for threshold; give more rows"):
        aside(tasks.find("ask"), rows(1), [], Plan(), ["threshold"])


def test_only_labels_a_head_has_a_place_for_must_be_learned_from():
    every = [Row((f"text number {number}",), f"summary {number}", number) for number in range(300)]
    assert len(aside(tasks.find("summarize"), every, [], Plan(patience=1))[1]) > 10


def test_a_task_in_words_is_asked_and_not_calibrated(tiny, tmp_path: Path):
    """The strategy has a setting of the same name, which takes it."""
    data, model = noisy(tmp_path / "pets.csv", 60), tiny("bert").folder
    with pytest.raises(UsageError, match="classify in words gives no probabilities to calibrate"):
        finetune(data, model=model, strategy="prompt", precision=0.9)
    done = finetune(data, model=model, strategy="prompt", calibrate=True)
    assert done.record["plan"]["settings"] == {"calibrate": True}
    assert done.model.settings.calibration is None
    done.model.save(tmp_path / "out")
    with pytest.raises(UsageError, match="classify in words gives no probabilities; leave precision out"):
        evaluate(tmp_path / "out", data, precision=0.9)


def test_two_texts_are_calibrated_as_one(tiny, tmp_path: Path):
    noisy(tmp_path / "pets.csv", 200)
    rows = [line.rsplit(",", 1) for line in (tmp_path / "pets.csv").read_text().splitlines()[1:]]
    (tmp_path / "pairs.csv").write_text(
        "premise,hypothesis,label\n" + "".join(f"{text},it is {text[0]},{label}\n" for text, label in rows)
    )
    done = finetune(
        tmp_path / "pairs.csv", task="pair", model=tiny("bert").folder, strategy="probe", calibrate=True, precision=0.5
    )
    assert done.model.settings.calibration.rows == done.adapted.dev > 0
    answer = done.model(("mawa", "it is m"))
    assert answer.abstained is (answer.probability < done.model.settings.abstention.threshold)


def test_too_few_rows_and_several_labels():
    with pytest.raises(DataError, match="1 rows are too few to set a development part aside"):
        aside(CLASSIFY, rows(1), [], Plan(calibrate=True))
    with pytest.raises(UsageError, match="for models that give exactly one label"):
        aside(CLASSIFY, [Row(("x",), ("a", "b"), 2)], [], Plan(precision=0.9))
    with pytest.raises(UsageError, match="precision is 95, expected a share"):
        Plan(precision=95)


# The whole way


@pytest.mark.parametrize("strategy", ["probe", "full"])
def test_calibrated_for_whoever_opens_the_folder(tiny, tmp_path: Path, strategy: str):
    import transformers

    notes = Notes()
    options: dict[str, Any] = {"epochs": 3, "learning_rate": 2e-3} if strategy == "full" else {}
    done = finetune(
        noisy(tmp_path / "pets.csv", 500),
        model=tiny("bert").folder,
        strategy=strategy,
        precision=0.6,
        dtype="float32",
        out=tmp_path / "out",
        watch=notes,
        **options,
    )
    record, settings = done.record, done.model.settings
    assert json.loads((tmp_path / "out" / "run.json").read_text())["calibration"] == record["calibration"]
    assert isinstance(settings.calibration, Calibration)
    assert isinstance(settings.abstention, Abstention)
    assert record["development_rows"] == settings.calibration.rows == settings.abstention.rows
    assert record["trained_on"] + record["development_rows"] + record["evaluated_on"]["n"] == 500
    assert record["calibration"]["after"]["ece"] == pytest.approx(record["metrics"]["ece"]["value"])
    assert record["metrics"]["answered_precision"]["value"] >= 0.6
    assert any("calibrated on" in line and "temperature" in line for line in notes.told)
    assert any("precision 0.6: answers from probability" in line for line in notes.told)
    again = load(tmp_path / "out", "float32", verify=True)
    assert again.settings == settings
    text = "mawamawa 3"
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    ids = torch.tensor([again.encode([text])[0].ids])
    shares = theirs(input_ids=ids).logits.softmax(-1)[0].tolist()
    assert list((again(text).probabilities or {}).values()) == pytest.approx(shares, abs=1e-5)
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Calibration before and after" in report
    assert "Abstaining" in report
    assert "divided by a temperature of" in (tmp_path / "out" / "README.md").read_text()


def test_the_temperature_is_all_that_changes(tiny, tmp_path: Path):
    """Logits are those of the same run uncalibrated, divided: the same rows are learned from (patience sees to it)."""
    data, made = noisy(tmp_path / "pets.csv", 400), []
    for wanted in (True, False):
        options = {"patience": 9, "epochs": 2, "learning_rate": 2e-3, "dtype": "float32", "calibrate": wanted}
        made.append(finetune(data, model=tiny("bert").folder, **options).model)
    temperature = made[0].settings.calibration.temperature
    assert temperature != pytest.approx(1, abs=1e-3)
    assert made[1].settings.calibration is None
    ids = [made[0].encode(["mawa 3"])[0].ids]
    torch.testing.assert_close(made[0].logits(ids)[0] * temperature, made[1].logits(ids)[0], rtol=1e-4, atol=1e-5)


def test_weights_are_divided_also_where_computing_is_in_bfloat16(tiny, tmp_path: Path):
    data = noisy(tmp_path / "pets.csv", 300)
    one, other = (
        finetune(
            data, model=tiny("bert").folder, strategy="probe", calibrate=wanted, dtype="bfloat16", patience=1
        ).model
        for wanted in (True, False)
    )
    weight = one.head.output.weight * one.settings.calibration.temperature
    torch.testing.assert_close(weight, other.head.output.weight)


def test_several_labels_are_calibrated_as_well(tiny, tmp_path: Path):
    lines = [
        json.dumps({"text": f"m{'a' if n % 2 else 'o'}{n}", "labels": [["x"], ["x", "y"], []][n % 3]})
        for n in range(300)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    done = finetune(
        tmp_path / "rows.jsonl", model=tiny("bert").folder, strategy="probe", calibrate=True, out=tmp_path / "out"
    )
    found = done.record["calibration"]
    assert found["temperature"] > 0
    assert set(found["before"]) == set(found["after"]) == {"ece", "brier", "nll"}
    assert done.record["abstention"] is None
    assert "Calibration before and after" in (tmp_path / "out" / "report.html").read_text()


def test_a_precision_out_of_reach_is_said_and_the_model_is_kept(tiny, tmp_path: Path):
    notes = Notes()
    data = noisy(tmp_path / "pets.csv", 200)
    done = finetune(
        data, model=tiny("bert").folder, strategy="probe", precision=0.999, out=tmp_path / "out", watch=notes
    )
    assert done.model.settings.abstention is None
    assert "coverage" not in done.record["metrics"]
    assert any("do not bear out a precision of 0.999" in line and "the best is 0." in line for line in notes.told)
    assert done.model("mawa").abstained is None


def test_the_users_split_column_names_the_development_rows(tiny, tmp_path: Path):
    data = noisy(tmp_path / "pets.csv", 400, sides=("train", "train", "dev", "test"))
    done = finetune(data, model=tiny("bert").folder, strategy="probe", calibrate=True)
    assert (done.record["trained_on"], done.record["development_rows"], done.record["evaluated_on"]["n"]) == (
        200,
        100,
        100,
    )
    done = finetune(data, model=tiny("bert").folder, strategy="probe")
    assert (done.record["trained_on"], done.record["development_rows"]) == (300, 0)


def test_answers_below_the_threshold_are_marked_and_keep_their_label(tiny):
    model = load(tiny("bert-classify").folder, "float32")
    plain = model(["one", "two three"])
    assert [answer.abstained for answer in plain] == [None, None]
    middle = (plain[0].probability + plain[1].probability) / 2
    model.settings = dataclasses.replace(
        model.settings, abstention=Abstention(threshold=middle, precision=0.9, rows=100)
    )
    marked = model(["one", "two three"])
    assert [answer.abstained for answer in marked] == [answer.probability < middle for answer in plain]
    assert [answer.label for answer in marked] == [answer.label for answer in plain]


def test_calibration_of_what_has_no_probabilities_is_refused_before_anything_is_read():
    with pytest.raises(UsageError, match="tag gives no probabilities to calibrate"):
        finetune("no-such-file.txt", task="tag", calibrate=True)


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("bert-multi", "classify", "for models that give exactly one label"),
        ("bert-regress", "similarity", "similarity gives no probabilities; leave precision out"),
    ],
)
def test_a_precision_of_what_has_none_is_refused_before_anything_is_read(tiny, name: str, task: str, message: str):
    with pytest.raises(UsageError, match=message):
        evaluate(tiny(name).folder, "no-such-file.csv", task=task, precision=0.9)


# graft.json


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"calibration": {"temperature": 0, "rows": 5}}, "temperature is 0, which is out of range"),
        ({"calibration": {"temperature": "1", "rows": 5}}, "temperature is '1', expected a number"),
        ({"calibration": {"temperature": 1.0}}, "KeyError: 'rows'"),
        ({"calibration": 3}, "damaged: TypeError"),
        ({"abstention": {"threshold": 1.5, "precision": 0.9, "rows": 5}}, "threshold is 1.5, which is out of range"),
        ({"abstention": {"threshold": 0.5, "precision": 0.9, "rows": 5.5}}, "rows is 5.5, expected a number"),
        ({"abstention": {"threshold": True, "precision": 0.9, "rows": 5}}, "threshold is True"),
        ({"overflow": "windows"}, "overflow is 'windows', expected 'truncate' or 'head_tail' or 'window' or 'error'"),
    ],
)
def test_damage(tmp_path: Path, content: dict[str, Any], message: str):
    from graft.errors import ModelError

    (tmp_path / "graft.json").write_text(json.dumps({"graft": 1, **content}))
    with pytest.raises(ModelError, match=message):
        sealed.read(tmp_path)

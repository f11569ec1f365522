"""A question with choices: how they and the answer are told, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from graft import tasks
from graft.data.table import RejectedRows
from graft.errors import DataError, UsageError
from graft.loading import load
from graft.recipes.adapt import Plan, adapt
from graft.recipes.rows import load_rows
from graft.recipes.watch import Watch
from graft.tasks import Row

QUIET, CHOICE = Watch(quiet=True), tasks.find("choice")


def read(path: Path, rows: list[dict[str, Any]] | str, **options: Any) -> Any:
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return load_rows(CHOICE, path, watch=QUIET, **options)


def asked(*answers: Any, choices: Any = ("red", "blue", "green")) -> list[dict[str, Any]]:
    return [{"question": f"Which {n}?", "choices": list(choices), "answer": one} for n, one in enumerate(answers)]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [((1, 2), [1, 2]), (("1", "0"), [1, 0]), (("A", "c"), [0, 2]), (("blue", "green"), [1, 2])],
)
def test_an_answer_is_a_number_a_letter_or_a_text(tmp_path: Path, answers: tuple[Any, ...], expected: list[int]):
    loaded = read(tmp_path / "a.jsonl", asked(*answers))
    assert [row.target for row in loaded.rows] == expected
    assert loaded.rows[0].inputs == ("Which 0?", "red", "blue", "green")
    assert CHOICE.sequences(loaded.rows[0])[1] == ("Which 0?", "blue")


def test_one_way_of_answering_holds_for_the_whole_file(tmp_path: Path):
    """Choices that are numbers or letters themselves: what fits every row is meant."""
    numbers = asked("2", "3", "1", choices=("1", "2", "3"))
    assert [row.target for row in read(tmp_path / "a.jsonl", numbers).rows] == [1, 2, 0]
    letters = [*asked("A", choices=("B", "A")), *asked("B", choices=("x", "y"))]
    assert [row.target for row in read(tmp_path / "a.jsonl", letters).rows] == [0, 1]


def test_rows_of_different_length_context_and_columns(tmp_path: Path):
    table = "story,question,choice1,choice2,choice3,answer\nIt rained.,Wet?,yes,no,,1\n,How many?,one,two,three,3\n"
    loaded = read(tmp_path / "a.csv", table)
    assert [len(row.inputs) - 1 for row in loaded.rows] == [2, 3]
    assert [row.target for row in loaded.rows] == [0, 2], "numbers begin where the columns do"
    assert CHOICE.sequences(loaded.rows[0]) == (("It rained.", "Wet? yes"), ("It rained.", "Wet? no"))
    assert CHOICE.sequences(loaded.rows[1])[2] == ("How many?", "three")
    joined = read(tmp_path / "b.csv", "question,choices,answer\nWet?,yes|no | maybe,C\n")
    assert joined.rows[0].inputs == ("Wet?", "yes", "no", "maybe")
    assert joined.rows[0].target == 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"answer": "D"}, "'answer' is 'D', not among the 3 choices; expected a letter from A to C"),
        ({"answer": "yellow"}, "'answer' is 'yellow', not among the 3 choices"),
        ({"answer": None}, "'answer' is empty"),
        ({"choices": ["red"]}, "1 choices, expected at least two"),
        ({"choices": ["red", " ", "blue"]}, r"choice 1 \(counting from 0\) is empty"),
        ({"choices": ["red", "blue", "red"]}, r"choices 0 and 2 \(counting from 0\) are the same: 'red'"),
        ({"choices": None}, r"'choices' is empty, expected a list, or texts joined by \|"),
        ({"question": " "}, "'question' is empty"),
    ],
)
def test_a_row_that_cannot_be_used(tmp_path: Path, row: dict[str, Any], reason: str):
    rows = asked("A", "B", "C")
    rows[1] |= row
    with pytest.raises(RejectedRows, match=f"1 of its 3 rows not usable. The first: line 2: {reason}"):
        read(tmp_path / "a.jsonl", rows)
    assert read(tmp_path / "a.jsonl", rows, max_rejects=1).counts()["kept"] == 2


@pytest.mark.parametrize(
    "columns", ["question,answer,choice", "question,answer,choice0", "question,answer,choice1,choice3"]
)
def test_no_columns_of_choices(tmp_path: Path, columns: str):
    with pytest.raises(DataError, match=r"a\.csv: no column 'choices', nor columns choice0, choice1, \.\.\. Found: 'q"):
        read(tmp_path / "a.csv", f"{columns}\n" + ",".join("abcd"[: columns.count(",") + 1]) + "\n")


ROWS = [
    Row((f"which {word}", *choices), choices.index(word), number)
    for number, (word, choices) in enumerate(
        [("aa", ("bb", "aa")), ("cc", ("aa", "cc", "bb")), ("bb", ("bb", "dd"))] * 4, 1
    )
]


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert-choose", "gpt2", "openai_gpt-lm", "llama", "t5"])
def test_adapted_saved_and_loaded_it_chooses_the_same(tiny: Callable[..., Any], tmp_path: Path, name: str):
    """Families without a published class for choices are saved as a regression: one number for each."""
    import dataclasses

    model = load(tiny(name).folder, "float32")
    done = adapt(model, CHOICE, ROWS, Plan(epochs=1, batch_size=4, dtype="float32"), QUIET)
    assert done.rows == len(ROWS)
    outputs = CHOICE.outputs(model, ROWS[:3])
    assert len(outputs.values) == 7
    assert model.head is not None
    measured = CHOICE.measure(model.head, outputs.values, ROWS[:3])
    right = [
        part.argmax().item() == row.target for part, row in zip(outputs.values.split([2, 3, 2]), ROWS, strict=False)
    ]
    assert measured["accuracy"].value == pytest.approx(sum(right) / 3)
    assert measured["accuracy"].low < measured["accuracy"].value or not any(right)
    model.settings = dataclasses.replace(model.settings, task="choice")
    model.save(tmp_path / "m")
    again = load(tmp_path / "m", "float32")
    question, choices = "which aa", ["bb", "aa", "cc"]
    [one], [two] = (CHOICE.answer(each, [question], choices=choices) for each in (model, again))
    assert one.label == two.label
    assert two.probabilities == pytest.approx(one.probabilities, abs=1e-5)
    assert sum((one.probabilities or {}).values()) == pytest.approx(1, abs=1e-5)
    scores = torch.stack(again.read([(question, choice) for choice in choices])[0]).flatten()
    assert list((one.probabilities or {}).values()) == pytest.approx(torch.softmax(scores, 0).tolist(), abs=1e-5)
    assert one.label == choices[int(scores.argmax())]


def test_each_question_has_its_own_choices(tiny: Callable[..., Any]):
    model = load(tiny("bert-choose").folder, "float32")
    several = CHOICE.answer(model, ["who", ("who", "a story")], choices=[["aa", "bb"], ["cc", "dd", "ee"]])
    assert [list(one.probabilities or {}) for one in several] == [["aa", "bb"], ["cc", "dd", "ee"]]
    [alone] = CHOICE.answer(model, ["who"], choices=["aa", "bb"])
    assert several[0].probabilities == pytest.approx(alone.probabilities, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "choices", "message"),
    [
        ("bert-choose", None, "choice needs choices to choose from"),
        ("bert-choose", "a|b", "choice needs choices to choose from: a list"),
        ("bert-choose", ["a"], "question 0 .*: 1 choices, expected at least two"),
        ("bert-choose", [["a", "b"], ["c", "d"]], "2 lists of choices for 1 questions"),
        ("bert-choose", ["a", "a"], "are the same: 'a'"),
        ("bert", ["a", "b"], "this model cannot choose; adapt one with `graft finetune DATA --task choice`"),
        ("bert-regress", ["a", "b"], "this model cannot choose"),
    ],
)
def test_what_it_cannot_answer(tiny: Callable[..., Any], name: str, choices: Any, message: str):
    with pytest.raises(UsageError, match=message):
        CHOICE.answer(load(tiny(name).folder, "float32"), ["who"], choices=choices)


def test_a_probe_cannot_compare_choices(tiny: Callable[..., Any]):
    with pytest.raises(UsageError, match="strategy probe solves for rows of one sequence, this task's have several"):
        adapt(load(tiny("bert").folder, "float32"), CHOICE, ROWS, Plan(strategy="probe"), QUIET)

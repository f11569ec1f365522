"""Two texts and a label: what is read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graft import tasks
from graft.data.table import RejectedRows
from graft.errors import DataError, UsageError
from graft.loading import load
from graft.recipes.rows import load_rows
from graft.recipes.watch import Watch

QUIET = Watch(quiet=True)


def read(path: Path, text: str, task: str = "pair", **options: Any) -> Any:
    path.write_text(text, encoding="utf-8")
    return load_rows(tasks.find(task), path, watch=QUIET, **options)


@pytest.mark.parametrize(
    "header",
    ["premise,hypothesis,label", "sentence1,sentence2,gold_label", "question1,question2,is_duplicate", "text1,text2,x"],
)
def test_columns_by_the_habits_of_the_field(tmp_path: Path, header: str):
    columns = {"label": "x"} if header.endswith("x") else None
    loaded = read(tmp_path / "a.csv", f"{header}\nIt rains.,It is wet.,1\nIt rains.,It is dry.,0\n", columns=columns)
    assert [row.inputs for row in loaded.rows] == [(("It rains.", "It is wet."),), (("It rains.", "It is dry."),)]
    assert [row.target for row in loaded.rows] == ["1", "0"]
    assert loaded.rows[0].key == "It rains.\nIt is wet."


def test_rows_nobody_agreed_on_are_counted_and_named(tmp_path: Path):
    text = "premise,hypothesis,label\na,b,-\nc,d,neutral\n,f,neutral\ng,,neutral\nh,i,\n"
    with pytest.raises(RejectedRows, match=r"4 of its 5 rows not usable\. The first: line 2: 'label' is '-': nobody"):
        read(tmp_path / "a.csv", text)
    loaded = read(tmp_path / "a.csv", text, max_rejects=4)
    assert loaded.counts() == {"read": 5, "kept": 1, "rejected": 4}
    assert [(one.line, one.reason.partition(":")[0]) for one in loaded.rejected] == [
        (2, "'label' is '-'"),
        (4, "'premise' is empty"),
        (5, "'hypothesis' is empty"),
        (6, "'label' is empty"),
    ]


def test_for_single_texts_the_sign_is_a_label_like_any_other(tmp_path: Path):
    assert [row.target for row in read(tmp_path / "a.csv", "text,label\na,-\nb,+\n", "classify").rows] == ["-", "+"]


def test_a_missing_column_is_named_with_a_way_out(tmp_path: Path):
    with pytest.raises(DataError, match=r"no column 'sentence2' .*Found: 'premise', 'hypotesis', 'label'.*--columns"):
        read(tmp_path / "a.csv", "premise,hypotesis,label\na,b,c\n")


def test_several_labels_at_once(tmp_path: Path):
    loaded = read(
        tmp_path / "a.jsonl", '{"premise": "a", "hypothesis": "b", "labels": ["x", "y"]}\n', columns={"label": "labels"}
    )
    assert loaded.rows[0].target == ("x", "y")


def test_answers(tiny: Callable[..., Any]):
    task, model = tasks.find("pair"), load(tiny("bert-classify").folder, "float32")
    [one] = task.answer(model, [("it broke", "send it")])
    assert one == model(("it broke", "send it"))
    assert one.label in ("no", "yes", "maybe")
    with pytest.raises(UsageError, match="pair compares two texts; give pairs"):
        task.answer(model, ["it broke"])
    with pytest.raises(UsageError, match="this model has no labels; adapt one with `graft finetune DATA --task pair`"):
        task.answer(load(tiny("bert").folder, "float32"), [("a", "b")])

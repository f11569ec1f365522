from __future__ import annotations

from pathlib import Path

import pytest

from graft.data.columns import Role, choose, described
from graft.data.table import Table
from graft.errors import DataError, UsageError

TEXT = Role(name="text", aliases=("sentence", "review", "body"))
LABEL = Role(name="label", aliases=("class", "sentiment"))
GROUP = Role(name="group", required=False)
ROLES = [TEXT, LABEL]


def table(*names: str, rows: list[list[object]] | None = None) -> Table:
    kept = [dict(zip(names, row, strict=True)) for row in rows or []]
    lines = list(range(2, 2 + len(kept)))
    return Table(path=Path("rows.csv"), names=names, rows=kept, lines=lines, rejected=[], format="csv")


@pytest.mark.parametrize(
    ("names", "given", "chosen"),
    [
        (("text", "label"), {}, {"text": "text", "label": "label"}),
        (("label", "id", "text"), {}, {"text": "text", "label": "label"}),
        (("Label", " TEXT "), {}, {"text": " TEXT ", "label": "Label"}),
        (("review", "sentiment", "id"), {}, {"text": "review", "label": "sentiment"}),
        (("text", "sentence", "label", "class"), {}, {"text": "text", "label": "label"}),
        (("text", "Text", "label"), {}, {"text": "text", "label": "label"}),
        (("a", "b", "label"), {"text": "b"}, {"text": "b", "label": "label"}),
        (("text", "body", "label"), {"text": "Body"}, {"text": "body", "label": "label"}),
        (("text", "label", "other"), {"text": "label", "label": "other"}, {"text": "label", "label": "other"}),
        (("Text", "text", "label"), {"text": "Text"}, {"text": "Text", "label": "label"}),
        (("sentence", "label", "class"), {"label": "class"}, {"text": "sentence", "label": "class"}),
        (("Text", "sentence", "label"), {}, {"text": "Text", "label": "label"}),
        (("sentence", "review"), {"label": "sentence"}, {"text": "review", "label": "sentence"}),
    ],
)
def test_chosen(names: tuple[str, ...], given: dict[str, str], chosen: dict[str, str]):
    found = choose(table(*names), ROLES, given)
    assert found == chosen
    assert list(found) == ["text", "label"]


def test_a_name_comes_before_an_alias_of_another_role():
    roles = [Role(name="document", aliases=("text", "article")), Role(name="text")]
    assert choose(table("text", "article"), roles) == {"document": "article", "text": "text"}


def test_optional_columns():
    assert choose(table("text", "label"), [*ROLES, GROUP]) == {"text": "text", "label": "label"}
    assert choose(table("text", "label", "group"), [*ROLES, GROUP])["group"] == "group"
    assert choose(table("text", "label", "g"), [*ROLES, GROUP], {"group": "g"})["group"] == "g"


@pytest.mark.parametrize(
    ("names", "rows", "chosen"),
    [
        (("utterance", "label"), [["hello", "a"]], {"text": "utterance", "label": "label"}),
        (("text", "y"), [["hello", 0], ["bye", 1], ["ah", 0]], {"text": "text", "label": "y"}),
        (("category_name", "review"), [["x", "hello"]], {"text": "review", "label": "category_name"}),
    ],
)
def test_the_only_one_left(names: tuple[str, ...], rows: list[list[object]], chosen: dict[str, str]):
    assert choose(table(*names, rows=rows), ROLES) == chosen


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (("id", "label"), [["a", "x"]]),
        (("", "label"), [["0", "x"]]),
        (("Unnamed: 0", "label"), [["0", "x"]]),
        (("number_of_row", "label"), [["1", "x"], ["2", "y"], ["3", "x"]]),
        (("number_of_row", "label"), [[1, "x"], [2, "y"], [7, "x"]]),
        (("utterance", "remark", "label"), [["a", "b", "x"]]),
        (("utterance", "answer"), [["a", "b"]]),
        (("label",), [["a"]]),
    ],
)
def test_nothing_unsafe_is_inferred(names: tuple[str, ...], rows: list[list[object]]):
    with pytest.raises(DataError, match=r"rows\.csv: no column 'text' \(nor 'sentence', 'review', 'body'\)\. Found: "):
        choose(table(*names, rows=rows), ROLES)


def test_two_columns_for_one_role_are_no_inference():
    with pytest.raises(DataError, match="no column 'text'"):
        choose(table("utterance", "x"), [TEXT])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("body_text", "tekst", "label"),
            "rows.csv: no column 'text' (nor 'sentence', 'review', 'body'). Found: 'body_text', 'tekst', 'label'. "
            "Did you mean 'tekst'? Say which it is, as in --columns text=tekst.",
        ),
        (
            ("id", "remark", "note", "label"),
            "rows.csv: no column 'text' (nor 'sentence', 'review', 'body'). Found: 'id', 'remark', 'note', 'label'. "
            "Say which it is, as in --columns text=remark.",
        ),
        (
            ("text",),
            "rows.csv: no column 'label' (nor 'class', 'sentiment'). Found: 'text'. "
            "Say which it is, as in --columns label=NAME.",
        ),
        (
            ("a good film", "pos", "x"),
            "rows.csv: no column 'text' (nor 'sentence', 'review', 'body'). Found: 'a good film', 'pos', 'x'. "
            "Say which it is, as in --columns 'text=a good film'. "
            "If these are values, not names, add a first line with the column names.",
        ),
    ],
)
def test_missing(names: tuple[str, ...], message: str):
    with pytest.raises(DataError) as caught:
        choose(table(*names), ROLES)
    assert str(caught.value) == message


def test_many_and_long_names_are_counted_not_listed():
    with pytest.raises(DataError) as caught:
        choose(table("x" * 500, *(f"c{index}" for index in range(99))), ROLES)
    assert "'c18' and 80 more." in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("sentence", "review", "label"), "'sentence', 'review'. Say which, as in --columns text=sentence"),
        (("TEXT", "Text", "label"), "'TEXT', 'Text'. Say which, as in --columns text=TEXT"),
    ],
)
def test_ambiguous(names: tuple[str, ...], message: str):
    with pytest.raises(DataError) as caught:
        choose(table(*names), ROLES)
    assert str(caught.value) == f"rows.csv: several columns could be 'text': {message}"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"txt": "a"},
            UsageError,
            "--columns txt=a: this task has no 'txt'; did you mean 'text'? Valid: 'label', 'text'.",
        ),
        ({"text": "bodi"}, DataError, "'bodi' is not a column. Found: 'body', 'Rest', 'rest'. Did you mean 'body'?"),
        ({"text": "REST"}, DataError, "'REST' matches 'Rest', 'rest'. Found: 'body', 'Rest', 'rest'."),
        ({"text": "body", "label": "body"}, UsageError, "the column 'body' is given for both 'text' and 'label'"),
    ],
)
def test_given_wrongly(given: dict[str, str], error: type[Exception], message: str):
    with pytest.raises(error) as caught:
        choose(table("body", "Rest", "rest"), ROLES, given)
    assert message in str(caught.value)


def test_described():
    assert described({"text": "body", "label": "stars"}) == "text=body, label=stars"

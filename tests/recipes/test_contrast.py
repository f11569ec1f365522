"""Which words set two bodies of text apart: where the texts come from, the prior, and what cannot be compared."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import graft
from graft.errors import DataError, UsageError
from graft.evaluate.contrast_sections import _spread
from graft.evaluate.log_odds import log_odds
from graft.recipes.watch import Watch

A = ["The cat sat. The cat ran!", "a cat’s tail"]
B = ["The dog sat.", "The dog ran; the DOG barked"]


def test_texts_are_counted_and_compared():
    done = graft.contrast(A, B)
    first = Counter(["the", "cat", "sat", "the", "cat", "ran", "a", "cat's", "tail"])
    second = Counter(["the", "dog", "sat", "the", "dog", "ran", "the", "dog", "barked"])
    expected = log_odds(first, second, first + second, 1000.0)
    assert done.words == expected
    assert [(side.name, side.texts, side.words) for side in done.sides] == [("A", 2, 9), ("B", 2, 9)]
    assert done.top(1)[0][0].word == "cat"
    assert done.top(1)[1][0].word == "dog"
    assert {one.word for side in done.top(0) for one in side} <= {*first, *second}
    assert done.as_dict(1)["first"][0]["counts"] == (2, 0)


def test_pairs_of_words_do_not_cross_punctuation():
    done = graft.contrast(["the cat sat. the end"], ["to-day the cat"], n=2)
    assert {one.word for one in done.words} == {"the cat", "cat sat", "the end", "to day", "day the"}


def test_files_of_lines_and_columns_give_the_same(tmp_path: Path):
    first, second, table = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "both.csv"
    first.write_text("\n\n".join(A), encoding="utf-8")
    second.write_text("\n".join(B), encoding="utf-8")
    rows = [f'"{text}",{name}' for name, texts in (("x", A), ("y", B)) for text in texts]
    table.write_text("\n".join(["body,side", *rows]), encoding="utf-8")
    plain = graft.contrast(A, B).words
    assert graft.contrast(first, second).words == plain
    assert graft.contrast(table, column="body", by="side").words == plain
    turned = graft.contrast(table, column="body", by="side", groups=["y", "x"])
    assert [side.name for side in turned.sides] == ["y", "x"]
    assert turned.top(1)[0][0].word == "dog"


def test_priors(tmp_path: Path):
    other = tmp_path / "other.txt"
    other.write_text("the the the sat\n")
    words = {*Counter(["the", "cat", "sat", "ran", "a", "cat's", "tail", "dog", "barked"])}
    first, second = (
        Counter(["the", "cat", "sat", "the", "cat", "ran", "a", "cat's", "tail"]),
        Counter(["the", "dog", "sat", "the", "dog", "ran", "the", "dog", "barked"]),
    )
    counted = {word: {"the": 4, "sat": 2}.get(word, 1) for word in words}
    assert graft.contrast(A, B, prior=other, prior_size=50).words == log_odds(first, second, counted, 50)
    given = graft.contrast(A, B, prior={"the": 3, "sat": 1}, prior_size=50)
    assert given.words == log_odds(first, second, counted, 50)
    assert graft.contrast(A, B, prior="english").prior == "the package's English"
    with pytest.raises(UsageError, match="single words, n is 2"):
        graft.contrast(A, B, prior="english", n=2)


def test_groups_other_than_two_are_refused(tmp_path: Path):
    table = tmp_path / "rows.csv"
    table.write_text("text,label\n" + "\n".join(f"a word,{name}" for name in "xyzxyz"))
    with pytest.raises(DataError, match=r"'label' has 3 groups, two are compared: 'x' \(2\), .* --groups A,B"):
        graft.contrast(table, by="label")
    assert graft.contrast(table, by="label", groups=["x", "z"]).sides[1].texts == 2
    with pytest.raises(DataError, match=r"no row has the group 'w' in 'label'; found 'x' \(2\)"):
        graft.contrast(table, by="label", groups=["x", "w"])
    with pytest.raises(UsageError, match="two different ones"):
        graft.contrast(table, by="label", groups=["x", "x"])
    table.write_text("text,label\na b,x\nb,x\n")
    with pytest.raises(DataError, match="has 1 group, two are compared"):
        graft.contrast(table, by="label")


def test_what_cannot_be_compared_is_said(tmp_path: Path):
    lines, table = tmp_path / "a.txt", tmp_path / "rows.csv"
    lines.write_text("a cat\n")
    table.write_text("text,label\na cat,x\n,y\n")
    for arguments, options, told in (
        ((lines,), {}, "give another to compare it with"),
        ((lines,), {"by": "label"}, "a text file has no columns; --by takes a table"),
        ((lines, lines), {"by": "label"}, "leave them out where two"),
        ((lines, lines), {"column": "text"}, "leave out --column"),
        ((A, B), {"n": 0}, "n is 0"),
        ((A, B), {"prior_size": 0.0}, "a size above 0"),
    ):
        with pytest.raises(UsageError, match=told):
            graft.contrast(*arguments, **options)
    for arguments, options, told in (
        ((table,), {"by": "labl"}, "no column 'labl'; name one with --by: did you mean 'label'"),
        ((table,), {"by": "label", "column": "txt"}, "no column 'txt'; name one with --column"),
        ((table,), {"by": "label"}, "line 3: 'text' is empty or not text"),
        ((["1 2 3"], B), {}, "A: there is no word in it"),
        ((["same"], ["same same"]), {}, "A and B have one and the same word, 'same'"),
        ((["one. word."], B), {"n": 2}, "A: there is no row of 2 words in it"),
        ((tmp_path / "none.txt", lines), {}, "none.txt"),
    ):
        with pytest.raises(DataError, match=told):
            graft.contrast(*arguments, **options, watch=Watch(quiet=True))


def test_labels_beside_points_do_not_lie_on_one_another():
    places = _spread([3.0, 2.9, 2.9, -2.0, -2.0], 0.5, -2.2, 3.1)
    assert all(above - below >= 0.5 - 1e-9 for above, below in zip(places, places[1:], strict=False))
    assert min(places) >= -2.2

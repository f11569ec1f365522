"""``graft run correct`` and ``graft contrast`` as their users meet them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEXT = "She recieved it; Wojciechowski didnt."


def test_one_text_is_shown_with_its_changes(graft: Callable[..., Any]):
    done = graft("run", "correct", TEXT)
    assert done.code == 0
    first, *rows = done.out.splitlines()
    assert first in (
        f"She [recieved {arrow} received] it; Wojciechowski [didnt {arrow} didn't]." for arrow in ("→", "->")
    )
    assert [row.split()[0] for row in rows] == ["recieved", "Wojciechowski", "didnt"]
    assert "left as it is" in rows[1]
    assert "no model: how frequent words are decides" in done.err


def test_json_has_places_candidates_and_probabilities(graft: Callable[..., Any]):
    found = graft("run", "correct", TEXT, "--json", "--quiet")
    assert found.err == ""
    answer = found.json
    assert answer["text"] == "She received it; Wojciechowski didn't."
    one = answer["corrections"][0]
    assert (one["start"], one["end"], one["text"], one["replacement"]) == (4, 12, "recieved", "received")
    assert one["probability"] == one["candidates"]["received"] == max(one["candidates"].values())


def test_files_are_corrected_line_by_line(graft: Callable[..., Any], tmp_path: Path):
    (tmp_path / "in.txt").write_text("teh end\n\nall right\n")
    assert graft("run", "correct", "in.txt", "-q").out.split("\n")[0].startswith("the end")
    assert graft("run", "correct", "in.txt", "out=out.csv", "-q").code == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [json.loads(row["corrections"])[0]["replacement"] for row in rows[:1]] == ["the"]
    lines = graft("run", "correct", "in.txt", "--json", "-q").lines
    assert [(line["line"], line["corrections"] == []) for line in lines] == [(1, False), (3, True)]


def test_words_and_a_model_may_be_named(graft: Callable[..., Any], tiny: Callable[..., Any], tmp_path: Path):
    (tmp_path / "own.txt").write_text("grafty\n")
    done = graft("run", "correct", "a graftty thing", "--words", "own.txt,english", "--json")
    assert done.json["text"] == "a grafty thing"
    done = graft("run", "correct", "teh end", "--model", tiny("gpt2-lm").folder, "--real-words", "--json")
    assert done.code == 0
    assert "no model" not in done.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--real-words",), "needs a language model"),
        (("--words", "nowhere"), "'nowhere': no such file"),
        (("--with", "b"), "--with is for tasks on two texts"),
        (("--longest", "3"), "not for correct"),
    ],
)
def test_wrong_use(graft: Callable[..., Any], words: tuple[str, ...], told: str):
    graft("run", "correct", "teh end", *words).failed(2, told)


def test_options_of_correct_are_not_for_others(graft: Callable[..., Any]):
    graft("run", "embed", "a", "--real-words").failed(2, "--real-words is for correct, not for embed")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [("a good film", "pos"), ("good, good fun", "pos"), ("a bad film", "neg"), ("bad, bad <b>plot</b>", "neg")]
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows * 5))
    return path


def test_contrast_prints_a_table_for_each_side(graft: Callable[..., Any], table: Path):
    done = graft("contrast", table, "--by", "label", "--top=2")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "more in pos"
    assert lines[1].split() == ["word", "z", "log-odds", "pos", "neg"]
    assert lines[2].split()[0] == "good"
    assert lines[lines.index("more in neg") + 2].split()[0] == "bad"
    assert "20 rows read = 20 kept + 0 rejected" in done.err


def test_contrast_as_json_and_as_a_page(graft: Callable[..., Any], table: Path, tmp_path: Path):
    found = graft("contrast", table, "--by", "label", "--json", "-q", "--report=page.html", "--top=0").json
    assert [side["name"] for side in found["sides"]] == ["pos", "neg"]
    assert found["first"][0]["word"] == "good"
    assert found["first"][0]["counts"] == [15, 0]
    assert found["report"] == "page.html"
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2
    assert ">good<" in page
    assert "<b>" not in page.partition("</style>")[2].replace("<b>z", "")


def test_contrast_used_wrongly(graft: Callable[..., Any], table: Path):
    graft("contrast", table).failed(2, "give another to compare it with")
    graft("contrast", table, "--by", "text").failed(1, "groups, two are compared")
    graft("contrast", table, "--by", "label", "--report=page.pdf").failed(2, "name it *.html")
    graft("contrast", table, "--by", "label", "top=3").failed(2, "write --top=3")
    graft("contrast", "nowhere.txt", "nothing.txt").failed(1, "nowhere.txt")

"""The grafts of the package: each small, described, and answering as it did when it was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import graft
from graft import hub
from graft.cli import main
from graft.hub import shipped

LARGEST_BYTES = 2_500_000


@pytest.fixture(scope="module")
def encoder() -> Path:
    """Where the default encoder lies; it is not asked for from here."""
    here = {model.name: model.path for model in hub.known()}
    if hub.ENCODER not in here:
        pytest.skip(f"{hub.ENCODER} is not on this machine: scripts/install brings it")
    return here[hub.ENCODER]


@pytest.mark.parametrize("name", shipped.names())
def test_each_is_small_and_says_what_it_is(name: str):
    folder = shipped.find(name)
    assert folder is not None
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LARGEST_BYTES
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".json", ".json", ".md", ".safetensors"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("## Where the training data come from", "## What it cannot do", "all-MiniLM-L6-v2"):
        assert part in card
    assert str(Path.home()) not in card + (folder / "graft.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", shipped.names())
def test_each_answers_as_it_did(name: str, encoder: Path):
    graft.load(name, "float32", verify=True)


@pytest.mark.skipif(shipped.find("sentiment") is None, reason="the package has no graft of that name")
def test_sentiment(encoder: Path):
    model = graft.load("sentiment")
    assert [answer.label for answer in model(["a warm and funny film .", "a dull , lifeless mess ."])] == [
        "positive",
        "negative",
    ]


@pytest.mark.skipif(shipped.find("entailment") is None, reason="the package has no graft of that name")
def test_a_pair_needs_no_model_named(encoder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "pair", "A man is sleeping on a bench.", "--with", "Nobody is asleep.", "--json"]) == 0
    shown = capsys.readouterr()
    assert '"label": "contradiction"' in shown.out
    assert "model: entailment, a graft of this package" in shown.err


@pytest.mark.skipif(shipped.find("ner") is None, reason="the package has no graft of that name")
def test_names_need_no_model_named(encoder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "tag", "Angela Merkel visited the United Nations in New York."]) == 0
    shown = capsys.readouterr()
    first = "[Angela Merkel PER] visited the [United Nations ORG] in [New York LOC]."
    assert shown.out.splitlines()[0] == first
    assert "model: ner, a graft of this package" in shown.err


@pytest.mark.skipif(shipped.find("ask") is None, reason="the package has no graft of that name")
def test_a_question_needs_no_model_named(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = "The club was founded in 1923. Today it has about 340 members. The season starts in April. It ends in fall."
    (tmp_path / "club.txt").write_text(text, encoding="utf-8")
    question = ["When does the season start?", "--context", str(tmp_path / "club.txt")]
    assert main(["run", "ask", *question, "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["text"] == "April"
    assert "model: ask, a graft of this package" in shown.err


def test_no_name_leads_elsewhere():
    for name in ("", ".", "..", "../hub", "sentiment/..", "none"):
        assert shipped.find(name) is None

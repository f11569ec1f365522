"""The task tag on the command line: learned, measured, answered, and every kind of bad rows."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graft.cli import main
from graft.loading import load

Run = Callable[..., Any]


def sentences(count: int, seed: int) -> str:
    """The first letter of a word tells its tag: z and y of a person, v and u of a place."""
    draw, blocks = random.Random(seed), []
    for _ in range(count):
        lines = []
        for _ in range(draw.randint(2, 5)):
            kind = draw.choice(["PER", "LOC", "O", "O"])
            signs = {"PER": "zy", "LOC": "vu", "O": "mm"}[kind]
            for place in range(draw.randint(1, 2)):
                word = signs[place] + "".join(draw.choice("abcdef") for _ in range(3))
                lines.append(f"{word} {'O' if kind == 'O' else ('I-' if place else 'B-') + kind}")
            lines.append("m O")
        blocks.append("\n".join([*lines, ". O"]))
    return "\n\n".join(blocks) + "\n"


@pytest.fixture(scope="session")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    (folder / "train.txt").write_text(sentences(250, 1), encoding="utf-8")
    (folder / "test.txt").write_text(sentences(40, 2), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tagger(base: Path, names: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder adapted to the made-up names by the command under test."""
    out = tmp_path_factory.mktemp("tagger") / "names-model"
    words = ["finetune", str(names / "train.txt"), "--task", "tag", "--eval", str(names / "test.txt")]
    more = [
        "--model",
        str(base),
        "--out",
        str(out),
        "epochs=6",
        "batch_size=8",
        "learning-rate=0.002",
        "--dtype",
        "float32",
        "--quiet",
    ]
    assert main([*words, *more]) == 0
    return out


def test_learned_and_measured(graft: Run, tagger: Path, names: Path, tmp_path: Path):
    saved = json.loads((tagger / "run.json").read_text())
    assert saved["metrics"]["f1"]["value"] > 0.7, "it learned nothing"
    done = graft("evaluate", tagger, names / "test.txt", "--dtype", "float32", "--json", "--report", "r.html")
    assert done.code == 0, done.err
    assert "conll, tags in column 2 of 2; columns tokens=tokens, ner_tags=ner_tags; tags IOB2; 40 rows read" in done.err
    report = done.json
    assert list(report["metrics"]) == ["f1", "precision", "recall", "accuracy", "f1_LOC", "f1_PER"]
    for name, score in report["metrics"].items():
        assert score == pytest.approx(saved["metrics"][name], abs=1e-6)
    page = (tmp_path / "r.html").read_text()
    assert "Type by type" in page
    assert "bootstrap over sentences" in page
    assert load(tagger, verify=True).head.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def test_the_folder_tells_what_it_is(tagger: Path):
    card = (tagger / "README.md").read_text()
    assert "pipeline_tag: token-classification" in card
    assert "graft run tag 'Angela Merkel visited Paris.'" in card
    assert "are read in windows; each answer reports how many" in card
    assert "bootstrap over sentences" in card
    config = json.loads((tagger / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    page = (tagger / "report.html").read_text()
    assert "<span><bdi>Words</bdi></span>" in page
    assert "F1" in page


def test_the_folder_opens_in_transformers(tagger: Path):
    import torch
    import transformers

    theirs = transformers.AutoModelForTokenClassification.from_pretrained(tagger).eval()
    ours = load(tagger, "float32")
    ids = ours.encode(["zaab m vaab ."])[0].ids
    with torch.no_grad():
        logits = theirs(input_ids=torch.tensor([ids])).logits[0]
    torch.testing.assert_close(ours.logits([ids])[0], logits, atol=1e-5, rtol=1e-5)
    assert theirs.config.id2label == dict(enumerate(ours.head.labels))


def test_one_text(graft: Run, tagger: Path):
    plain = graft("run", "tag", "zaab yeab m vaab.", "--model", tagger)
    assert plain.code == 0, plain.err
    lines = plain.out.splitlines()
    answer = graft("run", "tag", "zaab yeab m vaab.", "--model", tagger, "--json").json
    found = [(one["text"], one["label"], one["start"], one["end"], one["words"]) for one in answer["entities"]]
    assert found == [("zaab yeab", "PER", 0, 9, [0, 2]), ("vaab", "LOC", 12, 16, [3, 4])]
    assert all(0.2 < one["score"] <= 1 for one in answer["entities"])
    assert [word["tag"] for word in answer["tagged"]] == ["B-PER", "I-PER", "O", "B-LOC", "O"]
    assert (answer["windows"], answer["truncated_tokens"]) == (1, 0)
    assert lines[0] == "[zaab yeab PER] m [vaab LOC]."
    assert [line.split()[-2] for line in lines[1:]] == ["PER", "LOC"]


def test_a_text_without_names(graft: Run, tagger: Path):
    assert graft("run", "tag", "m m.", "--model", tagger).out == "m m.\n"
    assert graft("run", "tag", "m m.", "--model", tagger, "--json").json["entities"] == []


def test_files(graft: Run, tagger: Path, tmp_path: Path):
    (tmp_path / "lines.txt").write_text("zaab m.\n\nm m\x1b m.\n")
    plain = graft("run", "tag", "lines.txt", "--model", tagger)
    assert plain.out.splitlines() == ["[zaab PER] m.", "m m\\x1b m."]
    graft("run", "tag", "lines.txt", "--model", tagger, "--out", "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["line"] for row in rows] == ["1", "3"]
    assert json.loads(rows[0]["entities"])[0]["text"] == "zaab"
    assert json.loads(rows[1]["entities"]) == []
    (tmp_path / "rows.csv").write_text("id,body\n1,zaab m.\n")
    done = graft("run", "tag", "rows.csv", "--column", "body", "--model", tagger, "--json")
    assert done.lines[0]["entities"][0]["label"] == "PER"


def test_words_as_they_are(graft: Run, tagger: Path, tmp_path: Path):
    """From CoNLL files and columns of lists, words are not split again."""
    (tmp_path / "rows.conll").write_text("za.ab O\nm O\n\nvaab\tO\n")
    done = graft("run", "tag", "rows.conll", "--model", tagger, "--json")
    assert [[word["text"] for word in one["tagged"]] for one in done.lines] == [["za.ab", "m"], ["vaab"]]
    assert [one["line"] for one in done.lines] == [1, 4]
    assert done.lines[0]["text"] == "za.ab m"
    (tmp_path / "rows.jsonl").write_text('{"tokens": ["a-", "b"]}\n')
    done = graft("run", "tag", "rows.jsonl", "--columns", "tokens=tokens", "--model", tagger, "--json")
    assert [word["text"] for word in done.lines[0]["tagged"]] == ["a-", "b"]


def test_a_published_tagger(graft: Run, tiny: Callable[..., Any]):
    """Its labels are its own: here plain ones, so that every word is answered."""
    done = graft("run", "tag", "a bc.", "--model", tiny("bert-tag").folder, "--json")
    assert [one["text"] for one in done.json["entities"]] == ["a", "bc", "."]
    assert {one["label"] for one in done.json["entities"]} <= {"no", "yes", "maybe"}


def test_other_schemes_are_measured_all_the_same(graft: Run, tagger: Path, names: Path, tmp_path: Path):
    text = (names / "test.txt").read_text()
    (tmp_path / "iob1.txt").write_text(text.replace("B-", "I-").replace("I-PER\nm", "I-PER\nm"))
    done = graft("evaluate", tagger, "iob1.txt", "--dtype", "float32", "--json")
    assert "tags IOB1, read as IOB2" in done.err
    same = graft("evaluate", tagger, names / "test.txt", "--dtype", "float32", "--json")
    assert done.json["metrics"] == same.json["metrics"]


GOOD = "a O\nb B-PER\nc I-PER\n\n" * 3
BAD = {
    "a tag missing": (GOOD + "x O\ny\n", "line 14", "1 columns, where the first line has 2"),
    "an empty word": (GOOD + "x\tO\n\tO\n", "line 14", "an empty word"),
    "no tag of the scheme": (GOOD + "x O\ny PERSON\n", "line 14", "'PERSON' is no tag of IOB2"),
    "an illegal tag": (GOOD + "x O\ny I-PER\n", "line 14", "'I-PER' cannot follow 'O' in IOB2", "--max-rejects 1"),
    "only O": ("a O\nb O\n\nc O\n", "only 1 tag"),
    "nothing": ("\n", "an empty file"),
    "words alone": ("a\nb\n", "no column 'ner_tags'"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_rows(graft: Run, base: Path, tmp_path: Path, fault: str):
    content, *parts = BAD[fault]
    (tmp_path / "bad.txt").write_text(content)
    words = ("finetune", "bad.txt", "--task", "tag", "--model", base, "--eval", "bad.txt", "--out", "m", "--quiet")
    graft(*words).failed(1, "bad.txt", *parts)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({"tokens": ["a", "b"], "ner_tags": [0, 1]}, "holds numbers (0)"),
        ({"tokens": ["a", "b"], "ner_tags": ["O"]}, "2 words and 1 tags"),
        ({"tokens": "a b", "ner_tags": ["O", "O"]}, "expected a list of words"),
    ],
)
def test_bad_lists(graft: Run, tagger: Path, tmp_path: Path, row: dict[str, Any], part: str):
    (tmp_path / "bad.jsonl").write_text(json.dumps(row) + "\n")
    graft("evaluate", tagger, "bad.jsonl").failed(1, "bad.jsonl", "line 1", part)


def test_a_type_the_model_does_not_have(graft: Run, tagger: Path, tmp_path: Path):
    (tmp_path / "new.txt").write_text("a O\n\nb B-PER\n\nx B-MISC\n")
    graft("evaluate", tagger, "new.txt").failed(1, "new.txt: line 5: 'x': the model has no label 'B-MISC'")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("run", "tag", "a"), "tag needs a model"),
        (("run", "tag", "a", "--with", "b", "--model", "{tagger}"), "reads one at a time"),
        (("run", "tag", "a", "--labels", "b", "--model", "{tagger}"), "--labels is for classify"),
        (("run", "tag", "a", "--model", "{base}"), "does not tag words"),
        (("finetune", "{names}", "--task", "tag", "--model", "{base}", "strategy=probe", "--out", "m"), "probe"),
        (("finetune", "{names}", "--task", "tag", "--model", "{base}", "class_weights=balanced"), "class weights"),
    ],
)
def test_wrong_use(graft: Run, tagger: Path, base: Path, names: Path, words: tuple[str, ...], part: str):
    known = {"tagger": tagger, "base": base, "names": names / "train.txt"}
    graft(*(word.format(**known) for word in words), "--quiet").failed(2, part)


def test_patience_watches_f1(graft: Run, base: Path, names: Path):
    done = graft("finetune", names / "train.txt", "--task", "tag", "--model", base, "patience=1", "epochs=2", "--json")
    assert done.code == 0, done.err
    metrics = Path(done.json["out"], "metrics.jsonl").read_text().splitlines()
    assert json.loads(metrics[-1])["f1"]["value"] >= 0

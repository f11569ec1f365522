"""`graft finetune` and `graft evaluate`: from rows to a model and its score, and every kind of bad rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graft.cli import main

Run = Callable[..., Any]


def test_finetune_evaluate_and_run_agree(graft: Run, adapted: Path, pets: Path):
    saved = json.loads((adapted / "run.json").read_text())
    judged = graft("evaluate", adapted, pets, "--dtype", "float32", "--json")
    assert judged.code == 0
    report = judged.json
    assert {"model", "task", "data", "n", "rows", "metrics", "truncated_tokens", "seconds"} <= set(report)
    assert report["n"] == 24 == saved["evaluated_on"]["n"]
    assert report["rows"] == {"read": 120, "kept": 120, "rejected": 0}
    assert report["metrics"]["accuracy"] == pytest.approx(saved["metrics"]["accuracy"], abs=1e-6)
    assert report["metrics"]["accuracy"]["value"] > 0.7, "it learned nothing"
    answer = graft("run", "classify", "waaamaawx", "--model", adapted, "--json").json
    assert answer["label"] == "cat"
    assert "scoring the 24 rows whose split column says test" in judged.err


def test_evaluate_for_people(graft: Run, adapted: Path, pets: Path):
    done = graft("evaluate", adapted, pets, "--quiet")
    assert done.err == ""
    assert done.out.splitlines()[0].split()[0] == "accuracy"
    assert done.out.splitlines()[-1].startswith("classify on 24 rows in ")


def test_finetune_prints_its_record_as_json_and_names_the_default_folder(
    graft: Run, base: Path, pets: Path, tmp_path: Path
):
    done = graft("finetune", pets, "--model", base, "strategy=probe", "--json")
    assert done.code == 0, done.err
    record = done.json
    assert record["out"] == "runs/pets-classify-probe"
    assert record["strategy"] == "probe"
    assert record["rows"] == {"read": 120, "kept": 120, "rejected": 0}
    assert 0 <= record["metrics"]["accuracy"]["low"] <= record["metrics"]["accuracy"]["value"] <= 1
    assert "saving to runs/pets-classify-probe; --out chooses another place" in done.err
    assert (tmp_path / "runs" / "pets-classify-probe" / "model.safetensors").is_file()
    listed = graft("models", "--json").lines
    mine = next(each for each in listed if each["source"] == "run")
    assert mine["name"] == "runs/pets-classify-probe"
    assert mine["type"] == "bert"
    assert mine["supported"] is True
    assert mine["bytes"] > 10_000
    assert "runs/pets-classify-probe" in graft("models").out


def test_options_reach_the_recipe(graft: Run, base: Path, pets: Path, tmp_path: Path):
    table = tmp_path / "renamed.csv"
    table.write_text(pets.read_text().replace("text,label,split", "body,topic,fold"))
    done = graft(
        *("finetune", table, "--model", base, "--eval", pets, "--out", "m", "epochs=1", "batch_size=16", "seed=7"),
        *("--learning-rate", "1e-3", "warmup=0.2", "limit=20", "class_weights=balanced", "dtype=float32"),
        *("--columns", "text=body", "--columns", "label=topic", "--overflow", "error", "--json", "--quiet"),
    )
    # The two files have other column names, so the second cannot be read with the columns of the first.
    assert json.loads(done.err)["error"]["type"] == "DataError"
    done = graft(
        *("finetune", pets, "--model", base, "--eval", pets, "--out", "m", "epochs=1", "batch_size=16", "seed=7"),
        *("--learning-rate", "1e-3", "warmup=0.2", "limit=20", "class_weights=balanced", "dtype=float32"),
        *("--overflow", "error", "--json"),
    )
    assert done.code == 0, done.err
    plan = {
        "strategy": "full",
        "epochs": 1,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "warmup": 0.2,
        "seed": 7,
        "dtype": "float32",
        "class_weights": "balanced",
        "patience": None,
    }
    assert {name: done.json["plan"][name] for name in plan} == plan
    assert done.json["evaluated_on"] == {"data": str(pets), "n": 120}
    settings = json.loads((tmp_path / "m" / "graft.json").read_text())
    assert (settings["limit"], settings["overflow"]) == (20, "error")
    graft("run", "classify", "far too long a text for twenty", "--model", "m").failed(1, "20")


def test_evaluate_writes_a_report(graft: Run, adapted: Path, pets: Path, tmp_path: Path):
    done = graft("evaluate", adapted, pets, "--report", "scores.html", "--json")
    assert done.code == 0, done.err
    assert done.json["report"] == "scores.html"
    page = (tmp_path / "scores.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "pets-model" in page
    assert f"{done.json['metrics']['accuracy']['value']:.3f}" in page
    graft("evaluate", adapted, pets, "--report", "scores.pdf").failed(2, "*.html")


BAD = {
    "empty": (b"", "empty"),
    "header only": (b"text,label\n", "no rows"),
    "missing column": (
        b"id,texte,label\n1,a,b\n2,c,d\n",
        "no column 'text'",
        "Did you mean 'texte'?",
        "--columns text=texte",
    ),
    "one class only": (b"text,label\n" + b"".join(b"row %d,same\n" % n for n in range(30)), "only 1 label", "same"),
    "wrong encoding": (b"text,label\ncaf\xe9,a\nb,c\n", "line 2", "--encoding latin-1"),
    "stray quote": (b'text,label\na,b\n"c,d\ne,f\n', "line 3"),
    "giant line": (b"text,label\n" + b"x" * (2**24 + 1) + b",a\n", "16,777,216"),
    "text of a row missing": (b"text,label\n,a\nb,c\n", "line 2", "--max-rejects 1"),
    "too few to set aside": (b"text,label\na,b\n", "--eval"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_rows(graft: Run, base: Path, tmp_path: Path, fault: str):
    content, *parts = BAD[fault]
    (tmp_path / "bad.csv").write_bytes(content)
    graft("finetune", "bad.csv", "--model", base, "--out", "m", "--quiet").failed(1, "bad.csv", *parts)
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.glob(".*"))


def test_the_licence_of_the_base_is_handed_on(graft: Run, base: Path, pets: Path, tmp_path: Path):
    licensed = shutil.copytree(base, tmp_path / "licensed")
    (licensed / "README.md").write_text("---\nlicense: mit\n---\n")
    done = graft("finetune", pets, "--model", licensed, "--strategy", "probe", "--out", "m")
    assert done.code == 0, done.err
    assert "\nlicense: mit\n" in (tmp_path / "m" / "README.md").read_text()


def test_quotes_as_plain_characters(graft: Run, adapted: Path, tmp_path: Path):
    """A quote within a text that has none around it: refused with the way out, which then works for every verb."""
    (tmp_path / "said.csv").write_text('text,label\nmaa"w,cat\nwoof,dog\n')
    graft("evaluate", adapted, "said.csv").failed(1, "said.csv", "line 2", "--no-quotes")
    done = graft("evaluate", adapted, "said.csv", "--no-quotes", "--json")
    assert done.json["n"] == 2
    answers = graft("run", "classify", "said.csv", "--model", adapted, "--no-quotes", "--json")
    assert [answer["text"] for answer in answers.lines] == ['maa"w', "woof"]
    learned = ("finetune", "said.csv", "--model", adapted, "--strategy", "probe", "--eval", "said.csv", "--out", "m")
    assert graft(*learned, "--no-quotes", "--json").json["rows"]["kept"] == 2
    graft("run", "classify", "maaw", "--model", adapted, "--no-quotes").failed(2, "--no-quotes", "single text")
    (tmp_path / "said.jsonl").write_text('{"text": "maaw", "label": "cat"}\n')
    graft("evaluate", adapted, "said.jsonl", "--no-quotes").failed(2, "--no-quotes", "csv and tsv")


def test_a_file_that_is_not_there(graft: Run, adapted: Path, tmp_path: Path):
    (tmp_path / "pets.csv").write_text("text,label\na,cat\n")
    for words in (("finetune", "pet.csv"), ("evaluate", str(adapted), "pet.csv")):
        graft(*words).failed(1, "pet.csv: no such file", "did you mean pets.csv")


def test_a_label_the_model_does_not_have(graft: Run, adapted: Path, tmp_path: Path):
    (tmp_path / "other.csv").write_text("text,label\nmaaw,cat\nmaaw,cats\n")
    graft("evaluate", adapted, "other.csv").failed(1, "other.csv: line 3", "'cats'", "did you mean 'cat'")


def test_a_model_that_cannot_be_evaluated(graft: Run, base: Path, adapted: Path, pets: Path):
    said = graft("evaluate", base, pets).failed(2, "graft finetune")
    assert "asked for" not in said
    graft("evaluate", adapted, pets, "--task", "similarity").failed(2, "classify")


def test_corrupt_weights(graft: Run, damaged: Path, pets: Path):
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for words in (("run", "classify", "a", "--model"), ("evaluate",), ("show",)):
        graft(*words, damaged, *([pets] if words == ("evaluate",) else [])).failed(1, "model.safetensors", "damaged")
    weights.unlink()
    graft("run", "classify", "a", "--model", damaged).failed(1, "no weights")


def test_weights_that_disagree_with_the_configuration(graft: Run, damaged: Path):
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    for words in (("run", "classify", "a", "--model"), ("show",)):
        line = graft(*words, damaged).failed(1, "do not fit the configuration")
        assert "intermediate" in line
    (damaged / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    for words in (("run", "classify", "a", "--model"), ("show",)):
        graft(*words, damaged).failed(1, "tensors missing")
    (damaged / "config.json").write_text("{")
    graft("show", damaged).failed(1, "config.json", "not a valid JSON file")


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("epochs=0", "epochs is 0"),
        ("batch_size=0", "batch_size"),
        ("learning_rate=-1", "learning_rate"),
        ("dtype=float31", "did you mean 'float32'"),
        ("overflow=drop", "classify has no overflow rule 'drop'"),
        ("class_weights=equal", "'balanced'"),
        ("patience=0", "patience"),
        ("limit=4000", "limit is 4000"),
    ],
)
def test_values_that_make_no_sense(graft: Run, base: Path, pets: Path, option: str, part: str):
    graft("finetune", pets, "--model", base, "--out", "m", option, "--quiet").failed(2, part)


def test_a_limit_for_a_model_that_has_none(graft: Run, pets: Path, tiny: Callable[..., Any]):
    model = tiny("xlnet").folder
    graft("finetune", pets, "--model", model, "--out", "m", "limit=2", "--quiet").failed(
        2, "2 tokens, expected at least 3"
    )


def test_a_folder_of_something_else_is_not_overwritten(graft: Run, base: Path, pets: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    graft("finetune", pets, "--model", base, "--out", "mine").failed(1, "thesis.txt")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_the_model_reference_leads_nowhere(graft: Run, pets: Path, monkeypatch: pytest.MonkeyPatch):
    graft("finetune", pets, "--model", "./no-such-model").failed(1, "no such folder")
    graft("run", "embed", "a", "--model", "./no-such-model").failed(1, "no such folder")


def test_the_fixture_really_adapts(adapted: Path):
    assert {"config.json", "model.safetensors", "graft.json", "run.json", "tokenizer.json"} <= {
        path.name for path in adapted.iterdir()
    }
    assert main(["show", str(adapted), "--json"]) == 0

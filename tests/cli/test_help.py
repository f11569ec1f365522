"""Help pages, versions, and the answers to mistyped verbs, options and words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from graft.cli.app import VERBS
from graft.cli.finetune import default_out
from graft.version import __version__

NAMES = ["run", "finetune", "evaluate", "contrast", "pull", "models", "convert", "show", "doctor"]
Run = Callable[..., Any]


def test_help_lists_every_verb_with_what_it_does(graft: Run):
    done = graft("--help")
    assert done.code == 0
    assert done.err == ""
    listed = re.findall(r"^  (\w+) +([A-Z].+)$", done.out.partition("Commands:")[2], re.MULTILINE)
    assert [name for name, _ in listed] == NAMES == [verb.__name__ for verb in VERBS]
    assert not any(text.endswith("...") for _, text in listed), "cut short"
    assert all(len(line) <= 80 for line in done.out.splitlines())


@pytest.mark.parametrize("verb", NAMES)
def test_every_verb_explains_itself_and_takes_json(graft: Run, verb: str):
    done = graft(verb, "-h")
    assert done.code == 0
    assert done.out.startswith(f"Usage: graft {verb} ")
    assert "--json" in done.out
    options = re.findall(r"^  (?:-\w, )?(--[\w-]+)(?: [^ ]+)?(?:  +(\S.*))?$", done.out, re.MULTILINE)
    assert options
    assert [name for name, text in options if not text and f"{name} " not in done.out] == []


def test_the_defaults_that_help_names_are_the_recipe_s(graft: Run):
    from graft.hub import ENCODER
    from graft.prompting.zero_shot import TEMPLATE
    from graft.recipes.adapt import Plan

    text = " ".join(graft("finetune", "--help").out.split())
    for name in ("batch_size", "warmup", "seed"):
        option = text.partition(f"--{name.replace('_', '-')} ")[2]
        assert option.partition("default: ")[2].split(". ")[0].strip(".") == str(getattr(Plan(), name))
    assert ENCODER in text.replace("sentence- transformers", "sentence-transformers")
    assert TEMPLATE in " ".join(graft("run", "--help").out.split())


def test_help_lists_every_strategy_with_its_settings(graft: Run):
    import dataclasses

    from graft import transfer

    listed = dict(re.findall(r"^  (\w+) +([A-Z].+(?:\n {6,}.+)*)$", graft("finetune", "-h").out, re.MULTILINE))
    assert [name for name in listed if name in transfer.names()] == transfer.names()
    for name in transfer.names():
        said = listed[name].replace("'", "")
        missing = [
            f for f in dataclasses.fields(transfer.find(name)) if f"{f.name}={f.default}".replace("'", "") not in said
        ]
        assert not missing, said


def test_version(graft: Run):
    done = graft("--version")
    assert (done.code, done.out, done.err) == (0, f"graft {__version__}\n", "")


def test_without_a_verb_it_is_wrong_use_and_help_is_shown(graft: Run):
    done = graft()
    assert (done.code, done.out) == (2, "")
    assert "finetune" in done.err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("finetne", "x.csv"), "'finetune'"),
        (("finetune", "x.csv", "--epoch", "3"), "--epochs"),
        (("finetune", "x.csv", "epoch=3"), "'epochs'"),
        (("finetune", "x.csv", "--task", "clasify"), "'classify'"),
        (("finetune", "x.csv", "strategy=ful"), "'full'"),
        (("run", "embd", "text"), "'embed'"),
        (("evaluate", "model", "x.csv", "--task", "similarty"), "'similarity'"),
    ],
)
def test_typos_are_answered_with_what_was_probably_meant(graft: Run, words: tuple[str, ...], meant: str):
    line = graft(*words).failed(2)
    assert "did you mean " + meant in line.replace("Did", "did")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("finetune",), "missing argument 'DATA'"),
        (("finetune", "x.csv", "--epochs", "three"), "'--epochs'"),
        (("finetune", "x.csv", "stray"), "unexpected extra argument"),
        (("finetune", "x.csv", "--columns", "text"), "expected ROLE=COLUMN"),
        (("finetune", "x.csv", "--columns", "text=a,text=b"), "twice"),
        (("finetune", "x.csv", "quiet=maybe"), "quiet=true or quiet=false"),
        (("finetune", "x.csv", "--max-rejects", "-1"), "--max-rejects"),
        (("run", "classify", "a text"), "--labels a,b,c"),
        (("run", "embed", "a text", "--labels", "a,b"), "--labels is for classify"),
        (("run", "embed", "a text", "--with", "b"), "--with"),
        (("run", "classify", "a text", "--template", "{}"), "--labels"),
        (("run", "embed", "a text", "--out", "x.csv"), ".jsonl"),
        (("run", "classify", "a", "--labels", "a,b", "--column", "c", "--columns", "text=d"), "give one of them"),
        (("run", "embed", "a text", "--encoding", "latin-1"), "single text"),
    ],
)
def test_wrong_use_is_told_apart(graft: Run, words: tuple[str, ...], part: str):
    graft(*words).failed(2, part)


def test_errors_are_json_where_json_is_asked_for(graft: Run):
    import json

    for words in (("--epochs", "three", "--json"), ("--task", "clasify", "json=true")):
        done = graft("finetune", "x.csv", *words)
        assert (done.code, done.out) == (2, "")
        error = json.loads(done.err)["error"]
        assert error["type"] == "UsageError"
        assert error["exit_code"] == 2
        assert error["message"]


def test_default_out_names_data_task_and_strategy():
    assert default_out("a/b.c.csv", "classify", "probe") == "runs/b-classify-probe"

"""Options written as key=value words, and columns by role."""

from __future__ import annotations

import pytest
import typer

from graft.cli.app import app
from graft.cli.options import as_options, roles
from graft.errors import UsageError

FINETUNE = typer.main.get_command(app).commands["finetune"]  # type: ignore[attr-defined]


def rewritten(*words: str) -> list[str]:
    return list(as_options(FINETUNE.params, words))


def test_words_after_the_arguments_become_options():
    assert rewritten("a.csv", "epochs=3", "batch_size=8", "learning-rate=1e-3") == [
        "a.csv",
        "--epochs=3",
        "--batch-size=8",
        "--learning-rate=1e-3",
    ]


def test_arguments_and_values_of_options_stay_as_they_are():
    words = ["--columns", "text=body", "epochs=3.csv", "-q", "--out", "seed=1", "--columns=label=y"]
    assert rewritten(*words) == words


def test_a_value_may_hold_an_equals_sign():
    assert rewritten("a.csv", "columns=text=body,label=y") == ["a.csv", "--columns=text=body,label=y"]


def test_switches_are_on_or_off():
    assert rewritten("a.csv", "json=true", "quiet=off", "quiet=YES") == ["a.csv", "--json", "--quiet"]
    with pytest.raises(UsageError, match="json=true or json=false"):
        rewritten("a.csv", "json=2")


def test_after_two_dashes_nothing_is_an_option():
    assert rewritten("--", "a.csv", "epochs=3") == ["--", "a.csv", "epochs=3"]


def test_an_option_at_the_end_without_its_value_is_left_to_the_parser():
    assert rewritten("a.csv", "--epochs") == ["a.csv", "--epochs"]


def test_columns_by_role():
    assert roles(["text=body,label=y", "split=fold"]) == {"text": "body", "label": "y", "split": "fold"}
    assert roles(["text=name, first,label=a=b"]) == {"text": "name, first", "label": "a=b"}
    assert roles(None) == {}

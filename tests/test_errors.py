"""The error tree, and the sentence that helps after a typo."""

from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft import errors
from graft.errors import GraftError, UsageError, nearest


def error_classes() -> dict[str, type[GraftError]]:
    members = inspect.getmembers(errors, inspect.isclass)
    return {name: member for name, member in members if issubclass(member, GraftError)}


def test_every_error_is_a_graft_error_and_drawn_in_the_tree():
    drawn = re.findall(r"(\w+Error)\b", errors.__doc__ or "")
    assert sorted(set(drawn)) == sorted(error_classes())


@pytest.mark.parametrize(("name", "error"), sorted(error_classes().items()))
def test_exit_codes(name: str, error: type[GraftError]):
    assert error.exit_code == (2 if error is UsageError else 1)
    with pytest.raises(GraftError, match=f"about {name}"):
        raise error(f"about {name}")


def test_nearest_asks_and_lists():
    assert nearest("labl", ["text", "label"]) == "did you mean 'label'? Valid: 'label', 'text'."


def test_nearest_does_not_guess_wildly():
    assert nearest("zebra", ["text", "label"]) == "Valid: 'label', 'text'."


def test_nearest_ignores_case_but_gives_the_name_as_it_is():
    assert nearest("LABEL", ["Label", "Text"]) == "did you mean 'Label'? Valid: 'Label', 'Text'."


def test_nearest_with_nothing_to_choose_from():
    assert nearest("label", []) == "Valid: none."


def test_nearest_takes_any_iterable_once():
    assert nearest("ful", (name for name in ["probe", "full"])) == "did you mean 'full'? Valid: 'full', 'probe'."


def test_nearest_shows_hostile_names_escaped():
    assert nearest("x", ["a\x1b[31m\n"]) == "Valid: 'a\\x1b[31m\\n'."


@given(st.text(), st.lists(st.text()))
def test_nearest_names_every_choice_and_only_choices(found: str, choices: list[str]):
    said = nearest(found, choices)
    assert all(repr(name) in said for name in choices)
    if said.startswith("did you mean "):
        assert any(said.startswith(f"did you mean {name!r}? ") for name in choices)


@given(st.lists(st.text(min_size=1), min_size=1))
def test_nearest_recognises_a_right_name(choices: list[str]):
    assert nearest(choices[0], choices).startswith("did you mean ")

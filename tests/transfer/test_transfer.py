"""Strategies by name, and their settings from text."""

from __future__ import annotations

import pytest

from graft import transfer
from graft.errors import UsageError
from graft.transfer.full import Full


def test_settings_take_the_type_of_their_default():
    assert transfer.make("full", {"decay": "0.25"}) == Full(decay=0.25)
    assert transfer.make("full", {"decay": 1}) == Full(decay=1.0)
    assert transfer.make("full") == Full()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ful", {}, r"unknown strategy 'ful': did you mean 'full'"),
        ("full", {"decya": 1}, r"strategy full has no setting 'decya': did you mean 'decay'"),
        ("full", {"decay": "much"}, r"strategy full: decay is 'much', expected a number, as in 0\.01"),
        ("full", {"decay": True}, r"decay is True, expected a number"),
        ("full", {"decay": None}, r"decay is None, expected a number"),
        ("bitfit", {"rank": 8}, r"strategy bitfit has no setting 'rank': Valid: 'head_rate'"),
    ],
)
def test_what_cannot_be_is_refused(name: str, settings: dict[str, object], message: str):
    with pytest.raises(UsageError, match=f"(?i){message}"):
        transfer.make(name, settings)


def test_every_strategy_has_the_name_of_its_file():
    assert {name: transfer.find(name).name for name in transfer.names()} == {name: name for name in transfer.names()}

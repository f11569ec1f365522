from __future__ import annotations

from typing import Any

import pytest

from graft.errors import UsageError
from graft.generate.sampling import Sampling


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_tokens": -1}, "max_tokens is -1, expected a whole number of at least 0"),
        ({"max_tokens": 2.0}, "max_tokens is 2.0, expected a whole number"),
        ({"max_tokens": True}, "max_tokens is True, expected a whole number"),
        ({"temperature": -0.1}, "temperature is -0.1, expected a number from 0 to 100"),
        ({"temperature": float("nan")}, "temperature is nan, expected a number"),
        ({"temperature": "hot"}, "temperature is 'hot', expected a number"),
        ({"top_p": 0}, "top_p is 0, expected a number above 0, at most 1"),
        ({"top_p": 1.1}, "top_p is 1.1, expected a number above 0, at most 1"),
        ({"top_k": -1}, "top_k is -1, expected a whole number of at least 0"),
        ({"min_p": 2}, "min_p is 2, expected a number from 0 to 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0, expected a number above 0"),
        ({"presence_penalty": 3}, "presence_penalty is 3, expected a number from -2 to 2"),
        ({"seed": 1.5}, "seed is 1.5, expected a whole number"),
        ({"stop": ["a", ""]}, "an entry of stop is '', expected a text of at least one character"),
        ({"stop": 7}, "stop is 7, expected a list of texts"),
        ({"bad_words": [b"a"]}, "an entry of bad_words is b'a', expected a text"),
        ({"allowed": "abc"}, "allowed is 'abc', expected a list of token ids"),
        ({"allowed": [1, -2]}, "an entry of allowed is -2, expected a whole number of at least 0"),
        ({"logit_bias": [1]}, r"logit_bias is \[1\], expected token ids with a number for each"),
        ({"logit_bias": {"x": 1}}, "a token of logit_bias is 'x', expected a whole number"),
        ({"logit_bias": {4: 101}}, "logit_bias of token 4 is 101, expected a number from -100 to 100"),
        ({"ignore_end": 1}, "ignore_end is 1, expected true or false"),
        ({"min_tokens": 200}, r"min_tokens is 200, expected at most max_tokens \(128\)"),
        ({"logprobs": 1000}, "logprobs is 1000, expected a whole number from 0 to 100"),
    ],
)
def test_bad_settings_are_named_with_what_was_expected(options: dict[str, Any], said: str):
    with pytest.raises(UsageError, match=said):
        Sampling.of(options)


def test_an_unknown_setting_is_told_with_the_nearest():
    with pytest.raises(UsageError, match="unknown setting 'temprature': did you mean 'temperature'"):
        Sampling.of({"temprature": 1})


def test_settings_as_json_has_them():
    read = Sampling.of({"stop": "END", "logit_bias": {"7": 1}, "seed": None, "top_k": 3, "allowed": [4, 4]})
    assert read == Sampling(stop=("END",), logit_bias={7: 1.0}, top_k=3, allowed=frozenset({4}))
    assert Sampling(temperature=0).greedy
    assert not Sampling().greedy

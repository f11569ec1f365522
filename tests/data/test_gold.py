"""Right answers: found, checked against their context, and what is wrong with them said."""

from __future__ import annotations

from typing import Any

import pytest

from graft.data.gold import Gold, Place, gold

CONTEXT = "Ünïcode 😀 says the end. The mend, the End"
END = CONTEXT.index("end")
BYTES = CONTEXT.encode().index(b"end")
UNITS = len(CONTEXT[:END].encode("utf-16-le")) // 2


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ("end", END),
        ("end", str(END)),
        ("end", float(END)),
        ({"text": "end", "answer_start": END}, None),
        ({"text": ["end"], "answer_start": [END]}, None),
        ({"text": ["end"]}, None),
        ([{"text": "end", "answer_start": END}], None),
        (["end"], None),
        ("end", None),
        ("end", ""),
    ],
)
def test_every_way_to_write_an_answer(given: Any, start: Any):
    assert gold(CONTEXT, given, start) == Gold((Place("end", END),))


def test_without_an_offset_whole_words_come_first():
    assert gold("mending the end", "end").answers[0].start == len("mending the ")
    assert gold("mending", "end").answers[0].start == 1
    assert gold("(3%) is 3%.", "3%").answers[0].start == 1


def test_all_answers_are_kept():
    several = {"text": ["end", "the end", "end"], "answer_start": [END, END - 4, END]}
    assert [str(place) for place in gold(CONTEXT, several, id="q").answers] == [
        f"'end' at {END}",
        f"'the end' at {END - 4}",
        f"'end' at {END}",
    ]


@pytest.mark.parametrize("impossible", [True, "true", "TRUE", 1, "yes"])
@pytest.mark.parametrize("given", [None, "", [], {"text": [], "answer_start": []}])
def test_no_answer(given: Any, impossible: Any):
    found = gold(CONTEXT, given, None, impossible, "q")
    assert found.answers == ()
    assert str(found) == "no answer"


def test_two_empty_lists_say_that_there_is_no_answer():
    assert gold(CONTEXT, {"text": [], "answer_start": []}).answers == ()


@pytest.mark.parametrize(
    ("given", "start", "message"),
    [
        ("end", 0, f"the answer 'end' is not at character 0 of its context, where 'Ünï' stands; it is at {END}, 29"),
        ("end", 999, f"not at character 999 of its context, which has {len(CONTEXT)} characters; it is at {END}, 29$"),
        ("end", BYTES, r"it is at 19, 29\. The offset seems to count bytes of UTF-8, expected characters$"),
        ("end", UNITS, r"it is at 19, 29\. The offset seems to count units of UTF-16, expected characters$"),
        ("ENDE", 3, "it is nowhere in it$"),
        ("THE  END", 3, r"it is nowhere in it \(written otherwise at 15: 'the end'\)$"),
        ("THE  END", None, r"the answer 'THE  END' is nowhere in its context \(written otherwise at 15: 'the end'\)$"),
        ("x" * 300, None, f"the answer '{'x' * 60}…' is nowhere in its context$"),
        ("end", "x", "answer_start is 'x', expected a whole number from 0, counted in characters"),
        ("end", -3, "answer_start is '-3', expected"),
        ("end", True, "answer_start is 'True', expected"),
        ("end", 1.5, "answer_start is '1.5', expected"),
        (None, None, "it has no answer; a question that its context does not answer says is_impossible: true"),
        ([], None, "it has no answer"),
        (" ", None, "an answer is empty"),
        ({"text": ["end", ""]}, None, "an answer is empty"),
        ({"answer_start": 3}, None, "the text of an answer is missing"),
        (308, None, "the text of an answer is a int; write it as text"),
        ({"text": ["end"], "answer_start": [1, 2]}, None, "1 answers with 2 answer_start; expected one for each"),
    ],
)
def test_what_is_wrong_is_said(given: Any, start: Any, message: str):
    with pytest.raises(ValueError, match=message):
        gold(CONTEXT, given, start)


def test_many_places_are_counted():
    with pytest.raises(ValueError, match="it is at 0, 2, 4 and 2 more places"):
        gold("a a a a a", "a", 1)


def test_an_answer_to_a_question_without_one_is_refused():
    with pytest.raises(ValueError, match="is_impossible is true, yet there is an answer: 'end'"):
        gold(CONTEXT, "end", None, True)
    with pytest.raises(ValueError, match="is_impossible is 'perhaps', expected true or false"):
        gold(CONTEXT, "end", None, "perhaps")


def test_is_impossible_false_needs_an_answer():
    with pytest.raises(ValueError, match="it has no answer"):
        gold(CONTEXT, {"text": [], "answer_start": []}, None, False)

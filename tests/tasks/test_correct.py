"""The task correct: texts put right by the word list alone, and with models of both kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

import graft
from graft import tasks
from graft.errors import DataError, ModelError, UsageError

TEXT = "She recieved alot of mail from Lodnon yesturday; Wojciechowski's freind didnt."
RIGHT = "She received a lot of mail from London yesterday; Wojciechowski's friend didn't."


def test_without_a_model_the_frequency_of_words_decides():
    answer = graft.run("correct", [TEXT])[0]
    assert answer.text == RIGHT
    changes = {one.text: one.replacement for one in answer.corrections}
    kept = {"Wojciechowski's": "Wojciechowski's"}
    assert changes == kept | {
        "recieved": "received",
        "alot": "a lot",
        "Lodnon": "London",
        "yesturday": "yesterday",
        "freind": "friend",
        "didnt": "didn't",
    }
    for one in answer.corrections:
        assert TEXT[one.start : one.end] == one.text
        shares = list(one.candidates.values())
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)
        assert one.candidates[one.replacement] == one.probability == shares[0]


def test_what_is_right_stays_as_it_is():
    texts = ["It is done, isn't it?", "", "  \n", "1 + 1 = 2", "NASA's R2D2"]
    answers = graft.run("correct", texts)
    assert [one.text for one in answers] == texts
    assert [one.corrections for one in answers] == [()] * len(texts)


def test_spaces_and_punctuation_are_kept():
    text = "\t“Teh  ‘wierd’—thing”…\r\n(at last)"
    assert graft.run("correct", [text])[0].text == text.replace("Teh", "The").replace("wierd", "weird")


def test_words_of_ones_own(tmp_path: Path):
    file = tmp_path / "own.txt"
    file.write_text("kubernetes 5000\nkubectl 5000\n")
    assert graft.run("correct", ["teh kubernets"], words=f"english,{file}")[0].text == "the kubernetes"
    alone = graft.run("correct", ["the kubernets"], words=str(file))[0]
    assert [one.text for one in alone.corrections] == ["the", "kubernets"]
    with pytest.raises(UsageError, match="no such file"):
        graft.run("correct", ["a"], words="nowhere.txt")
    file.write_text("two words here\n")
    with pytest.raises(DataError, match="line 1: 'two words here'"):
        graft.run("correct", ["a"], words=str(file))


@pytest.mark.parametrize("name", ["gpt2-lm", "llama-lm", "bert-mask", "roberta-mask"])
def test_models_of_both_kinds_choose(tiny, name: str):
    model = graft.load(tiny(name).folder, dtype="float32")
    told: list[int] = []
    answers = tasks.find("correct").answer(model, ["he recieved it. teh end", "all right"], told.append)
    assert sum(told) == 2
    found = answers[0].corrections
    assert [one.text for one in found] == ["recieved", "teh"]
    assert all(sum(one.candidates.values()) == pytest.approx(1) for one in found)
    plain = graft.run("correct", ["he recieved it. teh end"])[0].corrections
    assert [set(one.candidates) for one in found] == [set(one.candidates) for one in plain]
    assert [one.probability for one in found] != [one.probability for one in plain]
    assert answers[1].text == "all right"


def test_real_words_take_a_model(tiny):
    with pytest.raises(UsageError, match="--real-words needs a language model"):
        graft.run("correct", ["over their"], real_words=True)
    model = graft.load(tiny("gpt2-lm").folder, dtype="float32")
    answer = graft.run("correct", ["over their"], model=model, real_words=True)[0]
    assert all(one.text != one.replacement for one in answer.corrections)


def test_what_it_cannot_do_is_said(tiny, tmp_path: Path):
    with pytest.raises(ModelError, match="or one that fills masks"):
        graft.run("correct", ["teh end"], model=str(tiny("bert-classify").folder))
    with pytest.raises(UsageError, match="reads single texts"):
        graft.run("correct", [("a", "b")])
    with pytest.raises(UsageError, match="no option 'wrods'"):
        graft.run("correct", ["a"], wrods="x")
    with pytest.raises(UsageError, match="no model is given, and classify takes one"):
        graft.run("classify", ["a"])
    with pytest.raises(UsageError, match="overflow is about texts longer than a model"):
        graft.run("correct", ["a"], overflow="error")
    data = tmp_path / "rows.csv"
    data.write_text("text,label\na,b\nc,d\n")
    with pytest.raises(UsageError, match="correct learns nothing of its own"):
        graft.finetune(str(data), task="correct", model=str(tiny("gpt2-lm").folder), out=str(tmp_path / "out"))
    with pytest.raises(UsageError, match="asked for task 'correct'"):
        graft.evaluate(str(tiny("gpt2-lm").folder), str(data), task="correct")


def test_published_misspellings(shared_data: Path):
    """Norvig's second list, on which nothing was set: his program got 68 %."""
    import ast

    text = (shared_data / "spelling" / "spell-testset2.txt").read_text(encoding="utf-8")
    table = ast.literal_eval(text[text.index("{") : text.rindex("}") + 1])
    rows = [(right, typed) for right, many in table.items() for typed in many.split()]
    answers = graft.run("correct", [typed for _, typed in rows])
    right = sum(one.text.lower() == wanted.lower() for one, (wanted, _) in zip(answers, rows, strict=True))
    assert len(rows) == 400
    assert right >= 0.74 * len(rows)

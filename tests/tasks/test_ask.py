"""The task ask: rows, windows as examples, answers as places in the text, thresholds, and published span models."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import graft
from graft.data.gold import Gold, Place
from graft.errors import DataError, ModelError, UsageError
from graft.loading import load
from graft.recipes.rows import load_rows
from graft.recipes.watch import Watch
from graft.tasks import Row
from graft.tasks.ask import TASK
from graft.text.windows import characters_of

LEARNING = {"task": "ask", "learning_rate": 3e-3, "dtype": "float32", "batch_size": 16}
QUESTION = "which word"


def drawn(count: int, seed: int, *, impossible: float = 0.0, words: int = 8) -> list[dict[str, Any]]:
    """Questions after the one word of x, y and z; its text fills several windows of a model of 40 tokens."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        text = ["".join(draw.choices("abcdefgh", k=draw.randint(2, 5))) for _ in range(words)]
        answer = "".join(draw.choices("xyz", k=2))
        text.insert(draw.randint(0, words), answer)
        row = {"id": f"n{number}", "question": QUESTION, "context": " ".join(text), "answer": answer}
        if draw.random() < impossible:
            row |= {"context": row["context"].replace(answer, "bad"), "answer": "", "is_impossible": True}
        rows.append(row)
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def numbers(tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder adapted to find such words."""
    folder = tmp_path_factory.mktemp("numbers")
    train, test = write(folder / "train.jsonl", drawn(200, 1)), write(folder / "test.jsonl", drawn(60, 2))
    result = graft.finetune(train, model=tiny("bert").folder, eval=test, out=folder / "model", epochs=8, **LEARNING)
    assert result.judged.metrics["f1"].value > 0.9, str(result.judged.metrics["f1"])
    return folder / "model"


@pytest.fixture(scope="module")
def doubtful(tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that also met texts without one."""
    folder = tmp_path_factory.mktemp("doubtful")
    train = write(folder / "train.jsonl", drawn(300, 3, impossible=0.4))
    test = write(folder / "test.jsonl", drawn(60, 4, impossible=0.4))
    result = graft.finetune(train, model=tiny("bert").folder, eval=test, out=folder / "model", epochs=8, **LEARNING)
    assert set(result.judged.metrics) >= {"exact_match", "f1", "has_answer_f1", "no_answer_accuracy"}
    assert result.judged.metrics["f1"].value > 0.85, str(result.judged.metrics["f1"])
    return folder / "model"


# Rows


def loaded(path: Path, **how: Any) -> Any:
    return load_rows(TASK, path, watch=Watch(quiet=True), **how)


def test_rows_of_squad_keep_every_answer(tmp_path: Path):
    answers = [{"text": "Rome", "answer_start": 0}, {"text": "old", "answer_start": 8}]
    questions = [
        {"id": "q1", "question": "What?", "answers": answers},
        {"id": "q2", "question": "Who?", "answers": [], "is_impossible": True},
    ]
    content = {
        "version": "v2.0",
        "data": [{"title": "t", "paragraphs": [{"context": "Rome is old", "qas": questions}]}],
    }
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(content))
    rows = loaded(path).rows
    assert [row.inputs for row in rows] == [(("What?", "Rome is old"),), (("Who?", "Rome is old"),)]
    assert rows[0].target == Gold((Place("Rome", 0), Place("old", 8)))
    assert (rows[1].target.answers, rows[1].target.id) == ((), "q2")


@pytest.mark.parametrize("start", ["", ",answer_start"])
def test_rows_of_a_table(tmp_path: Path, start: str):
    path = tmp_path / "rows.csv"
    path.write_text(f"question,passage,answer{start}\nWhat?,Rome is old,old{',8' if start else ''}\n")
    assert loaded(path).rows[0].target == Gold((Place("old", 8),))


def test_nothing_is_lost_and_every_reject_says_which(tmp_path: Path):
    good = {"id": "g", "question": "What?", "context": "Rome is old", "answer": "old", "answer_start": 8}
    bad = [
        ({"answer_start": 7}, "question 'b0': the answer 'old' is not at character 7 of its context"),
        ({"answer": "new"}, "question 'b1': the answer 'new' is not at character 8"),
        ({"question": " "}, "question 'b2': the question is empty"),
        ({"context": ""}, "question 'b3': the context is empty"),
        ({"context": None}, "question 'b4': the context is missing"),
        ({"answer": None}, "question 'b5': it has no answer"),
    ]
    rows = [good, *({**good, "id": f"b{number}", **change} for number, (change, _) in enumerate(bad))]
    path = write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(
        DataError, match="6 of its 7 rows not usable. The first: line 2: question 'b0': the answer 'old'"
    ):
        loaded(path)
    found = loaded(path, max_rejects=6)
    assert found.counts() == {"read": 7, "kept": 1, "rejected": 6}
    for reject, (_, message) in zip(found.rejected, bad, strict=True):
        assert message in reject.reason


def test_questions_without_any_answer_teach_nothing(tmp_path: Path, tiny: Callable[..., Any]):
    rows = [{"question": "q", "context": f"text {n}", "answers": {"text": [], "answer_start": []}} for n in range(9)]
    path = write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match="none of the 9 questions has an answer; there is nothing to learn"):
        graft.finetune(path, eval=path, model=tiny("bert").folder, **LEARNING)


# Examples


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "gpt2", "llama"])
def test_each_window_points_at_the_answer_or_at_none(tiny: Callable[..., Any], name: str):
    model = load(tiny(name).folder, dtype="float32")
    model.graft("span")
    context = "abc def 42 ghi jkl mno pqr stu vwx yza bcd efg hij klm"
    row = Row((("who", context),), Gold((Place("42", 8),)), 5)
    examples, cut = TASK.examples(model, [row])
    assert cut == 0
    assert len(examples) > 1
    assert {example.line for example in examples} == {5}
    whole = model.tokenizer.encode([("who", context)], offsets=True)[0]
    answer = [
        number
        for number, (pair, segment) in enumerate(zip(whole.offsets, whole.segments, strict=True))
        if segment == 1 and pair[1] > 8 and pair[0] < 10
    ]
    ids = [whole.ids[place] for place in answer]
    pointed = 0
    for example in examples:
        first, last = example.target.tolist()
        assert len(example.sequences[0]) <= model.limit
        if (first, last) == (0, 0):
            assert not any(example.sequences[0][n : n + len(ids)] == ids for n in range(len(example.sequences[0])))
        else:
            assert example.sequences[0][first : last + 1] == ids
            pointed += 1
    assert pointed >= 1


def test_an_answer_without_tokens_is_named(tiny: Callable[..., Any]):
    model = load(tiny("bert").folder, dtype="float32")
    row = Row((("who", "ab \u200b cd"),), Gold((Place("\u200b", 3),)), 7)
    with pytest.raises(DataError, match="line 7: this model's tokenizer passes over the whole answer"):
        TASK.examples(model, [row])


# Answers


def test_it_finds_the_place_in_texts_of_any_length(numbers: Path):
    model = load(numbers, dtype="float32")
    for words in (2, 20, 200):
        rows = drawn(12, 9, words=words)
        answers = graft.run("ask", [(row["question"], row["context"]) for row in rows], model=model)
        right = 0
        for row, answer in zip(rows, answers, strict=True):
            assert row["context"][answer.start : answer.end] == answer.text
            assert 0 < answer.score <= 1
            assert (answer.windows > 1) is (words > 8)
            right += answer.text == row["answer"]
        assert right >= 9


def test_offsets_are_characters_of_the_text_as_given(numbers: Path):
    model = load(numbers, dtype="float32")
    for before in ("é " * 5, "e\u0301a  ", "😀👩\u200d🚀 ", "雨\t雨\n\n", "\u00a0 ab ", "«ab»  "):
        context = f"{before}zy ab  cd"
        answer = graft.run("ask", [(QUESTION, context)], model=model)[0]
        assert (answer.text, answer.start) == ("zy", len(before)), before


def test_n_best_answers_are_in_order_and_differ(numbers: Path):
    answer = graft.run("ask", [(QUESTION, "ab zy cd yz ef")], model=numbers, n=4)[0]
    ranked = [answer, *answer.alternatives]
    assert len(ranked) == 4
    assert len({(one.start, one.end) for one in ranked}) == 4
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    assert sum(one.score for one in ranked) + answer.no_answer <= 1 + 1e-6
    shown = answer.as_dict()
    assert list(shown["alternatives"][0]) == ["score", "text", "start", "end"]
    assert {"text", "start", "end", "score", "no_answer", "alternatives", "windows", "truncated_tokens"} == set(shown)


def test_a_text_of_one_token_and_more_answers_than_it_has(numbers: Path):
    answer = graft.run("ask", [(QUESTION, "z")], model=numbers, n=9)[0]
    assert (answer.text, answer.start, answer.end, answer.alternatives) == ("z", 0, 1, ())


def test_the_longest_answer_is_kept_to(numbers: Path):
    answer = graft.run("ask", [(QUESTION, "ab zy cd")], model=numbers, longest=2, n=50)[0]
    assert all(len(one.text.replace(" ", "")) <= 2 for one in (answer, *answer.alternatives))


def test_the_stride_changes_windows_and_not_the_place(numbers: Path):
    context = drawn(1, 5, words=30)[0]["context"]
    every = {stride: graft.run("ask", [(QUESTION, context)], model=numbers, stride=stride)[0] for stride in (1, 5, 20)}
    assert len({(one.start, one.end) for one in every.values()}) == 1
    assert every[1].windows > every[5].windows > every[20].windows > 1


def test_without_impossible_questions_it_always_answers(numbers: Path):
    settings = json.loads((numbers / "graft.json").read_text())
    assert settings["answering"] == {"threshold": 1.0}
    assert graft.run("ask", [(QUESTION, "ab cd ef")], model=numbers)[0].text
    answer = graft.run("ask", [(QUESTION, "ab cd ef")], model=numbers, threshold=0)[0]
    assert (answer.text, answer.start, answer.end) == ("", None, None)
    assert answer.score == answer.no_answer
    assert answer.as_dict()["start"] is None


def test_a_threshold_is_tuned_saved_and_kept_to(doubtful: Path):
    threshold = json.loads((doubtful / "graft.json").read_text())["answering"]["threshold"]
    assert 0 < threshold < 1
    record = json.loads((doubtful / "run.json").read_text())
    assert record["found"]["threshold"] == threshold
    model = load(doubtful, dtype="float32", verify=True)
    said = graft.run("ask", [(QUESTION, "ab zy cd"), (QUESTION, "ab cde fg")], model=model, n=2)
    assert [one.text for one in said] == ["zy", ""]
    assert said[0].no_answer < threshold < said[1].no_answer
    assert len(said[1].alternatives) == 1
    assert said[1].alternatives[0].text


def test_with_patience_the_threshold_is_tuned_on_the_rows_set_aside(tiny: Callable[..., Any], tmp_path: Path):
    train = write(tmp_path / "train.jsonl", drawn(120, 3, impossible=0.4))
    result = graft.finetune(train, model=tiny("bert").folder, epochs=2, patience=1, **LEARNING)
    assert 0 <= result.adapted.found["threshold"] <= 1
    assert result.adapted.epochs


def test_a_text_longer_than_the_window_is_refused_where_asked(numbers: Path):
    model = load(numbers, dtype="float32")
    model.settings = replace(model.settings, overflow="error")
    assert graft.run("ask", [(QUESTION, "ab zy cd")], model=model)[0].text == "zy"
    with pytest.raises(DataError, match=r"and its text have \d+ tokens, the limit is 40. .* which reads it in windows"):
        graft.run("ask", [(QUESTION, "ab zy cd " * 9)], model=model)


def test_a_long_question_is_cut_and_that_is_told(numbers: Path):
    answer = graft.run("ask", [("why " * 40, "ab zy cd " * 9)], model=numbers)[0]
    assert answer.truncated_tokens > 0


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (["text"], {}, "ask reads a question with a text; give pairs"),
        ([("", "text")], {}, r"input 0 \(counting from 0\): the question is empty or not text"),
        ([("q", "a"), ("q", " \n")], {}, r"input 1 \(counting from 0\): the text is empty or not text"),
        ([("q", "\u200b")], {}, r"the text '\\u200b' has nothing that the tokenizer knows"),
        ([("q", "a")], {"n": 0}, "n is 0, expected a whole number from 1 to 1,000"),
        ([("q", "a")], {"n": 1.5}, "n is 1.5, expected a whole number"),
        ([("q", "a")], {"threshold": 2}, "threshold is 2, expected a number from 0 to 1"),
        ([("q", "a")], {"threshold": float("nan")}, "threshold is nan, expected a number from 0 to 1"),
        ([("q", "a")], {"longest": True}, "longest is True, expected a whole number"),
        ([("q", "a " * 40)], {"stride": 99}, r"stride is 99 tokens, and a window has room for \d+; expected 1 to"),
        ([("q", "a")], {"strid": 5}, "ask has no option 'strid': did you mean 'stride'"),
    ],
)
def test_wrong_use_is_told(numbers: Path, inputs: Any, options: dict[str, Any], message: str):
    with pytest.raises((UsageError, DataError), match=message):
        graft.run("ask", inputs, model=numbers, **options)


def test_a_model_without_a_span_head_is_refused(tiny: Callable[..., Any]):
    with pytest.raises(UsageError, match="does not point at answers; adapt it with `graft finetune --task ask`"):
        graft.run("ask", [("q", "a")], model=tiny("bert-classify").folder)


def test_a_damaged_threshold_is_the_folder_s_fault(numbers: Path):
    model = load(numbers, dtype="float32")
    model.settings = replace(model.settings, answering={"threshold": "high"})
    with pytest.raises(ModelError, match="graft.json: threshold is 'high', expected a number from 0 to 1"):
        graft.run("ask", [("q", "a")], model=model)


def test_the_probe_cannot_learn_it(tiny: Callable[..., Any], tmp_path: Path):
    with pytest.raises(UsageError, match="the probe strategy needs a task with labels or scores"):
        graft.finetune(
            write(tmp_path / "rows.jsonl", drawn(20, 1)), task="ask", strategy="probe", model=tiny("bert").folder
        )


# Published models


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "gpt2", "llama"])
def test_published_span_models_answer_as_transformers_points(tiny: Callable[..., Any], name: str):
    """One window: the best span within the text is that of transformers' logits."""
    published = tiny(f"{name}-span")
    model = load(published.folder, dtype="float32")
    question, context = "who am i", "ab cde 1 f gh"
    encoding = model.tokenizer.encode([(question, context)], offsets=True)[0]
    types = {} if encoding.types is None else {"token_type_ids": torch.tensor([encoding.types])}
    with torch.no_grad():
        theirs = published.theirs(input_ids=torch.tensor([encoding.ids]), **types)
    start, end = theirs.start_logits[0].double(), theirs.end_logits[0].double()
    inside = [place for place, segment in enumerate(encoding.segments) if segment == 1]
    scores = {(i, j): float(start[i] + end[j]) for i in inside for j in inside if i <= j}
    total = torch.tensor([*scores.values(), float(start[0] + end[0])], dtype=torch.float64).logsumexp(0)
    best = max(scores, key=scores.__getitem__)
    answer = graft.run("ask", [(question, context)], model=model, threshold=1)[0]
    offsets = [encoding.offsets[place] for place in inside]
    expected = characters_of(context, offsets, best[0] - inside[0], best[1] - inside[0])
    assert (answer.start, answer.end) == expected
    assert answer.score == pytest.approx(float((scores[best] - total).exp()), rel=1e-4)
    assert answer.no_answer == pytest.approx(float((start[0] + end[0] - total).exp()), rel=1e-4)


def test_a_published_model_is_measured_and_may_say_no_answer(tiny: Callable[..., Any], tmp_path: Path):
    path = write(tmp_path / "rows.jsonl", drawn(20, 1, impossible=0.5))
    done = graft.evaluate(tiny("bert-span").folder, path)
    assert done.task == "ask"
    assert (done.n, done.rows["read"]) == (20, 20)
    assert set(done.metrics) == {"exact_match", "f1", "has_answer_exact_match", "has_answer_f1", "no_answer_accuracy"}

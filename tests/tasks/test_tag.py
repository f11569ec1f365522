"""The task tag: rows to examples, outputs to legal tags, entities with their characters."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graft.data.read import read
from graft.errors import DataError, ModelError, UsageError
from graft.grafted import Model
from graft.loading import load
from graft.recipes.rows import load_rows
from graft.recipes.watch import Watch
from graft.tasks import Row, find
from graft.text.tag_schemes import of_labels
from graft.train.example import task_loss

TASK = find("tag")
NAMES = ("O", "B-PER", "I-PER")


@pytest.fixture(scope="module")
def tagger(tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder of a tiny published tagger whose labels are NAMES."""

    def make(name: str = "bert-tag") -> Path:
        folder = Path(shutil.copytree(tiny(name).folder, tmp_path_factory.mktemp(name) / "model"))
        config = json.loads((folder / "config.json").read_text())
        labels = {"id2label": dict(enumerate(NAMES)), "label2id": {label: n for n, label in enumerate(NAMES)}}
        (folder / "config.json").write_text(json.dumps(config | labels))
        return folder

    return make


@pytest.fixture(scope="module")
def model(tagger: Callable[..., Path]) -> Model:
    return load(tagger(), "float32")


def rows(tmp_path: Path, text: str) -> list[Row]:
    path = tmp_path / "rows.conll"
    path.write_text(text, encoding="utf-8")
    return load_rows(TASK, path, watch=Watch(quiet=True)).rows


SHORT = "ab B-PER\ncd I-PER\n! O\n\nefg B-PER\n\u200b O\nh O\n"


def test_targets_stand_at_the_first_token_of_each_word(model: Model, tmp_path: Path):
    (first, second), cut = TASK.examples(model, rows(tmp_path, SHORT))
    assert cut == 0
    assert (first.places, first.target.tolist()) == ((1, 3, 5), [1, 2, 0])
    assert (second.places, second.target.tolist()) == ((1, 4), [1, 0])  # one word has no token
    assert (first.line, second.line) == (1, 5)
    assert (first.targets, second.targets) == (3, 2)


@pytest.mark.parametrize("name", ["bert-tag", "distilbert-tag", "roberta-tag", "llama-tag", "gpt2-tag"])
def test_the_loss_is_the_reference_s_over_first_tokens(
    tiny: Callable[..., Any], tagger: Callable[..., Path], tmp_path: Path, name: str
):
    made, model = tiny(name), load(tagger(name), "float32")
    examples, _ = TASK.examples(model, rows(tmp_path, SHORT))
    total, count = 0.0, 0
    for example in examples:
        labels = torch.full((1, len(example.sequences[0])), -100)
        labels[0, list(example.places)] = example.target
        output = made.theirs(input_ids=torch.tensor([example.sequences[0]]), labels=labels)
        total, count = total + output.loss.item() * len(example.places), count + len(example.places)
    with torch.no_grad():
        assert task_loss(model, examples).item() == pytest.approx(total / count, abs=1e-5)


def test_outputs_are_the_reference_s_at_first_tokens(tiny: Callable[..., Any], model: Model, tmp_path: Path):
    found = rows(tmp_path, SHORT)
    values = TASK.outputs(model, found).values
    (example, _), _ = TASK.examples(model, found)
    with torch.no_grad():
        logits = tiny("bert-tag").theirs(input_ids=torch.tensor([example.sequences[0]])).logits[0]
    np.testing.assert_allclose(values[0], logits[list(example.places)].log_softmax(-1).numpy(), atol=1e-5)
    assert [len(one) for one in values] == [3, 3]
    unknown = np.exp(values[1][1])
    assert unknown.sum() == pytest.approx(1)
    assert unknown[0] == pytest.approx(0.9)


def long_text(words: int) -> str:
    return "".join(f"{'abcdefgh'[n % 8] * (1 + n % 5)} {'O' if n % 3 else 'B-PER'}\n" for n in range(words))


def test_a_sentence_beyond_the_limit_is_read_whole(model: Model, tmp_path: Path):
    (row,) = rows(tmp_path, long_text(100))
    (example,), cut = TASK.examples(model, [row])
    assert cut == 0
    assert len(example.sequences) > 5
    assert max(map(len, example.sequences)) == model.limit == 40
    assert len(example.places) == 100
    assert example.target.tolist() == TASK.target(row, model.head).tolist()
    flat = [token for sequence in example.sequences for token in sequence]
    letters = model.tokenizer.decode([flat[place] for place in example.places]).replace(" ", "")
    assert letters == "".join("abcdefgh"[n % 8] for n in range(100))
    answer = TASK.answer(model, [list(row.inputs)])[0]
    assert answer.windows == len(example.sequences)
    assert len(answer.tagged) == 100
    assert answer.truncated_tokens == 0


def test_a_long_sentence_is_refused_where_the_rule_says_so(tagger: Callable[..., Path]):
    model = load(tagger(), "float32")
    model.settings = dataclasses.replace(model.settings, overflow="error")
    with pytest.raises(DataError, match="the limit is 40"):
        model("a" * 50)


SIGNS = st.text(st.sampled_from("abcz é\u0301ß.,'’-$1 \n\t\u200b\u200d\ufe0f👍🏽🇩東_&!?A"), max_size=120)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(SIGNS, st.integers(0, 10**6))
def test_never_illegal_and_offsets_right_whatever_the_text(model: Model, text: str, seed: int):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.head.output.weight.copy_(torch.randn(model.head.output.weight.shape, generator=generator))
    answer = model(text)
    assert "".join(word.text for word in answer.tagged) == "".join(
        text[word.start : word.end] for word in answer.tagged
    )
    scheme = of_labels(model.head.labels)
    numbers = [scheme.labels.index(word.tag) for word in answer.tagged]
    assert scheme.fault(numbers) is None
    spans = [(one.label, *one.words) for one in answer.entities]
    assert spans == [(span.label, span.first, span.end) for span in scheme.spans(numbers)]
    for one in answer.entities:
        first, last = answer.tagged[one.words[0]], answer.tagged[one.words[1] - 1]
        assert (one.start, one.end) == (first.start, last.end)
        assert one.text == text[one.start : one.end]
        assert one.text == one.text.strip()
        assert 0 < one.score <= min(word.probability for word in answer.tagged[slice(*one.words)]) + 1e-6
    assert all(0 < word.probability <= 1 for word in answer.tagged)


def test_answers_through_the_model_and_json(model: Model):
    single = model("Zoë ran.")
    assert [word.text for word in single.tagged] == ["Zoë", "ran", "."]
    several = model(["Zoë ran.", ""])
    assert several[0] == single
    assert several[1].entities == several[1].tagged == ()
    assert model([]) == []
    again = json.loads(json.dumps(single.as_dict()))
    assert again["tagged"][0] == {**again["tagged"][0], "text": "Zoë", "start": 0, "end": 3}
    assert again["windows"] == 1
    assert again["entities"] == [dataclasses.asdict(one) | {"words": list(one.words)} for one in single.entities]


def test_words_given_as_a_list(model: Model):
    (given_words,) = TASK.answer(model, [["Mr", ".", "a b", "c"]])
    assert [(word.text, word.start, word.end) for word in given_words.tagged] == [
        ("Mr", 0, 2),
        (".", 3, 4),
        ("a b", 5, 8),
        ("c", 9, 10),
    ]


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([("a", "b")], UsageError, "tag reads single texts, found a pair"),
        ([["a", ""]], DataError, "expected a text or a list of words, none of them empty, found"),
        ([["a", 3]], DataError, "expected a text or a list of words"),
        ([7], DataError, "expected a text or a list of words, none of them empty, found 7"),
        (["\ud800"], DataError, "surrogate"),
    ],
)
def test_inputs_that_are_none(model: Model, inputs: list, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        TASK.answer(model, inputs)


def test_a_model_that_does_not_tag(tiny: Callable[..., Any]):
    with pytest.raises(UsageError, match="does not tag words; adapt one with `graft finetune DATA --task tag`"):
        TASK.answer(load(tiny("bert-classify").folder, "float32"), ["a"])


def test_weights_that_are_no_numbers(tagger: Callable[..., Path]):
    model = load(tagger(), "float32")
    torch.nn.init.constant_(model.head.output.bias, float("nan"))
    with pytest.raises(ModelError, match="no finite numbers"):
        model("a")


# Labels


def write_jsonl(tmp_path: Path, *given: tuple[list[str], list[Any]]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"tokens": words, "ner_tags": tags}) + "\n" for words, tags in given))
    return path


def test_rows_of_lists(tmp_path: Path):
    path = write_jsonl(tmp_path, (["EU", "rejects"], ["B-ORG", "O"]), (["Bonn"], ["B-LOC"]))
    kept, rejected = TASK.read(read(path), {"tokens": "tokens", "ner_tags": "ner_tags"})
    assert rejected == []
    assert [(row.inputs, tuple(row.target), row.line) for row in kept] == [
        (("EU", "rejects"), ("B-ORG", "O"), 1),
        (("Bonn",), ("B-LOC",), 2),
    ]
    assert kept[0].key == "EU\nrejects"
    assert TASK.sequences(kept[0]) == ("EU rejects",)
    unlabelled, _ = TASK.read(read(path), {"tokens": "tokens"})
    assert [row.target for row in unlabelled] == [None, None]


@pytest.mark.parametrize(
    ("tags", "labels", "said"),
    [
        ("I-PER I-PER|B-PER O", "", "tags IOB2"),
        ("B-PER I-PER|O O", "O B-PER I-PER", "tags IOB2"),
        ("I-PER I-PER|I-PER B-PER", "O B-PER I-PER", "tags IOB1, read as IOB2"),
        ("B-PER E-PER|O O", "O B-PER I-PER E-PER S-PER", "tags BIOES"),
        ("PER PER|O LOC", "O LOC PER", "tags IO (bare types)"),
        ("NN VB|DT NN", "DT NN VB", "tags plain (no entities: every word has its own)"),
    ],
)
def test_what_is_learned_and_said(tmp_path: Path, tags: str, labels: str, said: str):
    path = write_jsonl(tmp_path, *((["a", "b"], one.split()) for one in tags.split("|")))
    kept, _ = TASK.read(read(path), {"tokens": "tokens", "ner_tags": "ner_tags"})
    if labels:
        assert TASK.learn(kept)["labels"] == tuple(labels.split())
    assert TASK.said(kept) == said


def test_one_tag_teaches_nothing(tmp_path: Path):
    kept, _ = TASK.read(read(write_jsonl(tmp_path, (["a"], ["O"]))), {"tokens": "tokens", "ner_tags": "ner_tags"})
    with pytest.raises(DataError, match=r"only 1 tag in 1 sentences \(O\); a tagger needs at least two"):
        TASK.learn(kept)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("O", "B-PER", "I-PER"), [1, 2, 1]),
        (("I-PER", "B-PER", "O", "I-LOC"), [0, 0, 1]),  # IOB1, since LOC has no B
        (("O", "B-PER", "I-PER", "E-PER", "S-PER"), [1, 3, 4]),
        (("O", "PER"), [1, 1, 1]),
    ],
)
def test_tags_are_put_into_the_model_s_own_scheme(
    model: Model, tmp_path: Path, names: tuple[str, ...], expected: list[int]
):
    (row,) = rows(tmp_path, "a B-PER\nb I-PER\nc B-PER\n")
    head = type(model.head)(4, labels=names)
    assert TASK.target(row, head).tolist() == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("O", "B-LOC", "I-LOC"), "line 1: 'a': the model has no label 'B-PER'"),
        (("NN", "VB"), "line 1: 'a': the model has no label 'B-PER'"),
    ],
)
def test_a_tag_the_model_does_not_have(model: Model, tmp_path: Path, names: tuple[str, ...], message: str):
    (row,) = rows(tmp_path, "a B-PER\nb I-PER\n")
    with pytest.raises(DataError, match=message):
        TASK.target(row, type(model.head)(4, labels=names))

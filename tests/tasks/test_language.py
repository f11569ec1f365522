"""Going on with pretraining: blocks, what is asked, perplexity beside transformers', and that it falls."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from word_models import word_model

import graft
from graft import tasks
from graft.errors import DataError, ModelError, UsageError
from graft.grafted import Model
from graft.loading import load
from graft.recipes.finetune import finetune
from graft.sealed import Settings
from graft.tasks import Row
from graft.train.example import log_likelihoods

WORDS = [f"{letter}{number}" for letter in "abcd" for number in range(10)]
NAMES = ("gpt2-lm", "bert-mask", "t5-lm")
JOB = tasks.find("language")


@pytest.fixture
def words(tiny, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: word_model(tiny(name).folder, name, tmp_path / name, WORDS)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Documents in which every word is followed by the next of its letter."""
    numbers, documents = random.Random(0), []
    for _ in range(250):
        letter, start = numbers.choice("abcd"), numbers.randrange(10)
        documents.append(" ".join(f"{letter}{(start + n) % 10}" for n in range(numbers.randrange(5, 25))))
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(documents))
    return file


def rows(*texts: str) -> list[Row]:
    return [Row((text,), None, line) for line, text in enumerate(texts, 1)]


def spelt(model: Model, ids) -> str:
    return model.tokenizer.decode(list(ids), special=True)


@pytest.mark.parametrize("name", NAMES)
def test_perplexity_falls_and_the_class_stays(words, text: Path, tmp_path: Path, name: str):
    folder = words(name)
    options = {"task": "language", "model": folder, "epochs": 12, "learning_rate": 3e-3, "limit": 30}
    done = finetune(text, out=tmp_path / "out", **options)
    before, after = done.record["before"]["perplexity"], done.record["metrics"]["perplexity"]
    assert before["low"] > 20
    assert after["value"] < 0.5 * before["low"]
    assert after["low"] <= after["value"] <= after["high"]
    classes = [json.loads((one / "config.json").read_text())["architectures"] for one in (folder, tmp_path / "out")]
    assert classes[0] == classes[1]
    again = load(tmp_path / "out", "float32", verify=True)
    measured = graft.evaluate(again, text)
    assert measured.task == "language"
    assert measured.metrics["perplexity"].value < 0.5 * before["low"]
    known, strange = graft.run("language", ["a1 a2 a3 a4 a5 a6 a7", "b7 a2 d9 b1 c2 a9 b3"], model=again)
    assert known.score is not None
    assert strange.score is not None
    assert known.score < strange.score


def test_a_decoders_perplexity_is_that_of_transformers(words):
    """Every token after what stands before it in its document, or in its part of one longer than a block."""
    import transformers

    folder = words("gpt2-lm")
    model = load(folder, "float32")
    model.settings = Settings(limit=8)
    documents = ["a1 b2 c3", " ".join(WORDS[:20])]
    found = JOB.outputs(model, rows(*documents)).values
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    for text, (total, count) in zip(documents, found.tolist(), strict=True):
        ids = [1, *(model.tokenizer.token_id(word) for word in text.split())]
        expected = 0.0
        for start in range(0, len(ids) - 1, 8):
            block = torch.tensor([ids[start : start + 9]])
            with torch.no_grad():
                expected -= float(theirs(input_ids=block, labels=block).loss) * (block.shape[1] - 1)
        assert count == len(ids) - 1
        assert total == pytest.approx(expected, rel=1e-5)


def test_blocks_of_a_decoder_hold_every_token_once(words):
    model = load(words("gpt2-lm"), "float32")
    model.settings = Settings(limit=5)
    examples, cut = JOB.examples(model, rows("a1 a2 a3", "b1", "c1 c2 c3 c4"))
    assert cut == 0
    assert [spelt(model, example.sequences[0]) for example in examples] == [
        "</s> a1 a2 a3 </s>",
        "b1 </s> c1 c2 c3",
        "c4",
    ]
    assert [spelt(model, example.target.tolist()) for example in examples] == [
        "a1 a2 a3 </s> b1",
        "</s> c1 c2 c3 c4",
        "</s>",
    ]
    assert [example.line for example in examples] == [1, 2, 3]


def test_masks_are_drawn_anew_in_every_epoch_and_stay_for_evaluation(words):
    model = load(words("bert-mask"), "float32")
    model.settings = Settings(limit=22)
    examples, _ = JOB.examples(model, rows(" ".join(WORDS)))
    assert len(examples) == 2
    epochs = [[(example.sequences, example.places) for example in examples] for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    first = examples[0]
    assert spelt(model, first.sequences[0]).startswith("[CLS] ")
    assert spelt(model, first.sequences[0]).endswith(" [SEP]")
    assert len(first.places or ()) == 3
    both = [JOB.outputs(model, rows(" ".join(WORDS), "a1")).values for _ in range(2)]
    assert torch.equal(*both)
    assert both[0][:, 1].tolist() == [3 + 3, 1]


def test_t5_reads_sentinels_and_writes_what_they_hide(words):
    """The loss of transformers for the same input and labels."""
    import transformers

    folder = words("t5-lm")
    model = load(folder, "float32")
    model.settings = Settings(limit=25)
    [example] = JOB.examples(model, rows(" ".join(WORDS[:24])))[0]
    read, written = spelt(model, example.sequences[0]), spelt(model, example.target.tolist())
    assert [read.count("<extra_id_"), written.count("<extra_id_"), read.split()[-1]] == [1, 1, "</s>"]
    assert len(example.target) == 1 + round(0.15 * 24) + 1
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    assert JOB.outputs(model, rows(" ".join(WORDS[:24]))).values[0, 1] == len(example.target)
    with torch.no_grad():
        loss = theirs(input_ids=torch.tensor([example.sequences[0]]), labels=example.target[None]).loss
    assert log_likelihoods(model, [example])[0] == pytest.approx(-float(loss) * len(example.target), rel=1e-5)


def test_perplexity_is_weighed_by_tokens():
    values = torch.tensor([[-2.0, 1.0], [-3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    found = JOB.measure(None, values, rows("a", "b", "c"))["perplexity"]  # type: ignore[arg-type]
    assert found.value == pytest.approx(math.exp(5 / 5))
    alone = JOB.measure(None, values[:1], rows("a"))["perplexity"]  # type: ignore[arg-type]
    assert alone.low <= alone.value <= alone.high
    with pytest.raises(DataError, match="no document has a token"):
        JOB.measure(None, values[2:], rows("c"))  # type: ignore[arg-type]


def test_a_lower_perplexity_is_the_better_one(words, text: Path):
    """With patience the weights kept are those of the lowest development perplexity."""
    options = {"task": "language", "model": words("gpt2-lm"), "epochs": 5, "learning_rate": 3e-3, "limit": 30}
    done = finetune(text, patience=2, **options)
    found = [epoch["perplexity"]["value"] for epoch in done.adapted.epochs]
    assert len(found) == 5
    assert found[-1] == min(found)
    assert done.record["metrics"]["perplexity"]["value"] < 0.7 * done.record["before"]["perplexity"]["value"]


def test_what_cannot_go_on_is_refused(tiny, words, text: Path, tmp_path: Path):
    for name in ("bert", "bert-classify", "xlnet-lm", "t5-encoder"):
        with pytest.raises(ModelError, match="needs a model with the head it was pretrained with"):
            finetune(text, task="language", model=tiny(name).folder)
    with pytest.raises(ModelError, match="needs sentinels"):
        finetune(text, task="language", model=tiny("t5-lm").folder)
    with pytest.raises(UsageError, match="leave the template out"):
        finetune(text, task="language", model=words("gpt2-lm"), template="{}")
    with pytest.raises(UsageError, match="language has one form only"):
        finetune(text, task="language", model=words("gpt2-lm"), form="head")
    with pytest.raises(UsageError, match="single texts, found pairs"):
        graft.run("language", [("a1", "b1")], model=words("gpt2-lm"))
    table = tmp_path / "rows.csv"
    table.write_text('text,other\na1 a2,x\n"",y\n')
    with pytest.raises(DataError, match=r"(?s)line 3.*'text' is empty"):
        finetune(table, task="language", model=words("gpt2-lm"), out=tmp_path / "out")

"""Tasks whose answer is a text: learning, writing, scoring, saving, for both kinds of models."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

import graft
from graft import tasks
from graft.errors import DataError, GraftError, UsageError
from graft.loading import load
from graft.recipes.finetune import finetune
from graft.sealed import Settings
from graft.tasks import Row
from graft.train import text

WORDS = [f"{letter}{number}" for letter in "abcd" for number in range(8)]


@pytest.fixture(scope="module", params=["t5-lm", "gpt2-lm"])
def writer(tiny, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of words, freshly drawn as its class draws it, with a token that ends a text."""
    return made(tiny(request.param).folder, request.param, tmp_path_factory.mktemp("writer"))


def made(source: Path, name: str, target: Path) -> Path:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    shutil.copytree(source, target, dirs_exist_ok=True)
    torch.manual_seed(3)
    config = transformers.AutoConfig.from_pretrained(source)
    architecture = {"t5-lm": "T5ForConditionalGeneration", "gpt2-lm": "GPT2LMHeadModel"}[name]
    getattr(transformers, architecture)(config).save_pretrained(target)
    names = [
        "<pad>",
        "</s>",
        "<unk>",
        *WORDS,
        "summarize",
        "translate",
        "English",
        "to",
        "German",
        ":",
        "TL",
        ";",
        "DR",
    ]
    library = Tokenizer(models.WordLevel({word: n for n, word in enumerate(names)}, "<unk>"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.save(str(target / "tokenizer.json"))
    described = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (target / "tokenizer_config.json").write_text(json.dumps(described))
    return target


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """The summary of two words is the first of them."""
    file = tmp_path / "rows.jsonl"
    generator = random.Random(0)
    picked = [generator.choices(WORDS, k=2) for _ in range(400)]
    file.write_text("".join(json.dumps({"document": " ".join(one), "summary": one[0]}) + "\n" for one in picked))
    return file


def test_learns_to_write(writer: Path, rows: Path, tmp_path: Path):
    """Far above chance, saved with what it needs, opened again, and writing the same."""
    done = finetune(rows, task="summarize", model=writer, out=tmp_path / "out", epochs=25, learning_rate=5e-3)
    scores = done.record["metrics"]
    assert scores["rougeL"]["value"] > 0.9
    again = load(tmp_path / "out", "float32")
    again.verify()
    assert again.settings.task == "summarize"
    assert again.settings.template == ("summarize: {}" if writer_has_two_stacks(again) else "{}\nTL;DR:")
    texts = ["a3 b1", "d2 a0"]
    first = [one.text for one in graft.run("summarize", texts, model=again)]
    assert first == [one.text for one in graft.run("summarize", texts, model=done.model)]
    scored = graft.evaluate(tmp_path / "out", rows).metrics["rougeL"].value
    assert scored > 0.9
    assert "Texts written" in (tmp_path / "out" / "report.html").read_text()


def writer_has_two_stacks(model: graft.Model) -> bool:
    return model.backbone.decoder is not None


def test_only_the_answer_has_a_target(writer: Path):
    """Transformers' own loss with labels, where the prompt is marked as not to be learned."""
    import transformers

    model = load(writer, "float32")
    model.settings = Settings(template="{} TL")
    job, row = tasks.find("summarize"), Row(("a1 b2",), "c3 d4", 1)
    [example], cut = job.examples(model, [row])
    assert cut == 0
    ours = text_loss(model, example)
    name = {True: "T5ForConditionalGeneration", False: "GPT2LMHeadModel"}[writer_has_two_stacks(model)]
    theirs = getattr(transformers, name).from_pretrained(writer).eval()
    question, answer = (
        [model.tokenizer.token_id(word) for word in ("a1", "b2", "TL")],
        [model.tokenizer.token_id(word) for word in ("c3", "d4", "</s>")],
    )
    if writer_has_two_stacks(model):
        expected = theirs(input_ids=torch.tensor([[*question, 1]]), labels=torch.tensor([answer])).loss
    else:
        ids, labels = [*question, *answer], [-100] * len(question) + answer
        expected = theirs(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
    assert ours == pytest.approx(expected.item(), rel=1e-5)


def text_loss(model: graft.Model, example: text.Example) -> float:
    from graft.train.example import task_loss

    with torch.no_grad():
        return float(task_loss(model, [example]))


def test_what_does_not_fit_is_counted(writer: Path):
    model = load(writer, "float32")
    model.settings = Settings(template="{}", longest=10)
    job = tasks.find("summarize")
    long = " ".join(WORDS * 2)
    [example], cut = job.examples(model, [Row((long,), "a1", 1)])
    assert example.tokens <= 40 + 2
    assert cut == 64 - 40 + (1 if writer_has_two_stacks(model) else 2)
    [answer] = job.answer(model, [long])
    assert answer.truncated_tokens == 64 - (39 if writer_has_two_stacks(model) else 30)
    model.settings = Settings(template="{}", overflow="error")
    with pytest.raises(DataError, match="text 0"):
        job.examples(model, [Row((long,), "a1", 1)])


HEADED = {"form": "head", "columns": {"text": "document", "label": "summary"}}


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("summarize", {"template": "no place"}, r"needs exactly one \{\}"),
        ("classify", {**HEADED, "template": "{}"}, "leave the template out"),
        ("translate", {"columns": {"source": "document", "target": "summary"}}, "needs to know the languages"),
    ],
)
def test_bad_wording_is_refused(writer: Path, rows: Path, task: str, options: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        finetune(rows, task=task, model=writer, **options)


def test_languages_come_from_the_columns(writer: Path, tmp_path: Path):
    file = tmp_path / "pairs.jsonl"
    pairs = [{"translation": {"en": one, "de": other}} for one, other in zip(WORDS, WORDS[1:], strict=False)]
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    columns = {"source": "en", "target": "de"}
    done = finetune(file, task="translate", model=writer, columns=columns, epochs=1)
    wanted = ("translate English to German: {}", "English: {}\nGerman:")
    assert done.model.settings.template in wanted
    assert set(done.record["metrics"]) == {"rouge1", "rouge2", "rougeL", "exact", "chrf"}


def test_empty_texts_are_rejected_with_their_line(writer: Path, tmp_path: Path):
    file = tmp_path / "rows.csv"
    file.write_text('document,summary\na1 b1,a1\n"",b1\na2,\n')
    with pytest.raises(GraftError, match=r"(?s)line 3.*'document' is empty"):
        finetune(file, task="summarize", model=writer, out=tmp_path / "out")


def test_a_vocabulary_without_an_end_is_named(tiny, rows: Path, tmp_path: Path):
    folder = made(tiny("gpt2-lm").folder, "gpt2-lm", tmp_path / "endless")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_text((folder / file).read_text().replace("</s>", "zz"))
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(GraftError, match="no token that ends a text"):
        finetune(rows, task="summarize", model=folder)

"""Model cards: the hub's own reader accepts them, and they tell no more than they should."""

from __future__ import annotations

import re

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.errors import DataError
from graft.evaluate.card import PIPELINES, Card, hub_name, model_card
from graft.evaluate.intervals import Interval, wilson

BASE = "sentence-transformers/all-MiniLM-L6-v2"


def card(**changes) -> Card:
    told = {
        "name": "tickets-model",
        "task": "classify",
        "strategy": "lora",
        "base_model": BASE,
        "scores": {"accuracy": wilson(90, 100), "macro_f1": wilson(88, 100), "ece": wilson(4, 100)},
        "rows": 100,
        "data": "tickets.csv",
        "training_rows": 800,
        "fingerprint": "sha256:ab12",
        "seed": 7,
        "versions": {"Graft": "0.1.0", "PyTorch": "2.13.0"},
        "labels": ["billing", "delivery"],
        "max_tokens": 256,
        "overflow": "truncate",
    }
    return Card(**(told | changes))


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_hub_reads_the_front_matter():
    found = ModelCard(model_card(card(license="apache-2.0", languages=["en"]))).data
    assert (found.library_name, found.pipeline_tag, found.base_model) == ("graft", "text-classification", BASE)
    assert found.to_dict()["base_model_relation"] == "adapter"
    assert (found.license, found.language, found.tags) == ("apache-2.0", ["en"], ["graft", "classify", "lora"])
    assert found.metrics == ["accuracy", "f1", "ece"]
    assert found.model_name == "tickets-model"
    results = [(one.metric_type, one.metric_name, one.metric_value) for one in found.eval_results]
    assert results == [
        ("accuracy", "Accuracy", 0.9),
        ("f1", "Macro F1", 0.88),
        ("ece", "Calibration error (ECE)", 0.04),
    ]
    first = found.eval_results[0]
    assert (first.task_type, first.dataset_name, first.dataset_type, first.dataset_split) == (
        "text-classification",
        "tickets.csv",
        "tickets",
        "test",
    )


def test_every_task_has_a_card_the_hub_reads():
    for task, pipeline in PIPELINES.items():
        found = ModelCard(model_card(card(task=task))).data
        assert found.pipeline_tag == pipeline
        assert len(found.eval_results) == 3
    with pytest.raises(DataError, match="no model card for task 'clasify'"):
        card(task="clasify")


def test_scores_come_with_intervals_and_rows():
    text = model_card(card())
    assert "| Accuracy | 0.900 | 0.826 to 0.945 | 100 |" in text
    assert "| Calibration error (ECE) (lower is better) | 0.040 | 0.016 to 0.098 | 100 |" in text
    assert "On 100 rows of the test split" in text
    assert "95% intervals: Wilson's for accuracy" in text
    assert "off by 4.0% (95% interval 1.6% to 9.8%)" in text


def test_what_was_not_measured_is_said():
    text = model_card(card(scores={}, overflow="", languages=[]))
    assert "has not been scored" in text
    assert "probabilities can be taken at their word was not measured" in text
    assert "languages of the training rows are not recorded" in text
    assert "model-index" not in front(text)
    assert "tokens" not in text


@pytest.mark.parametrize(
    ("overflow", "told"),
    [
        ("truncate", "256 tokens are cut"),
        ("head_tail", "beginning and end are read"),
        ("window", "read in windows"),
        ("error", "are refused"),
    ],
)
def test_what_happens_to_long_texts_is_said(overflow, told):
    assert told in model_card(card(overflow=overflow))


def test_how_to_use_it_shows_runnable_lines():
    text = model_card(card(example='It\'s "broken"\nagain'))
    assert "graft run classify 'It'\"'\"'s \"broken\" again' --model tickets-model" in text
    snippet = re.search(r"```python\n(.*?)```", text, flags=re.S)
    assert snippet
    compile(snippet[1], "card", "exec")
    assert 'model("It\'s \\"broken\\" again")' in snippet[1]


@pytest.mark.parametrize("library", ["transformers", "peft"])
def test_other_libraries_are_named_only_where_the_folder_opens_there(library):
    assert f"It also opens in {library}" in (text := model_card(card(opens_in=library)))
    for snippet in re.findall(r"```python\n(.*?)```", text, flags=re.S):
        compile(snippet, "card", "exec")
    assert "It also opens" not in model_card(card())


def test_no_folder_of_the_machine_is_told():
    paths = ["/home/ann/secret/tickets.csv", "C:\\Users\\ann\\secret\\tickets.csv", "../secret/tickets.csv"]
    for path in paths:
        base = path.replace("tickets.csv", "minilm")
        text = model_card(card(data=path, name=path.replace("tickets.csv", "my-model/"), base_model=base))
        assert "secret" not in text
        assert "ann" not in text.replace("cannot", "")
        assert "tickets.csv: 800 rows" in text
        assert "made from minilm" in text
        assert front(text)["model-index"][0]["name"] == "my-model"
        assert "base_model" not in front(text)
        assert "base_model_relation" not in front(text)


def test_a_folder_is_no_name_on_the_hub(tmp_path, monkeypatch):
    (tmp_path / "models" / "minilm").mkdir(parents=True)
    assert hub_name("models/minilm") == "models/minilm"
    monkeypatch.chdir(tmp_path)
    assert hub_name("models/minilm") is None
    assert hub_name("gpt2") == "gpt2"
    assert hub_name("/models/minilm") is None


@pytest.mark.parametrize(
    ("strategy", "relation", "expected"),
    [("full", "", "finetune"), ("probe", "", "finetune"), ("adapter", "", "adapter"), ("lora", "merge", "merge")],
)
def test_the_relation_to_the_base_follows_the_strategy(strategy, relation, expected):
    assert front(model_card(card(strategy=strategy, relation=relation)))["base_model_relation"] == expected


def test_names_cannot_write_markdown_or_html():
    text = model_card(card(labels=["a | b", "<img src=x onerror=alert(1)>", "[x](javascript:y)", "`code`", "# h\n# g"]))
    assert r"a \| b, &lt;img src=x onerror=alert(1)&gt;, \[x\](javascript:y), \`code\`, \# h \# g" in text


@given(st.text(min_size=1, max_size=40))
@settings(deadline=None, max_examples=100)
def test_no_text_breaks_the_front_matter(text):
    written = model_card(card(labels=[text], example=text, data=text, notes=[text], calibration=text, fingerprint=text))
    written.encode("utf-8")
    found = ModelCard(written).data
    assert len(found.eval_results) == 3
    assert [line for line in written.splitlines() if line.startswith("## ")] == [
        "## How to use it",
        "## Training data",
        "## Scores",
        "## Limits",
        "## How it was made",
    ]


def test_large_values_and_other_metrics_keep_their_names():
    scores = {"rmse": Interval(value=1234.5678, low=1000.0, high=2000.0), "pearson": Interval(value=0.5, low=0, high=1)}
    text = model_card(card(task="similarity", scores=scores, labels=[]))
    assert "| Root mean squared error (lower is better) | 1,235 | 1,000 to 2,000 | 100 |" in text
    assert front(text)["metrics"] == ["rmse", "pearsonr"]
    assert front(text)["model-index"][0]["results"][0]["metrics"][0]["value"] == 1234.5678

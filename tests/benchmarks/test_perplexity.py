"""Perplexity by word, byte and token beside a plain rolling computation by transformers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import graft
from graft.benchmarks.wikitext import pages, undone
from graft.errors import DataError

TEXTS = ["A first document, longer than the model holds by far. ", "short", "One more\n\nof two  parts."]


def rolled(theirs: Any, text: str, size: int = 40) -> float:
    """The log-likelihood of a text's bytes: windows of so many tokens, each after the last one of the window before."""
    ids = [0, *theirs.encode(text)]
    total = 0.0
    for begin in range(0, len(ids) - 1, size):
        end = min(begin + size, len(ids) - 1)
        first = max(0, end - size)
        with torch.no_grad():
            logs = theirs(input_ids=torch.tensor([ids[first:end]])).logits[0].log_softmax(-1)
        total += sum(float(logs[row - first, ids[row + 1]]) for row in range(begin, end))
    return total


@pytest.fixture
def made(tiny: Callable[..., Any]) -> Any:
    found = tiny("gpt2-lm")
    tokenizer = graft.load(found.folder, "float32").tokenizer
    found.theirs.encode = lambda text: tokenizer.encode([text])[0].ids
    return found


def test_documents_are_measured_as_transformers_does(made: Any, tmp_path: Path):
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(f"{json.dumps({'text': text})}\n" for text in TEXTS))
    found = graft.evaluate(made.folder, data, benchmark="perplexity", dtype="float32")
    total = sum(rolled(made.theirs, text) for text in TEXTS)
    words = sum(len(re.split(r"\s+", text)) for text in TEXTS)
    size = sum(len(text.encode()) for text in TEXTS)
    values = {name: one.value for name, one in found.metrics.items()}
    assert values == pytest.approx(
        {
            "word_perplexity": math.exp(-total / words),
            "byte_perplexity": math.exp(-total / size),
            "bits_per_byte": -total / size / math.log(2),
            "perplexity": math.exp(-total / size),  # a token is a byte here
        },
        rel=1e-5,
    )
    assert all(one.low < one.value < one.high for one in found.metrics.values())
    assert found.n == 3


def test_a_text_file_is_one_document_with_an_interval_over_its_windows(made: Any, tmp_path: Path):
    text = "\n\n".join(TEXTS) + "\n"
    data = tmp_path / "book.txt"
    data.write_text(text)
    found = graft.evaluate(made.folder, data, benchmark="perplexity", dtype="float32")
    assert found.n == 1
    bits = found.metrics["bits_per_byte"]
    assert bits.value == pytest.approx(-rolled(made.theirs, text) / len(text) / math.log(2), rel=1e-5)
    assert bits.low < bits.value < bits.high
    assert found.judged.windows == math.ceil(len(text) / 40)


def test_wikitext_goes_page_by_page_and_counts_words_before_its_marks_are_undone(made: Any, tmp_path: Path):
    text = " \n = One = \n \n It costs 2 @.@ 5 . \n = = Part = = \n ( all ) of it \n = Two = \n More . \n"
    data = tmp_path / "wiki.txt"
    data.write_text(text)
    found = graft.evaluate(made.folder, data, benchmark="wikitext", dtype="float32")
    own = [page for _, page in pages(text)]
    assert [page.split("\n")[0].strip() for page in own] == ["= One =", "= Two ="]
    total = sum(rolled(made.theirs, undone(page)) for page in own)
    words = sum(len(re.split(r"\s+", page)) for page in own)
    assert found.metrics["word_perplexity"].value == pytest.approx(math.exp(-total / words), rel=1e-5)
    assert "It costs 2.5.\n== Part ==\n" in undone(own[0])
    assert "(all) of it" in undone(own[0])


def test_the_test_pages_of_wikitext_2_are_62(shared_data: Path):
    text = (shared_data / "wikitext2" / "test.txt").read_text(encoding="utf-8")
    assert len(list(pages(text))) == 62


def test_a_file_without_text_is_refused(made: Any, tmp_path: Path):
    data = tmp_path / "empty.txt"
    data.write_text(" \n\n")
    with pytest.raises(DataError, match="no rows"):
        graft.evaluate(made.folder, data, benchmark="perplexity")

"""Central sentences: the ranks by definition, headings, limits, and real articles beside their first sentences."""

from __future__ import annotations

import csv
import lzma
import random
from pathlib import Path

import numpy as np
import pytest

import graft
from graft.evaluate.overlap import written
from graft.hub import ENCODER
from graft.loading import load
from graft.text.sentences import sentences
from graft.writing.central import DAMPING, Sentence, centrality, chosen
from graft.writing.length import Length


def test_centrality_is_the_stationary_share_of_the_walk():
    """The eigenvector of the whole transition matrix, by numpy."""
    vectors_ND = np.random.default_rng(0).normal(size=(7, 4))
    unit_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    edges_NN = np.clip(unit_ND @ unit_ND.T, 0, None) * (1 - np.eye(7))
    steps_NN = DAMPING * edges_NN / edges_NN.sum(1, keepdims=True) + (1 - DAMPING) / 7
    values, columns = np.linalg.eig(steps_NN.T)
    expected = np.real(columns[:, np.argmax(np.real(values))])
    np.testing.assert_allclose(centrality(vectors_ND), expected / expected.sum(), atol=1e-7)


def test_a_sentence_like_no_other_and_a_single_one():
    assert centrality(np.ones((1, 3))) == pytest.approx([1.0])
    apart = centrality(np.array([[1.0, 0, 0], [1.0, 0.1, 0], [0, 0, 1.0], [0, 0, 0]]))
    assert apart.sum() == pytest.approx(1.0)
    assert min(apart[:2]) > max(apart[2:])


def rows(*scores: float) -> list[Sentence]:
    words = ["Alpha beta.", "Gamma.", "Delta epsilon zeta eta."]
    return [
        Sentence(text, 30 * place, 30 * place + len(text), score)
        for place, (text, score) in enumerate(zip(words, scores, strict=True))
    ]


def test_chosen_sentences_stand_in_the_order_of_the_text_and_keep_to_the_limit():
    kept, told = chosen(rows(0.3, 0.2, 0.5), 2, Length())
    assert ([one.text for one in kept], told) == (["Alpha beta.", "Delta epsilon zeta eta."], "")
    kept, told = chosen(rows(0.3, 0.2, 0.5), 2, Length(characters=20))
    assert ([one.text for one in kept], told) == (["Alpha beta.", "Gamma."], "")
    [kept], told = chosen(rows(0.3, 0.2, 0.5), 2, Length(characters=5))
    assert (kept.text, kept.start, kept.end, told) == ("Delta", 60, 65, "cut to 5 characters, at the end of a word")
    assert chosen(rows(0.3, 0.0, 0.0), 3, Length())[0] == rows(0.3, 0.0, 0.0)[:1]


def test_summaries_stand_in_the_text_and_headings_do_not(tiny):
    text = "The heading of it all\n\nFirst one is here. Second one is there. Third one is nowhere."
    [answer] = graft.run("summarize", [text], model=tiny("bert").folder, sentences=2, n=2)
    assert answer.spans is not None
    assert answer.text == " ".join(text[start:end] for start, end in answer.spans)
    assert len(answer.spans) == 2
    [other] = answer.alternatives
    assert other.spans is not None
    assert {*answer.spans, *other.spans} == set(sentences(text)[1:])
    [alone] = graft.run("summarize", ["no mark, only words"], model=tiny("bert").folder)
    assert alone.text == "no mark, only words"


@pytest.mark.slow
def test_better_than_the_first_sentences_of_real_articles(shared_data: Path):
    """200 BBC articles with extractive summaries: docs/tasks/summarize.md has the figures."""
    with lzma.open(shared_data / "bbc_news" / "articles.csv.xz", "rt", encoding="utf-8") as file:
        articles = list(csv.DictReader(file))
    chosen_rows = random.Random(0).sample(articles, 40)
    documents, summaries = [one["document"] for one in chosen_rows], [one["summary"] for one in chosen_rows]
    found = [one.text for one in graft.run("summarize", documents, model=load(ENCODER), sentences=5)]
    first = [" ".join(text[a:b] for a, b in sentences(text)[1:6]) for text in documents]
    ours, theirs = (written(summaries, texts, resamples=200) for texts in (found, first))
    assert ours["rouge1"].value > theirs["rouge1"].value + 0.03
    assert ours["rouge2"].value > theirs["rouge2"].value + 0.03

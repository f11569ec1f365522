"""Legal label sequences: against every sequence there is, written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.heads import chain
from graft.text.tag_schemes import Scheme, Span, of_labels

SCHEMES = {
    "IOB2": ["O", "B-A", "I-A", "B-B", "I-B"],
    "IOB1": ["I-A", "O", "B-A", "I-B"],
    "BIOES": ["B-A", "I-A", "E-A", "S-A", "O", "S-B"],
    "IO": ["A", "B", "O"],
    "plain": ["NN", "VB"],
}


def random_logs(words: int, labels: int, seed: int, scale: float = 3.0) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(0, scale, (words, labels))
    scores -= scores.max(1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def written_out(logs: np.ndarray, scheme: Scheme) -> dict[tuple[int, ...], float]:
    """The probability of every legal sequence."""
    words, labels = logs.shape
    every = itertools.product(range(labels), repeat=words)
    legal = {path: float(np.exp(logs[range(words), path].sum())) for path in every if scheme.fault(path) is None}
    total = sum(legal.values())
    return {path: value / total for path, value in legal.items()}


@pytest.mark.parametrize("words", [1, 2, 4])
@pytest.mark.parametrize("name", SCHEMES)
def test_against_every_sequence(name: str, words: int):
    scheme = of_labels(SCHEMES[name])
    assert scheme.name == name
    for seed in range(5):
        logs = random_logs(words, len(scheme.labels), seed)
        every = written_out(logs, scheme)
        assert tuple(chain.best(logs[None], scheme)[0]) == max(every, key=every.__getitem__)
        forward, backward = chain.sums(logs[None], scheme)
        sure = chain.marginals(forward, backward)[0]
        for place, label in itertools.product(range(words), range(len(scheme.labels))):
            expected = sum(value for path, value in every.items() if path[place] == label)
            assert sure[place, label] == pytest.approx(expected, abs=1e-9)
        for span in scheme.spans(chain.best(logs[None], scheme)[0].tolist()):
            expected = sum(value for path, value in every.items() if span in scheme.spans(path))
            labels = chain.best(logs[None], scheme)[0, span.first : span.end].tolist()
            found = chain.entity(logs, forward[0], backward[0], scheme, labels, span.first)
            if name != "IOB1":  # an entity has one spelling, but in IOB1, where it depends on the one before
                assert found == pytest.approx(expected, abs=1e-9)
            assert found <= expected + 1e-9


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(SCHEMES)), st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 5, 300]))
def test_never_illegal(name: str, words: int, seed: int, scale: float):
    scheme = of_labels(SCHEMES[name])
    logs = random_logs(words, len(scheme.labels), seed, scale)
    path = chain.best(logs[None], scheme)[0].tolist()
    assert scheme.fault(path) is None
    assert scheme.spell(scheme.spans(path), words) == [scheme.labels[label] for label in path]
    forward, backward = chain.sums(logs[None], scheme)
    sure = chain.marginals(forward, backward)
    np.testing.assert_allclose(sure.sum(-1), 1, atol=1e-6)
    assert ((sure > 0) <= np.isfinite(forward + backward)).all()
    for span in scheme.spans(path):
        assert 0 <= chain.entity(logs, forward[0], backward[0], scheme, path[span.first : span.end], span.first) <= 1


def test_the_best_labels_of_each_word_alone_would_be_illegal():
    scheme = of_labels(["O", "B-A", "I-A"])
    logs = np.log(np.array([[0.5, 0.1, 0.4], [0.3, 0.1, 0.6]]))
    assert scheme.fault(logs.argmax(1).tolist()) == 1
    assert chain.best(logs[None], scheme).tolist() == [[0, 0]]
    surer = np.log(np.array([[0.5, 0.3, 0.2], [0.3, 0.1, 0.6]]))
    assert chain.best(surer[None], scheme).tolist() == [[1, 2]]


def test_sentences_of_any_lengths():
    scheme = of_labels(SCHEMES["IOB2"])
    logs = [random_logs(words, 5, words) for words in (3, 0, 1, 3, 7)]
    found = chain.best_of(logs, scheme)
    assert [len(path) for path in found] == [3, 0, 1, 3, 7]
    assert found == [chain.best(one[None], scheme)[0].tolist() if len(one) else [] for one in logs]
    assert chain.best_of([], scheme) == []


def test_a_sure_entity_is_sure():
    scheme = of_labels(["O", "B-A", "I-A"])
    logs = np.log(np.array([[0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.01, 0.01, 0.98], [0.98, 0.01, 0.01]]))
    forward, backward = chain.sums(logs[None], scheme)
    assert scheme.spans([0, 1, 2, 0]) == [Span("A", 1, 3)]
    assert chain.entity(logs, forward[0], backward[0], scheme, [1, 2], 1) > 0.97
    assert chain.entity(logs, forward[0], backward[0], scheme, [1], 1) < 0.02

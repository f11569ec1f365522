"""Schemes: what labels say of themselves, which sequences are legal, and entities there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.text.tag_schemes import Scheme, Span, complete, detect, is_bare, of_labels

LETTERS = {"IOB2": "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU", "IO": ""}
SPANS = [Span("PER", 0, 1), Span("LOC", 3, 5), Span("LOC", 5, 6)]
SPELLED = {
    "IOB2": "B-PER O O B-LOC I-LOC B-LOC",
    "IOB1": "I-PER O O I-LOC I-LOC B-LOC",
    "BIOES": "S-PER O O B-LOC E-LOC S-LOC",
    "BILOU": "U-PER O O B-LOC L-LOC U-LOC",
}


def scheme_of(name: str) -> Scheme:
    labels = ["O", *(f"{letter}-{kind}" for kind in ("PER", "LOC") for letter in LETTERS[name])]
    found = of_labels(labels if name != "IO" else ["O", "PER", "LOC"])
    return Scheme(name, found.labels, found.parts)  # IOB1's labels are IOB2's


@pytest.mark.parametrize("name", SPELLED)
def test_the_table_of_the_docstring(name: str):
    scheme = scheme_of(name)
    assert " ".join(scheme.spell(SPANS, 6)) == SPELLED[name]
    numbers = [scheme.labels.index(tag) for tag in SPELLED[name].split()]
    assert scheme.spans(numbers) == SPANS
    assert scheme.fault(numbers) is None


@st.composite
def entities(draw: st.DrawFn) -> tuple[int, list[Span]]:
    words = draw(st.integers(0, 12))
    spans, place = [], 0
    while place < words:
        place += draw(st.integers(0, 2))
        end = min(words, place + draw(st.integers(1, 3)))
        if place < end:
            spans.append(Span(draw(st.sampled_from(["PER", "LOC"])), place, end))
        place = end
    return words, spans


@given(entities(), st.sampled_from(sorted(SPELLED)))
def test_entities_there_and_back_are_legal(case: tuple[int, list[Span]], name: str):
    words, spans = case
    scheme = scheme_of(name)
    numbers = [scheme.labels.index(tag) for tag in scheme.spell(spans, words)]
    assert scheme.fault(numbers) is None
    assert scheme.spans(numbers) == spans


@given(entities())
def test_bare_types_cannot_tell_neighbours_apart(case: tuple[int, list[Span]]):
    words, spans = case
    scheme = scheme_of("IO")
    numbers = [scheme.labels.index(tag) for tag in scheme.spell(spans, words)]
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].end == span.first and joined[-1].label == span.label:
            joined[-1] = Span(span.label, joined[-1].first, span.end)
        else:
            joined.append(span)
    assert scheme.spans(numbers) == joined


@given(st.lists(st.sampled_from(range(5)), max_size=8), st.sampled_from(["IOB2", "IOB1"]))
def test_a_sequence_is_legal_if_it_is_how_its_entities_are_spelled(numbers: list[int], name: str):
    scheme = scheme_of(name)
    tags = [scheme.labels[number] for number in numbers]
    assert (scheme.fault(numbers) is None) == (scheme.spell(scheme.spans(numbers), len(tags)) == tags)


@pytest.mark.parametrize(
    ("labels", "name", "types"),
    [
        ("O B-PER I-PER B-LOC I-LOC", "IOB2", "LOC PER"),
        ("B-LOC B-MISC B-ORG I-LOC I-MISC I-ORG I-PER O", "IOB1", "LOC MISC ORG PER"),  # as published in 2018
        ("O I-PER I-LOC", "IOB1", "LOC PER"),
        ("O B-PER", "IOB2", "PER"),
        ("O B-PER I-PER E-PER S-PER", "BIOES", "PER"),
        ("O B-PER I-PER L-PER U-PER", "BILOU", "PER"),
        ("O PER LOC", "IO", "LOC PER"),
        ("NN VBZ DT", "plain", "DT NN VBZ"),
        ("O", "IO", ""),
        ("B I O", "IOB2", "entity"),
        ("[PAD] O B-PER I-PER X", "IOB2", "PER"),
        ("B-X I-X", "IOB2", "X"),
        ("O B-per-son I-per-son", "IOB2", "per-son"),
        ("B-X", "IOB2", "X"),
        ("B-X E-X", "plain", "B-X E-X"),  # a single word could not be tagged
    ],
)
def test_labels_say_which_scheme_they_follow(labels: str, name: str, types: str):
    scheme = of_labels(labels.split())
    assert (scheme.name, " ".join(scheme.types)) == (name, types)
    assert scheme.entities == (name != "plain")


def test_labels_of_no_entity_lie_outside():
    scheme = of_labels(["[PAD]", "O", "B-PER", "I-PER"])
    assert scheme.outside_C.tolist() == [True, True, False, False]
    assert scheme.spans([2, 0, 2, 3]) == [Span("PER", 0, 1), Span("PER", 2, 4)]


@pytest.mark.parametrize(
    ("tags", "place"),
    [
        ("IOB2: I-PER", 0),
        ("IOB2: O B-PER I-LOC", 2),
        ("IOB2: B-PER O I-PER", 2),
        ("IOB1: O B-PER", 1),
        ("IOB1: I-PER B-LOC", 1),
        ("BIOES: B-PER O", 1),
        ("BIOES: B-PER", 0),
        ("BIOES: S-PER I-PER", 1),
        ("BIOES: O E-PER", 1),
        ("BIOES: B-PER I-LOC", 1),
        ("BILOU: B-PER I-PER L-PER U-LOC B-LOC", 4),
    ],
)
def test_illegal_sequences(tags: str, place: int):
    name, _, rest = tags.partition(": ")
    scheme = scheme_of(name)
    assert scheme.fault([scheme.labels.index(tag) for tag in rest.split()]) == place


def test_the_scheme_that_fewest_sentences_break():
    iob1 = [["I-PER", "O"], ["I-LOC", "I-LOC"], ["O", "I-PER", "B-PER"]]
    iob2 = [["B-PER", "I-PER"], ["B-LOC", "O"]]
    assert detect(iob1).name == "IOB1"
    assert detect(iob2).name == "IOB2"
    assert detect([*iob2, *iob2, ["I-LOC"]]).name == "IOB2"
    assert detect([["B-PER", "I-PER"], ["I-PER", "I-PER"]]).name == "IOB2"  # the simpler one where they tie
    assert detect([]).name == "plain"


@pytest.mark.parametrize(
    ("found", "labels"),
    [
        ("I-LOC B-LOC B-PER O", "O B-LOC I-LOC B-PER I-PER"),
        ("B-PER", "O B-PER I-PER"),
        ("S-PER O", "O B-PER I-PER E-PER S-PER"),
        ("U-PER O", "O B-PER I-PER L-PER U-PER"),
        ("PER O LOC", "O LOC PER"),
        ("VBZ DT NN", "DT NN VBZ"),
        ("I B O", "O B I"),
    ],
)
def test_a_model_learns_every_part_of_every_type(found: str, labels: str):
    assert complete(found.split()) == tuple(labels.split())


def test_bare_letters():
    assert is_bare(["B", "I", "O"])
    assert not is_bare(["B", "O"])
    assert not is_bare(["N", "O", "B", "I"])
    scheme = of_labels(["B", "I", "O"])
    assert scheme.spans([0, 1, 2, 0]) == [Span("entity", 0, 2), Span("entity", 3, 4)]
    assert scheme.spell([Span("entity", 0, 2)], 3) == ["B", "I", "O"]

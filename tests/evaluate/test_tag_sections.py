"""What a report shows of tagged sentences."""

from __future__ import annotations

from graft.evaluate import report
from graft.evaluate.tag_sections import tagged_sections
from graft.evaluate.tagging import tagging
from graft.text.tag_schemes import of_labels

SCHEME = of_labels(("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
SENTENCES = [["Los", "Angeles", "likes", "Ann", "Lee"], ["In", "Bonn", "."], ["<b>Bob</b>", "ran", "home"], ["Go", "!"]]
TARGET = [[1, 2, 0, 3, 4], [0, 1, 0], [3, 0, 0], [0, 0]]
GIVEN = [[1, 2, 0, 3, 0], [0, 3, 0], [0, 0, 1], [0, 0]]


def build():
    return tagged_sections(SENTENCES, TARGET, GIVEN, SCHEME, tagging(TARGET, GIVEN, SCHEME, resamples=20))


def test_types_with_the_weakest_first():
    types, _, _ = build()
    (table,) = types.blocks
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["PER", "0.000", "0.000", "0.000", "2", "2"],
        ["LOC", "0.500", "0.500", "0.500", "2", "2"],
    ]
    assert "–" in table.rows[0][1].note


def test_what_became_of_each_entity():
    _, confusions, _ = build()
    (table,) = confusions.blocks
    assert list(table.columns) == ["", "LOC", "PER", "other words", "not found"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["LOC", "1", "1", "·", "·"],
        ["PER", "·", "·", "1", "1"],
        ["nothing there", "1", "·", "·", "·"],
    ]
    assert confusions.intro == "4 mistakes among 4 labelled, by entity."


def test_the_worst_sentences_come_first_and_are_marked():
    mistakes = build()[-1]
    (quotes,) = mistakes.blocks
    shown = [[(piece.text, piece.label, piece.tone) for piece in quote.pieces] for quote in quotes.items]
    assert shown == [
        [("In", "", ""), ("Bonn", "PER", "bad"), (".", "", "")],
        [("<b>Bob</b> ran", "", ""), ("home", "LOC", "bad")],
        [("Los Angeles", "LOC", "good"), ("likes", "", ""), ("Ann", "PER", "bad"), ("Lee", "", "")],
    ]
    assert [(one.value, one.note) for one in quotes.items[2].said] == [("Ann Lee", "PER")]
    assert mistakes.intro.startswith("3 of 3 sentences with mistakes")


def test_all_of_it_is_escaped_on_the_page():
    page = report.html(report.Page(title="t", summary={}, sections=build()))
    assert "&lt;b&gt;Bob&lt;/b&gt; ran" in page
    assert "<b>Bob" not in page
    assert '<mark class="bad">Bonn<small><bdi>PER</bdi></small></mark>' in page


def test_no_mistakes():
    mistakes = tagged_sections(SENTENCES, TARGET, TARGET, SCHEME, {})[-1]
    assert "tagged rightly" in mistakes.blocks[0].text


def test_only_wrong_answers():
    (quotes,) = tagged_sections([["a", "b"]], [[0, 0]], [[1, 0]], SCHEME, {})[-1].blocks
    assert [one.value for one in quotes.items[0].said] == ["none of what is marked red"]


def test_plain_tags():
    scheme = of_labels(("DT", "NN"))
    types, confusions, mistakes = tagged_sections([["the", "dog"]], [[0, 1]], [[0, 0]], scheme, {})
    assert types.title == "Tag by tag"
    assert list(confusions.blocks[0].columns) == ["", "DT", "NN"]
    assert confusions.intro == "1 mistake among 2 labelled, by word."
    assert [piece.text for piece in mistakes.blocks[0].items[0].pieces] == ["the", "dog"]

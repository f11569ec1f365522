"""The report: every text escaped, nothing loaded from elsewhere, nothing left out in silence."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.errors import DataError, StorageError
from graft.evaluate import metrics, report
from graft.evaluate.intervals import Interval, wilson
from graft.evaluate.report import (
    Candidate,
    Cell,
    DataSummary,
    Fold,
    Mistake,
    Page,
    Paragraph,
    Plots,
    Prediction,
    Quotes,
    Section,
    Table,
    html,
    write_report,
)
from graft.evaluate.wording import printable

HOSTILE = [
    "<script>document.title='owned'</script>",
    '"><img src=x onerror=alert(1)>',
    "</td></table></svg></style><iframe src='javascript:alert(1)'>",
    "]]><!-- {{ 7 * 7 }} {% include 'x' %} &lt;b&gt;",
    "=cmd|' /C calc'!A0",
    "$\\frac{1}{0}$ \x00\x1b[31m \ud800 \u202e",
]
SHAPES = "svg g defs clippath path rect use text tspan"
TAGS = (
    "html head meta link title style body header h1 h2 p dl div dt dd nav a main section figure figcaption table thead "
    "tbody tr th td span small bdi wbr ol li blockquote b details summary footer"
)
ALLOWED = {*SHAPES.split(), *TAGS.split()}


class Reader(HTMLParser):
    """Collects the tags, attributes and text of a page as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


def with_text(text: str) -> Page:
    """A page that shows one text in every place that takes a user's text, without drawings."""
    table = Table(columns=[text, text], rows=[[Cell(text=text, note=text), Cell(text=text)]], caption=text)
    matrix = Table(columns=["", text], rows=[[Cell(text=text), Cell(text=text, share=0.5)]], matrix=True)
    mistakes = [Mistake(text=text, expected=text, predicted=text, probability=0.9)]
    news = [Prediction(text=text, answer=text)]
    data = DataSummary(
        read=1, kept=1, rejected=0, columns={text: text}, splits={text: 1}, labels={text: 1}, notes=[text]
    )
    sections = [
        Section(title=text, intro=text, blocks=[table, matrix, Fold(title=text, blocks=[Paragraph(text=text)])]),
        report.mistakes_section(mistakes),
        report.predictions_section(news),
        report.data_section(data),
    ]
    return Page(title=text, lead=text, summary={text: text}, sections=sections, footer=[text])


@pytest.mark.parametrize("labels", [2, 6, 20, 21, 77])
def test_a_page_is_self_contained_and_small(build_page, labels):
    page = html(build_page([f"label_{place}" for place in range(labels)]))
    found = Reader(page)
    assert len(page.encode()) < 500_000
    assert set(found.tags) <= ALLOWED
    links = {value for _, name, value in found.attributes if name in ("href", "src", "xlink:href")}
    assert all(re.fullmatch(r"#[\w-]+|data:,", link) for link in links)
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", page)
    policy = next(value for tag, name, value in found.attributes if tag == "meta" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_drawings_say_in_words_what_they_show(build_page):
    found = Reader(html(build_page(["yes", "no"])))
    drawings = [value for tag, name, value in found.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(drawings) == found.tags.count("svg") == 6
    assert drawings[0].startswith("Macro F1 with 95% intervals. prompt, zero-shot: 0.")
    assert all(len(one) > 40 for one in drawings)


def test_ids_are_unique_and_every_reference_has_its_target(build_page):
    found = Reader(html(build_page([*"abcdef"])))
    ids = Counter(value for _, name, value in found.attributes if name == "id")
    assert max(ids.values()) == 1
    pointed = {value[1:] for _, name, value in found.attributes if name == "href" and value.startswith("#")}
    pointed |= {target for _, _, value in found.attributes for target in re.findall(r"url\(#([\w-]+)\)", value)}
    assert pointed == set(ids)


def test_hostile_texts_are_shown_and_change_nothing(build_page):
    labels = [*HOSTILE[:4], "plain"]
    harmless = ["a" * len(label) for label in labels]
    hostile = Reader(html(build_page(labels, texts=HOSTILE)))
    assert set(hostile.tags) <= ALLOWED
    assert not [name for _, name, _ in hostile.attributes if name.startswith("on") or name == "srcdoc"]
    assert hostile.tags.count("svg") == Reader(html(build_page(harmless))).tags.count("svg")
    assert all(label in hostile.text for label in labels)
    for text in HOSTILE:
        shown = Reader(html(with_text(text)))
        assert shown.text.count(printable(text)) >= 20
        assert set(shown.tags) <= ALLOWED


@given(st.text(st.characters(blacklist_characters="_"), min_size=1, max_size=40))
@settings(deadline=None, max_examples=60)
def test_no_text_changes_the_structure_of_a_page(text):
    found, plain = Reader(html(with_text(text))), Reader(html(with_text("a")))
    assert found.tags == plain.tags
    assert [one[:2] for one in found.attributes] == [one[:2] for one in plain.attributes]


@given(st.text(min_size=1, max_size=30))
@settings(deadline=None, max_examples=20)
def test_no_name_breaks_a_drawing(name):
    row = Candidate(name=name, scores={"accuracy": wilson(1, 2)})
    found = Reader(html(Page(title="t", summary={}, sections=[report.comparison([row])])))
    assert found.tags.count("svg") == 1
    assert set(found.tags) <= ALLOWED


def test_names_are_drawn_as_they_are():
    row = Candidate(name="$x^2$ <b> _受け取り_", scores={"accuracy": wilson(1, 2)})
    drawing = report.comparison([row]).blocks[0]
    assert isinstance(drawing, Plots)
    assert (
        "".join(re.findall(r"<text[^>]*>([^<]*)</text>", drawing.drawings[0])).count("$x^2$ &lt;b&gt; _受け取り_") == 1
    )


def test_characters_a_page_cannot_hold_are_made_visible():
    page = html(with_text("a\x00b\x1b\ud800\x85"))
    assert "a␀b␛\\ud800\ufffd" in page
    assert page.encode("utf-8")


def test_a_long_text_is_cut_with_its_length():
    quotes = report.predictions_section([Prediction(text="x" * 5000 + "END", answer="a")])
    page = html(Page(title="t", summary={}, sections=[quotes]))
    assert "END" not in page
    assert "… (3,803 more characters)" in page


def test_a_drawing_leaves_no_trace_in_the_process(build_page):
    before = dict(mpl.rcParams)
    first = html(build_page(["a", "b"], n=60))
    assert dict(mpl.rcParams) == before
    assert html(build_page(["a", "b"], n=60)) == first


def test_colours_follow_the_page(build_page):
    page = html(build_page(["a", "b"], n=60))
    assert "var(--accent)" in page
    assert not re.findall(r"#0b000\d", page)
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.S))
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawn)) <= {"#000000"}


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "run" / "report.html"
    write_report(path, with_text("first"))
    assert "first" in path.read_text(encoding="utf-8")
    write_report(path, with_text("second"))
    assert "second" in path.read_text(encoding="utf-8")
    assert [one.name for one in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(StorageError, match="cannot be written"):
        write_report(path / "below.html", with_text("third"))
    assert "second" in path.read_text(encoding="utf-8")


def block(section: Section, kind: type):
    return next(one for one in section.blocks if isinstance(one, kind))


def test_comparison_shows_every_score_of_every_candidate():
    rows = [
        Candidate(name="probe", scores={"accuracy": wilson(8, 10)}, seconds=75.0, rows_per_second=1234.5, chosen=True),
        Candidate(name="full", scores={"accuracy": wilson(9, 10), "nll": Interval(value=12.5, low=9, high=2e4)}),
    ]
    table = block(report.comparison(rows, reason="It is quick."), Table)
    assert list(table.columns) == ["Strategy", "Accuracy", "Negative log-likelihood", "Training", "Rows per second"]
    assert [cell.text for cell in table.rows[0]] == ["probe", "0.800", "–", "1 min 15 s", "1,234"]
    assert table.rows[0][1].note == "0.490 – 0.943"
    assert [cell.text for cell in table.rows[1]] == ["full", "0.900", "12.5", "–", "–"]
    assert table.marked == {0}
    with pytest.raises(DataError, match="nothing to compare"):
        report.comparison([])


def test_confusions_are_a_matrix_up_to_twenty_labels_and_a_list_beyond():
    small = report.confusion_section(np.array([[5, 1], [2, 7]]), ["a", "b"])
    assert small.intro == "3 of 15 rows are answered wrongly."
    assert [[cell.text for cell in row] for row in block(small, Table).rows] == [["a", "5", "1"], ["b", "2", "7"]]
    matrix = np.eye(77, dtype=np.int64) * 9
    matrix[3, 40], matrix[50, 2] = 4, 6
    large = block(report.confusion_section(matrix, [f"l{place}" for place in range(77)]), Table)
    assert not large.matrix
    assert [[cell.text for cell in row] for row in large.rows] == [["l50", "l2", "6", "40%"], ["l3", "l40", "4", "31%"]]


def test_confusions_without_a_mistake_or_with_an_absent_label():
    section = report.confusion_section(np.diag([3, 0]), ["a", "b"])
    assert section.intro == "0 of 3 rows are answered wrongly."
    assert html(Page(title="t", summary={}, sections=[section]))
    assert html(Page(title="t", summary={}, sections=[report.confusion_section(np.eye(30, dtype=int), ["x"] * 30)]))


def test_labels_come_weakest_first_and_none_is_lost():
    target = np.arange(300) % 30
    predicted = np.where(np.arange(300) % 7 < target % 7, target, 0)
    section = report.per_label_section(metrics.per_label(target, predicted, [f"label{place}" for place in range(30)]))
    shown, fold = block(section, Table), block(section, Fold)
    rows = [*shown.rows, *fold.blocks[0].rows]
    assert len({row[0].text for row in rows}) == 30
    scores = [float(row[1].text) for row in rows]
    assert scores == sorted(scores)
    assert fold.title == f"10 more labels, F1 {scores[20]:.3f} and up"


def test_the_worst_mistakes_are_the_surest():
    probability = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.05, 0.95]])
    found = report.worst_mistakes(["w", "x", "y", "z"], np.array([0, 0, 0, 0]), probability, ["a", "b"], limit=2)
    assert [(one.text, one.expected, one.predicted, one.probability) for one in found] == [
        ("z", "a", "b", 0.95),
        ("x", "a", "b", 0.8),
    ]
    section = report.mistakes_section(found, total=3)
    assert section.intro.startswith("2 of 3 wrong answers")
    assert block(section, Quotes).items[0].said[0].note == "(95%)"
    assert "rightly" in block(report.mistakes_section([]), Paragraph).text


def test_data_warnings_say_what_is_wrong_and_rows_add_up():
    data = DataSummary(
        read=10, kept=9, rejected=1, leaks=1, conflicts=2, truncated_rows=3, truncated_tokens=1, rejects_file="bad.csv"
    )
    warned = [one.text for one in report.data_section(data).blocks if isinstance(one, Paragraph) and one.warning]
    assert warned == [
        "Rejected: 1 row; bad.csv gives each with its line and reason.",
        "Leak: 1 test row also among the training rows. Scores with them are too good.",
        "Labels at odds: 2 texts with several labels, which no model can get all right.",
        "Not read: 1 token of 3 rows, beyond the length the model takes.",
    ]
    with pytest.raises(DataError, match="10 rows were read, but 8 kept and 1 rejected are 9"):
        DataSummary(read=10, kept=8, rejected=1)


def test_training_shows_what_it_averages():
    assert "mean" not in block(report.training_section([(1, 2.0), (2, 1.0)]), Plots).caption
    long = report.training_section([(step, 1 / step) for step in range(1, 1001)], best_step=4)
    assert block(long, Plots).caption == "Each point of the loss is the mean of 5 steps."
    assert len(block(report.training_section([], {"accuracy": [(1, 0.5)]}), Plots).drawings) == 1
    assert block(report.training_section([]), Paragraph).text == "No training steps were taken."


def test_a_large_scatter_says_how_many_rows_it_shows():
    section = report.regression_section(np.arange(5000.0), np.arange(5000.0) ** 0.5)
    plot = block(section, Plots)
    assert plot.caption.startswith("1,000 of 5,000 rows.")
    assert len(plot.drawings[0]) < 200_000
    with pytest.raises(DataError, match="no rows to draw"):
        report.regression_section([], [])


def test_calibration_lists_its_bins():
    bins = metrics.calibration(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]]))
    section = report.calibration_section(bins, ece=wilson(1, 4), note="Temperature 1.3.")
    assert block(section, Paragraph).text.startswith("Expected calibration error: 25.0% (95% interval ")
    rows = block(section, Fold).blocks[0].rows
    assert [[cell.text for cell in row] for row in rows] == [
        ["53% – 60%", "1", "60.0%", "100.0%"],
        ["67% – 73%", "1", "70.0%", "0.0%"],
        ["87% – 93%", "1", "90.0%", "100.0%"],
    ]

"""CoNLL files: sentences with the line they begin on, and every bad line with its own."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graft.data.read import read
from graft.data.table import RejectedRows
from graft.errors import DataError

FILE = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


def write(folder: Path, text: str, name: str = "rows.conll") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_a_file_of_the_shared_task(tmp_path: Path):
    table = read(write(tmp_path, FILE))
    assert table.rows == [
        {
            "tokens": ["EU", "rejects"],
            "column2": ["NNP", "VBZ"],
            "column3": ["B-NP", "B-VP"],
            "ner_tags": ["B-ORG", "O"],
        },
        {
            "tokens": ["Peter", "Blackburn"],
            "column2": ["NNP", "NNP"],
            "column3": ["B-NP", "I-NP"],
            "ner_tags": ["B-PER", "I-PER"],
        },
    ]
    assert table.lines == [3, 6]
    assert table.names == ("tokens", "column2", "column3", "ner_tags")
    assert table.format == "conll, tags in column 4 of 4, 1 -DOCSTART- lines left out"


@pytest.mark.parametrize(
    ("text", "words", "tags"),
    [
        ("a\tO\nb\tB-X\n", [["a", "b"]], [["O", "B-X"]]),
        ("New York\tB-X\n", [["New York"]], [["B-X"]]),
        ("a   O\r\n\r\nb O\r\n", [["a"], ["b"]], [["O"], ["O"]]),
        ("a O\n \t \n\n\nb O", [["a"], ["b"]], [["O"], ["O"]]),
        ("a\u00a0b O\n", [["a\u00a0b"]], [["O"]]),
        ("a B-X 0\nb O 0\n\nc O 0\n", [["a", "b"], ["c"]], [["B-X", "O"], ["O"]]),  # filling is no tag
        ("a N O\nb V O\n", [["a", "b"]], [["O", "O"]]),  # but O is
        ("a x\n", [["a"]], [["x"]]),
        ("# O\n-DOCSTART O\n", [["#", "-DOCSTART"]], [["O", "O"]]),
    ],
)
def test_ways_to_write_it(tmp_path: Path, text: str, words: list[list[str]], tags: list[list[str]]):
    for name in ("rows.conll", "rows.txt"):
        table = read(write(tmp_path, text, name), tagged=True)
        assert [row["tokens"] for row in table.rows] == words
        assert [row["ner_tags"] for row in table.rows] == tags


def test_words_alone(tmp_path: Path):
    table = read(write(tmp_path, "a\nb\n\nc\n"))
    assert (table.names, table.format) == (("tokens",), "conll, words without tags")
    assert [row["tokens"] for row in table.rows] == [["a", "b"], ["c"]]


def test_packed(tmp_path: Path):
    (tmp_path / "rows.txt.gz").write_bytes(gzip.compress(FILE.encode()))
    assert read(tmp_path / "rows.txt.gz", tagged=True).kept == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("b", "1 columns, where the first line has 2"),
        ("b c d", "3 columns, where the first line has 2; expected a word and its tag on each line"),
        ("\tO", "an empty word"),
        ("\u00a0\tO", "an empty word"),
        ("b\t", "an empty tag"),
    ],
)
def test_a_bad_line_is_named_and_its_sentence_rejected(tmp_path: Path, line: str, reason: str):
    path = write(tmp_path, f"a O\n\nc O\n{line}\nd O\n\ne O\n")
    with pytest.raises(RejectedRows, match="1 of its 3 rows not usable") as caught:
        read(path)
    (reject,) = caught.value.rejected
    assert (reject.line, reject.text) == (4, line.strip(" "))
    assert reject.reason.startswith(reason)
    table = read(path, max_rejects=1)
    assert (table.read, table.kept, table.lines) == (3, 2, [1, 7])


@pytest.mark.parametrize("text", ["", "\n\n", "-DOCSTART- -X- O\n\n"])
def test_nothing_in_it(tmp_path: Path, text: str):
    with pytest.raises(DataError, match="an empty file; expected a word and its tag on each line"):
        read(write(tmp_path, text))


def test_prose_is_no_conll_file(tmp_path: Path):
    with pytest.raises(RejectedRows, match=r"rows\.txt: none of its 1 rows usable\. The first: line 2: 3 columns"):
        read(write(tmp_path, "It was a dark night.\nNobody was there.\n", "rows.txt"), tagged=True)


def test_a_line_of_very_many_columns(tmp_path: Path):
    with pytest.raises(RejectedRows, match="20,000 columns, at most 10,000 are read"):
        read(write(tmp_path, "a " * 20_000))


CELL = st.text(
    st.characters(exclude_characters=" \t\r\n\0", exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]),
    min_size=1,
    max_size=5,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4), min_size=1, max_size=5),
    st.sampled_from([" ", "\t", "  "]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 3),
)
def test_what_is_written_is_read(tmp_path: Path, sentences: list, between: str, end: str, blank: int):
    lines = [[f"{word}{between}{tag}{end}" for word, tag in sentence] for sentence in sentences]
    path = write(tmp_path, (end * blank).join("".join(sentence) for sentence in lines))
    if any(word.startswith("-DOCSTART-") for sentence in sentences for word, _ in sentence):
        return
    table = read(path)
    assert [list(zip(row["tokens"], row["ner_tags"], strict=True)) for row in table.rows] == sentences
    starts = [1 + sum(len(one) + blank for one in sentences[:number]) for number in range(len(sentences))]
    assert table.lines == starts

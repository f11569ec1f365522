"""Lists of words: the package's, the user's, and what counts as a word."""

from __future__ import annotations

import gzip
import lzma
import math
from pathlib import Path

import pytest

from graft.errors import DataError, UsageError
from graft.text import word_list
from graft.text.word_list import WordList, english, find, read, spans


def words_of(text: str) -> list[str]:
    return [text[start:end] for start, end in spans(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don’t touch (the) cat's 'tail'!", ["Don’t", "touch", "the", "cat's", "tail"]),
        ("half-done, and/or", ["half", "done", "and", "or"]),
        ("R2D2 x_1 2nd 10km", []),
        ("see https://a.example/b?c=d, me@there.org @home #tag notes.txt now", ["see", "now"]),
        ("naïve cafe\u0301", ["naïve", "cafe\u0301"]),
        ("Straße, мир", ["Straße", "мир"]),
        ("", []),
    ],
)
def test_what_is_a_word(text: str, words: list[str]):
    assert words_of(text) == words


def test_the_package_knows_english():
    words = english()
    assert 50_000 < len(words) < 80_000
    common = ["the", "people", "don't", "London", "accommodation", "beginning", "definitely", "separate", "I'm"]
    assert [word for word in common if word not in words] == []
    slips = ["teh", "recieve", "definately", "seperate", "dont", "alot", "thier", "wich"]
    assert [word for word in slips if word in words] == []
    assert words.spelled("london") == "London"
    assert next(iter(words)) == "the"
    assert words.log_probability("the") == pytest.approx(math.log(words.counts["the"] / words.total))
    assert word_list.SHIPPED.stat().st_size < 300_000


def test_capitals_and_apostrophes_do_not_matter():
    words = WordList({"don't": 5, "Paris": 2}, "two")
    assert "Don’t" in words
    assert "PARIS" in words
    assert words.knows("Paris’s")
    assert not words.knows("London's")
    assert words.log_probability("London") == -math.inf


def test_a_list_of_words_with_counts_or_without(tmp_path: Path):
    file = tmp_path / "words.txt"
    file.write_text("\ufeffcat 3\n\ndog\t1000000\nmouse\ncat 2\n", encoding="utf-8")
    assert read(file).counts == {"dog": 1_000_000, "cat": 5, "mouse": 1}
    file.write_text("cat\ndog\n")
    assert find(str(file)).counts == {"cat": 1, "dog": 1}
    for opener, name in ((gzip.open, "words.gz"), (lzma.open, "words.xz")):
        with opener(tmp_path / name, "wt") as packed:
            packed.write("cat 3\n")
        assert read(tmp_path / name).counts == {"cat": 3}


def test_several_lists_are_put_together(tmp_path: Path):
    (tmp_path / "own.txt").write_text("kubectl\nthe\n")
    words = find(f"1000,{tmp_path / 'own.txt'}")
    assert len(words) == 1001
    assert words.counts["the"] == english().counts["the"]
    assert 0 < words.log_probability("kubectl") - math.log(1e-6) < 0.1 or words.counts["kubectl"] >= 1
    assert find("1000").source == "the 1,000 most frequent of english"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"cat\nNew York city\n", r"line 2: 'New York city'; expected one word, or a word and its count"),
        (b"cat -3\n", "line 1: 'cat -3'"),
        (b"cat 0\n", "above 0"),
        (b"cat\n\xff\n", "line 2: not UTF-8"),
        (b"\n\n", "there is no word in it"),
    ],
)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, content: bytes, told: str):
    file = tmp_path / "words.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=told) as error:
        read(file)
    assert str(file) in str(error.value)


def test_damaged_and_huge_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "words.xz").write_bytes(b"no xz")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "words.xz")
    monkeypatch.setattr(word_list, "FILE_BYTES", 10)
    (tmp_path / "words.txt").write_text("word\n" * 10)
    with pytest.raises(DataError, match="give a shorter list"):
        read(tmp_path / "words.txt")


@pytest.mark.parametrize(
    ("name", "told"),
    [("", "expected english"), ("0", "ask for 1 to"), ("99999999", "ask for 1 to"), ("nowhere.txt", "no such file")],
)
def test_a_name_of_nothing_is_refused(name: str, told: str):
    with pytest.raises(UsageError, match=told):
        find(name)

from __future__ import annotations

import codecs
import gzip
import lzma
import os
from pathlib import Path

import pytest

from graft.data.lines import BLOCK, LINE, decoded, split, unchanged, unpacked
from graft.errors import DataError, UsageError


@pytest.mark.parametrize("codec", ["utf-8", "utf-16-le", "utf-32-be", "gb18030", "iso2022_jp", "latin-1"])
def test_text_is_whole_across_blocks(tmp_path: Path, codec: str):
    text = "x" + ("naïve\n" if codec == "latin-1" else "a表z\n") * (BLOCK // 2)
    path = tmp_path / "text"
    path.write_bytes(text.encode(codec))
    found, texts = decoded(path, encoding=codec)
    assert path.stat().st_size > 2 * BLOCK
    assert "".join(texts) == text
    assert found == codecs.lookup(codec).name


def test_place_of_a_bad_byte_in_a_later_block(tmp_path: Path):
    good = "né\n".encode() * BLOCK
    (tmp_path / "text").write_bytes(good + b"ab\xffc\n")
    with pytest.raises(DataError, match=rf"line {BLOCK + 1}, byte {len(good) + 2}: 0xff is not utf-8 text"):
        list(decoded(tmp_path / "text")[1])


def test_place_of_a_character_cut_by_a_block_and_then_wrong(tmp_path: Path):
    good = b"a" * (BLOCK - 1)
    (tmp_path / "text").write_bytes(good + b"\xe4x\n")
    with pytest.raises(DataError, match=rf"line 1, byte {BLOCK - 1}: 0xe4 is not"):
        list(decoded(tmp_path / "text")[1])


def test_place_of_a_nul_in_a_later_block(tmp_path: Path):
    good = "é\r".encode("utf-16-be") * BLOCK
    (tmp_path / "text").write_bytes(codecs.BOM_UTF16_BE + good + "\0".encode("utf-16-be"))
    with pytest.raises(DataError, match=rf"line {BLOCK + 1}, byte {len(good) + 2}: a NUL byte"):
        list(decoded(tmp_path / "text")[1])


@pytest.mark.parametrize(
    "encoding", ["klingon", "base64", "rot13", "unicode_escape", "idna", "utf-7", "a\0b", "zip", "uu"]
)
def test_no_such_encoding(tmp_path: Path, encoding: str):
    (tmp_path / "text").write_bytes(b"a\n")
    with pytest.raises(UsageError, match=r"no text encoding .* Valid: .*'utf-8'"):
        decoded(tmp_path / "text", encoding=encoding)


def test_near_encoding(tmp_path: Path):
    (tmp_path / "text").write_bytes(b"a\n")
    with pytest.raises(UsageError, match="did you mean 'latin-1'"):
        decoded(tmp_path / "text", encoding="latin_11")


@pytest.mark.parametrize(("packing", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_unpacked_whole_or_not_at_all(tmp_path: Path, packing: str, pack):
    content = os.urandom(BLOCK + 10)
    packed = pack(content)
    path = tmp_path / "packed"
    path.write_bytes(packed)
    assert b"".join(unpacked(path, packing)) == content
    for size in (1, 10, BLOCK, len(packed) - 1):
        path.write_bytes(packed[:size])
        with pytest.raises(DataError, match="damaged or cut off") as caught:
            list(unpacked(path, packing))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("packing", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_repeating_text_is_no_bomb_while_it_is_small(tmp_path: Path, packing: str, pack):
    path = tmp_path / "packed"
    path.write_bytes(pack(b"text\n" * 500_000))
    assert sum(map(len, unpacked(path, packing))) == 2_500_000
    path.write_bytes(pack(b"text\n" * 5_000_000))
    with pytest.raises(DataError, match="unpacks to more than 256 times its size"):
        list(unpacked(path, packing))


@pytest.mark.parametrize(
    ("blocks", "newline", "lines"),
    [
        (["a\nb", "c\n", "\n", "d"], "\n", ["a", "bc", "", "d"]),
        (["a\r", "\nb\r\n"], "\n", ["a\r", "b\r"]),
        (["a\rb\n", "\r"], "\r", ["a", "b\n"]),
        (["a\u2028b\x0c"], "\n", ["a\u2028b\x0c"]),
        ([], "\n", []),
    ],
)
def test_split(blocks: list[str], newline: str, lines: list[str]):
    assert list(split(Path("x"), iter(blocks), newline)) == lines


def test_split_takes_the_longest_line_and_no_longer():
    assert [len(line) for line in split(Path("x"), iter(["a\n", "b" * LINE, "\nc"]))] == [1, LINE, 1]
    with pytest.raises(DataError, match=r"x: line 3 is longer than 16,777,216 characters"):
        list(split(Path("x"), iter(["a\nb\nc", "c" * LINE, "c"])))
    with pytest.raises(DataError, match="line 3 is longer"):
        list(split(Path("x"), iter(["a\nb\nc", "c" * LINE, "\n"])))


def change(path: Path, how: str) -> None:
    if how == "appended":
        with path.open("a") as handle:
            handle.write("more\n")
    elif how == "rewritten":
        path.write_text("b\n")
        os.utime(path, ns=(0, 1))
    elif how == "replaced":
        other = path.with_name("other")
        other.write_text("b\n")
        before = path.stat()
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(path)
    elif how == "cut":
        path.write_text("")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["appended", "rewritten", "replaced", "cut", "removed"])
def test_a_change_while_reading_is_seen(tmp_path: Path, how: str):
    path = tmp_path / "rows.csv"
    path.write_text("a\n")
    expected = "cannot be read: No such file" if how == "removed" else "the file changed while it was read"
    with pytest.raises(DataError, match=expected), unchanged(path):
        change(path, how)


def test_reading_is_no_change(tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.write_text("a\n")
    with unchanged(path):
        assert path.read_text() == "a\n"


def test_an_error_inside_is_not_hidden(tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.write_text("a\n")
    with pytest.raises(KeyError), unchanged(path):
        raise KeyError(path.write_text("abc\n"))

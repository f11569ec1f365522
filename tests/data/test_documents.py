"""Text files: documents with blank lines between."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from graft.data.read import read
from graft.errors import DataError


def test_documents_lie_between_blank_lines(tmp_path: Path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"\n\nOne\nline more\n \t\n\r\nTwo\r\nagain\r\n\n\nNA")
    table = read(file)
    assert [row["text"] for row in table.rows] == ["One\nline more", "Two\nagain", "NA"]
    assert table.lines == [3, 7, 11]
    assert table.names == ("text",)
    assert table.rejected == []


def test_packed_text_is_read_and_what_is_no_text_refused(tmp_path: Path):
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(b"One\n\nTwo\n"))
    assert [row["text"] for row in read(packed).rows] == ["One", "Two"]
    empty, damaged = tmp_path / "empty.txt", tmp_path / "damaged.txt"
    empty.write_text("\n \n")
    damaged.write_bytes(b"fine\n\xff\n")
    with pytest.raises(DataError, match="no rows"):
        read(empty)
    with pytest.raises(DataError, match=r"damaged\.txt.*line 2"):
        read(damaged)

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from graft.data.read import read
from graft.errors import DataError, UsageError

GOOD = "text,label\ngood,pos\n"


def test_read_takes_a_name_or_a_path(tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.write_text(GOOD)
    assert read(str(path)) == read(path)
    assert read(path).path == path
    assert read(path).names == ("text", "label")


def test_no_such_file(tmp_path: Path):
    (tmp_path / "tickets.csv").write_text(GOOD)
    with pytest.raises(DataError, match=r"tickts\.csv: no such file; did you mean .*tickets\.csv\?"):
        read(tmp_path / "tickts.csv")
    with pytest.raises(DataError, match=r"zzz\.csv: no such file in the folder"):
        read(tmp_path / "zzz.csv")
    with pytest.raises(DataError, match=r"no such file; the folder .*nowhere does not exist"):
        read(tmp_path / "nowhere" / "a.csv")


def test_a_folder(tmp_path: Path):
    with pytest.raises(DataError, match=r"a folder; give a file in it$"):
        read(tmp_path)
    for name in ("b.jsonl.gz", "a.csv", "notes.md"):
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match=r"a folder; give a file in it, for example a\.csv, b\.jsonl\.gz$"):
        read(tmp_path)


@pytest.mark.parametrize(
    "name", ["rows.doc", "rows.xlsx", "rows.csv.zip", "rows", "rows.parquet.gz", ".csv", "rows.gz"]
)
def test_unknown_extension(tmp_path: Path, name: str):
    (tmp_path / name).write_text(GOOD)
    with pytest.raises(DataError, match=r"cannot be read; expected \.csv, \.tsv, \.jsonl, .*\.gz or \.xz .*\.parquet$"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "my.data.JSONL"])
def test_names_of_json_lines(tmp_path: Path, name: str):
    (tmp_path / name).write_text('{"a": 1}\n')
    assert read(tmp_path / name).rows == [{"a": 1}]


def test_no_regular_file(tmp_path: Path):
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(DataError, match="not a regular file"):
        read(tmp_path / "rows.csv")


@pytest.mark.parametrize("name", ["a\0.csv", "x" * 300 + ".csv"])
def test_impossible_names(tmp_path: Path, name: str):
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / name)


def test_a_file_that_may_not_be_read(tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.write_text(GOOD)
    path.chmod(0)
    try:
        path.read_text()
    except PermissionError:
        with pytest.raises(DataError, match="cannot be read: Permission denied"):
            read(path)
    else:
        pytest.skip("this user may read every file")


def test_wrong_use(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n')
    with pytest.raises(UsageError, match="max_rejects is -1; expected 0 or more"):
        read(path, max_rejects=-1)
    with pytest.raises(UsageError, match="--no-quotes, quotes=False\\) is for csv and tsv files"):
        read(path, quotes=False)
    with pytest.raises(UsageError, match="no text encoding 'utf-9'; did you mean"):
        read(path, encoding="utf-9")


def test_a_file_written_to_while_it_is_read(tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "good,pos\n" * 200_000)
    stop = threading.Event()

    def grow() -> None:
        with path.open("a") as handle:
            while not stop.wait(0.001):
                handle.write("bad,neg\n")
                handle.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        with pytest.raises(DataError, match="the file changed while it was read. Wait until it is written"):
            read(path)
    finally:
        stop.set()
        writer.join()
    assert read(path).read > 200_000


def test_arrow_is_loaded_for_parquet_only():
    code = "import sys, graft.data.read, graft.data.columns, graft.data.check; print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("sst2/train.csv", 6920, ("text", "label")),
        ("cola/train.csv", 8551, ("text", "label")),
        ("banking77/train.csv", 10003, ("text", "label")),
        ("stsb/train.csv", 5749, ("sentence1", "sentence2", "score")),
        ("snli/test.csv", 9824, ("premise", "hypothesis", "label")),
        ("bbc_news/articles.csv.xz", 2225, ("document", "summary", "label")),
        ("multi30k/train.csv.xz", 29000, ("en", "de")),
        ("lambada/lambada_openai.jsonl", 5153, ("context", "continuation")),
        ("triviaqa/triviaqa_sm_sub.jsonl", 3000, ("context", "answer", "aliases")),
        ("bias/winogender.tsv", 720, ("sentid", "sentence")),
    ],
)
def test_real_files(shared_data: Path, name: str, rows: int, columns: tuple[str, ...]):
    table = read(shared_data / name)
    assert (table.kept, table.rejected, table.names) == (rows, [], columns)

"""Strict JSON, and writing that never leaves less than there was. The failures are real: full disks, limits, kills."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.errors import ModelError, StorageError
from graft.files import JSON_BYTES, read_json, replacing, unique_keys, write_json

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture(params=["file", "folder"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something already there, worth keeping."""
    path = tmp_path / "place" / "model"
    path.parent.mkdir()
    fill(path, request.param, "old")
    return path


def fill(path: Path, kind: str, text: str) -> None:
    if kind == "folder":
        (path / "inner").mkdir(parents=True)
        path = path / "inner" / "weights"
    path.write_text(text)


def kind_of(path: Path) -> str:
    return "folder" if path.is_dir() else "file"


def content(path: Path) -> str:
    return (path / "inner" / "weights" if path.is_dir() else path).read_text()


def assert_unharmed(target: Path) -> None:
    assert content(target) == "old"
    assert [entry.name for entry in target.parent.iterdir()] == ["model"]


# Reading


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_json_comes_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, value: dict[str, object]):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


def test_json_is_written_for_people(tmp_path: Path):
    write_json(tmp_path / "a.json", {"zwei": 2, "eins": "é"})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "zwei": 2,\n  "eins": "é"\n}\n'.encode()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_number_is_written_that_json_does_not_have(tmp_path: Path, number: float):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": number})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"a": 1, "a": 2}', "the key 'a' is given twice"),
        (b'{"outer": [{"b": 1, "c": 2, "b": 1}]}', "the key 'b' is given twice"),
        (b'{"id2label": {"0": "no", "0": "yes"}}', "the key '0' is given twice"),
        (b"[1, 2]", "expected a JSON object, found list"),
        (b"null", "expected a JSON object, found NoneType"),
        (b"", "not a valid JSON file"),
        (b'{"a": 1', "not a valid JSON file"),
        (b'{"a": 1,}', "not a valid JSON file"),
        (b'{"a": 1} {"b": 2}', "not a valid JSON file"),
        (b'{"a": NaN}', "NaN is no number in JSON"),
        (b'{"a": [-Infinity]}', "-Infinity is no number in JSON"),
        (b'{"a": "\xff"}', "not a valid JSON file"),
        (b'\xef\xbb\xbf{"a": 1}', "not a valid JSON file"),
        ('{"a": 1}'.encode("utf-16"), "not a valid JSON file"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not a valid JSON file"),
        (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "nested too deep"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)
def test_bad_json_is_refused_by_name(tmp_path: Path, raw: bytes, message: str):
    path = tmp_path / "config.json"
    path.write_bytes(raw)
    with pytest.raises(ModelError, match=message) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_absent_json(tmp_path: Path):
    with pytest.raises(ModelError, match=r"config\.json: cannot be read: No such file or directory"):
        read_json(tmp_path / "config.json")


def test_a_folder_is_not_json(tmp_path: Path):
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        read_json(tmp_path)


def test_huge_json_is_refused_unread(tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    with path.open("wb") as file:
        file.truncate(JSON_BYTES + 1)  # sparse: takes no room on the disk
    with pytest.raises(ModelError, match=f"{JSON_BYTES + 1} bytes of JSON, expected at most {JSON_BYTES}"):
        read_json(path)


def test_unique_keys_keep_their_order():
    assert list(unique_keys([("b", 1), ("a", 2)])) == ["b", "a"]


# Replacing


@pytest.mark.parametrize(("before", "after"), [("file", "file"), ("file", "folder"), ("folder", "folder")])
def test_new_takes_the_place_of_old(tmp_path: Path, before: str, after: str):
    target = tmp_path / "place" / "model"
    target.parent.mkdir()
    fill(target, before, "old")
    with replacing(target) as new:
        fill(new, after, "new")
        assert content(target) == "old"
    assert (content(target), kind_of(target)) == ("new", after)
    assert [entry.name for entry in target.parent.iterdir()] == ["model"]


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path: Path):
    target = tmp_path / "place" / "model"
    target.parent.mkdir()
    fill(target, "folder", "old")
    with pytest.raises(StorageError, match="cannot be written"), replacing(target) as new:
        fill(new, "file", "new")
    assert_unharmed(target)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_new_place_is_made_with_its_parents(tmp_path: Path, kind: str):
    target = tmp_path / "runs" / "today" / "model"
    with replacing(target) as new:
        fill(new, kind, "new")
    assert content(target) == "new"
    assert [entry.name for entry in target.parent.iterdir()] == ["model"]


def write_half(target: Path, error: BaseException) -> None:
    with replacing(target) as new:
        fill(new, kind_of(target), "half")
        raise error


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_while_writing_passes_through_and_keeps_the_old(target: Path, error: BaseException):
    with pytest.raises(type(error)) as caught:
        write_half(target, error)
    assert caught.value is error
    assert_unharmed(target)


def test_an_interrupt_while_what_was_written_is_removed(target: Path, monkeypatch: pytest.MonkeyPatch):
    """rmtree, interrupted as it closes a folder, closes it again; that fault must not hide the interrupt."""
    close, left = os.close, [1]

    def interrupted(number: int) -> None:
        close(number)
        if left:
            left.pop()
            raise KeyboardInterrupt

    def write() -> None:
        with replacing(target) as new:
            fill(new, "folder", "half")
            monkeypatch.setattr("os.close", interrupted)
            raise ValueError

    with pytest.raises(KeyboardInterrupt):
        write()
    assert not left
    assert_unharmed(target)


def test_writing_nothing_is_an_error(target: Path):
    with pytest.raises(StorageError, match="cannot be written"), replacing(target):
        pass
    assert_unharmed(target)


def test_permissions_are_those_of_a_file_written_plainly(tmp_path: Path):
    plain, replaced = tmp_path / "plain", tmp_path / "replaced"
    plain.mkdir()
    with replacing(replaced) as new:
        new.mkdir()
    assert replaced.stat().st_mode == plain.stat().st_mode


def test_a_parent_that_is_a_file(tmp_path: Path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match="cannot be written: .*--out"), replacing(tmp_path / "runs" / "model") as new:
        fill(new, "file", "new")
    assert (tmp_path / "runs").read_text() == "a file"


# Failures of the machine, each in a process of its own

CHILD = """
import sys
from pathlib import Path
from graft.errors import StorageError
from graft.files import replacing
target, kind = Path(sys.argv[1]), sys.argv[2]
try:
    with replacing(target) as new:
        if kind == "folder":
            (new / "inner").mkdir(parents=True)
            new = new / "inner" / "weights"
        with new.open("w") as file:
            for _ in range(32):
                file.write("n" * 4096)
                file.flush()
except StorageError as error:
    print(error)
    raise SystemExit(7)
"""


def child(target: Path, *, before: tuple[str, ...] = (), **options: object) -> subprocess.CompletedProcess[str]:
    """Replace the target by 128 KiB, in a new process; before: a command that starts it."""
    command = [*before, sys.executable, "-B", "-c", CHILD, str(target), kind_of(target)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))


def test_the_child_succeeds_where_nothing_fails(target: Path):
    assert child(target).returncode == 0
    assert content(target) == "n" * 131072


def test_a_file_size_limit_keeps_the_old(target: Path):
    result = child(target, preexec_fn=limit_file_size)
    assert result.returncode == 7, result.stderr
    assert result.stdout == f"{target}: cannot be written: File too large. What was there before is unharmed\n"
    assert_unharmed(target)


def small_disk_or_skip(folder: Path) -> tuple[str, ...]:
    """A command that mounts 64 KiB on the folder for one process alone, copies the old there, and runs the rest."""
    mount = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64k none "$0" && "$@"', str(folder))
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True, timeout=30).returncode:
        pytest.skip("a small disk needs Linux and the right to mount one")
    return mount


def test_a_full_disk_keeps_the_old(target: Path, tmp_path: Path):
    keep, disk = tmp_path / "keep", target.parent
    shutil.copytree(disk, keep)
    inside = f'cp -r "{keep}/." "{disk}" && "$@"; status=$?; cp -r "{disk}/." "{keep}-after" && exit $status'
    (tmp_path / "keep-after").mkdir()
    result = child(target, before=(*small_disk_or_skip(disk), "sh", "-c", inside, "sh"))
    assert result.returncode == 7, result.stderr
    assert result.stdout == f"{target}: cannot be written: No space left on device. What was there before is unharmed\n"
    assert_unharmed(tmp_path / "keep-after" / "model")


READ_ONLY_CHILD = """
import os, sys
from pathlib import Path
from graft.errors import StorageError
from graft.files import replacing
if os.getuid() == 0:
    os.setuid(65534)
try:
    with replacing(Path(sys.argv[1])) as new:
        new.write_text("new")
except StorageError as error:
    print(error)
"""


def test_a_read_only_folder_is_refused(target: Path):
    target.parent.chmod(0o555)
    try:
        command = [sys.executable, "-c", READ_ONLY_CHILD, str(target)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    finally:
        target.parent.chmod(0o755)
    expected = f"{target}: cannot be written: Permission denied. Choose another place with --out\n"
    assert (result.stdout, result.returncode) == (expected, 0), result.stderr
    assert_unharmed(target)


def strace_or_skip(*rules: str) -> tuple[str, ...]:
    """A command that runs another with its system calls failing, or the process killed, by strace's rules."""
    command = ("strace", "-f", "-qq", "-o", "/dev/null", *rules)
    if shutil.which("strace") is None or subprocess.run([*command, "true"], timeout=30, capture_output=True).returncode:
        pytest.skip("making system calls fail needs strace and the right to trace")
    return command


@pytest.mark.parametrize(
    ("kind", "call", "when"),
    [
        ("file", "fsync", 1),
        ("file", "rename", 1),
        ("folder", "fsync", 1),
        ("folder", "fsync", 3),
        ("folder", "rename", 1),
        ("folder", "rename", 2),
    ],
)
def test_a_failing_system_call_keeps_the_old(tmp_path: Path, kind: str, call: str, when: int):
    target = tmp_path / "place" / "model"
    target.parent.mkdir()
    fill(target, kind, "old")
    result = child(target, before=strace_or_skip("-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={when}"))
    assert result.returncode == 7, result.stderr
    assert result.stdout == f"{target}: cannot be written: Input/output error. What was there before is unharmed\n"
    assert_unharmed(target)


@pytest.mark.parametrize("call", ["mkdir", "write", "fsync", "rename"])
def test_a_kill_at_any_call_loses_nothing(target: Path, call: str):
    """After kill -9 the old or the new, whole, is at the target, or the old stands in the folder beside it."""
    kills = 0
    for when in range(1, 7):
        before = strace_or_skip("-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={when}")
        kills += child(target, before=before).returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        aside = list(target.parent.glob(".model.*.tmp/old"))
        assert content(target if target.exists() else aside[0]) in ("old", "n" * 131072)
    assert kills > 0


def test_the_written_json_survives_a_reader_in_another_process(tmp_path: Path):
    with replacing(tmp_path / "config.json") as new:
        write_json(new, {"vocab_size": 7})
    assert json.loads((tmp_path / "config.json").read_bytes()) == {"vocab_size": 7}

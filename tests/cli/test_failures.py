"""Which exception becomes which line and which exit code."""

from __future__ import annotations

import errno
import json

import pytest

from graft.cli.failures import explain, report
from graft.errors import DataError, UsageError


def caused(error: Exception, cause: BaseException) -> Exception:
    """An error as it looks when another was being handled."""
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "part", "code"),
    [
        (DataError("row 3\nis bad"), "DataError", "row 3 is bad", 1),
        (UsageError("no"), "UsageError", "no", 2),
        (KeyboardInterrupt(), "Cancelled", "cancelled", 130),
        (caused(RuntimeError("stopped"), KeyboardInterrupt()), "Cancelled", "cancelled", 130),
        (BrokenPipeError(), "BrokenPipeError", "reader", 141),
        (MemoryError(), "OutOfMemory", "not enough memory", 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "OutOfMemory", "--batch-size", 1),
        (OSError(errno.ENOSPC, "No space left on device", "x/y"), "StorageError", "x/y: No space left on device", 1),
        (ZeroDivisionError("division by zero"), "Bug", "ZeroDivisionError: division by zero (GRAFT_DEBUG=1", 1),
        (caused(KeyError("a"), ValueError("b")), "Bug", "KeyError", 1),
    ],
)
def test_every_exception_has_a_line_and_a_code(error: BaseException, kind: str, part: str, code: int):
    failure = explain(error)
    assert (failure.type, failure.exit_code) == (kind, code)
    assert part in failure.message
    assert "\n" not in failure.message


def test_an_error_for_programs_is_json_on_standard_error(capsys: pytest.CaptureFixture[str]):
    assert report(DataError("été \x1b"), as_json=True) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert json.loads(captured.err) == {"error": {"type": "DataError", "message": "été \\x1b", "exit_code": 1}}


def test_a_bug_shows_its_traceback_on_request_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    try:
        bug: Exception = Exception(1 / 0)
    except ZeroDivisionError as error:
        bug = error
    monkeypatch.delenv("GRAFT_DEBUG", raising=False)
    assert report(bug, as_json=False) == 1
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("GRAFT_DEBUG", "1")
    assert report(bug, as_json=False) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("error: this is a bug in Graft: ZeroDivisionError: division by zero")


def test_a_request_to_terminate_keeps_its_code():
    assert report(SystemExit(143), as_json=False) == 143
    assert report(SystemExit("text"), as_json=False) == 1


def test_a_reader_gone_away_is_no_news(capsys: pytest.CaptureFixture[str]):
    assert report(BrokenPipeError(), as_json=True) == 141
    assert capsys.readouterr().err == ""

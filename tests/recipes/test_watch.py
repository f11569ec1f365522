"""What a long job says where no bar can be drawn."""

from __future__ import annotations

import pytest

from graft.recipes import watch
from graft.recipes.watch import Watch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that is moved by hand."""
    now = [100.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    return now


def test_a_log_is_told_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Watch().bar("training", 400, "steps") as bar:
        for _ in range(4):
            clock[0] += 10
            bar.advance(50, loss="0.5")
        bar.advance(0, loss="0.4")
    assert capsys.readouterr().err == "training: 150 of 400 steps, 5 a second, 0:50 left, loss 0.5\n"


def test_a_quiet_job_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Watch(quiet=True).bar("training", 400, "steps") as bar:
        clock[0] += 1000
        bar.advance(50)
    assert capsys.readouterr().err == ""


def test_a_total_that_is_not_known_is_not_told(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Watch().bar("score", 0, "texts") as bar:
        clock[0] += 60
        bar.advance(1200)
    assert capsys.readouterr().err == "score: 1,200 texts, 20 a second\n"

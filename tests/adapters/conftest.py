"""A home of its own for the checksums that are remembered."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Checksums are remembered away from the user's own folder."""
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path_factory.getbasetemp() / "graft-home"))

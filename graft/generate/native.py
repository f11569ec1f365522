"""The decoding step as a library built on this machine, where there is a C++ compiler; decode.cpp is its source."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from graft.hub.checksum import home

SOURCES = [Path(__file__).with_name(name) for name in ("decode.cpp", "look.h", "products.h")]
FLAGS = ("-O3", "-march=native", "-std=c++17", "-ffp-contract=fast", "-fPIC", "-shared", "-pthread", "-Wno-psabi")
PATIENCE = 120
"""Seconds a compiler is given; it takes a few."""

Pointer, Int, Number, Kind = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int32


class Matrix(ctypes.Structure):
    """Weights (rows, columns), row after row; a scale for each row where they are int8."""

    _fields_ = [
        ("weight", Pointer),
        ("scale", Pointer),
        ("bias", Pointer),
        ("rows", Int),
        ("columns", Int),
        ("kind", Kind),
    ]


class Norm(ctypes.Structure):
    """A normalization's weight and bias, float32."""

    _fields_ = [("weight", Pointer), ("bias", Pointer)]


class Dense(ctypes.Structure):
    """A feed-forward layer, or an expert."""

    _fields_ = [(name, Matrix) for name in ("gate", "up", "down")]


class Layer(ctypes.Structure):
    """One block."""

    _fields_ = [
        *((name, Matrix) for name in ("query", "key", "value", "output")),
        ("dense", Dense),
        ("expert", ctypes.POINTER(Dense)),
        *((name, Matrix) for name in ("router", "shared_gate")),
        *((name, Norm) for name in ("attention_norm", "feed_forward_norm", "query_norm", "key_norm")),
        *((name, Matrix) for name in ("memory_query", "memory_output")),
        ("memory_norm", Norm),
        ("window", Int),
    ]


class Model(ctypes.Structure):
    """A decoder: sizes, choices, and where its weights lie."""

    _fields_ = [
        *((name, Int) for name in ("layers", "width", "heads", "key_heads", "head_size", "inner")),
        *((name, Int) for name in ("through", "experts", "chosen")),
        *((name, Kind) for name in ("pre", "rms", "activation", "whole_norm", "normalized")),
        *((name, Number) for name in ("eps", "scale", "head_scale")),
        ("layer", ctypes.POINTER(Layer)),
        ("tokens", Matrix),
        ("positions", Matrix),
        ("position_offset", Int),
        ("type", Pointer),
        ("turns", Pointer),
        ("distance", Pointer),
        ("embedding_norm", Norm),
        ("final_norm", Norm),
        ("head", Matrix),
    ]


class Cache(ctypes.Structure):
    """Keys and values: how many slots and places, and how far apart layers, slots, heads and places lie, in numbers."""

    _fields_ = [
        ("keys", Pointer),
        ("values", Pointer),
        *((name, Int) for name in ("slots", "places", "layer", "slot", "head", "place")),
        ("kind", Kind),
    ]


class Step(ctypes.Structure):
    """What one step reads and writes."""

    _fields_ = [
        ("sequences", Int),
        *((name, Pointer) for name in ("ids", "position", "slot", "source", "length", "hidden", "logits", "work")),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The library, built at the first use and kept for later processes; None where it cannot be had.

    It is kept in the user's own cache folder, under a name made of the source, the flags and the processor.
    """
    try:
        found = _kept()
        if not found.is_file():
            if (compiler := _compiler()) is None:
                return None
            _build(compiler, found)
        built = ctypes.CDLL(str(found))
    except (OSError, subprocess.SubprocessError):
        return None
    for name, result, given in (
        ("graft_work", Int, [Pointer, Int, Int, Int]),
        ("graft_open", Pointer, [Pointer, Pointer, Pointer, Kind]),
        ("graft_step", Int, [Pointer, Pointer]),
        ("graft_close", None, [Pointer]),
    ):
        function = getattr(built, name)
        function.restype, function.argtypes = result, given
    return built


def state() -> tuple[bool, str]:
    """Whether there is a library, or will be at the first use, and what is to be said about it; nothing is built."""
    try:
        kept = _kept()
    except OSError as error:
        return False, str(error)
    if kept.is_file():
        return (True, str(kept)) if library() else (False, f"{kept} cannot be loaded; delete it")
    compiler = _compiler()
    return (
        (True, f"built at the first use by {compiler}") if compiler else (False, "no C++ compiler (CXX, g++, clang++)")
    )


def _compiler() -> str | None:
    if os.name == "nt":
        return None
    return shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")


def _kept() -> Path:
    """Where the library of this source, these flags and this processor lies, in a folder nobody else may write."""
    folder = home() / "native"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = folder.stat()
    if hasattr(os, "getuid") and (held.st_uid != os.getuid() or held.st_mode & 0o022):
        raise PermissionError(f"{folder}: others may write there")
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    processor = {line for line in lines if line.startswith(("flags", "Features", "model name", "CPU part"))}
    said = [platform.machine(), platform.processor(), *sorted(processor), *FLAGS]
    digest = hashlib.sha256(b"".join(one.read_bytes() for one in SOURCES) + "\n".join(said).encode()).hexdigest()
    return folder / f"decode-{digest[:24]}.so"


def _build(compiler: str, target: Path) -> None:
    """Compile beside the target, then put it in its place: another process sees all of it or nothing."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "decode.so"
        command = [compiler, *FLAGS, "-o", str(made), str(SOURCES[0])]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
        made.replace(target)

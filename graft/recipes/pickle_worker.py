"""A program of its own: reads pickled weights, tensors alone, and writes them as safetensors to an empty folder.

A pickle is a program for its reader. torch's reader of weights refuses all but tensors; because such readers have been
got round before, it runs here, in a process that first gives up what harm would need: the network, other programs,
writing anywhere else, and more memory, time or disk than the weights can take. It imports nothing of the package and is
run by path.

Usage: ``python -P pickle_worker.py JOB``, JOB a JSON object with files (paths of pickles), out (a folder), memory
(bytes beyond what torch takes), seconds (of processor time), disk (bytes of all tensors). Standard output: bytes
written, a line after each tensor. Exit code 3: refused, with the reason on standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REFUSED = 3
NEW_NETWORK, NEW_USER = 0x40000000, 0x10000000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = (
    ("socket.", "subprocess.", "ctypes.", "shutil.", "urllib.", "ftplib.", "http.", "pty.", "webbrowser.", "marshal.")
    + ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "os.remove", "os.rename", "os.link")
    + ("os.symlink", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.truncate", "os.putenv", "signal.")
)
"""Beginnings of the names under which Python announces what has no business here."""

DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


class RefusedError(Exception):
    """The file is not read; the text says why."""


def cut_off() -> bool:
    """Leave the network for one of this process's own that leads nowhere; False where the system does not let it.

    It must come before any thread is started.
    """
    library = ctypes.CDLL(None)
    kinds = (NEW_NETWORK, NEW_NETWORK | NEW_USER)  # the first for root, who keeps all rights to files by it
    return hasattr(library, "unshare") and any(library.unshare(kind) == 0 for kind in kinds)


def limit(memory: int, seconds: int, disk: int) -> None:
    """Bound processor time, the size of a file and, on Linux, address space.

    Raises:
        RefusedError: this system has no such bounds.
    """
    try:
        import resource
    except ImportError as error:
        raise RefusedError("cannot be read here: this system does not bound what a process may take") from error
    limits = {"CPU": seconds, "FSIZE": disk + 2**24, "CORE": 0}
    if (pages := Path("/proc/self/statm")).exists():
        limits["AS"] = int(pages.read_text().split()[0]) * resource.getpagesize() + memory
    for name, value in limits.items():
        which = getattr(resource, f"RLIMIT_{name}")
        _, most = resource.getrlimit(which)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(which, (value, value))


def fence(out: Path) -> None:
    """From here on nothing in this process opens a socket, starts a program, or writes outside a folder."""
    inside = os.path.join(os.path.realpath(out), "")

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if event.startswith(FORBIDDEN):
            raise RefusedError(f"wants {event}, expected nothing but tensors")
        writes = event == "open" and isinstance(given[2], int) and given[2] & WRITING and not isinstance(given[0], int)
        if writes and not os.path.realpath(os.fsdecode(given[0])).startswith(inside):
            raise RefusedError("wants to write to another file, expected nothing but tensors")

    sys.addaudithook(watch)


def read(path: Path) -> dict[str, Any]:
    """The tensors of one pickle, by name, each as plain numbers in memory or in the file.

    Raises:
        RefusedError: it holds, or asks for, anything else.
    """
    import torch

    packed = zipfile.is_zipfile(path)  # files of before 2020 are not, and cannot be read in place
    found = torch.load(path, map_location="cpu", weights_only=True, mmap=packed)
    if not isinstance(found, Mapping):
        raise RefusedError(f"holds {type(found).__name__}, expected tensors by name")
    for name, tensor in found.items():
        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if not isinstance(name, str) or not plain or tensor.is_meta:
            raise RefusedError(f"holds {type(tensor).__name__} under {name!r:.60}, expected tensors by name")
        if str(tensor.dtype).removeprefix("torch.") not in DTYPES:
            raise RefusedError(f"tensor {name!r:.60} holds {tensor.dtype}; known: {', '.join(DTYPES)}")
    return {name: tensor.detach() for name, tensor in found.items()}


def write(path: Path, tensors: Mapping[str, Any], room: int) -> int:
    """Write a safetensors file, one tensor in memory at a time; gives how many bytes of tensors it holds."""
    import torch

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        dtype = DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    if end > room:
        raise RefusedError(f"unpacks to {end:,} bytes, more than {room:,}, as tensors that repeat themselves do")
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            sys.stdout.write(f"{tensor.nbytes}\n")
            sys.stdout.flush()
    return end


def convert(files: list[Path], out: Path, disk: int) -> None:
    """Write each pickle as a shard, and an index where there are several."""
    places: dict[str, str] = {}
    for number, path in enumerate(files, 1):
        single = len(files) == 1
        name = "model.safetensors" if single else f"model-{number:05d}-of-{len(files):05d}.safetensors"
        tensors = read(path)
        disk -= write(out / name, tensors, disk)
        places |= dict.fromkeys(tensors, name)
    if len(files) > 1:
        (out / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")


def reason(error: Exception) -> str:
    """What was wrong with a pickle, in one line."""
    said = str(error)
    asked = re.search(r"(?:GLOBAL|Unsupported (?:class|global):?) ([\w.]+)", said)
    if isinstance(error, RefusedError):
        return said
    if isinstance(error, MemoryError) or "allocate memory" in said:
        return "takes more memory than its weights can need"
    if asked:
        return f"asks for {asked[1][:100]}, expected nothing but tensors; such a pickle could run code, and is not read"
    return f"damaged or no pickle of tensors: {(said or type(error).__name__).splitlines()[0][:200]}"


def main(job: str) -> int:
    """Do one job; say on standard error, in one line, why not."""
    given = json.loads(job)
    cut_off()
    sys.dont_write_bytecode = True
    import torch

    torch.set_num_threads(1)
    files, out = [Path(name) for name in given["files"]], Path(given["out"])
    try:
        limit(given["memory"], given["seconds"], given["disk"])
        fence(out)
        convert(files, out, given["disk"])
    except Exception as error:  # whatever the library throws at a damaged file
        sys.stderr.write(reason(error))
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

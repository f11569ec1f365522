"""``graft doctor``: what this machine offers, and what stands in the way."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

from typer import Exit, Option

from graft.cli.options import AsJson
from graft.cli.output import one_line, size, write, write_columns, write_json
from graft.version import __version__

Hub = Annotated[bool, Option("--hub", help="Also ask whether the Hugging Face hub can be reached.")]
HUB_SECONDS = 5
LEAST_FREE = 2 * 10**9
LIBRARIES = (
    "torch",
    "tokenizers",
    "safetensors",
    "numpy",
    "pyarrow",
    "scikit-learn",
    "huggingface_hub",
    "pydantic",
    "PyYAML",
    "typer",
    "rich",
    "matplotlib",
    "jinja2",
)
VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "GRAFT_HOME")


def doctor(hub: Hub = False, as_json: AsJson = False) -> None:
    """Say what this machine offers, and what is in the way."""
    found = {
        "graft": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        **_processor(),
        "decoding": _decoding(),
        "gpu": _gpus(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        **_caches(),
        **({"hub": _reach()} if hub else {}),
    }
    found["problems"] = _problems(found)
    if as_json:
        write_json(found)
    else:
        write_columns([[name, one_line(value)] for name, value in _lines(found).items()])
        for problem in found["problems"]:
            write(f"problem: {problem}")
        write("" if found["problems"] else "all is well")
    if found["problems"]:
        raise Exit(1)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> dict[str, Any]:
    import torch

    from graft.checkpoint import choose_dtype

    return {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "dtype": str(choose_dtype("auto")).removeprefix("torch."),
        "memory_bytes": _memory(),
    }


def _decoding() -> dict[str, Any]:
    """Whether text is written by the decoding step in C++, and why, or why not."""
    from graft.generate import native

    there, about = native.state()
    return {"library": there, "about": about}


def _processor_name() -> str:
    """As Linux names it; elsewhere what Python knows."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _gpus() -> list[dict[str, Any]]:
    import torch

    if not torch.cuda.is_available():
        return []
    each = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [{"name": one.name, "memory_bytes": one.total_memory} for one in each]


def _caches() -> dict[str, Any]:
    """The places where models lie, and whether the default encoder is in one of them."""
    from graft import hub
    from graft.hub.cached import cache_folder

    encoder = next((each for each in hub.known() if each.name == hub.ENCODER), None)
    places = {"hugging_face": cache_folder(), "graft": hub.home()}
    return {
        "caches": {name: {"folder": str(path), "bytes": _size(path)} for name, path in places.items()},
        "free_bytes": _free(hub.home()),
        "encoder": {
            "name": hub.ENCODER,
            "here": encoder is not None,
            "source": encoder and encoder.source,
            "folder": encoder and str(encoder.path),
        },
    }


def _size(folder: Path) -> int:
    """Bytes of the files themselves; the links of the Hugging Face cache are not counted twice."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _free(folder: Path) -> int | None:
    """Room on the disk a folder is on, or will be."""
    there = next((each for each in (folder, *folder.parents) if each.is_dir()), None)
    return shutil.disk_usage(there).free if there else None


def _reach() -> dict[str, Any]:
    """One small request to the hub."""
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    began = time.perf_counter()
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD", headers={"User-Agent": f"graft/{__version__}"})
    reason = None
    try:
        with urllib.request.urlopen(request, timeout=HUB_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        # Whatever a hub answers to this, it is there; a proxy that stands in the way answers 407 or 5xx.
        reason = None if error.code < 500 and error.code != 407 else f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "reason", None) or error)
    return {
        "endpoint": constants.ENDPOINT,
        "reached": reason is None,
        "reason": reason,
        "seconds": round(time.perf_counter() - began, 2),
    }


def _problems(found: dict[str, Any]) -> list[str]:
    problems = [f"{name} is not installed" for name, version in found["libraries"].items() if version is None]
    free = found["free_bytes"]
    if free is not None and free < LEAST_FREE:
        problems.append(f"only {size(free)} are free where models are kept; GRAFT_HOME and HF_HOME choose other places")
    if not found["encoder"]["here"]:
        problems.append(
            f"the default encoder is not on this machine; `graft pull {found['encoder']['name']}` brings it"
        )
    if "hub" in found and not found["hub"]["reached"]:
        problems.append(f"{found['hub']['endpoint']} cannot be reached: {found['hub']['reason']}")
    return problems


def _lines(found: dict[str, Any]) -> dict[str, str]:
    gpus = [f"{gpu['name']}, {size(gpu['memory_bytes'])}" for gpu in found["gpu"]]
    memory = "unknown" if found["memory_bytes"] is None else size(found["memory_bytes"])
    encoder, decoding = found["encoder"], found["decoding"]
    slower = "" if decoding["library"] else ": text is written by torch's operations, some three times slower"
    shown = {
        "graft": f"{found['graft']}, Python {found['python']}",
        "system": found["system"],
        "libraries": ", ".join(f"{name} {version or 'MISSING'}" for name, version in found["libraries"].items()),
        "processor": f"{found['processor']}, {found['cores']} cores, {found['threads']} threads in use",
        "instructions": f"{found['instructions']}; computes in {found['dtype']} by default",
        "memory": memory,
        "decoding step": f"{decoding['about']}{slower}",
        "gpu": "; ".join(gpus) or "none",
        "environment": ", ".join(f"{name}={value}" for name, value in found["environment"].items()) or "nothing set",
    }
    for name, cache in found["caches"].items():
        shown[f"{name.replace('_', ' ')} cache"] = f"{cache['folder']}, {size(cache['bytes'])}"
    shown["free disk"] = "unknown" if found["free_bytes"] is None else size(found["free_bytes"])
    shown["encoder"] = f"{encoder['name']}: " + (
        f"{encoder['folder']} ({encoder['source']})" if encoder["here"] else "not here"
    )
    if "hub" in found:
        hub = found["hub"]
        shown["hub"] = f"{hub['endpoint']}: " + (f"answers in {hub['seconds']} s" if hub["reached"] else "no answer")
    return shown

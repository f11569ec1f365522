"""Convert: folders in other layouts, old names, other shards, other dtypes, pickles, LoRA, to a model Graft loads."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from graft import adapters, checkpoint, sealed
from graft.errors import GraftError, ModelError, StorageError, UsageError
from graft.files import replacing
from graft.hub import folder as contents
from graft.loading import load
from graft.recipes.watch import Watch
from graft.shards import INDEX, SINGLE, Shards, indexed

PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
CARRIED = (
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "chat_template.jinja",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
)
"""Files handed on as they are, where saving has not written its own."""

LIMITS = {
    "memory": 2**30,  # of the child, beyond twice the largest pickle
    "seconds": 30,  # of processor time, and twice that on the clock,
    "bytes_per_second": 20 * 2**20,  # beyond one for so many bytes
    "ratio": 2,  # how many times larger the tensors may be than the pickles; tied ones are written twice
}
VARIABLES = ("PATH", "HOME", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG", "TMPDIR")
"""All the child sees of the environment: no keys and no passwords."""

_WORKER = Path(__file__).with_name("pickle_worker.py")
_REFUSED = 3  # its exit code for a file that it will not read


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written, and from what."""

    source: str
    out: str
    read: str
    family: str
    architecture: str
    parameters: int
    dtype: str
    carried: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """What ``--json`` prints."""
        return asdict(self)


def convert(
    source: str | Path, out: str | Path, *, dtype: str | None = None, trust: bool = False, watch: Watch | None = None
) -> Converted:
    """Write a model folder anew, as Graft saves one.

    Args:
        source: a folder with config.json and weights: safetensors, or a pickled ``pytorch_model.bin``, single or in
            shards; or LoRA factors, which are merged into the base they name.
        out: a folder that does not exist; it appears only when all is in it.
        dtype: "float32", "bfloat16" or "float16"; by default what most of the weights have.
        trust: read pickles, in a child process without the network and within limits.
        watch: where notices and progress go; silent by default.

    Raises:
        UsageError: an unknown dtype, or a pickle without ``trust``.
        ModelError: the folder is damaged or unsupported, or a pickle wants more than to hold tensors.
        StorageError: there is something at ``out``, or it cannot be written.
    """
    folder, target, watch = Path(source), Path(out), watch or Watch(quiet=True)
    pickles = _check(folder, target, dtype, trust)
    with replacing(target) as new:
        read = folder
        if pickles:
            read = new.with_name("unpickled")  # in the hidden folder that is removed in the end
            _unpickle(folder, pickles, read, watch)
        with _named(read, folder):
            chosen = checkpoint.choose_dtype(dtype or _stored(read))
            model = load(read.absolute(), dtype=chosen, device="cpu", check_finite=True)
            model.merge()
            model.save(new)
        _check_range(new, target)
        taken = () if adapters.holds(read) else CARRIED  # its card speaks of an adapter
        carried = [name for name in taken if (read / name).is_file() and not (new / name).exists()]
        for name in carried:
            shutil.copyfile(read / name, new / name)
        sealed.write(new, model.settings)
        published, _, architecture, _ = checkpoint.read_config(new)
    return Converted(
        source=str(folder),
        out=str(target),
        read="pickle" if pickles else "safetensors",
        family=model.family.name,
        architecture=architecture,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        dtype=str(published["dtype"]),
        carried=tuple(carried),
    )


def _check(folder: Path, target: Path, dtype: str | None, trust: bool) -> list[Path]:
    """Refuse what cannot be done before anything is read; gives the pickles to read, none where safetensors are."""
    if dtype is not None:
        checkpoint.choose_dtype(dtype)
    if not folder.is_dir():
        raise ModelError(
            f"{folder}: {'is a file, expected' if folder.exists() else 'no such folder; expected'} a model"
        )
    if os.path.lexists(target):
        raise StorageError(f"{target}: exists already; give a name that is free")
    if adapters.holds(folder) or (folder / SINGLE).is_file() or (folder / INDEX).is_file():
        return []
    if (folder / PICKLE).is_file():
        pickles = [folder / PICKLE]
    elif (folder / PICKLE_INDEX).is_file():
        pickles, _ = indexed(folder, PICKLE_INDEX, ".bin")
    else:
        raise ModelError(f"{folder}: no weights: expected one of {', '.join((SINGLE, INDEX, PICKLE, PICKLE_INDEX))}")
    if not trust:
        raise UsageError(
            f"{pickles[0]}: is a pickle: a program that its reader runs, and that may do on this machine whatever you "
            "may do. If you know where it comes from, say --trust: a child process without network reads tensors from "
            "it and refuses all else"
        )
    return pickles


def _stored(folder: Path) -> str:
    """The dtype of most of the stored numbers, as far as it is one Graft computes in."""
    folder = adapters.look(folder).base.folder if adapters.holds(folder) else folder
    counted: Counter[torch.dtype] = Counter()
    for entry in Shards(folder).entries.values():
        counted[entry.dtype] += entry.end - entry.begin
    names = {dtype: name for name, dtype in checkpoint.DTYPES.items()}
    return next((names[dtype] for dtype, _ in counted.most_common() if dtype in names), "float32")


def _check_range(new: Path, target: Path) -> None:
    if lost := Shards(new).not_finite():
        raise ModelError(
            f"{target}: {len(lost)} tensors have values beyond the range of this dtype, such as {lost[0]}; "
            "choose --dtype bfloat16 or float32"
        )


@contextmanager
def _named(read: Path, folder: Path) -> Iterator[None]:
    """Name the user's folder in errors about what is read."""
    try:
        yield
    except GraftError as error:
        raise type(error)(
            str(error).replace(str(read.absolute()), str(folder)).replace(str(read), str(folder))
        ) from error


def _unpickle(folder: Path, pickles: Sequence[Path], out: Path, watch: Watch) -> None:
    """Have the child write the tensors of pickles as safetensors, with the folder's small files beside them."""
    out.mkdir()
    size = sum(path.stat().st_size for path in pickles)
    seconds = LIMITS["seconds"] + size // LIMITS["bytes_per_second"]
    job = {
        "files": [str(path.absolute()) for path in pickles],
        "out": str(out.absolute()),
        "memory": LIMITS["memory"] + 2 * max(path.stat().st_size for path in pickles),
        "seconds": seconds,
        "disk": LIMITS["ratio"] * size + 2**20,
    }
    watch.note(f"{folder}: {len(pickles)} pickles of {size:,} bytes are read in a child process without network")
    with watch.bar("unpickle", size, "bytes") as bar:
        code, reason = _run(job, 2 * seconds, bar.advance)
    if code:
        raise ModelError(f"{folder / pickles[0].name if len(pickles) == 1 else folder}: {_ended(code, reason, job)}")
    for name in contents.small_files(path.as_posix() for path in contents.files(folder)):
        (out / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / name, out / name)


def _run(job: dict[str, object], seconds: int, advance: Callable[[int], None]) -> tuple[int, str]:
    """Run the child; give its exit code and what it said."""
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), json.dumps(job)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**variables, "OMP_NUM_THREADS": "1"},
        ) as child:
            assert child.stdout is not None
            clock = threading.Timer(seconds, child.kill)
            clock.daemon = True  # an interrupt in its start leaves it running; nobody then waits for it
            try:
                clock.start()
                for line in child.stdout:
                    advance(int(line))
                child.wait()
            finally:
                clock.cancel()
                child.kill()
        said.seek(0)
        return child.returncode, said.read().decode("utf-8", "replace")


def _ended(code: int, said: str, job: dict[str, object]) -> str:
    lines = said.strip().splitlines()
    if code == _REFUSED and lines:
        return lines[-1]
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"took too long to read (more than {job['seconds']} s), or the system ended its reader"
    return f"its reader ended with code {code}: {lines[-1][:200] if lines else 'it said nothing'}"

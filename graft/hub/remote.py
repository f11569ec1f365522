"""Downloads from the hub: only what Graft reads, checked against the hub's checksums, visible when complete."""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from graft.errors import GraftError, HubError, StorageError, nearest
from graft.hub import cached, folder
from graft.hub.checksum import git_sha1, sha256
from graft.version import __version__

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

log = logging.getLogger("graft.hub")
Result = TypeVar("Result")
BUSY = (408, 429, 500, 502, 503, 504)
WAITS = (1.0, 2.0)
LONGEST_WAIT = 20.0
"""Seconds: a hub that asks for more patience than this counts as out of reach."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class HubUnreachable(HubError):
    """The hub does not answer, so another source may be tried."""


class NotOnHub(HubError):
    """The hub has no such model, so the reference may have been meant otherwise."""


def download(name: str, revision: str | None) -> Path:
    """Bring a revision of a repository into the Hugging Face cache, whatever of it is not there yet.

    Returns:
        The snapshot's folder.

    Raises:
        HubUnreachable: no answer, or a hub out of order.
        HubError: no such model or revision, no access, only weights that are not safe to read, wrong bytes.
        StorageError: the cache cannot be written, or has too little room.
    """
    listing = _guarded(partial(_ask, name, revision), name, revision)
    siblings = {file.rfilename: file for file in listing.siblings or []}
    commit = str(listing.sha)
    if not cached.COMMIT.fullmatch(commit):
        raise HubError(
            f"{_endpoint()} gave {commit!r} as the commit of {name}: this is not a model hub; see HF_ENDPOINT"
        )
    lacking = folder.without_weights(siblings)
    if lacking:
        raise HubError(f"{_page(name, revision)}: {lacking}")
    found = cached.repository(name) / "snapshots" / commit
    small = folder.small_files(siblings)
    _fetch(name, commit, [siblings[file] for file in small])
    weights = folder.weight_files(siblings, found)
    absent = sorted(set(weights) - set(siblings))
    if absent:
        raise HubError(
            f"{_page(name, revision)}: the model's index names files that are not there: {', '.join(absent)}"
        )
    _fetch(name, commit, [siblings[file] for file in weights])
    sizes = {file: (found / file).stat().st_size for file in [*small, *weights]}
    cached.remember(name, revision, commit, sizes)
    return found


def _ask(name: str, revision: str | None) -> ModelInfo:
    """Ask the hub for the commit and the list of files; a busy hub is asked again a few times."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(library_name="graft", library_version=__version__)
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    ask = partial(api.model_info, name, revision=revision, files_metadata=True, timeout=timeout)
    for usual in WAITS:
        try:
            return ask()
        except HfHubHTTPError as error:
            wait = _patience(error, usual)
            if wait is None:
                raise
            log.warning("the hub answered %s; trying again in %.0f s", error.response.status_code, wait)
            time.sleep(wait)
    return ask()


def _patience(error: Any, usual: float) -> float | None:
    """Seconds to wait before asking again; None to give up."""
    if error.response.status_code not in BUSY:
        return None
    asked = error.response.headers.get("Retry-After", "")
    seconds = float(asked) if asked.isdigit() else usual
    return seconds if seconds <= LONGEST_WAIT else None


def _fetch(name: str, commit: str, files: Iterable[RepoSibling]) -> None:
    """Download the files that are not in the cache, one after the other, and check each."""
    from huggingface_hub import hf_hub_download

    library = {"library_name": "graft", "library_version": __version__}
    found = cached.repository(name) / "snapshots" / commit
    todo = [file for file in files if not (found / file.rfilename).exists()]
    _room(name, sum(file.size or 0 for file in todo))
    for file in todo:
        fetch = partial(hf_hub_download, name, file.rfilename, revision=commit, **library)
        path = Path(_guarded(fetch, name, commit))
        if path != found / file.rfilename:
            raise HubError(f"{_endpoint()} gave {file.rfilename} of another commit than {commit}. Run the same again")
        _check(path, file)
    if found.is_dir():
        cached.check(found)


def _check(path: Path, file: RepoSibling) -> None:
    """Compare a file with the hub's checksum; a wrong one is deleted."""
    if file.lfs is not None:
        digest, expected = sha256(path), file.lfs.sha256
    elif file.blob_id is not None:
        digest, expected = git_sha1(path), file.blob_id
    else:
        return
    if digest != expected:
        cached.drop(path)
        raise HubError(cached.wrong_bytes(path, digest, expected))


def _room(name: str, size: int) -> None:
    """Refuse before the first byte where the disk cannot hold the files."""
    place = next(path for path in (cached.repository(name), *cached.repository(name).parents) if path.exists())
    free = shutil.disk_usage(place).free
    if size > free:
        raise StorageError(
            f"{cached.cache_folder()}: {name} needs {size / 1e6:,.0f} MB more, {free / 1e6:,.0f} MB are free. "
            "Make room, or set HF_HOME to a folder on another disk"
        )


def _guarded(call: Callable[[], Result], name: str, revision: str | None) -> Result:
    """Run a call of the library; whatever it raises becomes one of our errors, with what to do."""
    try:
        return call()
    except GraftError:
        raise
    except Exception as error:  # a border: transports below the library have error types of their own
        raise _explained(error, name, revision) from error


def _explained(error: Exception, name: str, revision: str | None) -> GraftError:
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _explained(error.__cause__, name, revision)
    if isinstance(error, HfHubHTTPError):
        return _refused(error, name, revision)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return StorageError(
            f"{cached.cache_folder()}: cannot be written: {error.strerror}. Make room, or set HF_HOME to another folder"
        )
    if _is_transport(error):
        return HubUnreachable(
            f"{_endpoint()} cannot be reached or broke off ({type(error).__name__}: {_line(error)}), and {name} is not "
            "here complete. Check the network (HTTPS_PROXY, HF_ENDPOINT) and run the same again"
        )
    return HubError(f"{name}: the download failed ({type(error).__name__}: {_line(error)}). Run the same again")


def _is_transport(error: Exception) -> bool:
    """Whether the network failed; the library's HTTP client changes between its versions, its base error's name not."""
    return isinstance(error, ConnectionError | TimeoutError) or any(
        kind.__name__ in ("TransportError", "NetworkError") for kind in type(error).__mro__
    )


def _refused(error: Any, name: str, revision: str | None) -> HubError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    login = "log in with `hf auth login`, or set HF_TOKEN"
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return HubError(f"{name} is gated: accept its conditions at {_page(name, None)}, then {login}")
    if isinstance(error, RepositoryNotFoundError):
        return NotOnHub(f"{_endpoint()} has no model {name!r} that you may see. If it is private, {login}")
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{name} has no revision {revision!r}; {_valid_revisions(name, revision)}")
    if status in (401, 403):
        return HubError(
            f"{_endpoint()} refuses access to {name} ({status}): the token is not valid for it; {login} anew"
        )
    if status in BUSY:
        return HubUnreachable(f"{_endpoint()} is out of order or too busy ({status}: {_line(error)}). Try again later")
    return HubError(f"{_endpoint()} answered {status} for {name}: {_line(error)}")


def _valid_revisions(name: str, revision: str | None) -> str:
    from huggingface_hub import HfApi

    try:
        refs = HfApi(library_name="graft").list_repo_refs(name)
    except Exception:  # the hub has just answered; the list of names is a courtesy
        return f"see {_page(name, None)}"
    return nearest(str(revision), [ref.name for ref in [*refs.branches, *refs.tags]])


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _page(name: str, revision: str | None) -> str:
    return f"{_endpoint()}/{name}" + (f"/tree/{revision}" if revision else "")


def _line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no further words"


def offline() -> bool:
    """Whether the user has forbidden the network (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)

"""Models in the Hugging Face cache, in its published layout: read without the network, and never half of one.

models--ORG--NAME/refs/REVISION         a commit
models--ORG--NAME/snapshots/COMMIT/     links to the blobs, under the repository's file names
models--ORG--NAME/blobs/CHECKSUM        sha256 for files in large-file storage, git's sha1 for the others
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from graft.errors import GraftError, HubError, StorageError
from graft.files import read_json, replacing, write_json
from graft.hub import folder
from graft.hub.checksum import home, sha256

COMMIT, SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")


def cache_folder() -> Path:
    """Where Hugging Face libraries keep what they download (HF_HUB_CACHE, else HF_HOME/hub)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser().resolve()


def repository(name: str) -> Path:
    """The cache's folder for one repository, present or not."""
    return cache_folder() / ("models--" + name.replace("/", "--"))


def snapshot(name: str, revision: str | None) -> Path | None:
    """The folder of one revision in the cache, complete or not; None if the cache does not know the revision."""
    wanted = revision or "main"
    commit = wanted if COMMIT.fullmatch(wanted) else _commit(repository(name) / "refs" / _safe(wanted))
    found = repository(name) / "snapshots" / commit if commit else None
    return found if found and found.is_dir() else None


def _commit(ref: Path) -> str | None:
    try:
        text = ref.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return text if COMMIT.fullmatch(text) else None


def _safe(revision: str) -> str:
    if not revision.isprintable() or not revision or set(revision.split("/")) & {"", ".", ".."} or "\\" in revision:
        raise HubError(f"revision {revision!r}: expected a branch, a tag or a commit, such as 'main'")
    return revision


def remember(name: str, revision: str | None, commit: str, sizes: dict[str, int]) -> None:
    """Record that a snapshot is complete, and make it the one its revision stands for.

    The revision is written last: what it points to is complete at every instant.

    Raises:
        StorageError: the cache cannot be written.
    """
    # The list only saves a later look at the hub.
    with contextlib.suppress(StorageError), replacing(_listing(name, commit)) as file:
        write_json(file, {"files": sizes})
    wanted = revision or "main"
    if not COMMIT.fullmatch(wanted):
        with replacing(repository(name) / "refs" / _safe(wanted)) as file:
            file.write_text(commit, encoding="ascii")


def complete(name: str, found: Path) -> bool:
    """Say whether a snapshot is known to hold every file Graft would download.

    Other libraries fetch parts of a repository (weights without the tokenizer or the pooling), so a snapshot whose
    list of files is unknown does not count as complete.
    """
    if folder.problem(found):
        return False
    sizes = _remembered(name, found.name)
    if sizes is None:
        sizes = _listed_by_library(name, found)
    return sizes is not None and all(_has(found / file, size) for file, size in sizes.items())


def check(found: Path) -> None:
    """Compare the large files of a snapshot with the checksums they are named by; a wrong one is deleted.

    Raises:
        HubError: a file's content is not what the hub has.
    """
    for path in folder.files(found):
        blob = _blob(found / path)
        if blob is not None and SHA256.fullmatch(blob.name):
            digest = sha256(found / path)
            if digest != blob.name:
                drop(found / path)
                raise HubError(wrong_bytes(found / path, digest, blob.name))


def wrong_bytes(path: Path, digest: str, expected: str) -> str:
    """The message for a file whose checksum is not the hub's."""
    return (
        f"{path}: checksum is {digest}, the hub has {expected}: the bytes were damaged on the way or on this disk. The "
        "file was deleted; run the same again to fetch it anew"
    )


def drop(path: Path) -> None:
    """Delete a file of a snapshot together with its content."""
    for part in {path, _blob(path) or path, Path(os.path.realpath(path))}:
        part.unlink(missing_ok=True)


def revisions(name: str) -> list[str]:
    """The branches, tags and commits of a repository that the cache holds."""
    refs = repository(name) / "refs"
    named = [str(path.relative_to(refs)) for path in refs.rglob("[!.]*") if path.is_file()] if refs.is_dir() else []
    return sorted(ref for ref in named if snapshot(name, ref))


def snapshots() -> Iterator[tuple[str, Path]]:
    """Every snapshot in the cache that is a model Graft can read, with its name."""
    for repo in sorted(cache_folder().glob("models--*")):
        name = repo.name.removeprefix("models--").replace("--", "/", 1)
        for found in sorted((repo / "snapshots").glob("*")):
            with contextlib.suppress(GraftError, OSError):
                if COMMIT.fullmatch(found.name) and folder.problem(found) is None:
                    yield name, found


def _blob(path: Path) -> Path | None:
    """What a snapshot's link points to; the name is the checksum. One step only: blobs may be shared by links again."""
    return path.parent / os.readlink(path) if path.is_symlink() else None


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _listing(name: str, commit: str) -> Path:
    return home() / "listings" / repository(name).name / f"{commit}.json"


def _remembered(name: str, commit: str) -> dict[str, int] | None:
    try:
        sizes = read_json(_listing(name, commit)).get("files")
    except GraftError:
        return None
    return sizes if isinstance(sizes, dict) and all(type(size) is int for size in sizes.values()) else None


def _listed_by_library(name: str, found: Path) -> dict[str, int] | None:
    """The list of files huggingface_hub keeps when it downloads a whole repository (`hf download`), if it does."""
    import huggingface_hub

    ask = getattr(huggingface_hub, "get_cached_repo_tree", None)  # since 2.0
    try:
        sizes = {file.path: file.size for file in ask(name, revision=found.name)} if ask else {}
    except Exception:  # the library's own error type is as new as the function
        return None
    return {file: sizes[file] for file in wanted(sizes, found)} if sizes else None


def wanted(names: Collection[str], found: Path) -> list[str]:
    """The files of a repository that Graft downloads; ``found`` holds the index of a sharded model."""
    return [*folder.small_files(names), *folder.weight_files(names, found)]

"""A model hub on the loopback interface: real HTTP, real sockets, and faults on request.

It speaks what huggingface_hub asks for: model information, trees, references, and files by HEAD and GET with ETag,
X-Repo-Commit, ranges, and redirects of large files to a second server, as the real hub redirects to its storage.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with one answer; the default is nothing."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Close the connection after so many bytes of the body."""
    reset: bool = False
    """Close with a reset instead of an orderly end."""
    wrong: Callable[[bytes], bytes] | None = None
    """Send these bytes in place of the file's."""
    seconds: float = 0.0
    """Wait so long before answering."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    range: str | None
    token: str | None
    status: int


@dataclass(kw_only=True)
class Repo:
    """A repository: for each branch or tag, its files."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    large: tuple[str, ...] = (".safetensors", ".bin", ".hdf5")
    gated: bool = False
    token: str | None = None
    """Only a request with this token may see the repository."""
    claimed_sizes: dict[str, int] = field(default_factory=dict)
    """Sizes to announce in place of the true ones."""

    def commit(self, revision: str) -> str | None:
        """The commit a revision stands for."""
        return revision if revision in self.commits else self.refs.get(revision)

    def is_large(self, name: str) -> bool:
        """Whether a file lies in large-file storage."""
        return name.endswith(self.large)


def sha256(content: bytes) -> str:
    """Checksum by which large files are named."""
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    """Checksum by which small files are named."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Server(ThreadingHTTPServer):
    """Remembers its open connections, so that stopping ends them too, as when a machine goes down."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self.open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def stop(self) -> None:
        """Refuse new connections and end those that are open."""
        self.shutdown()
        self.server_close()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class FakeHub:
    """The two servers, the repositories, the faults to come and the requests so far. A context manager."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[list[Any]] = []
        self.asked: list[Asked] = []
        self.lock = threading.Lock()
        self.servers = [self._serve(), self._serve()]
        self.url, self.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in self.servers)

    def _serve(self) -> Server:
        handler = type("BoundHandler", (Handler,), {"hub": self})
        server = Server(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def add(self, name: str, files: dict[str, bytes], *refs: str, **settings: Any) -> str:
        """Add a commit to a repository and let references point to it; returns the commit."""
        repo = self.repos.setdefault(name, Repo())
        for setting, value in settings.items():
            setattr(repo, setting, value)
        described = json.dumps([name, sorted((path, sha256(content)) for path, content in files.items())])
        commit = hashlib.sha1(described.encode()).hexdigest()
        repo.commits[commit] = dict(files)
        repo.refs.update(dict.fromkeys(refs or ("main",), commit))
        return commit

    def fail(self, pattern: str, *faults: Fault, forever: bool = False) -> None:
        """Let the next requests whose 'METHOD path' matches go wrong, one fault each, or the last one for ever."""
        self.faults.append([re.compile(pattern), list(faults), forever])

    def next_fault(self, request: str) -> Fault:
        """The fault a request meets."""
        with self.lock:
            for pattern, faults, forever in self.faults:
                if faults and pattern.search(request):
                    return faults[0] if forever and len(faults) == 1 else faults.pop(0)
        return Fault()

    def paths(self, pattern: str) -> list[str]:
        """Requests so far, as 'METHOD path', that match."""
        requests = [f"{asked.method} {asked.path}" for asked in self.asked]
        return [request for request in requests if re.search(pattern, request)]

    def stop(self) -> None:
        """Close both servers; from now on connections are refused."""
        for server in self.servers:
            server.stop()
        self.servers = []

    def __enter__(self) -> FakeHub:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Stay silent; the requests are kept in ``hub.asked``."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.fault = self.hub.next_fault(f"{self.command} {path}")
        time.sleep(self.fault.seconds)
        if self.fault.status:
            self._send(self.fault.status, {"error": "made to fail"}, self.fault.headers)
            return
        for pattern, route in ROUTES:
            match = pattern.fullmatch(path)
            if match:
                route(self, *match.groups())
                return
        self._send(404, {"error": "no such page"})

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer, or as much of it as the fault allows."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.hub.asked.append(
            Asked(
                method=self.command,
                path=urlsplit(self.path).path,
                range=self.headers.get("Range"),
                token=self.headers.get("Authorization"),
                status=status,
            )
        )
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.fault.cut_after
        try:
            self.wfile.write(content if cut is None else content[:cut])
            self.wfile.flush()
        except OSError:
            self.close_connection = True
        if cut is not None and cut < len(content):
            self._break()

    def _break(self) -> None:
        self.close_connection = True
        if self.fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def _repo(self, name: str) -> Repo | None:
        """The repository, if the asker may see it; otherwise the refusal is sent."""
        repo = self.hub.repos.get(name)
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if repo and (repo.token is None or repo.gated or given == repo.token):
            return repo
        status = 404 if given else 401
        headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
        self._send(status, {"error": "Repository not found"}, headers)
        return None

    def _files(self, repo: Repo, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = repo.commit(revision)
        if commit is None:
            self._send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit, repo.commits[commit]

    def model(self, name: str, revision: str | None = None) -> None:
        """/api/models/NAME: commit and files."""
        repo = self._repo(name)
        found = self._files(repo, revision or "main") if repo else None
        if repo is None or found is None:
            return
        siblings = []
        for path, content in found[1].items():
            size = repo.claimed_sizes.get(path, len(content))
            entry: dict[str, Any] = {"rfilename": path, "size": size, "blobId": git_sha1(content)}
            if repo.is_large(path):
                entry["lfs"] = {"size": size, "sha256": sha256(content), "pointerSize": 134}
            siblings.append(entry)
        gated = "manual" if repo.gated else False
        self._send(200, {"id": name, "sha": found[0], "siblings": siblings, "gated": gated})

    def refs(self, name: str) -> None:
        """/api/models/NAME/refs: branches and tags."""
        repo = self._repo(name)
        if repo:
            branches = [
                {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": commit} for ref, commit in repo.refs.items()
            ]
            self._send(200, {"branches": branches, "tags": [], "converts": []})

    def tree(self, name: str, revision: str) -> None:
        """/api/models/NAME/tree/REVISION: files, as a whole-repository download asks for them."""
        repo = self._repo(name)
        found = self._files(repo, revision) if repo else None
        if repo is None or found is None:
            return
        entries = []
        for path, content in found[1].items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_sha1(content)}
            if repo.is_large(path):
                entry["lfs"] = {"size": len(content), "oid": sha256(content), "pointerSize": 134}
            entries.append(entry)
        self._send(200, entries)

    def file(self, name: str, revision: str, path: str) -> None:
        """/NAME/resolve/REVISION/FILE: the file, or for a large one the way to it."""
        repo = self._repo(name)
        found = self._files(repo, revision) if repo else None
        if repo is None or found is None:
            return
        commit, files = found
        headers = {"X-Repo-Commit": commit}
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if repo.gated and given != repo.token:
            self._send(401 if not given else 403, {"error": "gated"}, headers | {"X-Error-Code": "GatedRepo"})
        elif path not in files:
            self._send(404, {"error": "Entry not found"}, headers | {"X-Error-Code": "EntryNotFound"})
        elif repo.is_large(path):
            digest = sha256(files[path])
            headers["Location"] = f"{self.hub.storage}/storage/{name}/{digest}"
            headers["X-Linked-Size"] = str(repo.claimed_sizes.get(path, len(files[path])))
            headers["X-Linked-ETag"] = f'"{digest}"'
            self._send(302, b"", headers)
        else:
            self._content(files[path], headers | {"ETag": f'"{git_sha1(files[path])}"'})

    def stored(self, name: str, digest: str) -> None:
        """/storage/NAME/SHA256: the bytes of a large file."""
        for files in self.hub.repos[name].commits.values():
            for content in files.values():
                if sha256(content) == digest:
                    self._content(content, {"ETag": f'"{digest}"'})
                    return
        self._send(404, {"error": "no such object"})

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        if self.fault.wrong is not None:
            content = self.fault.wrong(content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked:
            first, last = int(asked[1]), int(asked[2] or len(content) - 1)
            headers = headers | {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            self._send(206, content[first : last + 1], headers)
        else:
            self._send(200, content, headers | {"Accept-Ranges": "bytes"})


NAME = r"([^/]+(?:/[^/]+)?)"
ROUTES: tuple[tuple[re.Pattern[str], Callable[..., None]], ...] = (
    (re.compile(rf"/api/models/{NAME}/refs"), Handler.refs),
    (re.compile(rf"/api/models/{NAME}/tree/(.+)"), Handler.tree),
    (re.compile(rf"/api/models/{NAME}/revision/(.+)"), Handler.model),
    (re.compile(rf"/api/models/{NAME}"), Handler.model),
    (re.compile(rf"/storage/{NAME}/([0-9a-f]{{64}})"), Handler.stored),
    (re.compile(rf"/{NAME}/resolve/([^/]+)/(.+)"), Handler.file),
)

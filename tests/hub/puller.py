"""A process that pulls models and prints what came: settings of the hub are read once, at import.

One JSON object a line on standard input, one a line on standard output. The first argument caps the size of any file
this process writes.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
from typing import Any


def answer(ref: str, revision: str | None = None, refresh: bool = False) -> dict[str, Any]:
    from graft import hub
    from graft.errors import GraftError

    start = time.monotonic()
    try:
        pulled = hub.pull(ref, revision=revision, refresh=refresh)
    except GraftError as error:
        found: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
    else:
        found = {name: getattr(pulled, name) for name in ("source", "bytes", "files", "revision")}
        found["folder"] = str(pulled.folder)
    return found | {
        "seconds": time.monotonic() - start,
        "known": [[model.name, model.source, str(model.path), model.size_bytes] for model in hub.known()],
    }


def main() -> None:
    if sys.argv[1:]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(**json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

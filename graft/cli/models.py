"""``graft pull`` and ``graft models``: which models are on this machine, and how they get there."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from graft.cli.options import AsJson
from graft.cli.output import one_line, size, write, write_columns, write_json

Reference = Annotated[str, Argument(metavar="REF", help="A folder, or a name on the hub such as org/name.")]
Revision = Annotated[str | None, Option(metavar="NAME", help="A branch, tag or commit on the hub.")]
Refresh = Annotated[bool, Option("--refresh", help="Ask the hub even if a copy is here.")]
RUNS = Path("runs")


def pull(reference: Reference, revision: Revision = None, refresh: Refresh = False, as_json: AsJson = False) -> None:
    """Bring a model to this machine; says where it lies."""
    from graft import hub

    found = hub.pull(reference, revision=revision, refresh=refresh)
    if as_json:
        write_json(
            {
                "model": reference,
                "folder": str(found.folder),
                "source": found.source,
                "revision": found.revision,
                "bytes": found.bytes,
                "files": list(found.files),
            }
        )
        return
    at = f" {found.revision}" if found.revision else ""
    write(f"{reference}: from {found.source}{at}, {len(found.files)} files, {size(found.bytes)}")
    write(str(found.folder))


def models(as_json: AsJson = False) -> None:
    """List the models on this machine, and those under ./runs."""
    from graft import hub

    here = [
        {
            "name": each.name,
            "source": each.source,
            "revision": each.revision,
            "bytes": each.size_bytes,
            "folder": str(each.path),
            **_kind(each.path),
        }
        for each in hub.known()
    ]
    here += _adapted()
    if as_json:
        for each in here:
            write_json(each)
        return
    if not here:
        write(f"no models here yet; `graft pull {hub.ENCODER}` brings the default encoder")
        return
    rows = [["model", "type", "source", "size", "folder"]]
    write_columns(rows + [_row(each) for each in here])


def _row(model: dict[str, Any]) -> list[str]:
    kind = one_line(str(model["type"])) + ("" if model["supported"] else " (not supported)")
    return [one_line(model["name"]), kind, model["source"], size(model["bytes"]), one_line(model["folder"])]


def _adapted() -> list[dict[str, Any]]:
    """Models that `graft finetune` saved under ./runs."""
    from graft.hub import folder

    return [
        {
            "name": str(found.parent),
            "source": "run",
            "revision": None,
            "bytes": folder.size(found.parent),
            "folder": str(found.parent.absolute()),
            **_kind(found.parent),
        }
        for found in sorted(RUNS.glob("*/graft.json"))
    ]


def _kind(folder: Path) -> dict[str, Any]:
    """The model_type of a folder, and whether Graft has that family."""
    from graft.errors import ModelError
    from graft.files import read_json

    try:
        stated = read_json(folder / "config.json", 2**24).get("model_type")
    except ModelError:
        stated = "elmo" if (folder / "options.json").is_file() else None
    place = Path(__file__).parent.parent / "families"
    known = [module.name for module in pkgutil.iter_modules([str(place)])]
    return {"type": stated if isinstance(stated, str) else None, "supported": stated in known}

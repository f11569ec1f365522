"""``graft show``: what a model is, from its configuration and the headers of its weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument

from graft.cli.options import AsJson
from graft.cli.output import amount, one_line, size, write, write_columns, write_json

if TYPE_CHECKING:
    from graft.checkpoint import Inspected
    from graft.model.config import Config
    from graft.shards import Shards

Reference = Annotated[str, Argument(metavar="MODEL", help="A folder, or a name on the hub.")]
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
PARTS = ("embeddings", "blocks", "final_norm", "head", "spare")
LABELS_SHOWN = 12
DRAWN = 72


def show(reference: Reference, as_json: AsJson = False) -> None:
    """Show what a model is, without loading its weights."""
    from graft import hub

    found = hub.pull(reference)
    facts: dict[str, Any] = {
        "model": reference,
        "folder": str(found.folder),
        "source": found.source,
        "revision": found.revision,
    }
    facts |= describe(found.folder)
    if as_json:
        write_json(facts)
        return
    write_columns([[one_line(name), one_line(value)] for name, value in lines(facts)])
    write()
    for line in facts["drawing"]:
        write(line)


def describe(folder: Path) -> dict[str, Any]:
    """Everything the files of a model say about it.

    Raises:
        ModelError: the folder is damaged, unsupported, or its weights and configuration disagree.
    """
    from graft import hub, sealed
    from graft.checkpoint import inspect

    seen, settings = inspect(folder), sealed.read(folder)
    config, shards = seen.backbone.config, seen.shards
    kind, options = _head(folder, seen)
    parameters = _parameters(seen)
    used = sum(parameters.values()) - parameters["spare"]
    return {
        "architecture": seen.architecture,
        "family": seen.family.name,
        "parameters": {"total": used, **parameters},
        "layers": config.layers,
        "hidden_size": config.hidden_size,
        "attention_heads": config.heads,
        "feed_forward_size": config.feed_forward_size,
        "context_length": config.positions,
        "limit": _limit(folder, settings.limit, config.positions),
        "vocab_size": config.vocab_size,
        "dtype_on_disk": _dtypes(shards),
        "bytes_on_disk": sum(entry.end - entry.begin for entry in shards.entries.values()),
        "memory_bytes": {name: used * width for name, width in BYTES.items()},
        "head": kind,
        "labels": list(options["labels"]) if "labels" in options else None,
        "task": settings.task,
        "tokenizer": _tokenizer(folder),
        "licence": hub.licence(folder),
        "drawing": drawing(config, kind, options),
    }


def _head(folder: Path, seen: Inspected) -> tuple[str | None, dict[str, Any]]:
    """The kind of the head as Graft grafts it, and what it knows."""
    from graft import pooling

    grafting = seen.family.heads.get(seen.architecture)
    if grafting is None:
        embed = pooling.read(folder)
        return (embed.kind, embed.options()) if embed else (None, {})
    options = grafting.options(seen.published)
    return ("regress" if options.get("problem") == "regression" else grafting.kind), options


def _parameters(seen: Inspected) -> dict[str, int]:
    """Numbers in the files by the part of the model they belong to; ``spare`` ones are kept and not used."""
    headless = seen.architecture not in seen.family.heads
    counted = dict.fromkeys(PARTS, 0)
    for one in seen.found:
        entry = seen.shards.entries[one.theirs]
        counted[_part(one.names[0], headless=headless)] += (entry.end - entry.begin) // entry.dtype.itemsize
    return counted


def _part(name: str, *, headless: bool) -> str:
    if name.startswith("head."):
        return "spare" if headless else "head"
    if ".blocks." in name:
        return "blocks"
    return "final_norm" if ".final_norm." in name else "embeddings"


def _limit(folder: Path, limit: int | None, positions: int) -> int:
    """Tokens a text may have: as graft.json says, else as sentence-transformers' file says, else all positions."""
    from graft import pooling

    return min(limit or pooling.limit(folder) or positions, positions)


def _dtypes(shards: Shards) -> str:
    counted = Counter(str(entry.dtype).removeprefix("torch.") for entry in shards.entries.values())
    return ", ".join(
        name if len(counted) == 1 else f"{name} ({n} tensor{'s' * (n != 1)})" for name, n in counted.most_common()
    )


def _tokenizer(folder: Path) -> str | None:
    """The kind of tokenizer, from whichever of the published files is there."""
    from graft.files import read_json

    if (folder / "tokenizer.json").is_file():
        model = read_json(folder / "tokenizer.json").get("model")
        kind = model.get("type") if isinstance(model, dict) else None
        return f"{kind or 'tokenizer'} (tokenizer.json)"
    return next((f"from {name}" for name in ("vocab.txt", "vocab.json") if (folder / name).is_file()), None)


def lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts for people."""
    parts = {name: count for name, count in facts["parameters"].items() if count and name != "total"}
    memory = ", ".join(f"{size(count)} {name}" for name, count in facts["memory_bytes"].items())
    revision = f" {facts['revision']}" if facts["revision"] else ""
    context = f"{facts['context_length']:,} tokens"
    if facts["limit"] < facts["context_length"]:
        context += f", texts cut at {facts['limit']:,}"
    shown = {
        "model": facts["model"],
        "folder": f"{facts['folder']} (from {facts['source']}{revision})",
        "architecture": f"{facts['architecture']} ({facts['family']})",
        "parameters": f"{amount(facts['parameters']['total'])}: "
        + ", ".join(f"{name.replace('_', ' ')} {amount(count)}" for name, count in parts.items()),
        "layers": str(facts["layers"]),
        "hidden size": str(facts["hidden_size"]),
        "attention heads": str(facts["attention_heads"]),
        "context length": context,
        "vocabulary": f"{facts['vocab_size']:,} tokens",
        "on disk": f"{facts['dtype_on_disk']}, {size(facts['bytes_on_disk'])}",
        "memory": f"{memory} (weights alone)",
        "head": _head_line(facts),
        "task": facts["task"] or "as pretrained",
        "tokenizer": facts["tokenizer"] or "none",
        "licence": facts["licence"] or "not stated in README.md",
    }
    return list(shown.items())


def _head_line(facts: dict[str, Any]) -> str:
    labels = facts["labels"]
    if facts["head"] is None:
        return "none; `graft finetune` grafts one"
    if not labels:
        return str(facts["head"])
    more = f" and {len(labels) - LABELS_SHOWN} more" if len(labels) > LABELS_SHOWN else ""
    return f"{facts['head']}: {', '.join(labels[:LABELS_SHOWN])}{more}"


def drawing(config: Config, kind: str | None, options: dict[str, Any]) -> list[str]:
    """The flow through the model, one block drawn out: what is added to what, and where it is normalized."""
    seen = "those before it" if config.causal else "all"
    sizes = f"{config.hidden_size} -> {config.feed_forward_size} -> {config.hidden_size}"
    steps = [
        f"attention: {config.heads} heads of {config.head_size}, each token sees {seen}",
        f"feed-forward: {sizes}, {config.activation}",
    ]
    before, after = ("norm -> ", []) if config.norm == "pre" else ("", ["  norm"])
    kinds = {"position": config.position_kind == "learned", "type": config.token_types}
    embeddings = ["token", *(kind for kind, there in kinds.items() if there)]
    drawn = [f"{' + '.join(embeddings)} embedding{' -> norm' if config.embedding_norm else ''}"]
    for step in steps:
        arrow = f"    |--> {before}{step} "
        drawn += ["    |", f"{arrow:-<{DRAWN}}.", f"{'   add <':-<{DRAWN}}'", *after]
    decoder = getattr(config, "decoder_layers", 0)
    drawn += [f"    |   ({config.layers} such blocks)", *(["  norm", "    |"] if config.norm == "pre" else [])]
    drawn += [f"decoder: {decoder} such blocks, each token sees those before it, then all of the encoder's"] * (
        decoder > 0
    )
    return [*drawn, f"head: {kind or 'none'}{_pool(options)}"]


def _pool(options: dict[str, Any]) -> str:
    pool = options.get("pool")
    return f" on the {pool} token" if pool in ("first", "last") else f" on the {pool} of the tokens" if pool else ""

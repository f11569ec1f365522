"""``graft show``: what a model is, from its configuration and the headers of its weights."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from graft.cli.options import AsJson
from graft.cli.output import amount, one_line, size, write, write_columns, write_json

if TYPE_CHECKING:
    from graft.adapters import Opened
    from graft.checkpoint import Inspected
    from graft.model.config import Config
    from graft.sealed import Drift
    from graft.shards import Shards

Reference = Annotated[str, Argument(metavar="MODEL", help="A folder, or a name on the hub.")]
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
PARTS = ("embeddings", "blocks", "final_norm", "head", "adapter", "spare")
LABELS_SHOWN = 12
DRAWN = 72
INPUT = 48


Verify = Annotated[
    bool, Option("--verify", help="Load the model and replay its golden inputs: does it answer as when it was saved?")
]


def show(reference: Reference, verify: Verify = False, as_json: AsJson = False) -> None:
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
    count, drifted = replayed(found.folder) if verify else (0, [])
    if as_json:
        write_json(facts | ({"golden_inputs": _proof(count, drifted)} if verify else {}))
    else:
        write_columns([[one_line(name), one_line(value)] for name, value in lines(facts)])
        write()
        for line in facts["drawing"]:
            write(line)
        if verify:
            _table(count, drifted)
    if drifted:
        from graft.sealed import refuse

        refuse(found.folder, drifted)


def replayed(folder: Path) -> tuple[int, list[Drift]]:
    """Replay the golden inputs: how many there are, and those that are answered otherwise.

    Raises:
        ModelError: there are none.
    """
    from graft.loading import load

    model = load(folder, dtype="float32")
    drifted = model.drifts()
    return len(model.settings.golden.inputs if model.settings.golden else ()), drifted


def _proof(count: int, drifted: list[Drift]) -> dict[str, Any]:
    """The same for JSON, which has no NaN."""
    listed = [
        {
            "input": one.input,
            "expected": list(one.expected),
            "found": [value if math.isfinite(value) else None for value in one.found],
        }
        for one in drifted
    ]
    return {"inputs": count, "drifted": listed}


def _table(count: int, drifted: list[Drift]) -> None:
    """The inputs that have drifted, as a table."""
    from graft.sealed import short

    write()
    write(f"{count - len(drifted)} of {count} golden inputs are answered as when the model was saved")
    if drifted:
        texts = [one_line(one.input if isinstance(one.input, str) else " | ".join(one.input)) for one in drifted]
        cut = [text if len(text) <= INPUT else f"{text[: INPUT - 1]}…" for text in texts]
        rows = [[text, short(one.expected), short(one.found)] for text, one in zip(cut, drifted, strict=True)]
        write_columns([["input", "expected", "found"], *rows])


def describe(folder: Path) -> dict[str, Any]:
    """Everything the files of a model say about it.

    Raises:
        ModelError: the folder is damaged, unsupported, or its weights and configuration disagree.
    """
    from graft import adapters, hub, sealed
    from graft.checkpoint import inspect

    put_on = adapters.look(folder) if adapters.holds(folder) else None
    seen, settings = put_on.seen if put_on else inspect(folder), sealed.read(folder)
    config, shards = seen.backbone.config, put_on.shards if put_on else seen.shards
    kind, options = _head(folder, seen)
    parameters, spelled = _parameters(seen, put_on), seen.family.words is not None
    used = sum(parameters.values()) - parameters["spare"]
    return {
        "architecture": seen.architecture,
        "family": seen.family.name,
        "base": put_on.base.reference if put_on else None,
        "adapter": _adapter(put_on) if put_on else None,
        "parameters": {"total": used, **parameters},
        "layers": config.layers,
        "decoder_layers": getattr(config, "decoder_layers", 0),
        "hidden_size": config.hidden_size,
        "attention_heads": None if spelled else config.heads,
        "feed_forward_size": config.feed_forward_size,
        "context_length": None if spelled else _tokens(config.positions),
        "limit": None if spelled else _limit(folder, settings.limit, config.positions),
        "vocab_size": config.vocab_size,
        "dtype_on_disk": _dtypes(shards),
        "bytes_on_disk": sum(entry.end - entry.begin for entry in shards.entries.values()),
        "memory_bytes": {name: used * width for name, width in BYTES.items()},
        "head": kind,
        "labels": list(options["labels"]) if "labels" in options else None,
        "task": settings.task,
        "tokenizer": _tokenizer(folder) or (_tokenizer(put_on.base.folder) if put_on else None),
        "licence": hub.licence(folder),
        "drawing": (drawing_of_words if spelled else drawing)(config, kind, options),
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


def _adapter(put_on: Opened) -> str:
    """What an adapter puts on which layers, in words."""
    if put_on.mixed:
        return f"a mix of {put_on.seen.backbone.config.layers + 1} layers"
    wrapped = [(name, len(put_on.shards.tensor(one.a))) for one in put_on.factors for name in one.place.names]
    kind, sizes = ("LoRA of rank", dict(wrapped)) if put_on.factors else ("bottlenecks of size", put_on.sizes)
    layers = Counter(name.removesuffix(".weight").rpartition(".")[2] for name in sizes)
    on = ", ".join(f"{count} {layer}" for layer, count in layers.items()) or "nothing"
    return f"{kind} {', '.join(map(str, sorted(set(sizes.values()))))} on {on}"


def _parameters(seen: Inspected, put_on: Opened | None) -> dict[str, int]:
    """Numbers in the files by the part of the model they belong to; ``spare`` ones are kept and not used."""
    used, counted = _used(seen), dict.fromkeys(PARTS, 0)
    others = put_on.others if put_on else []
    replaced = {name for one in others for name in one.names}
    own = put_on.shards.entries if put_on else {}
    placed = {one.theirs: _part(one.names[0], used) for one in others}
    files = [
        (seen.shards.entries[one.theirs], _part(one.names[0], used))
        for one in seen.found
        if one.names[0] not in replaced
    ]
    for entry, part in [*files, *((entry, placed.get(name, "adapter")) for name, entry in own.items())]:
        counted[part] += (entry.end - entry.begin) // entry.dtype.itemsize
    return counted


def _used(seen: Inspected) -> set[str]:
    """Names of the tensors the head computes with."""
    import torch

    from graft import heads

    grafting = seen.family.heads.get(seen.architecture)
    if grafting is None:
        return set()
    with torch.device("meta"):
        head = heads.make(grafting.kind, grafting.options(seen.published), seen.backbone.token_embedding)
    return {f"head.{name}" for name in head.own()}


def _part(name: str, used: set[str]) -> str:
    if name.startswith("head."):
        return "head" if name in used else "spare"
    if ".blocks." in name:
        return "blocks"
    return "final_norm" if ".final_norm." in name else "embeddings"


def _limit(folder: Path, limit: int | None, positions: int) -> int | None:
    """Tokens a text may have: as graft.json says, else as sentence-transformers' file says, else all positions."""
    from graft import pooling

    return _tokens(min(limit or pooling.limit(folder) or positions, positions))


def _tokens(positions: int) -> int | None:
    """A number of tokens; None where a model sets no limit."""
    from graft.model.config import UNLIMITED

    return None if positions == UNLIMITED else positions


def _dtypes(shards: Shards) -> str:
    counted = Counter(str(entry.dtype).removeprefix("torch.") for entry in shards.entries.values())
    return ", ".join(
        name if len(counted) == 1 else f"{name} ({n} tensor{'s' * (n != 1)})" for name, n in counted.most_common()
    )


def _tokenizer(folder: Path) -> str | None:
    """The kind of tokenizer, from whichever of the published files is there."""
    from graft.files import read_json
    from graft.text import FILES

    if (folder / "tokenizer.json").is_file():
        model = read_json(folder / "tokenizer.json").get("model")
        kind = model.get("type") if isinstance(model, dict) else None
        return f"{kind or 'tokenizer'} (tokenizer.json)"
    return next((f"from {name}" for name in FILES if (folder / name).is_file()), None)


def lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts for people."""
    parts = {name: count for name, count in facts["parameters"].items() if count and name != "total"}
    memory = ", ".join(f"{size(count)} {name}" for name, count in facts["memory_bytes"].items())
    revision = f" {facts['revision']}" if facts["revision"] else ""
    unlimited = "no limit" if facts["attention_heads"] else "any number of words"
    context = f"{facts['context_length']:,} tokens" if facts["context_length"] else unlimited
    if facts["limit"] != facts["context_length"]:
        context += f", texts cut at {facts['limit']:,}"
    more = f", and {facts['decoder_layers']} in the decoder" if facts["decoder_layers"] else ""
    shown = {
        "model": facts["model"],
        "folder": f"{facts['folder']} (from {facts['source']}{revision})",
        "architecture": f"{facts['architecture']} ({facts['family']})",
        **({"base": facts["base"], "adapter": facts["adapter"]} if facts["base"] else {}),
        "parameters": f"{amount(facts['parameters']['total'])}: "
        + ", ".join(f"{name.replace('_', ' ')} {amount(count)}" for name, count in parts.items()),
        "layers": f"{facts['layers']}{more}",
        "hidden size": str(facts["hidden_size"]),
        "attention heads": str(facts["attention_heads"] or "none"),
        "context length": context,
        "vocabulary": f"{facts['vocab_size']:,} {'characters' if facts['attention_heads'] is None else 'tokens'}",
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
    before, after = ("norm -> ", []) if config.norm == "pre" else ("", ["  norm"])
    learned = config.position_kind == "learned"
    embeddings = ["token", *["position"] * learned, *["type"] * (learned and config.token_types > 0)]
    drawn = [f"{' + '.join(embeddings)} embedding{' -> norm' if config.embedding_norm else ''}"]
    arrows = [f"    |--> {before}{step} " for step in (_attention(config), _feed_forward(config))]
    width = max(DRAWN, *(len(arrow) + 1 for arrow in arrows))
    for arrow in arrows:
        drawn += ["    |", f"{arrow:-<{width}}.", f"{'   add <':-<{width}}'", *after]
    drawn += [f"    |   ({config.layers} such blocks)", *(["  norm", "    |"] if config.norm == "pre" else [])]
    if decoder := getattr(config, "decoder_layers", 0):
        drawn.append(f"decoder: {decoder} such blocks, each token sees those before it, then all of the encoder's")
    return [*drawn, f"head: {kind or 'none'}{_seen_by(kind, options)}"]


def drawing_of_words(config: Config, kind: str | None, options: dict[str, Any]) -> list[str]:
    """The same for a model that makes words of characters and reads them from both sides."""
    half = config.hidden_size // 2
    return [
        f"characters -> convolutions -> highway layers -> {half}, once for each side",
        "    |",
        f"LSTM from the left, LSTM from the right: {half} -> {config.feed_forward_size} cells -> {half} each",
        f"    |   ({config.layers} such layers)",
        f"head: {kind or 'none'}{_seen_by(kind, options)}",
    ]


def _attention(config: Config) -> str:
    seen = "those before it" if config.causal else "all"
    if any(config.windows):
        sizes = dict.fromkeys(f"{size:,}" if size else "all" for size in config.windows)
        seen += f", {' or '.join(sizes)} by layer" if len(sizes) > 1 else f", {next(iter(sizes))} at most"
    shared = f", keys and values {config.key_heads}" if config.key_heads < config.heads else ""
    places = {"rotary": ", rotary", "none": ", relative positions"}.get(config.position_kind, "")
    return f"attention: {config.heads} heads of {config.head_size}{shared}{places}, sees {seen}"


def _feed_forward(config: Config) -> str:
    gate = ", gated" if config.gated else ""
    size = config.experts.size if config.experts else config.feed_forward_size
    sizes = f"{config.hidden_size} -> {size} -> {config.hidden_size}, {config.activation}{gate}"
    if config.experts is None:
        return f"feed-forward: {sizes}"
    shared = " and one shared" if config.experts.shared else ""
    return f"{config.experts.chosen} of {config.experts.count} experts{shared}: {sizes}"


def _seen_by(kind: str | None, options: dict[str, Any]) -> str:
    """What of the sequence a head looks at."""
    from graft.heads import HEADS

    if kind and HEADS[kind].per_token:
        return " on every token"
    pool = options.get("pool")
    return f" on the {pool} token" if pool in ("first", "last") else f" on the {pool} of the tokens" if pool else ""

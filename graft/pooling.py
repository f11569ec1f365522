"""The files by which a sentence-transformers folder says how token states become one vector."""

from __future__ import annotations

from pathlib import Path

from graft.errors import ModelError
from graft.files import read_json, read_json_list, write_json
from graft.heads import Embed

POOLING = {"pooling_mode_cls_token": "first", "pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last"}


def read(folder: Path) -> Embed | None:
    """How a sentence-transformers folder pools, or None where it is not one.

    Raises:
        ModelError: it does more to a text than pool and normalize, or a file is damaged.
    """
    if not (folder / "modules.json").is_file():
        return None
    kinds = _modules(folder / "modules.json")
    path = folder / "1_Pooling" / "config.json"
    stated = read_json(path) if path.is_file() else {"pooling_mode_mean_tokens": True}
    modes = [key for key, value in stated.items() if key.startswith("pooling_mode") and value is True]
    if "pooling_mode" in stated:
        modes = [f"pooling_mode_{stated['pooling_mode']}_tokens"]
    if len(modes) != 1 or modes[0] not in POOLING:
        raise ModelError(f"{path}: pools by {modes}; Graft pools by one of: {', '.join(POOLING)}")
    return Embed(pool=POOLING[modes[0]], normalize="Normalize" in kinds)  # type: ignore[arg-type]


def _modules(path: Path) -> list[str]:
    """The kinds of modules a text goes through; what Graft does not have would change every embedding."""
    types = [module.get("type") if isinstance(module, dict) else None for module in read_json_list(path)]
    kinds = [str(name).rpartition(".")[2] for name in types]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelError(
            f"{path}: the text goes through {', '.join(kinds) or 'nothing'}; "
            "Graft has Transformer, Pooling and then, if wanted, Normalize"
        )
    return kinds


def limit(folder: Path) -> int | None:
    """Tokens a sentence-transformers folder cuts texts at; None where none are stated.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / "sentence_bert_config.json"
    stated = read_json(path).get("max_seq_length") if path.is_file() else None
    return stated if isinstance(stated, int) and stated > 0 else None


def write(folder: Path, head: Embed, size: int, limit: int | None) -> None:
    """The files by which sentence-transformers opens the folder."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if head.normalize else [])]
    modules = [
        {
            "idx": n,
            "name": str(n),
            "path": "" if n == 0 else f"{n}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for n, kind in enumerate(kinds)
    ]
    (folder / "1_Pooling").mkdir()
    modes = {mode: how == head.pool for mode, how in POOLING.items()}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": size, **modes})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    write_json(folder / "modules.json", modules)

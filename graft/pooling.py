"""The files by which a sentence-transformers folder says how token states become one vector."""

from __future__ import annotations

from pathlib import Path

from graft.errors import ModelError
from graft.files import read_json, write_json
from graft.heads import Embed

POOLING = {"pooling_mode_cls_token": "first", "pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last"}


def read(folder: Path) -> Embed | None:
    """How a sentence-transformers folder pools, or None where it is not one."""
    if not (folder / "modules.json").is_file():
        return None
    path = folder / "1_Pooling" / "config.json"
    stated = read_json(path) if path.is_file() else {"pooling_mode_mean_tokens": True}
    modes = [key for key, value in stated.items() if key.startswith("pooling_mode") and value is True]
    if "pooling_mode" in stated:
        modes = [f"pooling_mode_{stated['pooling_mode']}_tokens"]
    if len(modes) != 1 or modes[0] not in POOLING:
        raise ModelError(f"{path}: pools by {modes}; Graft pools by one of: {', '.join(POOLING)}")
    normalize = "Normalize" in (folder / "modules.json").read_text(encoding="utf-8")
    return Embed(pool=POOLING[modes[0]], normalize=normalize)  # type: ignore[arg-type]


def write(folder: Path, head: Embed, size: int, limit: int) -> None:
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

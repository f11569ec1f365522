"""Damaged model files without end: each must be read, or refused in one line, at once and within little memory.

    python tests/fuzz_readers.py SECONDS [SEED]

Starts from good files, damages bytes, or values in their JSON, and reads them: safetensors, the index of shards,
config.json of several families, tokenizer.json, vocab.txt, vocab.json with merges.txt. Ends at the first finding, which
it leaves in the folder it names; else prints how many files of each kind were read, and how many refused, as JSON.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import conftest
import torch
from safetensors.torch import save_file

from graft import checkpoint, families
from graft.errors import GraftError
from graft.model.config import Config, Experts
from graft.shards import INDEX, SINGLE, Shards
from graft.text import Frame, Tokenizer

SECONDS, MEMORY = 2.0, 512 * 2**20
PIECES = [b'"', b"\\", b"{", b"}", b"[" * 50, b",", b":", b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"9" * 30]
PIECES += [b"18446744073709551616", b"4294967295", b"../", b"\0", b"\xff", b"\xef\xbb\xbf", b"\\ud800", b"\n", b" "]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**53,
    2**64,
    10**40,
    0.5,
    -1.5,
    "",
    "x",
    "\ud800",
    [],
    {},
    [1],
    "../x",
]
VALUES += ["a" * 1000, {"a": {"b": []}}, "F16", "gelu", "llama", "BPE", "Replace", [[["x"]]]]
SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "layers": 2,
    "heads": 4,
    "feed_forward_size": 32,
    "positions": 16,
}
ROTARY = {"position_kind": "rotary", "norm_kind": "rms", "gated": True, "biases": ()}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {"token_types": 2, "embedding_norm": True},
    "gpt2": {"norm": "pre", "causal": True},
    "llama": {"norm": "pre", "causal": True, **ROTARY},
    "mixtral": {"norm": "pre", "causal": True, **ROTARY, "experts": Experts(count=4, chosen=2, size=32)},
}


def configs() -> list[bytes]:
    found = []
    for name, more in CONFIGS.items():
        family = families.find(name)
        found.append(json.dumps({"architectures": [family.bare], **family.publish(Config(**SIZES, **more))}).encode())
    return found


def weights(folder: Path) -> bytes:
    save_file({"a": torch.ones(3, 4), "b.c": torch.zeros(2, dtype=torch.bfloat16), "d": torch.ones(())}, folder / "w")
    return (folder / "w").read_bytes()


def read_weights(folder: Path) -> None:
    shards = Shards(folder)
    shards.not_finite()
    for name in shards.entries:
        shards.tensor(name).clone()


def read_words(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder, Frame())
    tokenizer.encode(["some words, 12!", ("a", "b")])


Reader = Callable[[Path], Any]


def targets(scratch: Path) -> dict[str, tuple[Reader, list[dict[str, bytes]]]]:
    """What is read, how, and good files to start from; the first file of each is the one damaged."""
    tokenizers = []
    for save in (conftest._save_word_piece, conftest._save_bytes):
        save(scratch)
        tokenizers.append({"tokenizer.json": (scratch / "tokenizer.json").read_bytes()})
    good = weights(scratch)
    index = json.dumps({"metadata": {}, "weight_map": dict.fromkeys(("a", "b.c", "d"), "x.safetensors")}).encode()
    words = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdef", "##g"]).encode()
    pairs = {"vocab.json": b'{"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}', "merges.txt": b"#version: 0.2\na b\nab c\n"}
    return {
        "safetensors": (read_weights, [{SINGLE: good}]),
        "index": (read_weights, [{INDEX: index, "x.safetensors": good}]),
        "config.json": (checkpoint.read_config, [{"config.json": one} for one in configs()]),
        "tokenizer.json": (read_words, tokenizers),
        "vocab.txt": (read_words, [{"vocab.txt": words}]),
        "vocab.json": (read_words, [pairs]),
        "merges.txt": (read_words, [dict(reversed(pairs.items()))]),
    }


def damaged(content: bytes, draw: random.Random) -> bytes:
    """One to four changes of bytes, or of values where it is JSON (in safetensors, of the header's)."""
    if draw.random() < 0.5:
        changed = _revalued(content, draw)
        if changed is not None:
            return changed
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        place, kind = draw.randrange(len(data) + 1), draw.randrange(5)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[place:place] = draw.choice(PIECES)
        elif kind == 2:
            del data[place : place + draw.choice((1, 2, 8, 100))]
        elif kind == 3:
            data[place : place + 4] = draw.choice(PIECES)
        else:
            start = draw.randrange(len(data) + 1)
            data[place:place] = data[start : start + draw.randrange(1, 64)]
    return bytes(data)


def _revalued(content: bytes, draw: random.Random) -> bytes | None:
    try:
        return json.dumps(_replaced(json.loads(content), draw)).encode()
    except ValueError:
        pass
    try:
        size = int.from_bytes(content[:8], "little")
        head = json.dumps(_replaced(json.loads(content[8 : 8 + size]), draw)).encode()
    except ValueError:
        return None
    return len(head).to_bytes(8, "little") + head + content[8 + size :]


def _replaced(node: Any, draw: random.Random) -> Any:
    """Walk down at random and replace a value, add one, or take one out."""
    if isinstance(node, dict | list) and node and draw.random() < 0.85:
        key = draw.choice(list(node)) if isinstance(node, dict) else draw.randrange(len(node))
        kind = draw.random()
        if kind < 0.1:
            del node[key]
        elif kind < 0.2 and isinstance(node, dict):
            node[draw.choice(["extra", "a" * 300, "", "type", "vocab_size"])] = draw.choice(VALUES)
        else:
            node[key] = _replaced(node[key], draw)
        return node
    return draw.choice(VALUES)


def attempt(read: Reader, folder: Path) -> bool:
    """Whether it was refused.

    Raises:
        AssertionError: it was refused in another way than it must be.
    """
    start, refusal = time.process_time(), None
    try:
        read(folder)
    except GraftError as error:
        refusal = str(error)
    taken = time.process_time() - start
    assert taken < SECONDS, f"took {taken:.1f} s"
    assert refusal is None or refusal.isprintable() and len(refusal) < 5000, refusal
    return refusal is not None


def main(seconds: float, seed: int = 0) -> dict[str, dict[str, int]]:
    draw, scratch = random.Random(seed), Path(tempfile.mkdtemp(prefix="fuzz-"))
    kinds = targets(scratch)
    counts = {name: {"read": 0, "refused": 0} for name in kinds}
    for read, bases in kinds.values():  # what libraries load on first use is not the files' doing
        for files in bases:
            lay(scratch / "case", files)
            assert not attempt(read, scratch / "case")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, resource.RLIM_INFINITY))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name = draw.choice(list(kinds))
        read, bases = kinds[name]
        files = dict(draw.choice(bases))
        first = next(iter(files))
        files[first] = damaged(files[first], draw)
        lay(scratch / "case", files)
        try:
            refused = attempt(read, scratch / "case")
        except BaseException as error:
            raise SystemExit(
                f"{name}: {type(error).__name__}: {error}: see {scratch / 'case'} (seed {seed})"
            ) from error
        counts[name]["refused" if refused else "read"] += 1
    return counts


def lay(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    print(json.dumps(main(float(sys.argv[1]), *map(int, sys.argv[2:3]))))  # noqa: T201

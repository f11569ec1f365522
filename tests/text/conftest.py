"""Small tokenizers and folders of every kind, made in the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from graft.text import Frame, Tokenizer

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "b",
    "c",
    "un",
    "##able",
    "##s",
    "cafe",
    "über",
    "!",
    "中",
    "d",
]


@pytest.fixture
def json_folder(tmp_path: Path) -> Callable[..., Path]:
    """Save a tokenizer of the library as tokenizer.json, with further JSON files by name."""

    def write(library: tokenizers.Tokenizer, **files: Any) -> Path:
        library.save(str(tmp_path / "tokenizer.json"))
        return write_json(tmp_path, files)

    return write


@pytest.fixture
def word_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of the oldest kind, vocab.txt, with further JSON files by name."""

    def write(words: list[str] = WORDS, **files: Any) -> Path:
        (tmp_path / "vocab.txt").write_text("".join(word + "\n" for word in words), encoding="utf-8")
        return write_json(tmp_path, files)

    return write


def write_json(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def bert(word_folder: Callable[..., Path]) -> Tokenizer:
    frame = Frame(start=("cls_token",), between=("sep_token",), end=("sep_token",), types=True)
    return Tokenizer.from_folder(word_folder(), frame)


@pytest.fixture
def byte_level() -> Callable[[], tokenizers.Tokenizer]:
    """Train a byte-level BPE tokenizer on one sentence."""

    def train() -> tokenizers.Tokenizer:
        library = tokenizers.Tokenizer(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=320,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<|endoftext|>"],
            show_progress=False,
        )
        library.train_from_iterator(["the cat sat on the mat, then the cat ate the rat"] * 4, trainer)
        return library

    return train


SENTENCES = [
    "the cat sat on the mat, then the cat ate the rat.",
    "Über naïve cafés: 12,345 of 3, and ``quoted'' words!",
    "中文字 и русский текст, γράμματα; the  end (of it) £5 – “so”",
]
"""What small SentencePiece models are trained on."""


@pytest.fixture(scope="session")
def piece_model() -> Callable[..., bytes]:
    """Train a small SentencePiece model: options of its trainer in, the file's content out."""
    import io

    import sentencepiece

    @cache
    def train(**options: Any) -> bytes:
        written = io.BytesIO()
        options = {"vocab_size": 400, "hard_vocab_limit": False, **options}
        if options.get("model_type") == "bpe":
            options["vocab_size"] = 150 + 256 * options.get("byte_fallback", False)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 20), model_writer=written, minloglevel=2, **options
        )
        return written.getvalue()

    return train


@pytest.fixture
def piece_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder with one SentencePiece file, with further JSON files by name."""

    def write(content: bytes, file: str = "spiece.model", **files: Any) -> Path:
        tmp_path.joinpath(file).write_bytes(content)
        return write_json(tmp_path, files)

    return write

"""A model folder's tokenizer files, current and old, into a tokenizer of the library. The folder is not trusted."""

from __future__ import annotations

import base64
import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from graft.errors import GraftError, ModelError, plain
from graft.files import JSON_BYTES, read_json
from graft.text import sentencepiece
from graft.text.frame import spelled
from graft.text.sentencepiece import GROWTH

FILES = ("tokenizer.json", "vocab.txt", "vocab.json", *sentencepiece.FILES)
"""What a folder's tokenizer is read from: the first of these that is there (vocab.json needs merges.txt beside it)."""

ADDED_OPTIONS = ("single_word", "lstrip", "rstrip", "normalized", "special")
"""What a folder may say of an added token."""

WORD_CHARACTERS = 1000
"""The longest word WordPiece may take up: its time grows faster than the word. Published tokenizers give up at 100."""


@contextlib.contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Turn whatever goes wrong in the library into a ModelError; its panics too, which are no Exception."""
    try:
        yield
    except GraftError:
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ModelError(f"{what}: {plain(error)}") from error
        raise


def read_config(folder: Path) -> dict[str, Any]:
    """Read tokenizer_config.json; older folders say more in special_tokens_map.json, newer ones in chat_template.jinja.

    Raises:
        ModelError: a file is damaged.
    """
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            config |= read_json(folder / name)
    if (folder / "chat_template.jinja").is_file():
        config["chat_template"] = _read_text(folder / "chat_template.jinja")
    return config


def read_library(folder: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    """Read tokenizer.json, else vocab.txt (WordPiece), else vocab.json and merges.txt (BPE), else a SentencePiece file.

    Args:
        folder: the model folder.
        config: from read_config(); what vocab.txt shows about it is filled in.

    Raises:
        ModelError: none of them is there, one is damaged, or one is made to exhaust its reader.
    """
    if (folder / "tokenizer.json").is_file():
        return _current(folder / "tokenizer.json")
    pieces = next((folder / name for name in sentencepiece.FILES if (folder / name).is_file()), None)
    if (folder / "vocab.txt").is_file():
        library = _word_piece(folder / "vocab.txt", config)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        library = _byte_pairs(folder, config)
    elif pieces:
        kind = _kind(folder, config) or ("xlmroberta" if pieces.name == "sentencepiece.bpe.model" else "")
        with library_errors(f"{pieces}: the tokenizer cannot be built"):
            library = sentencepiece.build(pieces, kind, config)
    else:
        others = sorted(
            file.name for file in folder.glob("*") if file.name.startswith(("token", "vocab", "merges", "spiece"))
        )
        raise ModelError(
            f"{folder}: no tokenizer. Looked for tokenizer.json, vocab.txt, vocab.json with merges.txt, "
            f"{', '.join(sentencepiece.FILES)}; found "
            f"{', '.join(others) or 'nothing of the kind'}. Saving it once with transformers writes tokenizer.json"
        )
    _add_tokens(library, folder, config)
    return library


def _model_config(folder: Path) -> dict[str, Any]:
    return read_json(folder / "config.json") if (folder / "config.json").is_file() else {}


def _kind(folder: Path, config: Mapping[str, Any]) -> str:
    """The published tokenizer a folder asks for, as "t5" or "xlmroberta": by its class, else by the model's type."""
    model = _model_config(folder)
    for name in (config.get("tokenizer_class"), model.get("tokenizer_class"), model.get("model_type")):
        kind = re.sub("Tokenizer(Fast)?$|[-_]", "", name).lower() if isinstance(name, str) else ""
        if kind not in ("", "pretrained", "auto"):
            return kind
    return ""


def _current(path: Path) -> tokenizers.Tokenizer:
    source = read_json(path)
    with library_errors(f"{path}: the tokenizer cannot be built"):
        library = tokenizers.Tokenizer.from_file(str(path))
        library.no_truncation()
        library.no_padding()
        growth = max(_growth(source.get("normalizer")), _growth(source.get("decoder")))
    if growth > GROWTH:
        raise ModelError(
            f"{path}: its replacements can make a text more than {GROWTH} times longer; it is made to do harm"
        )
    if isinstance(library.model, models.WordPiece) and library.model.max_input_chars_per_word > WORD_CHARACTERS:
        raise ModelError(
            f"{path}: max_input_chars_per_word is above {WORD_CHARACTERS} (usual: 100); a word would take too long"
        )
    return library


def _growth(node: Any) -> int:
    """The most a chain of replacements can lengthen a text, each replacing one character."""
    if isinstance(node, list):
        return math.prod(_growth(inner) for inner in node)
    if not isinstance(node, dict):
        return 1
    own = len(node["content"]) if node.get("type") == "Replace" else 1
    if node.get("type") == "Precompiled":
        own = sentencepiece.growth(base64.b64decode(node["precompiled_charsmap"]))
    return max(1, own) * _growth(list(node.values()))


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > JSON_BYTES:
            raise ModelError(f"{path}: {path.stat().st_size} bytes, expected at most {JSON_BYTES}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def _lines(path: Path) -> list[str]:
    return _read_text(path).removesuffix("\n").split("\n")


def _word_piece(path: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    vocab = {token: index for index, token in enumerate(_lines(path))}
    # Old folders do not all say whether they are cased. A vocabulary that has words with capitals is.
    cased = any(token != token.lower() for token in vocab if not token.startswith(("[", "<")))
    config.setdefault("do_lower_case", _model_config(path.parent).get("do_lower_case", not cased))
    unknown = spelled(config.get("unk_token")) or "[UNK]"
    with library_errors(f"{path}: the tokenizer cannot be built"):
        library = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=unknown, max_input_chars_per_word=100))
        library.normalizer = normalizers.BertNormalizer(
            lowercase=bool(config["do_lower_case"]),
            strip_accents=config.get("strip_accents"),
            handle_chinese_chars=bool(config.get("tokenize_chinese_chars", True)),
        )
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece(prefix="##")
    return library


def _byte_pairs(folder: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    vocab = read_json(folder / "vocab.json")
    odd = next((token for token, index in vocab.items() if type(index) is not int or not 0 <= index < 2**32), None)
    if odd is not None:
        raise ModelError(f"{folder / 'vocab.json'}: the token {odd!r:.60} has id {vocab[odd]!r:.60}, expected a number")
    merges = []
    for number, line in enumerate(_lines(folder / "merges.txt"), 1):
        pair = line.split(" ")
        if line and not line.startswith("#version"):
            if len(pair) != 2:
                raise ModelError(
                    f"{folder / 'merges.txt'}, line {number}: expected two tokens and a space, found {line!r:.60}"
                )
            absent = [token for token in (*pair, "".join(pair)) if token not in vocab]
            if absent:  # the library would panic
                raise ModelError(f"{folder / 'merges.txt'}, line {number}: {absent[0]!r:.60} is not in vocab.json")
            merges.append((pair[0], pair[1]))
    with library_errors(f"{folder}: vocab.json and merges.txt make no tokenizer"):
        kind = _kind(folder, config)
        if kind == "openaigpt" or not kind and "<unk>" in vocab and any(token.endswith("</w>") for token in vocab):
            return _openai_gpt(vocab, merges)
        library = tokenizers.Tokenizer(models.BPE(vocab, merges))
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=config.get("add_prefix_space") is True)
        library.decoder = decoders.ByteLevel()
        if "<mask>" in vocab:  # RoBERTa's mask takes the space before it along
            library.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    return library


def _openai_gpt(vocab: dict[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    """GPT-1 has the same two files, but its pairs are of characters, and a word's last one ends in "</w>"."""
    library = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", end_of_word_suffix="</w>"))
    library.normalizer = normalizers.BertNormalizer(lowercase=True)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.BPEDecoder(suffix="</w>")
    return library


def _add_tokens(library: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any]) -> None:
    """Add what a folder of the old kind adds to its vocabulary, at the ids it says."""
    table = config.get("added_tokens_decoder") or {}
    if not table and (folder / "added_tokens.json").is_file():
        table = {index: {"content": name} for name, index in read_json(folder / "added_tokens.json").items()}
    with library_errors(f"{folder}: its added tokens cannot be read"):
        entries = {int(index): entry for index, entry in table.items()}
        for index in sorted(entries):
            name = entries[index]["content"]
            options = {option: entries[index][option] for option in ADDED_OPTIONS if option in entries[index]}
            library.add_tokens([tokenizers.AddedToken(name, **options)])
            if library.token_to_id(name) != index:
                raise ModelError(
                    f"{folder}: the added token {name!r} is to have id {index}, would get {library.token_to_id(name)}"
                )

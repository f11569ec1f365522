"""What each token of a vocabulary writes, as bytes: where it begins a word, and where it ends one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tokenizers

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
SPACE = "\u2581"
"""How SentencePiece writes a space."""


@dataclass(frozen=True, slots=True)
class Surface:
    """What one token writes.

    Attributes:
        space: it begins with a space.
        word: the letters and digits that follow that, UTF-8.
        ends: something else comes after them, so that the word is over.
    """

    space: bool
    word: bytes
    ends: bool


def surfaces(library: tokenizers.Tokenizer, size: int) -> list[Surface | None]:
    """For each id below size what it writes; None for special tokens and ids without a token."""
    spell = _speller(library)
    special = {number for number, token in library.get_added_tokens_decoder().items() if token.special}
    found: list[Surface | None] = [None] * size
    for token, number in library.get_vocab(with_added_tokens=True).items():
        if number < size and number not in special:
            found[number] = _cut(spell(token))
    return found


def begins_with_space(library: tokenizers.Tokenizer) -> bool | None:
    """Whether what a word's first token writes begins with a space: None where it says if there is one.

    It always does where only later pieces are marked (WordPiece), and never where last pieces are (GPT-1).
    """
    kinds = set(_kinds(library))
    if kinds & {"ByteLevel", "Metaspace", "Replace", "ByteFallback"}:
        return None
    return "BPEDecoder" not in kinds


def _cut(written: bytes) -> Surface:
    space = written[:1] == b" "
    body = written[space:]
    length = _word_length(body)
    return Surface(space, body[:length], length < len(body))


def _word_length(body: bytes) -> int:
    """Bytes that are letters or digits, or an apostrophe with one after it; halves of characters count as letters."""
    text = body.decode("utf-8", "surrogateescape")
    place = 0
    while place < len(text):
        sign, after = text[place], text[place + 1 : place + 2]
        if not (sign.isalnum() or "\udc80" <= sign <= "\udcff" or (sign in "'’" and after.isalpha())):
            break
        place += 1
    return len(text[:place].encode("utf-8", "surrogateescape"))


def _kinds(library: tokenizers.Tokenizer) -> Iterator[str]:
    def flat(decoder: dict[str, Any]) -> Iterator[str]:
        yield str(decoder.get("type"))
        for one in decoder.get("decoders", ()):
            yield from flat(one)

    if library.decoder is not None:
        yield from flat(json.loads(library.decoder.__getstate__()))


def _speller(library: tokenizers.Tokenizer) -> Callable[[str], bytes]:
    """How this kind of vocabulary writes its tokens."""
    kinds = set(_kinds(library))
    if "ByteLevel" in kinds:
        table = _bytes()
        return lambda token: bytes(table[sign] for sign in token) if set(token) <= table.keys() else token.encode()
    if "WordPiece" in kinds:
        return lambda token: (token[2:] if token.startswith("##") else f" {token}").encode()
    if "BPEDecoder" in kinds:
        return lambda token: token.replace("</w>", " ").encode()
    if kinds & {"Metaspace", "Replace", "ByteFallback"}:
        return _sentence_piece
    return lambda token: f" {token}".encode()


def _sentence_piece(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(SPACE, " ").encode()


def _bytes() -> dict[str, int]:
    """The signs byte-level vocabularies write bytes with: printable ones as themselves, others from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(others)}

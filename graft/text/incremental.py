"""Token ids into text as they come, one by one: the same text as that of all of them decoded at once.

The library's decoders take a whole list of tokens through a chain of steps. Here every step is one that takes a token
at a time and gives back what can no longer change: bytes wait for the rest of their character, a run of byte tokens for
its end (the library reads all of it as UTF-8 or none), the space behind GPT-1's words for the next word. A chain with a
step not known here gives everything at the end.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import tokenizers

from graft.text.read import library_errors

PRINTED = (*range(33, 127), *range(161, 173), *range(174, 256))
OTHERS = [byte for byte in range(256) if byte not in PRINTED]
BYTES = {chr(byte): byte for byte in PRINTED} | {chr(256 + number): byte for number, byte in enumerate(OTHERS)}
"""The byte that each sign of a byte-level vocabulary stands for (Radford et al. 2019)."""

CLEANED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)
"""What WordPiece's decoder puts right, in this order."""


class Step(Protocol):
    """One step of a chain."""

    def add(self, piece: str) -> Sequence[str]:
        """Take a piece; give those that can no longer change."""

    def end(self) -> Sequence[str]:
        """Give the rest."""


class Each:
    """A step that looks at every piece by itself, and at whether it is the first."""

    def __init__(self, change: Callable[[str, bool], str]) -> None:
        self.change, self.first = change, True

    def add(self, piece: str) -> Sequence[str]:
        """One piece for each."""
        first, self.first = self.first, False
        return (self.change(piece, first),)

    def end(self) -> Sequence[str]:
        """Nothing waits."""
        return ()


class ByteLevel:
    """Every character of a token stands for a byte; bytes that are no UTF-8 become replacement characters."""

    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, piece: str) -> Sequence[str]:
        """Whole characters; a token with a sign that stands for no byte is taken as it is."""
        found = [BYTES.get(sign) for sign in piece]
        return (self.decoder.decode(piece.encode() if None in found else bytes(found)),)  # type: ignore[arg-type]

    def end(self) -> Sequence[str]:
        """A replacement character for bytes that are left."""
        return (self.decoder.decode(b"", final=True),)


class ByteFallback:
    """Tokens such as <0xE2> stand for bytes; a run of them is a text, or a replacement character for each."""

    def __init__(self) -> None:
        self.run = bytearray()

    def add(self, piece: str) -> Sequence[str]:
        """Nothing until a run has ended."""
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            try:
                self.run.append(int(piece[3:5], 16))
            except ValueError:
                pass
            else:
                return ()
        return (*self.end(), piece)

    def end(self) -> Sequence[str]:
        """What a run stands for."""
        run, self.run = self.run, bytearray()
        if not run:
            return ()
        try:
            return (run.decode(),)
        except UnicodeDecodeError:
            return ("\ufffd",) * len(run)


class Suffix:
    """Words end with a suffix, which becomes a space, but for the last token's."""

    def __init__(self, suffix: str) -> None:
        self.suffix, self.rest = suffix, [""]

    def add(self, piece: str) -> Sequence[str]:
        """What is before the token's first suffix."""
        before, (first, *rest) = " ".join(self.rest), piece.split(self.suffix)
        self.rest = ["", *rest]
        return (before + first,)

    def end(self) -> Sequence[str]:
        """What is behind it, without spaces."""
        return ("".join(self.rest),)


class Whole:
    """A chain that is not known step by step."""

    def __init__(self, decode: Callable[[list[str]], str]) -> None:
        self.decode = decode
        self.pieces: list[str] = []

    def add(self, piece: str) -> Sequence[str]:
        """Nothing."""
        self.pieces.append(piece)
        return ()

    def end(self) -> Sequence[str]:
        """Everything.

        Raises:
            ModelError: the library cannot decode it.
        """
        with library_errors("the tokenizer cannot decode"):
            return (self.decode(self.pieces),)


class Stripped:
    """The beginning of a text loses some characters, however many pieces it comes in."""

    def __init__(self, sign: str, most: int) -> None:
        self.sign, self.left = sign, most

    def add(self, piece: str) -> Sequence[str]:
        """Without what is still to go."""
        while self.left and piece:
            if piece[0] != self.sign:
                self.left = 0
                break
            piece, self.left = piece[1:], self.left - 1
        return (piece,)

    def end(self) -> Sequence[str]:
        """Nothing waits."""
        return ()


class Incremental:
    """Decodes the ids of one text as they come; `graft.text.Tokenizer.incremental` makes one."""

    def __init__(self, steps: Sequence[Step], piece: Callable[[int], str | None]) -> None:
        """Prepare.

        Args:
            steps: of the chain, none of them used before.
            piece: how a token is spelled; None for one that is not written.
        """
        self._steps, self._piece = steps, piece

    def add(self, token: int) -> str:
        """Take a token; give the text that is certain now.

        Raises:
            DataError: the vocabulary has no such token.
        """
        piece = self._piece(token)
        return "" if piece is None else self._through(0, (piece,))

    def end(self) -> str:
        """Give the rest of the text, which ends here."""
        return "".join(self._through(place + 1, step.end()) for place, step in enumerate(self._steps))

    def _through(self, place: int, pieces: Sequence[str]) -> str:
        for step in self._steps[place:]:
            pieces = [later for piece in pieces for later in step.add(piece)]
        return "".join(pieces)


def plan(library: tokenizers.Tokenizer) -> Callable[[], list[Step]]:
    """How to make a tokenizer's chain of steps, anew for each text."""
    decoder: Any = library.decoder
    if decoder is None:
        return lambda: [Each(lambda piece, first: piece if first else f" {piece}")]
    config = json.loads(decoder.__getstate__())
    makers, fused = [], False
    for one in config["decoders"] if config["type"] == "Sequence" else [config]:
        kind, known = one["type"], FUSED if fused else STEPS
        make = known[kind](one) if kind in known else None
        if make is None:
            return lambda: [Whole(decoder.decode)]
        makers.append(make)
        fused = fused or kind in ("Fuse", "ByteLevel")
    return lambda: [make() for make in makers]


def _replace(one: Mapping[str, Any]) -> Callable[[], Step] | None:
    found, content = one["pattern"].get("String"), one["content"]
    return found and (lambda: Each(lambda piece, first: piece.replace(found, content)))


def _metaspace(one: Mapping[str, Any]) -> Callable[[], Step]:
    mark, drops = one["replacement"], one["prepend_scheme"] != "never"
    return lambda: Each(lambda piece, first: piece.replace(mark, "" if first and drops else " "))


def _word_piece(one: Mapping[str, Any]) -> Callable[[], Step]:
    prefix, cleans = one["prefix"], one["cleanup"]

    def change(piece: str, first: bool) -> str:
        if not first:
            piece = piece[len(prefix) :] if piece.startswith(prefix) else f" {piece}"
        for found, content in CLEANED if cleans else ():
            piece = piece.replace(found, content)
        return piece

    return lambda: Each(change)


def _strip(one: Mapping[str, Any]) -> Callable[[], Step]:
    sign, start, stop = one["content"], one["start"], one["stop"]

    def change(piece: str, first: bool) -> str:
        for _ in range(start):
            piece = piece.removeprefix(sign)
        for _ in range(stop):
            piece = piece.removesuffix(sign)
        return piece

    return lambda: Each(change)


def _strip_text(one: Mapping[str, Any]) -> Callable[[], Step] | None:
    return None if one["stop"] else lambda: Stripped(one["content"], one["start"])


def _as_it_is(one: Mapping[str, Any]) -> Callable[[], Step]:
    return lambda: Each(lambda piece, first: piece)


STEPS: dict[str, Callable[[Mapping[str, Any]], Callable[[], Step] | None]] = {
    "ByteLevel": lambda one: ByteLevel,
    "ByteFallback": lambda one: ByteFallback,
    "BPEDecoder": lambda one: lambda: Suffix(one["suffix"]),
    "Fuse": _as_it_is,
    "Metaspace": _metaspace,
    "Replace": _replace,
    "Strip": _strip,
    "WordPiece": _word_piece,
}
"""The library's decoders, by their type."""

FUSED: dict[str, Callable[[Mapping[str, Any]], Callable[[], Step] | None]] = {"Fuse": _as_it_is, "Strip": _strip_text}
"""Those that may come once the tokens are one text."""

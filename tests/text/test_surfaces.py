"""What tokens write, for every kind of vocabulary."""

from __future__ import annotations

import pytest
import tokenizers
from tokenizers import decoders, models

from graft.text.surfaces import Surface, begins_with_space, surfaces


def library(tokens: list[str], decoder: object | None) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, tokens[0]))
    if decoder is not None:
        made.decoder = decoder
    made.add_special_tokens(["<s>"])
    return made


@pytest.mark.parametrize(
    ("decoder", "tokens", "written", "begins"),
    [
        (
            decoders.ByteLevel(),
            ["<s>", "\u0120the", "ing", "\u0120", "'s", "\u010a", "\u00c3", "\u0120,"],
            [
                None,
                Surface(True, b"the", False),
                Surface(False, b"ing", False),
                Surface(True, b"", False),
                Surface(False, b"'s", False),
                Surface(False, b"", True),
                Surface(False, b"\xc3", False),
                Surface(True, b"", True),
            ],
            None,
        ),
        (
            decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]),
            ["<s>", "\u2581the", "ing", "<0xC3>", "<0x0A>"],
            [
                None,
                Surface(True, b"the", False),
                Surface(False, b"ing", False),
                Surface(False, b"\xc3", False),
                Surface(False, b"", True),
            ],
            None,
        ),
        (
            decoders.WordPiece(),
            ["<s>", "the", "##ing", ","],
            [None, Surface(True, b"the", False), Surface(False, b"ing", False), Surface(True, b"", True)],
            True,
        ),
        (
            decoders.BPEDecoder(),
            ["<s>", "the</w>", "th"],
            [None, Surface(False, b"the", True), Surface(False, b"th", False)],
            False,
        ),
        (None, ["<s>", "the"], [None, Surface(True, b"the", False)], True),
    ],
)
def test_tokens_write(decoder: object, tokens: list[str], written: list[Surface | None], begins: bool | None):
    made = library(tokens, decoder)
    assert surfaces(made, len(tokens) + 1) == [*written, None]
    assert begins_with_space(made) is begins

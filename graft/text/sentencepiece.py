"""SentencePiece files (spiece.model, sentencepiece.bpe.model, tokenizer.model) as tokenizers of the library.

Such a file is a protobuf message, ModelProto of sentencepiece_model.proto. It is read here field by field, every length
and count checked before anything is made of it, so that neither the protobuf nor the sentencepiece package is needed.

Two things differ from the sentencepiece package, as they do in transformers: the name of a control piece ("</s>") in a
text becomes that piece, and replacements of the file's own table go by whole graphemes, so that rare combining marks
after a character that is replaced may be lost.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from graft.errors import ModelError
from graft.text.frame import special_tokens

FILES = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
"""Names under which such files are published: T5 and XLNet; XLM-R; Llama."""

FILE_BYTES = 16 * 2**20
"""Larger files are refused (XLM-R's, among the largest published, has 5 MiB)."""

PIECES = 2**19
"""The most pieces a file may have (published: up to 262,144)."""

PIECE_CHARACTERS = 256
"""The longest piece; the pairs that make up a piece are looked for at every place in it."""

MERGES = 2**20
"""The most pairs of pieces that make up pieces (Gemma's, among the most published: 514,906)."""

GROWTH = 64
"""How many times longer a tokenizer's replacements may make a text (Unicode's longest has 18 characters)."""

SENTINELS = 10_000
"""The most <extra_id_N> tokens a configuration may ask for (T5: 100)."""

UNIGRAM, PAIRS = 1, 2
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
WIDTHS = {EIGHT_BYTES: 8, FOUR_BYTES: 4}
MARK = "▁"


@dataclass(frozen=True, kw_only=True)
class PieceModel:
    """What a SentencePiece file says, as far as it bears on turning text into pieces.

    Attributes:
        pieces: spelling, score and type of each piece; its place is its id.
        kind: UNIGRAM or PAIRS.
        byte_fallback: characters without a piece are spelled in bytes.
        charsmap: the table of characters and their replacements, compiled; empty for none.
        dummy_prefix: a text begins with a space, whatever it begins with.
        remove_spaces: spaces at the ends go, runs of them become one.
        mark: what stands for a space in pieces.
    """

    pieces: list[tuple[str, float, int]]
    kind: int = UNIGRAM
    byte_fallback: bool = False
    charsmap: bytes = field(default=b"", repr=False)
    dummy_prefix: bool = True
    remove_spaces: bool = True
    mark: str = MARK

    @property
    def unknown(self) -> int:
        """The id of the unknown piece."""
        return next(index for index, (_, _, kind) in enumerate(self.pieces) if kind == UNKNOWN)


def read(path: Path) -> PieceModel:
    """Read a SentencePiece file.

    Raises:
        ModelError: cannot be read, too large, damaged, or of a kind that has no counterpart in the library.
    """
    try:
        if path.stat().st_size > FILE_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes, expected at most {FILE_BYTES}")
        return _model(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, struct.error) as error:
        raise ModelError(f"{path}: not a SentencePiece model Graft can use: {error}") from error


def _model(data: bytes) -> PieceModel:
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, int | bytes] = {}
    rules: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == 1:
            if len(pieces) == PIECES:
                raise ValueError(f"more than {PIECES} pieces")
            pieces.append(_piece(_bytes(value), len(pieces)))
        elif number == 2:
            trainer |= dict(_fields(_bytes(value)))
        elif number == 3:
            rules |= dict(_fields(_bytes(value)))
    model = PieceModel(
        pieces=pieces,
        kind=_whole(trainer, 3, UNIGRAM),
        byte_fallback=bool(_whole(trainer, 35, 0)),
        charsmap=_bytes(rules.get(2, b"")),
        dummy_prefix=bool(_whole(rules, 3, 1)),
        remove_spaces=bool(_whole(rules, 4, 1)),
        mark=MARK if _whole(rules, 5, 1) else " ",
    )
    _check(model)
    if _whole(trainer, 24, 0):
        raise ValueError("it marks spaces at the end of words, only their beginning is supported")
    return model


def _check(model: PieceModel) -> None:
    names = {name for name, _, _ in model.pieces}
    kinds = [kind for _, _, kind in model.pieces]
    if len(names) != len(kinds):
        raise ValueError(f"{len(kinds)} pieces, of which only {len(names)} differ")
    if kinds.count(UNKNOWN) != 1 or NORMAL not in kinds:
        raise ValueError(f"{kinds.count(UNKNOWN)} unknown and {kinds.count(NORMAL)} normal pieces, expected 1 and some")
    if strange := sorted(set(kinds) - {NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE}):
        raise ValueError(f"pieces of type {strange[0]}, expected normal, unknown, control, user-defined or byte")
    if model.kind not in (UNIGRAM, PAIRS):
        raise ValueError(f"model type {model.kind}, expected {UNIGRAM} (unigram) or {PAIRS} (BPE)")
    if model.byte_fallback and not {f"<0x{byte:02X}>" for byte in range(256)} <= names:
        raise ValueError("it falls back to bytes but lacks pieces for some of them")
    if growth(model.charsmap) > GROWTH:
        raise ValueError(f"its replacements can make a text more than {GROWTH} times longer")


def growth(charsmap: bytes) -> int:
    """The most characters a compiled table replaces one by: its size, a trie of that size, then strings ended by 0.

    Raises:
        ValueError: the table ends before its trie does.
    """
    if not charsmap:
        return 1
    size = int.from_bytes(charsmap[:4], "little")
    if len(charsmap) < 4 + size or size < 4 or size % 4:
        raise ValueError(f"its table of replacements has {len(charsmap)} bytes and says that {size} are a trie")
    return max(len(text.decode("utf-8")) for text in charsmap[4 + size :].split(b"\0"))


def _piece(data: bytes, index: int) -> tuple[str, float, int]:
    name, score, kind = "", 0.0, NORMAL
    for number, value in _fields(data):
        if number == 1:
            name = _bytes(value).decode("utf-8")
        elif number == 2:
            (score,) = struct.unpack("<f", _bytes(value))
        elif number == 3:
            kind = _int(value)
    if not 0 < len(name) <= PIECE_CHARACTERS:
        raise ValueError(f"piece {index} has {len(name)} characters, expected 1 to {PIECE_CHARACTERS}")
    if not math.isfinite(score):
        raise ValueError(f"the score of piece {index} is {score}")
    return name, score, kind


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: number and value, which is an int for varints, else the bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == VARINT:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if kind == BYTES:
            length, place = _varint(data, place)
        elif kind in WIDTHS:
            length = WIDTHS[kind]
        else:
            raise ValueError(f"a field of wire type {kind} at byte {place} of a message of {len(data)}")
        if length > len(data) - place:
            raise ValueError(f"a field of {length} bytes where {len(data) - place} are left")
        yield key >> 3, data[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of up to ten bytes, seven bits in each, the lowest first; and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place == len(data):
            raise ValueError("it ends within a number")
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number of more than ten bytes")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a string or a message belongs")
    return value


def _int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a string where a number belongs")
    return value


def _whole(fields: Mapping[int, int | bytes], number: int, default: int) -> int:
    return _int(fields.get(number, default))


def build(path: Path, kind: str, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """Make a tokenizer of the library from a SentencePiece file.

    Args:
        path: the file.
        kind: which published tokenizer it is: "t5", "xlnet", "xlmroberta" or another; each of the three lays something
            around the file.
        config: what tokenizer_config.json says.

    Raises:
        ModelError: from read(), or the configuration asks for what makes no sense.
    """
    model = read(path)
    scores = _scores(model)
    if kind == "xlnet":
        scores = [(name, score - 100 if _number_comma(name) else score) for name, score in scores]
    if kind == "xlmroberta":
        scores = _as_fairseq(path, model, scores)
    ids = {name: index for index, (name, _) in enumerate(scores)}
    sentinels = [name for name in _sentinels(path, kind, config) if name not in ids]
    scores += [(name, _least(model)) for name in sentinels]
    unknown = ids[model.pieces[model.unknown][0]]
    library = tokenizers.Tokenizer(
        _pairs(model, scores, unknown)
        if model.kind == PAIRS
        else models.Unigram(scores, unk_id=unknown, byte_fallback=model.byte_fallback)
    )
    first_only = model.kind == PAIRS and config.get("legacy") is False and model.dummy_prefix
    library.normalizer = _normalizer(model, _first_steps(kind, config), prefix=model.dummy_prefix and not first_only)
    if first_only:  # a space before the text alone, not after each special token too
        library.pre_tokenizer = pre_tokenizers.Metaspace(model.mark, "first", split=False)
    elif all(model.mark not in name[1:] for name, _, _ in model.pieces):
        library.pre_tokenizer = pre_tokenizers.Split(model.mark, "merged_with_next")
    library.decoder = _decoder(model)
    _add(library, model, sentinels, mask=kind == "xlmroberta")
    _surround(library, model, kind, config)
    return library


def _least(model: PieceModel) -> float:
    return min(score for _, score, kind in model.pieces if kind == NORMAL)


def _scores(model: PieceModel) -> list[tuple[str, float]]:
    """Each piece with its score; those that are no text with the least, which an unknown character's depends on."""
    least = _least(model)
    most = max(score for _, score, kind in model.pieces if kind == NORMAL)

    def score(name: str, given: float, kind: int) -> float:
        if kind == USER_DEFINED:  # as sentencepiece has it, so that nothing beats it
            return max(least, len(name.encode()) * most - 0.1)
        return given if kind == NORMAL else least

    return [(name, score(name, given, kind)) for name, given, kind in model.pieces]


def _number_comma(name: str) -> bool:
    """Whether a piece joins a digit and a comma, which XLNet takes apart."""
    return re.search(r"\d,\Z", name) is not None


def _as_fairseq(path: Path, model: PieceModel, scores: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """XLM-R's ids: four tokens in fairseq's order, the file's pieces from its fourth, the mask last."""
    if [name for name, _ in scores[:3]] != ["<unk>", "<s>", "</s>"]:
        raise ModelError(f"{path}: expected the pieces <unk>, <s> and </s> first, as XLM-R has them")
    least = _least(model)
    first = [(name, least) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    return [*first, *scores[3:], ("<mask>", least)]


def _sentinels(path: Path, kind: str, config: Mapping[str, Any]) -> list[str]:
    count = config.get("extra_ids")
    if count is None:
        count = 100 if kind == "t5" else 0
    if not isinstance(count, int) or not 0 <= count <= SENTINELS:
        raise ModelError(f"{path.parent}: extra_ids is {count!r:.60}, expected a whole number from 0 to {SENTINELS}")
    return [f"<extra_id_{number}>" for number in reversed(range(count))]


def _pairs(model: PieceModel, scores: list[tuple[str, float]], unknown: int) -> models.BPE:
    """Of every piece, the pairs of pieces that make it up; those of the highest score are put together first."""
    ids = {name: index for index, (name, _) in enumerate(scores)}
    normal = {name: score for name, score, kind in model.pieces if kind == NORMAL}
    every = (
        (-score, -place, name)
        for name, score in normal.items()
        for place in range(1, len(name))
        if name[:place] in normal and name[place:] in normal
    )
    merges = list(itertools.islice(every, MERGES + 1))
    if len(merges) > MERGES:
        raise ValueError(f"its pieces are made up of more than {MERGES} pairs")
    merges.sort(key=lambda merge: merge[:2])  # the highest score first, then the longest left part
    pairs = [(name[:-negated], name[-negated:]) for _, negated, name in merges]
    unknown_name = scores[unknown][0]
    return models.BPE(ids, pairs, unk_token=unknown_name, fuse_unk=True, byte_fallback=model.byte_fallback)


def _first_steps(kind: str, config: Mapping[str, Any]) -> list[normalizers.Normalizer]:
    """What XLNet's own code does to a text before SentencePiece."""
    if kind != "xlnet":
        return []
    steps: list[normalizers.Normalizer] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not config.get("keep_accents"):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if config.get("do_lower_case"):
        steps.append(normalizers.Lowercase())
    return steps


def _normalizer(model: PieceModel, steps: list[normalizers.Normalizer], *, prefix: bool) -> normalizers.Normalizer:
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.remove_spaces:
        steps += [
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Replace(Regex(r"\A "), ""),
            normalizers.Replace(Regex(rf"(?<![ {model.mark}])[ {model.mark}]++\z"), ""),
        ]
    if prefix:
        steps.append(normalizers.Prepend(model.mark))
    if model.mark != " ":
        steps.append(normalizers.Replace(" ", model.mark))
    return normalizers.Sequence(steps)


def _decoder(model: PieceModel) -> decoders.Decoder:
    steps: list[decoders.Decoder] = [decoders.Replace(model.mark, " ")]
    if model.byte_fallback:
        steps.append(decoders.ByteFallback())
    steps.append(decoders.Fuse())
    if model.dummy_prefix and model.mark == MARK:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def _add(library: tokenizers.Tokenizer, model: PieceModel, sentinels: list[str], *, mask: bool) -> None:
    """Tokens that are found in a text as they stand. A unigram's user-defined pieces win by their scores instead."""
    special = [name for name, _, kind in model.pieces if kind in (UNKNOWN, CONTROL)]
    special += [*sentinels, *(["<pad>", "<mask>"] if mask else [])]
    library.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in special])
    if model.kind == PAIRS:
        own = [name for name, _, kind in model.pieces if kind == USER_DEFINED]
        library.add_tokens([AddedToken(name, normalized=False) for name in own])


def _surround(library: tokenizers.Tokenizer, model: PieceModel, kind: str, config: Mapping[str, Any]) -> None:
    """Put around a text what the tokenizer does and not the family: one family is published with several."""
    if kind == "xlmroberta":
        start, between, end = ["<s>"], ["</s>", "</s>"], ["</s>"]
    elif model.kind == PAIRS:
        named = special_tokens(library, config)
        start = [named["bos_token"]] if config.get("add_bos_token") is not False and "bos_token" in named else []
        end = [named["eos_token"]] if config.get("add_eos_token") is True and "eos_token" in named else []
        between = end + start
    else:
        return
    library.post_processor = processors.TemplateProcessing(
        single=[*start, "$A", *end],
        pair=[*start, "$A", *between, "$B", *end],
        special_tokens=[(name, library.token_to_id(name)) for name in sorted({*start, *end})],
    )

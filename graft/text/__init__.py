"""Text to token ids with character offsets, and back: a thin cover over the `tokenizers` library.

Special tokens are put around a text here, after a Frame, and not by the library: a Frame is data, so that a task can
count, cut and place them. What a folder's tokenizer.json puts around a text goes before what its family says, since one
architecture is published with many vocabularies (a BERT with XLM-R's, a Llama with and without a first token).

A special token's name inside a text ("[MASK]", "<extra_id_0>", "[SEP]") becomes that token, as in transformers: filling
masks, T5's sentinels and chat templates live by it. Whoever serves strangers and minds must break such names up first.

No code from a model folder runs. Its regular expressions do, in Oniguruma, which gives up on a match that takes too
many steps: a ModelError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, processors

from graft.errors import DataError, ModelError, UsageError, nearest
from graft.files import replacing, write_json
from graft.text.frame import GPT, Frame, declared, has, lay, literal, special_tokens, token_types
from graft.text.incremental import Incremental, Step, plan
from graft.text.overflow import Reading, head_tail, pick, truncate
from graft.text.overflow import windows as in_windows  # graft.text.windows is a module
from graft.text.read import FILES, library_errors, read_config, read_library

__all__ = ["FILES", "GPT", "TEXT_CHARACTERS", "Encoding", "Frame", "Tokenizer"]

TEXT_CHARACTERS = 16 * 2**20
"""Longer texts are refused: one takes some 13 s and 2.5 GiB to encode."""

READINGS = {"truncate": truncate, "head_tail": head_tail, "error": truncate}
"""What of a text beyond the limit is read, by the name of the rule."""

_CHUNK = 1024  # texts given to the library at once: enough to keep every core busy, few enough to keep memory flat


@dataclass(slots=True)
class Encoding:
    """One text, or a pair, as a model reads it.

    Attributes:
        ids: token ids, special tokens included.
        types: a token type for each id; None where the frame has no types.
        truncated_tokens: how many tokens were cut off to meet the limit.
        offsets: for each id the characters (first, last + 1) of its own text; (0, 0) for the frame's tokens. Tokens
            that share a character (the bytes of an emoji) share its offsets. None unless asked for.
        segments: for each id its text, 0 or 1; -1 for the frame's tokens. None unless offsets are asked for.
    """

    ids: list[int]
    types: list[int] | None = None
    truncated_tokens: int = 0
    offsets: list[tuple[int, int]] | None = None
    segments: list[int] | None = None


class Tokenizer:
    """Turns texts into Encodings, and ids into text.

    Attributes:
        frame: the special tokens around a text, by the names they have in this vocabulary.
        special_tokens: names by role, as far as the vocabulary has them: ``{"mask_token": "[MASK]"}``.

    >>> from tokenizers import pre_tokenizers
    >>> library = tokenizers.Tokenizer(models.WordLevel({"[CLS]": 0, "[SEP]": 1, "good": 2, "film": 3}))
    >>> library.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> tokenizer = Tokenizer(library, Frame(start=("cls_token",), end=("sep_token",)))
    >>> tokenizer.encode(["good film"], limit=3)[0]
    Encoding(ids=[0, 2, 1], types=None, truncated_tokens=1, offsets=None, segments=None)
    """

    def __init__(self, library: tokenizers.Tokenizer, frame: Frame, config: Mapping[str, Any] | None = None):
        """Cover a tokenizer of the library; Tokenizer.from_folder() reads a model's.

        Args:
            library: taken over: its truncation, padding, dropout and post-processor go off.
            frame: the special tokens to put around a text.
            config: what tokenizer_config.json says; kept for save().

        Raises:
            ModelError: the vocabulary lacks a token of the frame.
        """
        self._library = library
        self._config = dict(config or {})
        self._declared: Any = None
        self._place = ""  # begins messages, where the tokenizer comes from a folder
        self.special_tokens = special_tokens(library, self._config)
        _take_over(library, self.special_tokens, self._config)
        self.frame = literal(frame, library, self.special_tokens)
        self._start = [self.token_id(name) for name in self.frame.start]
        self._between = [self.token_id(name) for name in self.frame.between]
        self._end = [self.token_id(name) for name in self.frame.end]

    @classmethod
    def from_folder(cls, folder: Path, frame: Frame) -> Tokenizer:
        """Read a model folder's tokenizer.json, else vocab.txt, vocab.json with merges.txt, or a SentencePiece file.

        Args:
            folder: the model folder.
            frame: the family's special tokens, for folders that do not say. Whether the model has token types is always
                the family's to say.

        Raises:
            ModelError: no tokenizer, a damaged or harmful one, or one without a token of the frame.
        """
        folder = Path(folder)
        config = read_config(folder)
        library = read_library(folder, config)
        processor = library.post_processor
        if processor is not None:
            with library_errors(f"{folder}: the tokenizer fails on a short text"):
                frame = declared(library, literal(frame, library, special_tokens(library, config)))
        try:
            tokenizer = cls(library, frame, config)
        except ModelError as error:
            raise ModelError(f"{folder}: {error}") from error
        tokenizer._place = f"{folder}: "
        if (folder / "tokenizer.json").is_file():
            tokenizer._declared = processor
        return tokenizer

    def with_frame(self, frame: Frame) -> Tokenizer:
        """Give a tokenizer of the same vocabulary that puts other special tokens around a text.

        Raises:
            ModelError: the vocabulary lacks a token of the frame.
        """
        return Tokenizer(self._library, frame, self._config)

    def grown(self, frame: Frame) -> Tokenizer:
        """Give a tokenizer that puts a frame's tokens where its own has none; those it lacks join its vocabulary."""
        library = tokenizers.Tokenizer.from_str(self._library.to_str())
        filled = self.frame.filled(frame)
        lacking = [name for name in (*filled.start, *filled.between, *filled.end) if not has(library, name)]
        library.add_special_tokens([tokenizers.AddedToken(name, normalized=False, special=True) for name in lacking])
        return Tokenizer(library, filled, self._config)

    @cached_property
    def vocab_size(self) -> int:
        """How many rows of a token embedding the ids need: the highest id, added tokens included, plus one."""
        return max(self._library.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def token_id(self, name: str) -> int:
        """Look up a token by itself ("[MASK]") or by its role ("mask_token").

        Raises:
            ModelError: no such token; the message lists the special tokens there are.
        """
        found = self._library.token_to_id(self.special_tokens.get(name, name))
        if found is None:
            special = [token.content for token in self._library.get_added_tokens_decoder().values() if token.special]
            raise ModelError(
                f"the vocabulary of {self.vocab_size} tokens has no token {name!r}. Of its special tokens, "
                f"{nearest(name, special)} Use the tokenizer that was published with the model"
            )
        return found

    def encode(
        self,
        texts: Sequence[str | tuple[str, str]],
        *,
        limit: int | None = None,
        overflow: str = "truncate",
        offsets: bool = False,
    ) -> list[Encoding]:
        """Turn texts, and pairs of texts, into token ids.

        Args:
            texts: each a str, or a tuple of two for a pair.
            limit: the most tokens an encoding may have, special tokens included.
            overflow: beyond the limit, "truncate" drops last tokens (in a pair, of the longer text until both are as
                long) and counts them; "head_tail" drops them from the middle (`graft.text.overflow`); "error" raises.
            offsets: also fill ``offsets`` and ``segments``; slower.

        Raises:
            DataError: not a str, more than TEXT_CHARACTERS, half a surrogate pair, or beyond the limit.
            UsageError: an unknown ``overflow``, or a limit that leaves no room beside the special tokens.
            ModelError: the tokenizer itself fails on a text.
        """
        if overflow not in READINGS:
            whole = "; windows() gives several encodings of a text" if overflow == "window" else ""
            raise UsageError(f"overflow={overflow!r}: {nearest(str(overflow), list(READINGS))}{whole}")
        encodings: list[Encoding] = []
        for index, parts in self._pieces(texts, offsets):
            lengths, room = [len(part) for part in parts], self._room(parts, limit)
            fits = room is None or sum(lengths) <= room
            encoding = self._surround(parts, None if fits else READINGS[overflow](lengths, room or 0), offsets)
            if encoding.truncated_tokens and overflow == "error":
                raise DataError(_too_long(index, encoding, limit))
            encodings.append(encoding)
        return encodings

    def windows(
        self, texts: Sequence[str | tuple[str, str]], *, limit: int | None = None, offsets: bool = False
    ) -> list[list[Encoding]]:
        """Turn each text into as many encodings as it takes to hold all its tokens (`graft.text.overflow.windows`).

        Args:
            texts: each a str, or a tuple of two for a pair.
            limit: the most tokens an encoding may have, special tokens included.
            offsets: also fill ``offsets`` and ``segments``; slower.

        Raises:
            DataError: not a str, more than TEXT_CHARACTERS, or half a surrogate pair.
            UsageError: a limit that leaves no room beside the special tokens.
            ModelError: the tokenizer itself fails on a text.
        """
        found: list[list[Encoding]] = []
        for _, parts in self._pieces(texts, offsets):
            lengths, room = [len(part) for part in parts], self._room(parts, limit)
            readings = in_windows(lengths, sum(lengths) if room is None else room)
            found.append([self._surround(parts, reading, offsets) for reading in readings])
            for encoding in found[-1]:
                encoding.truncated_tokens = 0  # another window has them
        return found

    def _pieces(
        self, texts: Sequence[str | tuple[str, str]], offsets: bool
    ) -> Iterator[tuple[int, list[tokenizers.Encoding]]]:
        """Each text's number and tokens, without a frame: one piece, or two for a pair."""
        if isinstance(texts, str):
            raise DataError("expected a list of texts, found a single str: write encode([text])")
        every = list(texts)
        for first in range(0, len(every), _CHUNK):
            chunk = every[first : first + _CHUNK]
            parts = iter(self._run(chunk, first, offsets))
            for index, text in enumerate(chunk, first):
                yield index, [next(parts)] if isinstance(text, str) else [next(parts), next(parts)]

    def _run(self, texts: list[Any], first: int, offsets: bool) -> list[tokenizers.Encoding]:
        flat = _flatten(texts, first)
        run = self._library.encode_batch if offsets else self._library.encode_batch_fast
        with library_errors(
            f"{self._place}the tokenizer fails on one of the texts {first} to {first + len(texts) - 1}"
        ):
            return run(flat, add_special_tokens=False)

    def _room(self, parts: Sequence[Any], limit: int | None) -> int | None:
        """Tokens of the texts themselves that fit."""
        if limit is None:
            return None
        return limit - len(self._start) - len(self._end) - (len(self._between) if len(parts) > 1 else 0)

    def _surround(self, parts: list[tokenizers.Encoding], reading: Reading | None, offsets: bool) -> Encoding:
        """Lay the frame around what a reading takes of each piece; None takes all."""
        spans = reading or tuple(((0, len(part)),) for part in parts)
        pieces = [pick(part.ids, own) if reading else part.ids for part, own in zip(parts, spans, strict=True)]
        truncated = sum(map(len, parts)) - sum(map(len, pieces))
        encoding = Encoding(lay(pieces, self._start, self._between, self._end), None, truncated)
        if self.frame.types:
            encoding.types = token_types(self.frame, [len(piece) for piece in pieces])
        if offsets:
            specials_by_place = (self._start, self._between, self._end)
            places = [pick(part.offsets, own) for part, own in zip(parts, spans, strict=True)]
            encoding.offsets = lay(places, *([(0, 0)] * len(ids) for ids in specials_by_place))
            numbers = [[number] * len(piece) for number, piece in enumerate(pieces)]
            encoding.segments = lay(numbers, *([-1] * len(ids) for ids in specials_by_place))
        return encoding

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Turn ids back into text, as far as the vocabulary keeps it; ``special`` also writes special tokens, by name.

        Raises:
            DataError: an id that the vocabulary does not have.
        """
        wanted = [int(token) for token in ids]
        for token in wanted:
            if not 0 <= token < self.vocab_size or self._library.id_to_token(token) is None:
                raise DataError(f"token id {token} is not in the vocabulary: expected 0 to {self.vocab_size - 1}")
        with library_errors("the tokenizer cannot decode"):
            return self._library.decode(wanted, skip_special_tokens=not special)

    def incremental(self) -> Incremental:
        """A decoder of one text's ids as they come, without special tokens."""
        return Incremental(self._plan(), self._piece)

    @cached_property
    def _plan(self) -> Callable[[], list[Step]]:
        return plan(self._library)

    @cached_property
    def _unwritten(self) -> frozenset[str]:
        return frozenset(token.content for token in self._library.get_added_tokens_decoder().values() if token.special)

    def _piece(self, token: int) -> str | None:
        """How a token is spelled; None for a special one."""
        found = self._library.id_to_token(token) if 0 <= token < self.vocab_size else None
        if found is None:
            raise DataError(f"token id {token} is not in the vocabulary: expected 0 to {self.vocab_size - 1}")
        return None if found in self._unwritten else found

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, so that transformers' AutoTokenizer gives the same ids.

        Raises:
            StorageError: the folder cannot be written.
        """
        with library_errors("the tokenizer cannot be saved"):
            copy = tokenizers.Tokenizer.from_str(self._library.to_str())
            copy.post_processor = self._declared or self._template()
        with replacing(Path(folder) / "tokenizer.json") as new:
            new.write_text(copy.to_str(pretty=True), encoding="utf-8")
        with replacing(Path(folder) / "tokenizer_config.json") as new:
            write_json(new, self._published_config())

    def _published_config(self) -> dict[str, Any]:
        # auto_map names code, the paths somebody's machine, and tokenizer.json says the rest.
        left_out = {"auto_map", "name_or_path", "add_bos_token", "add_eos_token", "added_tokens_decoder"}
        kept = {
            name: value for name, value in self._config.items() if name not in left_out and not name.endswith("_file")
        }
        if self._declared is None or "tokenizer_class" not in kept or "auto_map" in self._config:
            # This class takes tokenizer.json as it stands; a family's own would put its own special tokens around.
            types = ["token_type_ids"] if self.frame.types else []
            kept["tokenizer_class"] = "PreTrainedTokenizerFast"
            kept["model_input_names"] = ["input_ids", *types, "attention_mask"]
        return {**self.special_tokens, **kept}

    def _template(self) -> processors.TemplateProcessing:
        frame = self.frame

        def spell(*texts: str) -> list[str]:
            names = lay([[text] for text in texts], frame.start, frame.between, frame.end)
            types = token_types(frame, [1] * len(texts)) if frame.types else [0] * len(names)
            return [f"{name}:{number}" for name, number in zip(names, types, strict=True)]

        special = [(name, self.token_id(name)) for name in sorted({*frame.start, *frame.between, *frame.end})]
        return processors.TemplateProcessing(single=spell("$A"), pair=spell("$A", "$B"), special_tokens=special)


def _take_over(library: tokenizers.Tokenizer, special: Mapping[str, str], config: Mapping[str, Any]) -> None:
    library.no_truncation()
    library.no_padding()
    library.post_processor = None  # the Frame does its work; its trimming of offsets would hide spaces
    if isinstance(library.model, models.BPE):
        library.model.dropout = None
    known = {token.content for token in library.get_added_tokens_decoder().values()}
    for role, name in special.items():
        if name not in known:
            given = config[role] if isinstance(config.get(role), dict) else {}
            strip = {side: given.get(side) is True for side in ("lstrip", "rstrip")}
            library.add_special_tokens([tokenizers.AddedToken(name, normalized=False, special=True, **strip)])


def _too_long(index: int, encoding: Encoding, limit: int | None) -> str:
    found = len(encoding.ids) + encoding.truncated_tokens
    return (
        f"text {index} (counting from 0) has {found} tokens with its special tokens, the limit is {limit}. "
        "Shorten it, raise the limit if the model allows, or choose overflow=truncate or head_tail"
    )


def _flatten(texts: list[Any], first: int) -> list[str]:
    flat: list[str] = []
    for index, text in enumerate(texts, first):
        for part in text if isinstance(text, tuple) and len(text) == 2 else (text,):
            if not isinstance(part, str) or len(part) > TEXT_CHARACTERS or not (part.isascii() or _encodes(part)):
                raise DataError(f"text {index} (counting from 0) {_wrong(part)}")
            flat.append(part)
    return flat


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong(text: Any) -> str:
    if not isinstance(text, str):
        return f"is {type(text).__name__} {text!r:.40}: expected a str, or a tuple of two for a pair"
    if len(text) > TEXT_CHARACTERS:
        return f"has {len(text)} characters, at most {TEXT_CHARACTERS} are taken: split it"
    return "holds half a surrogate pair: its file was decoded wrongly, read it as UTF-8"

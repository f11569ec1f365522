"""The special tokens around a text: what a family says of them, what a folder says, and how they are laid."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import tokenizers

from graft.errors import ModelError

USUAL = {
    "cls_token": ("[CLS]", "<cls>", "<s>"),
    "sep_token": ("[SEP]", "<sep>", "</s>"),
    "bos_token": ("<s>", "<|endoftext|>"),
    "eos_token": ("</s>", "<|endoftext|>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
}
"""The roles special tokens have in tokenizer_config.json, and their usual names, for folders that do not say."""

Piece = TypeVar("Piece")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The special tokens around one text (start, A, end) or two (start, A, between, B, end).

    A token is named by its role ("cls_token", see USUAL) or literally ("[CLS]"); a folder that gives a role another
    name is followed. GPT-2: ``Frame()``. T5: "eos_token" between and at the end. RoBERTa: "cls_token" at the start,
    "sep_token" twice between, once at the end. BERT: once each, and types. XLNet: nothing at the start, "sep_token"
    between, "sep_token" and "cls_token" at the end, types, ``last_type=2``.

    Attributes:
        start: before the first text.
        between: between two texts; belongs to the first.
        end: after the last text, and belongs to it.
        types: the model has token types: 0 for the first text, 1 for the second.
        last_type: the very last token's own type, where it has one.
    """

    start: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    types: bool = False
    last_type: int | None = None

    def filled(self, other: Frame) -> Frame:
        """The same, with another frame's tokens where this one has none."""
        both = {place: getattr(self, place) or getattr(other, place) for place in ("start", "between", "end")}
        return dataclasses.replace(self, **both)


GPT = Frame(start=("_start_",), between=("_delimiter_",), end=("_classify_",))
"""The input transformations of GPT-1 (Radford et al. 2018, section 3.3), by their authors' names: start, delimiter and
extract token, which heads read. Published vocabularies lack them; adapting a model learns their embeddings.
"""


def lay(
    pieces: list[list[Piece]], start: Sequence[Piece], between: Sequence[Piece], end: Sequence[Piece]
) -> list[Piece]:
    """Lay one or two pieces, and what is around them, end to end."""
    if len(pieces) == 1:
        return [*start, *pieces[0], *end]
    return [*start, *pieces[0], *between, *pieces[1], *end]


def token_types(frame: Frame, lengths: Sequence[int]) -> list[int]:
    """The token type of each position of one or two texts of these lengths."""
    numbers = [[number] * length for number, length in enumerate(lengths)]
    last = [len(lengths) - 1] * len(frame.end)
    types = lay(numbers, [0] * len(frame.start), [0] * len(frame.between), last)
    if last and frame.last_type is not None:
        types[-1] = frame.last_type
    return types


def special_tokens(library: tokenizers.Tokenizer, config: Mapping[str, Any]) -> dict[str, str]:
    """The names by role of the special tokens the vocabulary has: as the folder says; if it names none, usual."""
    given = {role: config[role] for role in USUAL if config.get(role)}
    named = {role: spelled(token) for role, token in given.items()}
    if not named:
        named = {role: name for role, names in USUAL.items() for name in reversed(names) if has(library, name)}
    return {role: name for role, name in named.items() if isinstance(name, str) and has(library, name)}


def spelled(token: Any) -> Any:
    """A token's name, from the name alone or from an object that says more of it."""
    return token.get("content") if isinstance(token, dict) else token


def has(library: tokenizers.Tokenizer, name: str) -> bool:
    """Whether a token of this name is in the vocabulary."""
    return library.token_to_id(name) is not None


def literal(frame: Frame, library: tokenizers.Tokenizer, special: Mapping[str, str]) -> Frame:
    """Replace roles, and names that this vocabulary does not have, by the folder's names for them."""

    def names(tokens: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(token if has(library, token) else _renamed(library, token, special) for token in tokens)

    return dataclasses.replace(frame, start=names(frame.start), between=names(frame.between), end=names(frame.end))


def _renamed(library: tokenizers.Tokenizer, token: str, special: Mapping[str, str]) -> str:
    role = token if token in USUAL else next((role for role, names in USUAL.items() if token in names), token)
    if role in special:
        return special[role]
    return next((name for name in USUAL.get(role, ()) if has(library, name)), token)


def declared(library: tokenizers.Tokenizer, family: Frame) -> Frame:
    """Find what the library's post-processor puts around one text and around two, by looking at it do so.

    Args:
        library: a tokenizer that has a post-processor.
        family: the family's frame, literally. It says whether the model has token types, and how two texts are framed
            where the post-processor knows only one.

    Raises:
        ModelError: one text and two are framed in ways that no Frame describes.
    """
    text = _some_text(library)
    single, pair = library.encode(text), library.encode(text, text)
    around, parts = _around(library, single), _around(library, pair)
    if len(around) == 2 and len(parts) == 3 and around == [parts[0], parts[2]]:
        types = family.types and 1 in pair.type_ids
        last = single.type_ids[-1] or None if types else None
        return Frame(start=around[0], between=parts[1], end=around[1], types=types, last_type=last)
    if around == [family.start, family.end] and not any(parts):
        return family
    raise ModelError(
        f"tokenizer.json puts {around} around one text, but {parts} around two: expected the same at both ends. "
        "Save the tokenizer again with a post-processor that treats both alike"
    )


def _some_text(library: tokenizers.Tokenizer) -> str:
    names = itertools.chain(["a"], library.get_vocab())
    return next((name for name in names if library.encode(name, add_special_tokens=False).ids), "a")


def _around(library: tokenizers.Tokenizer, encoding: tokenizers.Encoding) -> list[tuple[str, ...]]:
    """Names of the special tokens before, between and after the texts."""
    groups: list[tuple[str, ...]] = [()]
    for token, text in zip(encoding.ids, encoding.sequence_ids, strict=True):
        if text is None:
            groups[-1] += (library.id_to_token(token) or f"token {token}",)
        elif len(groups) == text + 1:
            groups.append(())
    return groups

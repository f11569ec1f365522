"""The words that may come next where a text ends, whole, with their probabilities.

A word is the sum over its pieces: search goes on from the most probable beginning of a word, until the best words found
are more probable than anything that has only begun. What was typed of the word already must be what its first pieces
write; probabilities are among all that agrees with it. A word is over where the model puts what is no letter next.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from graft.batch import pack
from graft.errors import DataError, ModelError
from graft.generate.cache import StaticCache
from graft.generate.likelihood import start_tokens
from graft.grafted import Model
from graft.text import Tokenizer
from graft.text.surfaces import Surface

WIDTH = 8
"""Beginnings of words looked at side by side."""

PIECES = 10
"""Most pieces of a word."""

FLOOR = 1e-4
"""Beginnings below this share of all that agrees are not followed."""

SENTINEL = "<extra_id_0>"

Next = Callable[[Sequence[Sequence[int]]], Tensor]
"""Pieces of words begun, at most WIDTH -> log-probabilities of what follows each, (n, V)."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A word, its probability among all that agrees with what was typed, and what is missing of it."""

    word: str
    probability: float
    insert: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """A text that ends where words are wanted.

    Attributes:
        context: what stands before the last word.
        typed: what is there of that word, "" where it has not begun.
        space: whether spaces stand before it.
    """

    context: str
    typed: str
    space: bool

    @classmethod
    def of(cls, text: str) -> Cursor:
        """Take a text apart.

        >>> Cursor.of("I would like to th")
        Cursor(context='I would like to', typed='th', space=True)
        """
        place = len(text)
        while place and (
            text[place - 1].isalnum() or (text[place - 1] in "'’" and text[place - 2 : place - 1].isalnum())
        ):
            place -= 1
        context = text[:place].rstrip(" ")
        return cls(context, text[place:], len(context) < place)


@dataclass(frozen=True, slots=True, order=True)
class _Begun:
    """A beginning of a word; the most probable comes first."""

    cost: float
    ids: tuple[int, ...] = ()
    word: bytes = b""


class Vocabulary:
    """What the tokens of a tokenizer write, in the forms the search asks for.

    Attributes:
        surfaces: of each token; None where there is nothing to read.
        over_V: tokens after which a word in progress was over before them.
        settles_V: tokens that write something of a word, or show that there is none.
    """

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        """Read a vocabulary; a model's output of `size` tokens may be wider."""
        self.style = tokenizer.begins_with_space
        self.surfaces = tokenizer.surfaces(size)
        seen = [one or Surface(False, b"", True) for one in self.surfaces]
        self.over_V = torch.tensor([one.space or not one.word for one in seen])
        self.settles_V = torch.tensor([bool(one.word) or one.ends for one in seen])
        known_V = torch.tensor([one is not None for one in self.surfaces])
        space_V = torch.tensor([one.space for one in seen])
        inside_V = torch.tensor([not one.space and bool(one.word) for one in seen])
        self._free = {True: (known_V & space_V), False: (known_V & inside_V), None: known_V}
        self._bare = [token for token, one in enumerate(seen) if one.space and not one.word and not one.ends]
        self._sorted = sorted((one.word, token) for token, one in enumerate(seen) if one.word)

    def allowed(self, rest: bytes, space: bool | None) -> Tensor:
        """Tokens that go on with what is left of the typed letters: in them, or up to their end and beyond."""
        if not rest:
            return self._free[space].nonzero()[:, 0]
        first = bisect.bisect_left(self._sorted, (rest, -1))
        found = []
        for word, token in self._sorted[first:]:
            if not word.startswith(rest):
                break
            found.append(token)
        for length in range(1, len(rest)):
            place = bisect.bisect_left(self._sorted, (rest[:length], -1))
            while place < len(self._sorted) and self._sorted[place][0] == rest[:length]:
                found.append(self._sorted[place][1])
                place += 1
        right = [token for token in found if space is None or self._surface(token).space == space]
        return torch.tensor([*right, *(self._bare if space is not False else [])], dtype=torch.int64)

    def _surface(self, token: int) -> Surface:
        surface = self.surfaces[token]
        assert surface is not None
        return surface

    def space(self, cursor: Cursor) -> bool | None:
        """Whether the first piece must begin with a space, must not, or either."""
        if self.style is not None:
            return self.style
        if not cursor.context or not (cursor.space or cursor.typed):
            return None
        return cursor.space

    def written(self, token: int) -> tuple[bytes, bool]:
        """The letters a token writes, and whether the word is over with them."""
        surface = self.surfaces[token]
        return (b"", True) if surface is None else (surface.word, surface.ends)


_VOCABULARIES: WeakKeyDictionary[Tokenizer, Vocabulary] = WeakKeyDictionary()


def vocabulary(model: Model) -> Vocabulary:
    """A model's vocabulary, read once."""
    found = _VOCABULARIES.get(model.tokenizer)
    if found is None:
        found = _VOCABULARIES[model.tokenizer] = Vocabulary(model.tokenizer, model.backbone.config.vocab_size)
    return found


@dataclass(slots=True)
class _Search:
    """What is looked for, and what has been found: probabilities of whole words, and of all that agrees."""

    known: Vocabulary
    typed: bytes
    space: bool | None
    found: dict[bytes, float] = field(default_factory=dict)
    agrees: float = 0.0
    begun: list[_Begun] = field(default_factory=lambda: [_Begun(0.0)])

    def run(self, following: Next, n: int) -> None:
        """Search until the n best words are certain."""
        for _ in range(2 * PIECES):
            least = heapq.nlargest(n, self.found.values())[-1] if len(self.found) >= n else 0.0
            self.begun = [one for one in self.begun if math.exp(-one.cost) > max(least, FLOOR * self.agrees)]
            chosen = heapq.nsmallest(WIDTH, self.begun)
            if not chosen:
                break
            self.begun = [one for one in self.begun if one not in chosen]
            for one, logs_V in zip(chosen, following([one.ids for one in chosen]), strict=True):
                self._look(one, (logs_V - one.cost).exp())

    def _look(self, one: _Begun, shares_V: Tensor) -> None:
        """Take in what may follow a beginning."""
        covered = bool(one.word) and one.word.startswith(self.typed)
        if covered:
            self.add(one.word, float(shares_V[self.known.over_V].sum()))
        allowed = self.known.allowed(self.typed[len(one.word) :], self.space if not one.ids else False)
        if not covered:
            settled = allowed[self.known.settles_V[allowed]]
            if not self.typed and one.ids:  # a space that was typed: whatever follows agrees
                settled = torch.arange(len(shares_V))
            elif self.typed:
                written = [one.word + self.known.written(token)[0] for token in settled.tolist()]
                settled = settled[torch.tensor([word.startswith(self.typed) for word in written], dtype=torch.bool)]
            self.agrees += float(shares_V[settled].sum())
        best, places = shares_V[allowed].topk(min(2 * WIDTH, len(allowed)))
        for share, token in zip(best.tolist(), allowed[places].tolist(), strict=True):
            self._begin(one, token, share)

    def _begin(self, one: _Begun, token: int, share: float) -> None:
        word, ends = self.known.written(token)
        word = one.word + word
        if not ends and share > 0 and len(one.ids) + 1 < PIECES:
            self.begun.append(_Begun(-math.log(share), (*one.ids, token), word))
        elif ends:
            self.add(word, share)

    def add(self, word: bytes, share: float) -> None:
        """A whole word, or one more way to write it; half a character at its end is none."""
        if word and word.startswith(self.typed) and word.decode("utf-8", "ignore").encode() == word:
            self.found[word] = self.found.get(word, 0.0) + share


def complete(model: Model, text: str, n: int = 3) -> tuple[list[Suggestion], int]:
    """The n most probable words at the end of a text, and how many of its first tokens did not fit the model.

    Models that fill masks know words of a single piece alone.

    Raises:
        ModelError: the model cannot tell what comes next.
        DataError: there is nothing before the word.
    """
    cursor, known = Cursor.of(text), vocabulary(model)
    typed = model.tokenizer.normalized(cursor.typed)
    if not text.strip():
        raise DataError("the text is empty; write some of it, for words to follow")
    following, cut = _following(model, cursor)
    search = _Search(known, typed.encode(), known.space(cursor))
    with torch.inference_mode():
        if model.head is not None and model.head.kind == "mask":
            _single(search, following([()])[0].exp())
        else:
            search.run(following, n)
    best = heapq.nlargest(n, search.found.items(), key=lambda pair: pair[1])
    return [_suggestion(cursor, typed, word, share / search.agrees) for word, share in best if share > 0], cut


def _suggestion(cursor: Cursor, typed: str, word: bytes, share: float) -> Suggestion:
    rest = word.decode("utf-8", "replace")[len(typed) :]
    return Suggestion(cursor.typed + rest, min(1.0, share), rest)


def _single(search: _Search, shares_V: Tensor) -> None:
    """Whole words that may stand at a mask."""
    allowed = search.known.allowed(search.typed, search.space)
    for share, token in zip(shares_V[allowed].tolist(), allowed.tolist(), strict=True):
        word, ends = search.known.written(token)
        if word and not ends and word.startswith(search.typed):
            search.add(word, share)
            search.agrees += share


def _following(model: Model, cursor: Cursor) -> tuple[Next, int]:
    """What tells the next token after a text and some pieces, and how many tokens of the text it does not see."""
    backbone, tokenizer = model.backbone, model.tokenizer
    kind = None if model.head is None else model.head.kind
    encoding = tokenizer.encode([cursor.context], offsets=True)[0]
    own = [token for token, segment in zip(encoding.ids, encoding.segments or (), strict=True) if segment == 0]
    if kind == "mask":
        return _at_mask(model, own)
    if kind == "next" and backbone.decoder is not None:
        return _at_sentinel(model, own)
    if kind == "next" and backbone.config.causal:
        start = start_tokens(model)
        room = (model.limit or len(own) + len(start) + PIECES) - PIECES - len(start)
        if room < 1 or not (own or start):
            raise DataError("there is nothing before the word that this model could go on from; write a word before it")
        return _AtEnd(model, [*start, *own[-room:]]), max(0, len(own) - room)
    found = "no head" if kind is None else "one that reads both ways" if kind == "next" else f"a head for {kind!r}"
    raise ModelError(
        f"{model.folder}: completing text needs a model that tells the next token (GPT, Llama), fills masks (BERT) or "
        f"sentinels (T5), found {found}"
    )


class _AtEnd:
    """A decoder: the text is read once; pieces of words are read after it, each in a slot of the cache."""

    def __init__(self, model: Model, ids: list[int]) -> None:
        self.model, self.held = model, len(ids)
        length = len(ids) + PIECES
        config = model.backbone.config
        self.cache = StaticCache(config, WIDTH, length, dtype=model.dtype, device=model.device)
        with torch.inference_mode():
            self.first_V = self._run([ids], 0)
            for kept in (self.cache.keys, self.cache.values):
                kept[:, 1:] = kept[:, :1]

    def __call__(self, pieces: Sequence[Sequence[int]]) -> Tensor:
        """(n, V)."""
        return self.first_V if not pieces[0] else self._run(pieces, self.held)

    def _run(self, sequences: Sequence[Sequence[int]], held: int) -> Tensor:
        assert self.model.head is not None
        batch = pack(sequences, start=[held] * len(sequences)).to(self.model.device)
        hidden_TD = self.model.backbone(batch, cache=self.cache)
        logs: Tensor = self.model.head(hidden_TD[batch.last_B], batch).log_softmax(-1).cpu()
        return logs


def _at_sentinel(model: Model, own: list[int]) -> tuple[Next, int]:
    """An encoder-decoder writes what its first sentinel stands for."""
    backbone, tokenizer = model.backbone, model.tokenizer
    try:
        sentinel = tokenizer.token_id(SENTINEL)
    except ModelError as error:
        raise ModelError(f"{model.folder}: completing text with an encoder-decoder takes sentinels: {error}") from error
    end = [tokenizer.token_id(name) for name in tokenizer.frame.end]
    room = (model.limit or len(own) + 1 + len(end)) - 1 - len(end)
    source = [*own[-room:], sentinel, *end]

    def following(pieces: Sequence[Sequence[int]]) -> Tensor:
        memory = backbone.remember(pack([source] * len(pieces)).to(model.device))  # type: ignore[operator]
        batch = pack([[*start_tokens(model), sentinel, *one] for one in pieces]).to(model.device)
        assert backbone.decoder is not None
        assert model.head is not None
        hidden_TD = backbone.decoder(batch, memory=memory)
        logs: Tensor = model.head(hidden_TD[batch.last_B], batch).log_softmax(-1).cpu()
        return logs

    return following, max(0, len(own) - room)


def _at_mask(model: Model, own: list[int]) -> tuple[Next, int]:
    """An encoder fills a mask where the text ends."""
    tokenizer = model.tokenizer
    start, end = ([tokenizer.token_id(name) for name in part] for part in (tokenizer.frame.start, tokenizer.frame.end))
    mask = tokenizer.token_id("mask_token")
    room = (model.limit or len(own) + len(start) + len(end) + 1) - len(start) - len(end) - 1
    ids = [*start, *own[-room:], mask, *end]

    def following(pieces: Sequence[Sequence[int]]) -> Tensor:
        batch = pack([ids]).to(model.device)
        assert model.head is not None
        hidden_TD = model.backbone.read(batch, "mask")
        row = len(ids) - len(end) - 1
        logs: Tensor = model.head(hidden_TD[row : row + 1], batch).log_softmax(-1).cpu()
        return logs

    return following, max(0, len(own) - room)

"""What is hidden from a model that learns a language: masked tokens (BERT), and spans behind sentinels (T5)."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

from graft.errors import ModelError
from graft.grafted import Model
from graft.train.example import Example

SHARE = 0.15
"""Of the tokens, those to be told (Devlin et al. 2019; Raffel et al. 2020)."""

REPLACED, KEPT = 0.8, 0.1
"""Of these, the share a mask replaces, and the share that stays; the rest become any token (Devlin et al. 2019)."""

SPAN = 3
"""Mean length of a corrupted span (Raffel et al. 2020, section 3.3.4)."""

Draw = Callable[[Sequence[int], int, random.Random], Example]
"""A block of token ids and its line -> an example, what is hidden drawn anew."""


class Fresh(Sequence[Example]):
    """Blocks of tokens as examples, corrupted anew each time one is taken: other tokens are hidden in every epoch."""

    def __init__(self, blocks: Sequence[tuple[Sequence[int], int]], draw: Draw, seed: int) -> None:
        """Keep the blocks.

        Args:
            blocks: token ids, and the line each starts at.
            draw: makes an example of one.
            seed: the same blocks and seed give the same examples in the same order.
        """
        self.blocks, self.draw, self.seed = blocks, draw, seed
        self._taken = [0] * len(blocks)

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: Any) -> Any:
        """One example, newly drawn; the draws of a block do not depend on those of others."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        ids, line = self.blocks[index]
        self._taken[index] += 1
        return self.draw(ids, line, random.Random(f"{self.seed} {index % len(self)} {self._taken[index]}"))


def masked(
    ids: Sequence[int], special: Collection[int], mask: int, vocabulary: int, drawn: random.Random
) -> tuple[list[int], list[int]]:
    """Hide some tokens of a sequence: the ids to read, and the places where the tokens that stood there are told.

    Args:
        ids: token ids.
        special: ids that are never hidden.
        mask: what hides.
        vocabulary: a token that is replaced by any other becomes one below this number.
        drawn: where chance comes from.
    """
    plain = [place for place, token in enumerate(ids) if token not in special]
    places = sorted(drawn.sample(plain, min(len(plain), max(1, round(SHARE * len(plain))))))
    read = list(ids)
    for place in places:
        fate = drawn.random()
        if fate < REPLACED:
            read[place] = mask
        elif fate >= REPLACED + KEPT:
            read[place] = drawn.randrange(vocabulary)
    return read, places


def spans(ids: Sequence[int], sentinels: Sequence[int], drawn: random.Random) -> tuple[list[int], list[int]]:
    """Replace random spans by sentinels: what is left to read, and what is to be written, each span behind its own.

    As T5's own code draws them: of n tokens round(0.15 n) in round(of these / 3) spans, at least one of each; a span
    that stays comes first, and one that goes last.

    Args:
        ids: at least two token ids.
        sentinels: at least as many as spans.
        drawn: where chance comes from.
    """
    gone = min(max(1, round(SHARE * len(ids))), len(ids) - 1)
    count = min(max(1, round(gone / SPAN)), len(ids) - gone)
    read: list[int] = []
    written: list[int] = []
    start = 0
    lengths = zip(_parts(len(ids) - gone, count, drawn), _parts(gone, count, drawn), sentinels, strict=False)
    for stays, goes, sentinel in lengths:
        read += [*ids[start : start + stays], sentinel]
        written += [sentinel, *ids[start + stays : start + stays + goes]]
        start += stays + goes
    return read, written


def sentinels(model: Model, count: int) -> list[int]:
    """The ids of so many sentinels, <extra_id_0> and on.

    Raises:
        ModelError: the vocabulary has not as many.
    """
    try:
        return [model.tokenizer.token_id(f"<extra_id_{number}>") for number in range(count)]
    except ModelError as error:
        raise ModelError(
            f"{model.folder}: span corruption needs sentinels, <extra_id_0> to <extra_id_{count - 1}>, and the "
            "vocabulary lacks some; use the tokenizer the model was published with, or a smaller --limit"
        ) from error


def _parts(total: int, count: int, drawn: random.Random) -> list[int]:
    """A number as the sum of so many, each at least one, every way to do so as likely as any other."""
    cuts = [0, *sorted(drawn.sample(range(1, total), count - 1)), total]
    return [after - before for before, after in zip(cuts, cuts[1:], strict=False)]
